// Package daemon starts real edgenetd processes for tests and benchmarks: one
// network per Net, each node with a data directory of its own, on free loopback
// ports, asked and told through its own socket only.
package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/node/api"
	"edgenet.dev/node/identity"
	"edgenet.dev/proto"
	localapi "edgenet.dev/proto/api"
	"edgenet.dev/proto/api/apiconnect"
)

// Build compiles edgenetd from the module around the working directory and
// returns the binary's path.
func Build(ctx context.Context, dir string, race bool) (string, error) {
	bin := filepath.Join(dir, "edgenetd")
	args, cgo := []string{"build", "-o", bin}, "CGO_ENABLED=0"
	if race {
		args, cgo = append(args, "-race"), "CGO_ENABLED=1"
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "edgenet.dev/cmd/edgenetd")...)
	cmd.Env = append(os.Environ(), cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build edgenetd: %w\n%s", err, out)
	}
	return bin, nil
}

// Spec describes one node of a network.
type Spec struct {
	Name    string
	Grant   proto.Credit // from the genesis
	Witness bool
	Via     []string // names of the nodes it is told of; those must have started
	Flags   []string // of edgenetd run
	// Namespace is the network namespace to run in; "" = the caller's. The flags of
	// such a node name where it listens.
	Namespace string
	// Embedded nodes get a key and a directory; the caller runs them itself.
	Embedded bool
}

// Net is a network of daemons under one temporary directory.
type Net struct {
	Network *proto.Network
	Nodes   []*Node // in the order of the specs

	bin, dir string
}

// New makes keys, the genesis and a data directory for each spec. It starts
// nothing.
func New(bin string, specs ...Spec) (*Net, error) { return NewOf(bin, new(proto.Genesis), specs...) }

