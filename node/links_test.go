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

// pledged is a stream of a submitter with left at stake since some time.
func pledged(id peer.ID, since time.Time, left proto.Credit) *link {
	l := newLink(id, "1.2.3.4")
	l.since = since
	l.pays(proto.CIDOf([]byte(id)), since.Add(2*time.Hour), left)
	return l
}

// Places for submitters go to those that set most aside for this worker: many
// identities with a microcredit each do not keep out one with more, nor do they
// hold their places with holds that are over.
func TestPlacesGoToWhoSetsMostAside(t *testing.T) {
	w := alone(t).work
	now := time.Now()
	for i := range maxLinks {
		w.join(pledged(peer.ID(fmt.Sprint("poor ", i)), now.Add(-time.Hour), 1))
	}
	rich := newLink("rich", "1.2.3.4")
	w.join(rich)
	if w.links["rich"] != rich || len(w.links) != maxLinks {
		t.Fatalf("no place among %d", len(w.links))
	}
	// Before it has shown its hold another one comes: it has the time to.
	w.join(newLink("another", "1.2.3.4"))
	if w.links["rich"] != rich {
		t.Fatal("it lost its place before it could show its hold")
	}
	rich.pays(proto.CIDOf([]byte("rich")), now.Add(time.Hour), proto.OneCredit)
	rich.since = now.Add(-2 * time.Hour)
	for i := range 2 * maxLinks {
		w.join(pledged(peer.ID(fmt.Sprint("poor again ", i)), now.Add(-time.Minute), 1))
		if len(w.links) > maxLinks {
			t.Fatalf("%d places", len(w.links))
		}
	}
	if w.links["rich"] != rich {
		t.Error("one microcredit took the place of a credit")
	}
	// A new stream of the same submitter has at stake what the old one showed.
	again := newLink("rich", "1.2.3.4")
	if w.join(again); again.stake(now) != proto.OneCredit {
		t.Errorf("%s are at stake on a new stream", again.stake(now))
	}
	// A hold that is over, or a lane that is paid, is nothing at stake.
	again.pays(proto.CIDOf([]byte("rich")), now.Add(-time.Second), proto.OneCredit)
	if s := again.stake(now); s != 0 {
		t.Errorf("%s are at stake after the deadline", s)
	}
}

// Streams that never show a hold come and go among themselves: they take the place
// of nobody who has something at stake, nor, from one address, of one who just came
// from another.
func TestBareStreamsTakeNobodysPlace(t *testing.T) {
	w := alone(t).work
	now := time.Now()
	honest := pledged("honest", now.Add(-time.Hour), 1)
	w.join(honest)
	flood := func(from, times int) {
		for i := range times {
			w.join(newLink(peer.ID(fmt.Sprint("bare ", from+i)), "6.6.6.6"))
		}
	}
	flood(0, maxLinks+1) // each opens its stream again, and is young for ever
	newcomer := newLink("newcomer", "1.2.3.4")
	newcomer.since = now.Add(-time.Minute) // the oldest of all
	w.join(newcomer)
	flood(0, maxLinks+1)
	flood(1000, maxLinks)
	if w.links["honest"] != honest {
		t.Error("a stream that shows no hold took the place of one with something at stake")
	}
	if w.links["newcomer"] != newcomer {
		t.Error("streams from one address took the place of one that came from another")
	}
	// With much at stake in all places, so many are left to those who come.
	for i := range maxLinks {
		w.join(pledged(peer.ID(fmt.Sprint("rich ", i)), now, proto.OneCredit))
	}
	flood(2000, maxLinks)
	if bare, all := w.bare(now), len(w.links); bare != bareLinks || all != maxLinks {
		t.Errorf("%d of %d streams have nothing at stake, want %d of %d", bare, all, bareLinks, maxLinks)
	}
}

func (w *work) bare(now time.Time) (n int) {
	for _, l := range w.links {
		if l.stake(now) == 0 {
			n++
		}
	}
	return n
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
	l := newLink(n.self, "")
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
	stranger := newLink("stranger", "")
	if err := n.work.showHold(stranger, hold.ID, hold.Wire, extends); proto.CodeOf(err) != proto.CodeNoLane {
		t.Errorf("another's hold: %v", err)
	}
	if got := left("stranger"); got != showBurst {
		t.Errorf("another's hold was verified: %d of %d are left", got, showBurst)
	}
	l := newLink(n.self, "")
	for range 50 {
		if err := n.work.showHold(l, hold.ID, hold.Wire, extends); err != nil {
			t.Fatal(err)
		}
	}
	if got := left(n.self); got < showBurst-4 {
		t.Errorf("what was shown before was verified again: %d of %d are left", got, showBurst)
	}
	n.work.shows.limit(n.self).SetBurst(2) // less than it takes, so that it fails and does not wait
	if err := n.work.showHold(newLink(n.self, ""), hold.ID, hold.Wire, extends); err == nil {
		t.Error("verified above the submitter's rate")
	}
}
