package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// Places for submitters go to those that set most aside for this worker: many
// identities with a microcredit each do not keep out one with more, nor do they
// hold their places with holds that are over.
func TestPlacesGoToWhoSetsMostAside(t *testing.T) {
	w := alone(t).work
	now := time.Now()
	hold := func(i int) []byte { return fmt.Append(nil, "hold ", i) }
	for i := range maxLinks {
		l := newLink(peer.ID(fmt.Sprint("poor ", i)))
		l.since = now.Add(-time.Hour)
		l.pays(proto.CIDOf(hold(i)), now.Add(time.Hour), 1)
		if !w.join(l) {
			t.Fatal("no place")
		}
	}
	rich := newLink("rich")
	if !w.join(rich) || len(w.links) != maxLinks {
		t.Fatalf("no place among %d", len(w.links))
	}
	// Before it has shown its hold another one comes: it has the time to.
	if !w.join(newLink("another")) || w.links["rich"] != rich {
		t.Fatal("it lost its place before it could show its hold")
	}
	rich.pays(proto.CIDOf([]byte("rich")), now.Add(time.Hour), proto.OneCredit)
	rich.since = now.Add(-2 * time.Hour)
	for i := range 2 * maxLinks {
		l := newLink(peer.ID(fmt.Sprint("poor again ", i)))
		l.since = now.Add(-time.Minute)
		l.pays(proto.CIDOf(hold(i)), now.Add(time.Hour), 1)
		if !w.join(l) || len(w.links) > maxLinks {
			t.Fatalf("%d places", len(w.links))
		}
	}
	if w.links["rich"] != rich {
		t.Error("one microcredit took the place of a credit")
	}
	// A hold that is over, or a lane that is paid, is nothing at stake.
	rich.pays(proto.CIDOf([]byte("rich")), now.Add(-time.Second), proto.OneCredit)
	if s := rich.stake(now); s != 0 {
		t.Errorf("%s are at stake after the deadline", s)
	}
	w.join(newLink("one more"))
	if w.links["rich"] != nil {
		t.Error("a place is held with a hold that is over")
	}
}

// extended is a certified hold of n with a lane for it, extended so many times.
func extended(t *testing.T, n *Node, times int) (hold *ledger.Certified, extends []*proto.CertifiedEvent) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	hold, err := n.wallet.certify(ctx, &proto.Hold{
		Job: make([]byte, 16), Budget: 10, DeadlineUnixMs: uint64(time.Now().Add(time.Hour).UnixMilli()),
		Lanes: []*proto.Lane{{Worker: []byte(n.self), Cap: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for range times {
		x, err := n.wallet.certify(ctx, &proto.Extend{Hold: hold.ID.Bytes(), Budget: 2, Lanes: []*proto.Lane{{Worker: []byte(n.self), Cap: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		extends = append(extends, x.Wire)
	}
	return hold, extends
}

// A long job extends its hold as often as the ledger lets it, and its workers take
// what they are shown.
func TestHoldOfManyExtends(t *testing.T) {
	n := newEarner(t).n
	const times = 300
	hold, extends := extended(t, n, times)
	l := newLink(n.self)
	if err := n.work.showHold(l, hold.ID, hold.Wire, extends); err != nil {
		t.Fatal(err)
	}
	if lane, ok := n.work.lane(l, hold.ID, 0); !ok || lane.Cap != 1+times {
		t.Errorf("%+v, %v", lane, ok)
	}
	if err := n.work.showHold(l, hold.ID, hold.Wire, make([]*proto.CertifiedEvent, ledger.MaxExtends+1)); proto.CodeOf(err) != proto.CodeTooLarge {
		t.Errorf("more than the ledger allows: %v", err)
	}
}

// Whose hold is shown is looked at before signatures are checked, what was shown is
// not checked again, and each submitter has only so much checked in a time.
func TestShownHoldsAreBounded(t *testing.T) {
	n := newEarner(t).n
	hold, extends := extended(t, n, 3)
	left := func(p peer.ID) int { return int(n.work.shows.limit(p).Tokens() + 0.5) }
	stranger := newLink("stranger")
	if err := n.work.showHold(stranger, hold.ID, hold.Wire, extends); proto.CodeOf(err) != proto.CodeNoLane {
		t.Errorf("another's hold: %v", err)
	}
	if got := left("stranger"); got != showBurst {
		t.Errorf("another's hold was verified: %d of %d are left", got, showBurst)
	}
	l := newLink(n.self)
	for range 50 {
		if err := n.work.showHold(l, hold.ID, hold.Wire, extends); err != nil {
			t.Fatal(err)
		}
	}
	if got := left(n.self); got < showBurst-4 {
		t.Errorf("what was shown before was verified again: %d of %d are left", got, showBurst)
	}
	n.work.shows.limit(n.self).SetBurst(2) // less than it takes, so that it fails and does not wait
	if err := n.work.showHold(newLink(n.self), hold.ID, hold.Wire, extends); err == nil {
		t.Error("verified above the submitter's rate")
	}
}
