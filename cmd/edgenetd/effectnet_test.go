//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pubsubpb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"go.yaml.in/yaml/v3"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/sandbox/modules"
)

type protocolID = protocol.ID

// effectNet is two daemons with every key set that a row sets, and a peer of
// the network that is no node: it offers jobs and hears what is claimed. The
// founder is the witness and has all credits; the worker takes its tasks.
type effectNet struct {
	dir             string
	network         *proto.Network
	founder, worker *effectDaemon
	owner           peer.ID // an account that runs nowhere

	founderAddr, workerAddr, webAddr, metricsAddr, bundle string

	keeper *effectDaemon // has credits, knows nobody, and does not run

	key      crypto.PrivKey // the peer's
	pubsub   *pubsub.PubSub
	peer     host.Host
	offering sync.Once
	heard    []claimed
	running  sync.Once
	job      ranJob
}

type effectDaemon struct {
	dir, addr string
	id        peer.ID
	client    *client
	cmd       *exec.Cmd
	stop      func() // ends it, whether it runs or not
}

func (d *effectDaemon) logFile() string { return d.dir + ".log" }

func (d *effectDaemon) log(t *testing.T) string    { return content(t, d.logFile()) }
func (d *effectDaemon) stderr(t *testing.T) string { return content(t, d.dir+".err") }

func content(t *testing.T, name string) string {
	b, err := os.ReadFile(name)
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	return string(b)
}

// effectGuard bounds how long a row waits for what must happen.
const effectGuard = 2 * time.Minute

// write makes a file that is there when a daemon starts.
func (n *effectNet) write(name, text string) {
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		panic(err)
	}
}

