//go:build !js

package node_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/ledger/store/pebble"
	"edgenet.dev/node"
	"edgenet.dev/node/audit"
	"edgenet.dev/proto"
)

func openStore(t *testing.T, dir string) *pebble.Store {
	t.Helper()
	s, err := pebble.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// restore makes a fresh store of a backup.
func restore(t *testing.T, backup string) *pebble.Store {
	t.Helper()
	from, to := openStore(t, backup), openStore(t, filepath.Join(t.TempDir(), "ledger"))
	if err := node.RestoreStore(to, from, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := from.Close(); err != nil {
		t.Fatal(err)
	}
	return to
}

// An account signs a transfer that no witness gets to see, and its disk goes.
// The backup is restored and used: nothing that the witnesses say can tell that
// something is missing. Then the old disk comes back and proposes what it had
// signed: it is no second event for its place, and nobody is punished.
func TestRestoredBackupDoesNotFork(t *testing.T) {
	l := newLabOf(t, 5, 4, nil)
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
	old, backup := filepath.Join(t.TempDir(), "old"), filepath.Join(t.TempDir(), "backup")
	var acts []string
	payer := func(s *pebble.Store) *node.Node {
		return l.start(4, func(c *node.Config) {
			c.Store = s
			c.Record = func(_ time.Time, act string, _ ...string) error {
				acts = append(acts, act)
				return nil
			}
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	to := l.nodes[1].ID()
	pay := func(n *node.Node, amount proto.Credit) {
		t.Helper()
		if _, err := n.Transfer(ctx, to, amount, ""); err != nil {
			t.Fatal(err)
		}
	}
	n := payer(openStore(t, old))
	pay(n, 1)
	pay(n, 2)
	l.settled()
	if err := n.Backup(backup); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		l.stops[i]()
	}
	short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	_, err := n.Transfer(short, to, 5, "lost")
	stop()
	lost, ok := n.Waiting(n.ID())
	if err == nil || !ok || lost.Event.GetTransfer().GetMemo() != "lost" {
		t.Fatalf("%v; waiting %+v", err, lost)
	}
	l.stops[4]()

	witnesses()
	acts = nil
	n = payer(restore(t, backup))
	pay(n, 7)
	l.settled()
	if !slices.Contains(acts, audit.Recovered) {
		t.Errorf("acts %v, want %s among them", acts, audit.Recovered)
	}
	if c := at(t, n, lost.Seq); c.Event.GetVoid() == nil {
		t.Errorf("place %d has %T, want a Void: it was signed once", lost.Seq, c.Event.Body)
	}
	l.stops[4]()

	n = payer(openStore(t, old))
	if w, ok := n.Waiting(n.ID()); !ok || w.ID != lost.ID {
		t.Fatalf("the old disk lost its event: %+v", w)
	}
	pay(n, 11)
	l.settled()
	for i := range 4 {
		a := l.nodes[i].Account(n.ID())
		if a.Offences != 0 || a.Frozen || a.Avail != grant-1-2-7-11 {
			t.Errorf("witness %d: %+v, want %s available and no offence", i, a, grant-1-2-7-11)
		}
	}
}

func at(t *testing.T, n *node.Node, seq uint64) node.HistoryEntry {
	t.Helper()
	for _, e := range n.History(n.ID(), 100) {
		if e.Seq == seq {
			return e
		}
	}
	t.Fatalf("no event %d", seq)
	return node.HistoryEntry{}
}

// A witness whose store was restored stays silent, also after another start,
// and the network goes on without it as long as it can.
func TestRestoredWitnessDoesNotVote(t *testing.T) {
	l := newLabOf(t, 5, 4, nil)
	dir := filepath.Join(t.TempDir(), "witness")
	for i := range 5 {
		l.start(i, func(c *node.Config) {
			if i == 3 {
				c.Store = openStore(t, dir)
			}
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	payer, to := l.submitter(), l.nodes[0].ID()
	if _, err := payer.Transfer(ctx, to, 1, ""); err != nil {
		t.Fatal(err)
	}
	l.settled()
	backup := filepath.Join(t.TempDir(), "backup")
	if err := l.nodes[3].Backup(backup); err != nil {
		t.Fatal(err)
	}
	l.stops[3]()
	again := kept{restore(t, backup)}
	defer again.Store.Close()
	for range 2 {
		n := l.start(3, func(c *node.Config) { c.Store = again })
		if n.Stats().Witness {
			t.Fatal("it says that it votes")
		}
		if _, err := payer.Transfer(ctx, to, 1, ""); err != nil {
			t.Fatal(err)
		}
		for _, c := range payer.History(payer.ID(), 1) {
			if got := len(c.Wire.Certificate.Commits); got != 3 {
				t.Errorf("%d commits, want those of the other three", got)
			}
		}
		l.settled()
		if got := n.Account(payer.ID()).Avail; got != payer.Account(payer.ID()).Avail {
			t.Errorf("it does not follow: %s", got)
		}
		l.stops[3]()
	}
	// With one of the others away there are two and one that must not.
	l.start(3, func(c *node.Config) { c.Store = again })
	l.stops[2]()
	short, stop := context.WithTimeout(ctx, 2*time.Second)
	defer stop()
	if _, err := payer.Transfer(short, to, 1, ""); err == nil {
		t.Error("two witnesses made an event final: the restored one voted")
	}
}

// kept is a store that outlives a node.
type kept struct{ ledger.Store }

func (kept) Close() error { return nil }
