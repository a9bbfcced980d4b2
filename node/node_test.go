//go:build !js

package node_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/modules"
)

// lab is a network of real nodes on loopback in one process. The first nodes
// are the witnesses, the next one submits, the others work.
type lab struct {
	t         testing.TB
	net       *proto.Network
	keys      []crypto.PrivKey
	nodes     []*node.Node // nil when not started
	stops     map[int]func()
	witnesses int
	light     map[int]bool // nodes that know their own account only
	exec      sandbox.Executor
}

const grant = 1000 * proto.OneCredit

func newLab(t testing.TB, n int) *lab { return newLabOf(t, n, 1, nil) }

// newLabOf makes keys for n nodes of which the first are witnesses.
func newLabOf(t testing.TB, n, witnesses int, edit func(*proto.Genesis)) *lab {
	t.Helper()
	l := &lab{t: t, witnesses: witnesses, nodes: make([]*node.Node, n), stops: map[int]func(){}, light: map[int]bool{}}
	g := &proto.Genesis{Name: "lab", Nonce: make([]byte, 16)}
	if edit != nil {
		edit(g)
	}
	if _, err := rand.Read(g.Nonce); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		id, err := peer.IDFromPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		l.keys = append(l.keys, key)
		if i < witnesses {
			g.Witnesses = append(g.Witnesses, []byte(id))
		}
		g.Grants = append(g.Grants, &proto.Grant{Account: []byte(id), Amount: uint64(grant)})
	}
	raw, err := goproto.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	if l.net, err = proto.ParseGenesis(raw); err != nil {
		t.Fatal(err)
	}
	if l.exec, err = sandbox.NewInProcess(sandbox.InProcessConfig{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.exec.Close() })
	return l
}

// start runs node i with the lab's defaults, changed by edit.
func (l *lab) start(i int, edit func(*node.Config)) *node.Node {
	l.t.Helper()
	cfg := node.Config{
		Network: l.net, Key: l.keys[i], DHT: "server", Log: logger(l.t).Named(fmt.Sprint("node", i)),
		Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}, Linger: 500 * time.Millisecond,
	}
	if l.nodes[0] != nil {
		cfg.Bootstrap = l.nodes[0].Addrs()
	}
	if i > l.witnesses {
		cfg.Executor = l.exec
		cfg.Worker = market.Worker{Enabled: true, Slots: 2, Types: modules.Types(), Custom: true}
	}
	if edit != nil {
		edit(&cfg)
	}
	n, err := node.New(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	l.light[i] = cfg.Light
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	l.stops[i] = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Errorf("node %d: %v", i, err)
		}
		if err := n.Close(); err != nil {
			l.t.Errorf("node %d: close: %v", i, err)
		}
		l.nodes[i] = nil
	})
	l.t.Cleanup(l.stops[i])
	select {
	case <-n.Ready():
	case err := <-done:
		done <- err
		l.t.Fatalf("node %d: %v", i, err)
	}
	l.nodes[i] = n
	return n
}

func logger(t testing.TB) *zap.Logger {
	if testing.Verbose() {
		return zaptest.NewLogger(t)
	}
	return zap.NewNop()
}

func (l *lab) startAll(n int, edit func(i int, c *node.Config)) {
	l.t.Helper()
	for i := range n {
		l.start(i, func(c *node.Config) {
			if edit != nil {
				edit(i, c)
			}
		})
	}
	l.until("workers follow the offers", func() bool {
		return l.nodes[l.witnesses].Stats().Peers > 0 && l.nodes[0].Stats().Peers >= n-1
	})
}

// until waits for a condition; a minute without it is a hang.
func (l *lab) until(what string, ok func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("never happened: %s", what)
		}
	}
}

func (l *lab) settled() {
	l.t.Helper()
	defer func() {
		for i, n := range l.nodes {
			if n != nil && l.t.Failed() {
				l.t.Logf("node %d: state %s, epoch %d, base %d, %d events, %+v", i, n.StateHash(), n.Epoch(), n.Base(), n.Events(), n.Audit())
			}
		}
	}()
	l.until("every node has the same ledger and nothing is held", func() bool {
		for i, n := range l.nodes {
			if n == nil {
				continue
			}
			if l.light[i] {
				if n.Account(n.ID()) != l.nodes[0].Account(n.ID()) {
					return false
				}
				continue
			}
			a := n.Audit()
			if n.StateHash() != l.nodes[0].StateHash() || a.Held != 0 || a.Receivable != 0 || !a.Conserved() {
				return false
			}
		}
		return true
	})
}

const text = "The quick brown fox jumps over the lazy dog. The dog sleeps; the fox does not."

func TestJobIsVerifiedAndPaid(t *testing.T) {
	l := newLab(t, 4)
	l.startAll(4, nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	inputs := make([][]byte, 20)
	for i := range inputs {
		inputs[i] = []byte(strings.Repeat(text+" ", i+1))
	}
	rs, err := l.nodes[1].SubmitBatch(ctx, node.JobSpec{Type: "text", Inputs: inputs, Options: market.Options{Redundancy: 2}})
	if err != nil {
		t.Fatal(err)
	}
	var cost proto.Credit
	paid := map[peer.ID]proto.Credit{}
	for i, r := range rs {
		if r.State != market.Done || !r.Verified || len(r.Workers) != 2 || len(r.Receipts) != 2 {
			t.Fatalf("task %d: %+v", i, r)
		}
		counts, err := modules.MergeCounts(r.Output)
		if err != nil {
			t.Fatal(err)
		}
		if counts["the"] != uint64(4*(i+1)) {
			t.Errorf("task %d: the = %d, want %d", i, counts["the"], 4*(i+1))
		}
		cost += r.Cost
		for _, sr := range r.Receipts {
			rec, err := proto.VerifyReceipt(l.net.ID, sr)
			if err != nil {
				t.Fatal(err)
			}
			paid[peer.ID(rec.Worker)] += proto.PayFor(proto.Fuel(rec.Fuel), proto.Credit(rec.Price))
		}
	}
	l.settled()
	for i := 2; i < 4; i++ {
		id := l.nodes[i].ID()
		if got := l.nodes[0].Account(id).Avail; got != grant+paid[id] {
			t.Errorf("worker %d has %s, want %s", i, got, grant+paid[id])
		}
	}
	sum := paid[l.nodes[2].ID()] + paid[l.nodes[3].ID()]
	if want := grant - sum - proto.Fee(sum, l.net.Genesis.FeePpm); l.nodes[2].Account(l.nodes[1].ID()).Avail != want {
		t.Errorf("submitter has %s, want %s", l.nodes[2].Account(l.nodes[1].ID()).Avail, want)
	}
}
