package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto/api"
)

const (
	logName   = "edgenetd.log"
	pollEvery = 50 * time.Millisecond
	// keepWord on its standard input tells a daemon that runs --while-stdin to
	// go on after its parent.
	keepWord = "keep\n"
)

// devNode is one daemon of a devnet.
type devNode struct {
	name, dir string
	id        peer.ID
	liar      bool
	rests     bool // takes no tasks
	client    *client
	cmd       *exec.Cmd
	stdin     io.WriteCloser
	exited    chan struct{} // closed when the process was waited for

	before, after *api.BalanceReply
	audit         *api.AuditReply
	status        *api.StatusReply
}

// start runs the daemon. Its standard input is a pipe that this process holds:
// when this process ends, by kill -9 too, the daemon reads its end and stops.
func (n *devNode) start(slots int, bootstrap []string, more ...string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{
		"--dir", n.dir, "run", "--while-stdin", "--dht", "server", "--slots", strconv.Itoa(slots),
		"--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1",
		"--reachability", "public", "--log-format", "json",
	}
	for _, b := range bootstrap {
		args = append(args, "--bootstrap", b)
	}
	args = append(args, more...)
	if n.rests {
		args = append(args, "--no-work")
	}
	if n.liar {
		args = append(args, "--fault", "lie")
	}
	log, err := os.OpenFile(filepath.Join(n.dir, logName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	n.cmd = exec.Command(exe, args...)
	n.cmd.Stdout, n.cmd.Stderr = log, log
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, envPrefix) { // the user's own settings are not the devnet's
			n.cmd.Env = append(n.cmd.Env, kv)
		}
	}
	ownSession(n.cmd) // Ctrl-C reaches this process alone, which stops the daemons in order
	if n.stdin, err = n.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := n.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	n.exited = make(chan struct{})
	go func() {
		_ = n.cmd.Wait() // the exit code is in ProcessState
		close(n.exited)
	}()
	return nil
}