func newEffectNet(t *testing.T) *effectNet {
	t.Helper()
	dir, err := os.MkdirTemp("", "ed") // short: a socket's path is limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n := &effectNet{
		dir: dir, founderAddr: freeAddr(t), workerAddr: freeAddr(t), webAddr: hostPort(freeAddr(t)), metricsAddr: hostPort(freeAddr(t)),
		bundle: filepath.Join(dir, "bundle"), keeper: &effectDaemon{dir: filepath.Join(dir, "keeper")},
	}
	n.founder = &effectDaemon{dir: filepath.Join(dir, "founder"), addr: n.founderAddr}
	n.worker = &effectDaemon{dir: filepath.Join(dir, "worker"), addr: n.workerAddr}
	n.keeper.id = setUp(t, n, n.keeper.dir)
	n.founder.id, n.worker.id, n.owner = setUp(t, n, n.founder.dir), setUp(t, n, n.worker.dir), setUp(t, n, filepath.Join(dir, "owner"))
	n.network, err = newGenesis(&proto.Genesis{
		Name: "effects", Witnesses: [][]byte{[]byte(n.founder.id)}, EpochSeconds: 4,
		Grants: []*proto.Grant{
			{Account: []byte(n.founder.id), Amount: uint64(founderGrant)}, {Account: []byte(n.keeper.id), Amount: uint64(founderGrant)},
		},
	})
	if err == nil {
		err = os.Mkdir(n.bundle, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(n.bundle, "index.html"), []byte("the bundle"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	seedKey, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	n.key = seedKey
	founder, worker := map[string]any{}, map[string]any{"listen": []string{n.workerAddr}}
	for key, e := range effects {
		for _, x := range []struct {
			value any
			to    map[string]any
		}{{e.founder, founder}, {e.worker, worker}} {
			if f, ok := x.value.(func(*effectNet) any); ok {
				x.value = f(n)
			}
			if x.value != nil {
				x.to[key] = x.value
			}
		}
	}
	n.start(t, n.founder, founder)
	n.start(t, n.worker, worker)

	n.peer = n.host(t, libp2p.Identity(n.key))
	n.pubsub, err = pubsub.NewGossipSub(t.Context(), n.peer, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(func(m *pubsubpb.Message) string { return m.GetTopic() + string(m.GetData()) }))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []*effectDaemon{n.founder, n.worker} {
		n.connect(t, n.peer, d, d.addr)
	}
	return n
}

// start runs a daemon with these keys in its configuration file until the test
// ends. Its data directory and addr are set.
func (n *effectNet) start(t *testing.T, d *effectDaemon, keys map[string]any, flags ...string) {
	t.Helper()
	if d.id == "" {
		d.id = setUp(t, n, d.dir)
	}
	tree := map[string]any{}
	for key, v := range keys {
		at := tree
		parts := strings.Split(key, ".")
		for _, p := range parts[:len(parts)-1] {
			if at[p] == nil {
				at[p] = map[string]any{}
			}
			at = at[p].(map[string]any)
		}
		at[parts[len(parts)-1]] = v
	}
	file, err := yaml.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	errFile, err := os.Create(d.dir + ".err")
	if err != nil {
		t.Fatal(err)
	}
	defer errFile.Close()
	for name, text := range map[string][]byte{genesisName: n.network.Raw, configName: file} {
		if err := os.WriteFile(filepath.Join(d.dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.cmd = tool(t, append([]string{"--dir", d.dir, "run", "--while-stdin"}, flags...)...)
	d.cmd.Stderr = errFile
	stdin, err := d.cmd.StdinPipe() // ends the daemon with this process, however that ends
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { // owned by the cleanup
		_ = d.cmd.Wait() // how it ends is nobody's question here
		close(exited)
	}()
	d.stop = func() {
		stdin.Close()
		_ = d.cmd.Process.Signal(os.Interrupt)
		select {
		case <-exited:
		case <-time.After(20 * time.Second):
			_ = d.cmd.Process.Kill()
			<-exited
		}
	}
	t.Cleanup(d.stop)
	d.client = newClient(d.dir)
	n.eventually(t, "the daemon answers", func() (bool, string) {
		select {
		case <-exited:
			t.Fatalf("it ended: %s", d.stderr(t))
		default:
		}
		st, err := d.client.nodes.Status(t.Context(), connect.NewRequest(new(api.StatusRequest)))
		return err == nil && len(st.Msg.Addresses) > 0, fmt.Sprint(err)
	})
}

func (n *effectNet) eventually(t *testing.T, what string, check func() (ok bool, say string)) {
	t.Helper()
	say := ""
	for end := time.Now().Add(effectGuard); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		ok := false
		if ok, say = check(); ok {
			return
		}
	}
	t.Fatalf("%s: it did not happen; last seen: %s", what, say)
}

// drops wants a job that is over, and of two MiB, to be gone once the keeper runs
// with that key, and to be kept as long as it does not.
func (n *effectNet) drops(t *testing.T, key string, value any) {
	t.Helper()
	forever := map[string]any{"state.keep": "0", "state.max-size": 0, "worker.enabled": false}
	n.start(t, n.keeper, forever)
	in := bytes.Repeat([]byte("word "), 2<<20/5)
	job := ask(t, n.keeper.client.tasks.Submit, &api.SubmitRequest{Type: proto.TypeText, Inputs: [][]byte{in}, Redundancy: 1, MaxCredits: uint64(10 * proto.OneCredit)}).Job
	ask(t, n.keeper.client.tasks.Cancel, &api.CancelRequest{Job: job})
	n.keeper.stop()
	n.start(t, n.keeper, forever)
	ask(t, n.keeper.client.tasks.Get, &api.GetRequest{Job: job})
	n.keeper.stop()
	forever[key] = value
	n.start(t, n.keeper, forever)
	n.eventually(t, "the job is gone", func() (bool, string) {
		_, err := n.keeper.client.tasks.Get(t.Context(), connect.NewRequest(&api.GetRequest{Job: job}))
		return connect.CodeOf(err) == connect.CodeNotFound, fmt.Sprint(err)
	})
	n.keeper.stop()
}

// hostPort is a TCP multiaddr as others write it.
func hostPort(addr string) string {
	return strings.Replace(addr, "/ip4/127.0.0.1/tcp/", "127.0.0.1:", 1)
}

// freeAddr is a multiaddr of a TCP port on which nobody listens.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", l.Addr().(*net.TCPAddr).Port)
}

func (n *effectNet) host(t *testing.T, opts ...libp2p.Option) host.Host {
	t.Helper()
	opts = append(opts, libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.Transport(tcp.NewTCPTransport), libp2p.DisableRelay(), libp2p.DisableMetrics())
	h, err := libp2p.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// dial connects a new host to a daemon at an address and learns what it serves.
func (n *effectNet) dial(t *testing.T, d *effectDaemon, addr string) host.Host {
	t.Helper()
	h := n.host(t)
	n.connect(t, h, d, addr)
	return h
}

func (n *effectNet) connect(t *testing.T, h host.Host, d *effectDaemon, addr string) {
	t.Helper()
	info, err := peer.AddrInfoFromString(addr + "/p2p/" + d.id.String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), effectGuard)
	defer cancel()
	if err := h.Connect(ctx, *info); err != nil { // identify is over when it returns
		t.Fatal(err)
	}
}

// ask makes one request of a daemon.
func ask[Req, Res any](t *testing.T, method func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), req *Req) *Res {
	t.Helper()
	r, err := method(t.Context(), connect.NewRequest(req))
	if err != nil {
		t.Fatal(err)
	}
	return r.Msg
}

// claimed is a worker's answer to an offer of that name.
type claimed struct {
	by    peer.ID
	offer string
	*proto.Claim
}

// claims are the answers to an offer of each kind: those that some row wants to
// be refused first, a plain one last. They are made once.
func (n *effectNet) claims(t *testing.T) []claimed {
	t.Helper()
	n.offering.Do(func() { n.offer(t) })
	return n.heard
}

// claim is the worker's answer to the plain offer.
func (n *effectNet) claim(t *testing.T) claimed {
	t.Helper()
	for _, c := range n.claims(t) {
		if c.offer == "plain" && c.by == n.worker.id {
			return c
		}
	}
	t.Fatal("the worker does not answer the plain offer")
	return claimed{}
}

// offerFuel is what the worker can spend in time with its small worker.cpu: an
// offer of more is declined for that, whatever its type or price.
const offerFuel = proto.Fuel(1e9)

func (n *effectNet) offer(t *testing.T) {
	t.Helper()
	topic := func(name string) (*pubsub.Topic, *pubsub.Subscription) {
		tp, err := n.pubsub.Join(name)
		if err != nil {
			t.Fatal(err)
		}
		sub, err := tp.Subscribe()
		if err != nil {
			t.Fatal(err)
		}
		return tp, sub
	}
	offers, _ := topic(n.network.ID.OffersTopic(0))
	_, claims := topic(n.network.ID.ClaimsTopic(0))
	topic(n.network.ID.CreditsTopic())
	n.eventually(t, "the worker and the founder hear offers", func() (bool, string) { // the founder as a relay
		return len(offers.ListPeers()) == 2, fmt.Sprint(offers.ListPeers())
	})
	names := map[string]string{}
	for round, last := uint32(1), 0; last < 2; round++ { // those before the last had their time, too
		for _, o := range []struct {
			name, typ string
			price     proto.Credit
			memory    uint64
		}{
			{proto.TypeVectors, proto.TypeVectors, proto.OneCredit, proto.DefaultMemory},
			{"custom", "", proto.OneCredit, proto.DefaultMemory},
			{"cheap", proto.TypeText, proto.OneCredit / 4, proto.DefaultMemory},
			{"large", proto.TypeText, proto.OneCredit, 701 << 20},
			{"plain", proto.TypeText, proto.OneCredit, proto.DefaultMemory},
		} {
			hash := proto.HashOf([]byte(o.name))
			id := proto.JobID(hash[:16])
			names[string(id[:])] = o.name
			module := proto.CIDOf([]byte("a module of one's own"))
			if b, ok := modules.Lookup(o.typ); ok {
				module = b.ID
			}
			msg, err := proto.Seal(n.key, n.network.ID, &proto.Payload{Body: &proto.Payload_Offer{Offer: &proto.Offer{
				Id: id[:], Type: o.typ, Module: module.Bytes(), MeterVersion: proto.MeterVersion, Tasks: 1, FuelLimit: uint64(offerFuel),
				MemoryLimit: o.memory, PriceCap: uint64(o.price), Redundancy: 1, SlotsWanted: 1, WorkersWanted: 1,
				DeadlineUnixMs: uint64(time.Now().Add(time.Hour).UnixMilli()), Priority: uint32(proto.PriorityNormal), Round: round,
			}}})
			if err != nil {
				t.Fatal(err)
			}
			if err := offers.Publish(t.Context(), msg); err != nil {
				t.Fatal(err)
			}
		}
		if round == 60 {
			t.Fatalf("the worker answers no plain offer: %s", ask(t, n.worker.client.nodes.Status, new(api.StatusRequest)))
		}
		for ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second); ; {
			m, err := claims.Next(ctx)
			if err != nil { // offered again: who had not heard of this peer yet sent it nothing
				cancel()
				break
			}
			s, err := proto.Unseal(n.network.ID, m.Data, proto.KindClaim)
			if err != nil {
				t.Fatal(err)
			}
			c := claimed{s.Signer, names[string(s.Payload.GetClaim().Offer)], s.Payload.GetClaim()}
			n.heard = append(n.heard, c)
			if c.offer == "plain" && c.by == n.worker.id {
				last++
				cancel()
				break
			}
		}
	}
}

// ranJob is what was seen while the worker ran tasks of the founder.
type ranJob struct {
	bytes    int           // of all inputs
	took     time.Duration // until the job was done
	children int           // sandboxes of the worker that lived at once
	stopped  int           // times that one of them was seen stopped
}

// ran runs one job of several tasks, whose inputs are too large to be sent with
// the assignment, and watches the worker's processes.
func (n *effectNet) ran(t *testing.T) ranJob {
	t.Helper()
	n.running.Do(func() { n.run(t) })
	if n.job.bytes == 0 {
		t.Fatal("the job did not run")
	}
	return n.job
}

func (n *effectNet) run(t *testing.T) {
	t.Helper()
	ran := ranJob{}
	req := &api.SubmitRequest{Type: proto.TypeText, Redundancy: 1, MaxCredits: uint64(100 * proto.OneCredit), TimeoutMs: 300_000, FuelLimit: uint64(proto.DefaultFuel)}
	for i := range 6 {
		in := []byte(strings.Repeat(fmt.Sprintf("word%d and some more of them ", i), 30_000))
		req.Inputs = append(req.Inputs, in)
		ran.bytes += len(in)
	}
	began := time.Now()
	job := ask(t, n.founder.client.tasks.Submit, req).Job
	n.eventually(t, "the job is done", func() (bool, string) {
		for range 20 {
			living := children([]int{n.worker.cmd.Process.Pid})
			ran.children = max(ran.children, len(living))
			for _, pid := range living {
				b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
				if err == nil && strings.Contains(string(b), ") T ") {
					ran.stopped++
				}
			}
			time.Sleep(2 * time.Millisecond)
		}
		j := ask(t, n.founder.client.tasks.Get, &api.GetRequest{Job: job})
		if j.State != "done" && finalState(j.State) {
			t.Fatalf("the job ended %s: %s %s", j.State, j.Code, j.Reason)
		}
		return j.State == "done", j.State
	})
	ran.took = time.Since(began)
	n.job = ran
}
