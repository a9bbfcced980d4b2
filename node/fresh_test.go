//go:build !js

package node

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/market"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
)

// fresh is a network of nodes that know the first one, its witness, when they
// start.
type fresh struct {
	t     *testing.T
	net   *proto.Network
	keys  []crypto.PrivKey
	nodes []*Node
	exec  sandbox.Executor
}

func newFresh(t *testing.T, n int) *fresh {
	t.Helper()
	f := &fresh{t: t, nodes: make([]*Node, n)}
	g := &proto.Genesis{Name: "fresh", Nonce: make([]byte, 16)}
	for i := range n {
		key, id := newIdentity(t)
		f.keys = append(f.keys, key)
		if i == 0 {
			g.Witnesses = [][]byte{[]byte(id)}
			g.Grants = []*proto.Grant{{Account: []byte(id), Amount: uint64(1000 * proto.OneCredit)}}
		}
	}
	raw, err := goproto.Marshal(g)
	if err == nil {
		f.net, err = proto.ParseGenesis(raw)
	}
	if err == nil {
		f.exec, err = sandbox.NewInProcess(sandbox.InProcessConfig{})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.exec.Close() })
	return f
}

func (f *fresh) start(i int, via ...*Node) *Node {
	f.t.Helper()
	cfg := Config{
		Network: f.net, Key: f.keys[i], Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}, DHT: "off", Executor: f.exec,
		Worker: market.Worker{Enabled: true, Slots: 1, Types: []string{proto.TypeText}}, Linger: 100 * time.Millisecond,
	}
	for _, n := range via {
		cfg.Bootstrap = append(cfg.Bootstrap, n.Addrs()...)
	}
	n, err := New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { n.Close() })
	if err := n.Up(context.Background()); err != nil {
		f.t.Fatal(err)
	}
	f.nodes[i] = n
	return n
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// still stops the clocks that would repair what was not done at once: gossipsub's
// heartbeat, the second reconciliation with a peer, and the next offer.
func still(t *testing.T) {
	h, s, r := heartbeat, syncFirst, reoffer
	heartbeat, syncFirst, reoffer = time.Hour, time.Hour, time.Hour
	t.Cleanup(func() { heartbeat, syncFirst, reoffer = h, s, r })
}

// A job that is submitted before there are workers runs as soon as they come.
func TestFirstJobWaitsForNoTick(t *testing.T) {
	still(t)
	f := newFresh(t, 3)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	payer := f.start(0)
	id, err := payer.Start(ctx, JobSpec{Type: "text", Inputs: [][]byte{[]byte("a b a")}, Options: market.Options{Redundancy: 2}})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "it is offered", func() bool { v, _, _ := payer.Job(id); return v.Record.State == market.Offered })
	f.start(1, payer)
	f.start(2, payer)
	if err := payer.Wait(ctx, id); err != nil {
		t.Fatal(err)
	}
	if v, _, _ := payer.Job(id); v.Record.State != market.Done || v.Verified != 1 {
		t.Fatalf("%+v", v)
	}
}

// What is certified right after a node came reaches it, also when it knows no
// witness: whoever gossip does not reach yet is reconciled with.
func TestTransferReachesWhoJustCame(t *testing.T) {
	still(t)
	f := newFresh(t, 3)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	witness := f.start(0)
	between := f.start(1, witness)
	late := f.start(2, between)
	know := func(a, b *Node) bool {
		return a.HearsOf(b.self) && b.HearsOf(a.self) && a.sync.first.Load() && b.sync.first.Load()
	}
	until(t, "they know each other", func() bool { return know(witness, between) && know(between, late) })
	for i := range 3 {
		if _, err := witness.Transfer(ctx, late.self, proto.OneCredit, ""); err != nil {
			t.Fatal(err)
		}
		until(t, "the transfer is seen", func() bool {
			a := late.Account(late.self)
			return a.Avail+a.Receivable == proto.Credit(i+1)*proto.OneCredit
		})
	}
}

// block keeps a node from beginning a reconciliation with p.
func block(n *Node, p peer.ID, on bool) {
	n.sync.mu.Lock()
	defer n.sync.mu.Unlock()
	if delete(n.sync.asking, p); on {
		n.sync.asking[p] = true
	}
}

