//go:build !js

package node_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/node"
	"edgenet.dev/proto"
)

// A transfer is signed while no witness answers, and the machine is off for so
// long that its epoch has passed. The witnesses refuse the event; what it was for
// is done all the same, once, also when the node stops in between.
func TestTransferOutlivesItsEpoch(t *testing.T) {
	l := newLabOf(t, 5, 4, func(g *proto.Genesis) { g.EpochSeconds = 2 })
	var stores []keep
	for range 4 {
		stores = append(stores, keep{mem.New()})
	}
	witnesses := func() {
		for i := range 4 {
			l.start(i, func(c *node.Config) { c.Store = stores[i] })
		}
	}
	witnesses()
	dir := filepath.Join(t.TempDir(), "ledger")
	payer := func() *node.Node {
		return l.start(4, func(c *node.Config) { c.Store = openStore(t, dir) })
	}
	n := payer()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	to := l.nodes[1].ID()
	if _, err := n.Transfer(ctx, to, 1, ""); err != nil {
		t.Fatal(err)
	}
	l.settled()
	for i := range 4 {
		l.stops[i]()
	}
	short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	_, err := n.Transfer(short, to, 5, "for lunch")
	stop()
	late, ok := n.Waiting(n.ID())
	if err == nil || !ok {
		t.Fatalf("%v; waiting %+v", err, late)
	}
	l.stops[4]()
	witnesses()
	l.until("the epoch of the transfer has passed", func() bool { return l.nodes[0].Books().Epoch > late.Event.Epoch+3 })

	n = payer()
	l.until("the transfer arrives", func() bool { return l.nodes[0].Account(n.ID()).Avail == grant-1-5 })
	l.settled()
	if c := at(t, n, late.Seq); c.Event.GetVoid() == nil {
		t.Errorf("place %d has %T, want a Void", late.Seq, c.Event.Body)
	}
	if c := at(t, n, late.Seq+1); c.Event.GetTransfer().GetMemo() != "for lunch" {
		t.Errorf("place %d has %v", late.Seq+1, c.Event)
	}
	l.stops[4]()
	n = payer()
	if _, err := n.Transfer(ctx, to, 7, ""); err != nil {
		t.Fatal(err)
	}
	l.settled()
	if a := l.nodes[0].Account(n.ID()); a.Avail != grant-1-5-7 || a.Offences != 0 {
		t.Errorf("%+v, want %s available", a, grant-1-5-7)
	}
}
