//go:build !js

package node_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/ledger"
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

// failing is a disk that takes nothing of what a witness says about accounts
// while it is broken.
type failing struct {
	keep
	broken *atomic.Bool
}

func (f failing) Append(batch ...ledger.Record) error {
	for _, r := range batch {
		if f.broken.Load() && bytes.HasPrefix(r.Key, []byte("va")) {
			return errors.New("the disk fails")
		}
	}
	return f.keep.Append(batch...)
}

// late has a witness sign a transfer that its failing disk keeps it from
// certifying until the event's epoch has passed, while the caller still waits.
func late(t *testing.T, prepare func(n *node.Node), edit func(*node.Config)) (n *node.Node, was node.Waiting, broken *atomic.Bool) {
	t.Helper()
	l := newLabOf(t, 2, 1, func(g *proto.Genesis) { g.EpochSeconds = 2 })
	broken = new(atomic.Bool)
	n = l.start(0, func(c *node.Config) {
		c.Store = failing{keep{mem.New()}, broken}
		edit(c)
	})
	to, err := peer.IDFromPrivateKey(l.keys[1])
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := n.Transfer(ctx, to, 1, ""); err != nil {
		t.Fatal(err)
	}
	prepare(n)
	broken.Store(true)
	_, err = n.Transfer(ctx, to, 5, "for lunch")
	was, ok := n.Waiting(n.ID())
	if err == nil || !ok {
		t.Fatalf("%v; waiting %+v", err, was)
	}
	if _, err := n.Transfer(ctx, to, 7, "behind it"); err == nil {
		t.Fatal("a second event is certified while the first one waits")
	}
	if ctx.Err() != nil {
		t.Fatal("the disk's error is not told")
	}
	l.until("the epoch of the transfer has passed", func() bool { return n.Books().Epoch > was.Event.Epoch+3 })
	return n, was, broken
}

// A transfer is signed and its caller is told that the disk fails. Neither that
// error nor an operation after it makes the node forget what the event was for.
func TestTransferOutlivesAFailingDisk(t *testing.T) {
	n, was, broken := late(t, func(*node.Node) {}, func(*node.Config) {})
	broken.Store(false)
	(&lab{t: t}).until("the transfer arrives", func() bool { return n.Account(n.ID()).Avail == grant-1-5 })
	if c := at(t, n, was.Seq); c.Event.GetVoid() == nil {
		t.Errorf("place %d has %T, want a Void", was.Seq, c.Event.Body)
	}
	if c := at(t, n, was.Seq+1); c.Event.GetTransfer().GetMemo() != "for lunch" {
		t.Errorf("place %d has %v", was.Seq+1, c.Event)
	}
}

// The recovery key rotates while an order waits: it gives up the order's place,
// and the new key signs what the order was for.
func TestOrderOutlivesARecovery(t *testing.T) {
	var keys [2]crypto.PrivKey
	var ids [2]peer.ID
	for i := range keys {
		var err error
		if keys[i], _, err = crypto.GenerateEd25519Key(rand.Reader); err != nil {
			t.Fatal(err)
		}
		if ids[i], err = peer.IDFromPrivateKey(keys[i]); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n, was, broken := late(t, func(n *node.Node) {
		if err := n.Rotate(ctx, n.ID(), node.Rotation{RecoveryKey: ids[0]}); err != nil {
			t.Fatal(err)
		}
	}, func(c *node.Config) {
		c.Keys = func(id peer.ID) (crypto.PrivKey, error) {
			if id == ids[1] {
				return keys[1], nil
			}
			return nil, nil
		}
	})
	broken.Store(false)
	if err := n.Rotate(ctx, n.ID(), node.Rotation{Key: ids[1], Recovery: keys[0]}); err != nil {
		t.Fatal(err)
	}
	(&lab{t: t}).until("the transfer arrives", func() bool { return n.Account(n.ID()).Avail == grant-1-5 })
	places := map[string]int{}
	for seq := was.Seq; seq <= n.Account(n.ID()).Seq; seq++ {
		switch c := at(t, n, seq); {
		case c.Event.GetVoid() != nil:
			places["void"]++
		case c.Event.GetRotate() != nil:
			places["rotate"]++
		case c.Event.GetTransfer().GetMemo() == "for lunch":
			places["transfer"]++
		}
	}
	if places["void"] != 1 || places["rotate"] != 1 || places["transfer"] != 1 {
		t.Errorf("from place %d on: %v", was.Seq, places)
	}
}