// A job is taken while credits may be on their way, and says what its hold waits
// for; once there can be none it fails, and the next one does not begin.
func TestAJobWithoutCreditsSaysWhatItWaitsFor(t *testing.T) {
	still(t)
	f := newFresh(t, 2)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	witness := f.start(0)
	id, err := peer.IDFromPrivateKey(f.keys[1])
	if err != nil {
		t.Fatal(err)
	}
	block(witness, id, true)
	poor, err := New(Config{Network: f.net, Key: f.keys[1], Listen: []string{}, DHT: "off", Bootstrap: witness.Addrs()})
	if err != nil {
		t.Fatal(err)
	}
	defer poor.Close()
	block(poor, witness.self, true)
	if err := poor.Up(ctx); err != nil {
		t.Fatal(err)
	}
	spec := JobSpec{Type: "text", Inputs: [][]byte{[]byte("a b a")}, Options: market.Options{Redundancy: 1}}
	job, err := poor.Start(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "its hold says what it waits for", func() bool {
		lines, err := poor.Why(job)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(strings.Join(lines, "\n"), "The balance does not suffice yet; waiting up to 10s for the ledger: no peer was reconciled with since this node started.")
	})
	block(witness, id, false)
	block(poor, witness.self, false)
	witness.sync.soon()
	poor.sync.soon()
	if err := poor.Wait(ctx, job); err != nil {
		t.Fatal(err)
	}
	if v, _, _ := poor.Job(job); v.Record.Code != proto.CodeInsufficient {
		t.Errorf("it ended %s %s: %s", v.Record.State, v.Record.Code, v.Record.Reason)
	}
	if _, err := poor.Start(ctx, spec); proto.CodeOf(err) != proto.CodeInsufficient || len(poor.Jobs()) != 1 {
		t.Errorf("%v, %d jobs", err, len(poor.Jobs()))
	}
	// A part of the first hold is too little.
	q, err := poor.Quote(spec)
	if err == nil {
		_, err = witness.Transfer(ctx, id, q.Hold-1, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	until(t, "it has almost enough", func() bool { return poor.Account(id).Avail == q.Hold-1 })
	if _, err := poor.Start(ctx, spec); proto.CodeOf(err) != proto.CodeInsufficient {
		t.Errorf("with %s of %s: %v", q.Hold-1, q.Hold, err)
	}
	if _, err := witness.Transfer(ctx, id, 1, ""); err != nil {
		t.Fatal(err)
	}
	until(t, "it has enough", func() bool { return poor.Account(id).Avail == q.Hold })
	if r, err := poor.Submit(ctx, market.Task{Type: "text", Input: spec.Inputs[0], Options: spec.Options}); err != nil || r.State != market.Done {
		t.Errorf("%+v, %v", r, err)
	}
}

// What an account was sent before its node started is waited for, if the node
// has not reconciled with anybody yet.
func TestSpendingWaitsForTheLedger(t *testing.T) {
	still(t) // a heartbeat would bring by gossip what a session must not bring
	f := newFresh(t, 3)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	witness := f.start(0)
	id, err := peer.IDFromPrivateKey(f.keys[1])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := witness.Transfer(ctx, id, 5*proto.OneCredit, ""); err != nil {
		t.Fatal(err)
	}
	// Neither may begin a session.
	block(witness, id, true)
	core, logs := observer.New(zapcore.InfoLevel)
	cfg := Config{Network: f.net, Key: f.keys[1], Listen: []string{}, DHT: "off", Bootstrap: witness.Addrs(), Log: zap.New(core)}
	late, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	block(late, witness.self, true)
	if err := late.Up(ctx); err != nil {
		t.Fatal(err)
	}
	_, other := newIdentity(t)
	sent := make(chan error, 1)
	go func() {
		_, err := late.Transfer(ctx, other, proto.OneCredit, "")
		sent <- err
	}()
	until(t, "it says what it waits for", func() bool {
		select {
		case err := <-sent:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		return logs.FilterMessage("the balance does not suffice yet").Len() > 0
	})
	// Whoever asks about a job hears of no other event.
	over := proto.JobID{1}
	if err := late.Evicted(over, proto.CIDOf([]byte("hold"))); err != nil {
		t.Fatal(err)
	}
	short := func(id proto.JobID) bool {
		lines, err := late.Why(id)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(strings.Join(lines, " "), "balance")
	}
	if short(over) {
		t.Error("a job that is over waits for a transfer's credits")
	}
	late.wallet.mu.Lock()
	if n := len(late.wallet.waiting); n > 0 {
		t.Errorf("a transfer that waits counts as %d holds", n)
	}
	late.wallet.mu.Unlock()
	block(witness, id, false)
	block(late, witness.self, false)
	witness.sync.soon()
	late.sync.soon()
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	// Once the ledger is here, what is not there is not waited for.
	if _, err := late.Transfer(ctx, other, 100*proto.OneCredit, ""); proto.CodeOf(err) != proto.CodeInsufficient {
		t.Fatal(err)
	}
}
