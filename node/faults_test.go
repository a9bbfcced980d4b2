//go:build !js

package node_test

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox/modules"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		// Every goroutine of a node has an owner that waited for it. What
		// remains belongs to libraries that offer no way to stop it.
		if err := goleak.Find(
			goleak.IgnoreAnyFunction("github.com/libp2p/go-flow-metrics.(*sweeper).run"),
		); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			code = 1
		}
	}
	os.Exit(code)
}

// A worker that alters its real output is outvoted and not paid.
func TestLiarIsOutvoted(t *testing.T) {
	l := newLab(t, 5)
	l.startAll(5, func(i int, c *node.Config) {
		if i == 2 {
			c.Tamper = func(out []byte) []byte { return append(bytes.Clone(out), "a lie\t1\n"...) }
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	inputs := make([][]byte, 12)
	for i := range inputs {
		inputs[i] = []byte(text)
	}
	resumed := l.pausedUntilWorked(ctx, 2, 4)
	rs, err := l.nodes[1].SubmitBatch(ctx, node.JobSpec{Type: "text", Inputs: inputs, Options: market.Options{Redundancy: 2}})
	resumed()
	if err != nil {
		t.Fatal(err)
	}
	liar := l.nodes[2].ID()
	for i, r := range rs {
		if r.State != market.Done || !r.Verified {
			t.Fatalf("task %d: %+v", i, r)
		}
		for _, w := range r.Workers {
			if w == liar {
				t.Errorf("task %d: the liar agreed", i)
			}
		}
		counts, err := modules.MergeCounts(r.Output)
		if err != nil || counts["the"] != 4 || counts["lie"] != 0 {
			t.Errorf("task %d: accepted %v, %v", i, counts, err)
		}
	}
	if l.nodes[2].Stats().Worker.Done == 0 {
		t.Error("the liar never worked, so nothing was shown")
	}
	l.settled()
	if a := l.nodes[0].Account(liar); a.Avail != grant {
		t.Errorf("the liar has %s, it started with %s", a.Avail, grant)
	}
}

// pausedUntilWorked keeps the others from taking work until node i has done
// some, because a job takes no more workers than it needs. wait ends once they
// take work again.
func (l *lab) pausedUntilWorked(ctx context.Context, i int, others ...int) (wait func()) {
	l.t.Helper()
	for _, o := range others {
		if err := l.nodes[o].Pause(ctx); err != nil {
			l.t.Fatal(err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for l.nodes[i].Stats().Worker.Done == 0 && ctx.Err() == nil {
			time.Sleep(20 * time.Millisecond)
		}
		for _, o := range others {
			if err := l.nodes[o].Resume(ctx); err != nil {
				l.t.Error(err)
			}
		}
	}()
	return func() { <-done }
}

// A and B know only C; peer exchange and mDNS are off, so A can reach B only
// by what Kademlia tells. The same with the DHT off must fail, or the first
// half would show nothing.
func TestKademliaFindsTheWorker(t *testing.T) {
	for _, dht := range []string{"server", "off"} {
		t.Run("dht "+dht, func(t *testing.T) {
			l := newLab(t, 3)
			for i := range 3 {
				l.start(i, func(c *node.Config) { c.DHT = dht })
			}
			l.until("both know the bootstrap peer", func() bool { return l.nodes[0].Stats().Peers == 2 })
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			if dht == "server" {
				l.until("A finds B", func() bool {
					info, err := l.nodes[1].FindPeer(ctx, l.nodes[2].ID())
					return err == nil && len(info.Addrs) > 0
				})
				r, err := l.nodes[1].Submit(ctx, market.Task{Type: "text", Input: []byte(text), Options: market.Options{Redundancy: 1}})
				if err != nil || r.State != market.Done || r.Verified {
					t.Fatalf("%+v, %v", r, err)
				}
				return
			}
			if _, err := l.nodes[1].FindPeer(ctx, l.nodes[2].ID()); proto.CodeOf(err) != proto.CodeNotFound {
				t.Fatalf("found without a DHT: %v", err)
			}
			short, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			if r, err := l.nodes[1].Submit(short, market.Task{Type: "text", Input: []byte(text), Options: market.Options{Redundancy: 1}}); err == nil {
				t.Fatalf("the task ran without a way to its worker: %+v", r)
			}
		})
	}
}

// A node that is closed and opened again on the same directory goes on with
// its jobs: what was verified stays, what was not is done, nothing is paid
// twice.
func TestRestartGoesOn(t *testing.T) {
	l := newLab(t, 5)
	dir, store := t.TempDir(), mem.New()
	l.start(0, nil)
	// The submitter comes first, alone: its job cannot finish before the restart.
	run := func(dir string) (*node.Node, func()) {
		n, err := node.New(node.Config{
			Network: l.net, Key: l.keys[1], Dir: dir, Store: keep{store}, DHT: "server", Bootstrap: l.nodes[0].Addrs(), Log: logger(t).Named("submitter"),
			Linger: 300 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- n.Run(ctx) }()
		<-n.Ready()
		return n, func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	first, stop := run(dir)
	inputs := make([][]byte, 10)
	for i := range inputs {
		inputs[i] = []byte(text)
	}
	id, err := first.Start(ctx, node.JobSpec{Type: "text", Inputs: inputs, Options: market.Options{Redundancy: 2}})
	if err != nil {
		t.Fatal(err)
	}
	stop()
	second, stop := run(dir)
	defer stop()
	if second.ID() != first.ID() {
		t.Fatal("another identity")
	}
	if v, _, err := second.Job(id); err != nil || v.Record.State.Final() {
		t.Fatalf("after the restart: %+v, %v", v, err)
	}
	l.nodes[1] = second
	for i := 2; i < 5; i++ {
		l.start(i, nil)
	}
	if err := second.Wait(ctx, id); err != nil {
		t.Fatal(err)
	}
	v, _, err := second.Job(id)
	if err != nil || v.Done != 10 || v.Verified != 10 {
		t.Fatalf("%+v, %v", v, err)
	}
	l.settled()
	spent := grant - l.nodes[0].Account(second.ID()).Avail
	var earned proto.Credit
	for i := 2; i < 5; i++ {
		earned += l.nodes[0].Account(l.nodes[i].ID()).Avail - grant
	}
	if spent != v.Cost || spent != earned+proto.Fee(earned, l.net.Genesis.FeePpm) {
		t.Errorf("spent %s, job cost %s, workers earned %s", spent, v.Cost, earned)
	}
}

// keep lets a store outlive the node that closes it.
type keep struct{ *mem.Store }

func (keep) Close() error { return nil }

func TestTransfers(t *testing.T) {
	l := newLab(t, 3)
	l.startAll(3, nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	to := l.nodes[2].ID()
	if _, err := l.nodes[1].Transfer(ctx, to, 25*proto.OneCredit, "thanks"); err != nil {
		t.Fatal(err)
	}
	l.settled()
	if a := l.nodes[0].Account(to); a.Avail != grant+25*proto.OneCredit {
		t.Errorf("received %s", a.Avail-grant)
	}
	if _, err := l.nodes[1].Transfer(ctx, to, 10_000*proto.OneCredit, ""); proto.CodeOf(err) != proto.CodeInsufficient {
		t.Errorf("overdrawn: %v", err)
	}
	if _, err := l.nodes[1].Transfer(ctx, peer.ID("nobody"), 1, ""); err == nil {
		t.Error("sent to no account")
	}
}

// Whoever repeats certified events gets no echo: they pass gossip once, a new
// one beside old ones makes the batch pass, and forged ones never do.
func TestKnownEventsAreNotPassedOn(t *testing.T) {
	l := newLab(t, 4)
	l.startAll(3, nil)
	var wires []*proto.CertifiedEvent
	for range 2 {
		if _, err := l.nodes[1].Transfer(t.Context(), l.nodes[2].ID(), proto.OneCredit, ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range l.nodes[1].History(l.nodes[1].ID(), 10) {
		wires = append(wires, e.Wire)
	}
	outsider := l.start(3, func(c *node.Config) {
		c.Bootstrap, c.Executor, c.Worker = []string{}, nil, market.Worker{}
	})
	hear := func(want bool, events ...*proto.CertifiedEvent) {
		t.Helper()
		raw, err := goproto.Marshal(&proto.CertifiedEvents{Events: events})
		if err != nil {
			t.Fatal(err)
		}
		if fresh, err := outsider.HearCredits(raw); err != nil || fresh != want {
			t.Fatalf("fresh %v, %v; want %v", fresh, err, want)
		}
	}
	hear(true, wires[2])
	hear(false, wires[2])
	hear(true, wires[2], wires[1])
	hear(false, wires[1])
	forged := goproto.Clone(wires[0]).(*proto.CertifiedEvent)
	forged.Certificate.Commits[0][len(forged.Certificate.Commits[0])-1] ^= 1
	raw, err := goproto.Marshal(&proto.CertifiedEvents{Events: []*proto.CertifiedEvent{forged}})
	if err != nil {
		t.Fatal(err)
	}
	if fresh, err := outsider.HearCredits(raw); err == nil || fresh {
		t.Errorf("a forged certificate passed: %v, %v", fresh, err)
	}
}

func TestBadConfig(t *testing.T) {
	l := newLab(t, 1)
	for name, edit := range map[string]func(*node.Config){
		"no network":   func(c *node.Config) { c.Network = nil },
		"no key":       func(c *node.Config) { c.Key = nil },
		"dht":          func(c *node.Config) { c.DHT = "maybe" },
		"listen":       func(c *node.Config) { c.Listen = []string{"127.0.0.1:80"} },
		"bootstrap":    func(c *node.Config) { c.Bootstrap = []string{"/ip4/127.0.0.1/tcp/1"} },
		"reachability": func(c *node.Config) { c.Reachability = "often" },
		"connections":  func(c *node.Config) { c.Connections = -1 },
		"referrer":     func(c *node.Config) { c.Referrer = "nobody" },
		"payee":        func(c *node.Config) { c.Worker.Payee = "nobody" },
		"operator":     func(c *node.Config) { c.Worker.Operator = strings.Repeat("o", proto.MaxLabel+1) },
		"site":         func(c *node.Config) { c.Worker.Site = strings.Repeat("s", proto.MaxLabel+1) },
	} {
		cfg := node.Config{Network: l.net, Key: l.keys[0]}
		edit(&cfg)
		if n, err := node.New(cfg); err == nil {
			n.Close()
			t.Errorf("%s: accepted", name)
		}
	}
	n, err := node.New(node.Config{Network: l.net, Key: l.keys[0]})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := n.Run(context.Background()); err == nil {
		t.Error("a closed node ran")
	}
}