// NewOf is New with other figures in the genesis.
func NewOf(bin string, g *proto.Genesis, specs ...Spec) (*Net, error) {
	dir, err := os.MkdirTemp("", "edgenet-") // short: socket paths are limited
	if err != nil {
		return nil, err
	}
	n := &Net{bin: bin, dir: dir}
	g.Name, g.Nonce = "test", make([]byte, 16)
	if _, err := rand.Read(g.Nonce); err != nil {
		return nil, err
	}
	for _, s := range specs {
		nd := &Node{Spec: s, Dir: filepath.Join(dir, s.Name), net: n}
		key, err := identity.Create(nd.Dir)
		if err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
		if nd.ID, err = peer.IDFromPrivateKey(key); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
		if s.Witness {
			g.Witnesses = append(g.Witnesses, []byte(nd.ID))
		}
		if s.Grant > 0 {
			g.Grants = append(g.Grants, &proto.Grant{Account: []byte(nd.ID), Amount: uint64(s.Grant)})
		}
		n.Nodes = append(n.Nodes, nd)
	}
	raw, err := goproto.Marshal(g)
	if err == nil {
		n.Network, err = proto.ParseGenesis(raw)
	}
	for _, nd := range n.Nodes {
		if err == nil {
			err = os.WriteFile(filepath.Join(nd.Dir, "genesis.pb"), raw, 0o600)
		}
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return n, nil
}

// Node returns the node of that name; asking for another is a mistake in the
// caller.
func (n *Net) Node(name string) *Node {
	i := slices.IndexFunc(n.Nodes, func(nd *Node) bool { return nd.Name == name })
	if i < 0 {
		panic("no node is called " + name)
	}
	return n.Nodes[i]
}

// Start starts every node, in order, each once the one before answers.
func (n *Net) Start(ctx context.Context) error {
	for _, nd := range n.Nodes {
		if nd.Embedded {
			continue
		}
		if err := nd.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Close ends every daemon that still runs and removes the directory.
func (n *Net) Close() error {
	var all sync.WaitGroup
	for _, nd := range n.Nodes {
		all.Go(func() { nd.Terminate(10 * time.Second) })
	}
	all.Wait()
	return os.RemoveAll(n.dir)
}

// Logs is the end of what every daemon wrote, for a failed test.
func (n *Net) Logs(limit int) string {
	var b strings.Builder
	for _, nd := range n.Nodes {
		text, err := os.ReadFile(nd.logPath())
		if err != nil {
			continue
		}
		if len(text) > limit {
			text = text[len(text)-limit:]
		}
		fmt.Fprintf(&b, "---- %s %s\n%s\n", nd.Name, nd.ID, text)
	}
	return b.String()
}

// Node is one daemon. Its clients work while it runs.
type Node struct {
	Spec
	ID  peer.ID
	Dir string

	Nodes  apiconnect.NodeServiceClient
	Tasks  apiconnect.TaskServiceClient
	Wallet apiconnect.WalletServiceClient

	net    *Net
	addrs  []string // listened on at the first start, kept over restarts
	cmd    *exec.Cmd
	exited chan struct{}
}

func (nd *Node) logPath() string { return filepath.Join(nd.net.dir, nd.Name+".log") }

// Addrs are the addresses of the node's last start, with /p2p/.
func (nd *Node) Addrs() []string { return nd.addrs }

// Start runs the daemon and returns once its socket answers. A node that ran
// before listens on the same addresses again, so that others find it.
func (nd *Node) Start(ctx context.Context) error {
	args := []string{"run", "--dir", nd.Dir, "--log-format", "console", "--while-stdin"}
	for _, name := range nd.Via {
		for _, a := range nd.net.Node(name).addrs {
			if strings.Contains(a, "/tcp/") && !strings.Contains(a, "/ws") {
				args = append(args, "--bootstrap", a)
			}
		}
	}
	if nd.addrs == nil && !slices.Contains(nd.Flags, "--listen") { // tests stay on this machine
		for _, a := range []string{"/tcp/0", "/udp/0/quic-v1", "/udp/0/quic-v1/webtransport", "/tcp/0/ws"} {
			args = append(args, "--listen", "/ip4/127.0.0.1"+a)
		}
	}
	for _, a := range nd.addrs {
		if !strings.Contains(a, "/p2p-circuit") {
			args = append(args, "--listen", withoutCerts(a))
		}
	}
	args = append(args, nd.Flags...)
	log, err := os.OpenFile(nd.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(nd.net.bin, args...)
	if nd.Namespace != "" { // becomes the daemon, with this process id
		cmd = exec.Command("ip", append([]string{"netns", "exec", nd.Namespace, nd.net.bin}, args...)...)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = environment()
	// The daemon ends when the other end of its standard input closes: with
	// this process, however that ends.
	if _, err := cmd.StdinPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", nd.Name, err)
	}
	nd.cmd, nd.exited = cmd, make(chan struct{})
	go func(done chan struct{}) {
		_ = cmd.Wait() // how it ended is in ProcessState
		close(done)
	}(nd.exited)

	h := api.HTTPClient(nd.Dir)
	limit := connect.WithReadMaxBytes(128 << 20)
	nd.Nodes = apiconnect.NewNodeServiceClient(h, api.BaseURL, limit)
	nd.Tasks = apiconnect.NewTaskServiceClient(h, api.BaseURL, limit)
	nd.Wallet = apiconnect.NewWalletServiceClient(h, api.BaseURL, limit)
	for {
		st, err := nd.Status(ctx)
		if err == nil && int(st.Pid) == cmd.Process.Pid && len(st.Addresses) > 0 {
			nd.addrs = st.Addresses
			return nil
		}
		select {
		case <-nd.exited:
			return fmt.Errorf("%s ended at its start: %s\n%s", nd.Name, cmd.ProcessState, nd.net.Logs(2000))
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w (%v)\n%s", nd.Name, ctx.Err(), err, nd.net.Logs(2000))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// withoutCerts turns an address as told to others into one to listen on.
func withoutCerts(a string) string {
	a, _, _ = strings.Cut(a, "/p2p/")
	a, _, _ = strings.Cut(a, "/certhash/")
	return a
}

// environment is the caller's without the settings of edgenetd.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "EDGENET_") })
}

// Kill ends the daemon as a power cut would (signal 9) and waits for its end.
func (nd *Node) Kill() error {
	if err := nd.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", nd.Name, err)
	}
	<-nd.exited
	return nil
}

// Terminate asks the daemon to end and kills it when it has not after grace.
// It reports whether the daemon ended by itself with code 0.
func (nd *Node) Terminate(grace time.Duration) bool {
	if nd.cmd == nil {
		return true
	}
	_ = nd.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-nd.exited:
	case <-time.After(grace):
		_ = nd.cmd.Process.Kill()
		<-nd.exited
	}
	return nd.cmd.ProcessState.Success()
}

// Pid is the process id of the last start.
func (nd *Node) Pid() int { return nd.cmd.Process.Pid }

// Running reports whether the daemon has not ended.
func (nd *Node) Running() bool {
	if nd.cmd == nil {
		return false
	}
	select {
	case <-nd.exited:
		return false
	default:
		return true
	}
}

// Status asks the daemon.
func (nd *Node) Status(ctx context.Context) (*localapi.StatusReply, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := nd.Nodes.Status(ctx, connect.NewRequest(new(localapi.StatusRequest)))
	if err != nil {
		return nil, err
	}
	return r.Msg, nil
}

// Call makes one request of a daemon's socket.
func Call[Req, Res any](ctx context.Context, method func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), req *Req) (*Res, error) {
	r, err := method(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, err
	}
	return r.Msg, nil
}