// waitReady waits until the daemon answers or has ended.
func (n *devNode) waitReady(ctx context.Context) error {
	for {
		if answering(ctx, n.dir) == nil {
			return nil
		}
		select {
		case <-n.exited:
			return failf(exitFailure, "%s ended before it was ready: %s", n.name, n.lastWords())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

// lastWords is the last line of the daemon's log.
func (n *devNode) lastWords() string {
	b, err := os.ReadFile(filepath.Join(n.dir, logName))
	b = bytes.TrimSpace(b)
	if err != nil || len(b) == 0 {
		return "it wrote no log"
	}
	return string(b[bytes.LastIndexByte(b, '\n')+1:])
}

func (n *devNode) alive() bool {
	if n.exited == nil {
		return false
	}
	select {
	case <-n.exited:
		return false
	default:
		return true
	}
}

// stop ends the daemon: by its API, then by signals to its own process id.
func (n *devNode) stop() {
	if !n.alive() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err := call(ctx, n.client.nodes.Stop, &api.StopRequest{})
	if err == nil && n.ended(10*time.Second) {
		return
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	if n.ended(5 * time.Second) {
		return
	}
	_ = n.cmd.Process.Kill()
	n.ended(5 * time.Second)
}

func (n *devNode) ended(within time.Duration) bool {
	select {
	case <-n.exited:
		return true
	case <-time.After(within):
		return false
	}
}

// letGo tells the daemon to go on without this process.
func (n *devNode) letGo() error {
	_, err := io.WriteString(n.stdin, keepWord)
	return errors.Join(err, n.stdin.Close())
}

func (d *devnet) stopAll() {
	d.p.stepf("stopping the daemons")
	var wg sync.WaitGroup
	for _, n := range d.nodes {
		wg.Go(n.stop)
	}
	wg.Wait()
	d.p.done()
}

// startAll starts node 0, then the others, who know its addresses only.
func (d *devnet) startAll(ctx context.Context) error {
	first := d.nodes[0]
	d.p.stepf("starting node 1 of %d", len(d.nodes))
	var tabs, page []string
	if d.flags.web != "" { // tabs dial WebTransport, and each other through node 0
		tabs = []string{"--listen", "/ip4/127.0.0.1/udp/0/quic-v1/webtransport"}
		page = append([]string{"--relay", "--listen", "/ip4/127.0.0.1/tcp/0/ws", "--web", d.flags.web, "--web-root", d.flags.webRoot}, tabs...)
	}
	if err := first.start(d.flags.slots, nil, page...); err != nil {
		return err
	}
	if err := first.waitReady(ctx); err != nil {
		return err
	}
	st, err := call(ctx, first.client.nodes.Status, &api.StatusRequest{})
	if err != nil {
		return err
	}
	for _, n := range d.nodes[1:] {
		if err := n.start(d.flags.slots, st.Addresses, tabs...); err != nil {
			return err
		}
	}
	for i, n := range d.nodes[1:] {
		d.p.stepf("starting node %d of %d", i+2, len(d.nodes))
		if err := n.waitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// waitDiscovered waits until every node knows every other one, by a
// connection or by asking Kademlia, and the submitter's offers reach them all.
func (d *devnet) waitDiscovered(ctx context.Context) error {
	for _, n := range d.nodes {
		for {
			missing, topic, err := d.unknownTo(ctx, n)
			if err != nil {
				return fmt.Errorf("%s: %w", n.name, err)
			}
			want := 1
			if n == d.submitter() {
				want = d.flags.workers()
			}
			if missing == 0 && topic >= want {
				break
			}
			d.p.stepf("discovery: %s knows %d of %d others, %d on the offers topic", n.name, len(d.nodes)-1-missing, len(d.nodes)-1, topic)
			if err := d.pause(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *devnet) unknownTo(ctx context.Context, n *devNode) (missing, topic int, err error) {
	st, err := call(ctx, n.client.nodes.Status, &api.StatusRequest{})
	if err != nil {
		return 0, 0, err
	}
	peers, err := call(ctx, n.client.nodes.Peers, &api.PeersRequest{})
	if err != nil {
		return 0, 0, err
	}
	for _, other := range d.nodes {
		if other == n || slices.ContainsFunc(peers.Peers, func(p *api.Peer) bool { return p.Id == other.id.String() }) {
			continue
		}
		find, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := call(find, n.client.nodes.FindPeer, &api.FindPeerRequest{Id: other.id.String()})
		cancel()
		if err != nil {
			missing++
		}
	}
	return missing, int(st.OfferTopicPeers), nil
}

// pause waits a moment and notices a daemon that died.
func (d *devnet) pause(ctx context.Context) error {
	for _, n := range d.nodes {
		if !n.alive() {
			return failf(exitFailure, "%s ended unexpectedly: %s", n.name, n.lastWords())
		}
	}
	select {
	case <-time.After(pollEvery):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// waitEqual waits until the job is settled, nothing is held or on its way, and
// all ledgers, each read through its own socket, have been equal twice in a
// row. It reports false when they were not within a minute.
func (d *devnet) waitEqual(ctx context.Context) (bool, error) {
	d.p.stepf("waiting until the job is settled and all ledgers are equal")
	// Payments are claimed by their owners a moment after they arrive. An
	// owner who does not is no fault of the ledger, so that wait is shorter.
	start, last := time.Now(), ""
	for {
		now, err := d.ledgers(ctx, time.Since(start) < 15*time.Second)
		if err != nil {
			return false, err
		}
		if now != "" && now == last {
			return true, nil
		}
		if last = now; time.Since(start) > time.Minute {
			return false, nil
		}
		for range 4 {
			if err := d.pause(ctx); err != nil {
				return false, err
			}
		}
	}
}

// ledgers is the state hash all nodes share, or "" while they differ or the
// job is not settled.
func (d *devnet) ledgers(ctx context.Context, claimed bool) (string, error) {
	j, err := call(ctx, d.submitter().client.tasks.Get, &api.GetRequest{Job: d.job.Id})
	if err != nil {
		return "", err
	}
	d.job = j
	shared := ""
	for i, n := range d.nodes {
		if n.status, err = call(ctx, n.client.nodes.Status, &api.StatusRequest{}); err != nil {
			return "", fmt.Errorf("%s: %w", n.name, err)
		}
		if n.audit, err = call(ctx, n.client.wallet.Audit, &api.AuditRequest{}); err != nil {
			return "", fmt.Errorf("%s: %w", n.name, err)
		}
		switch hash := n.status.StateHash; {
		case i == 0:
			shared = hash
		case hash != shared:
			return "", nil
		}
		if n.audit.Held != 0 || claimed && n.audit.Receivable != 0 || n.audit.StateHash != n.status.StateHash {
			return "", nil
		}
	}
	if !j.Settled {
		return "", nil
	}
	return shared, nil
}
