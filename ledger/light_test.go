package ledger_test

import (
	"fmt"
	"reflect"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// follower is a light ledger beside a full one.
type follower struct {
	l     *ledger.Ledger
	store *mem.Store
}

func (w *world) light(account peer.ID, store *mem.Store) *follower {
	w.tb.Helper()
	l, err := ledger.OpenLight(w.net, store, account)
	if err != nil {
		w.tb.Fatal(err)
	}
	return &follower{l, store}
}

// hear lets a light ledger ask f+1 witnesses that know what full knows.
func (w *world) hear(x *follower, full *ledger.Ledger) error {
	for _, by := range w.witnesses[:w.net.F()+1] {
		q := x.l.Ask()
		r, err := full.Report(wire(w.tb, q, new(proto.ProofRequest)))
		if err != nil {
			return err
		}
		if _, err := x.l.Heard(by.id, q, wire(w.tb, r, new(proto.ProofReply))); err != nil {
			return err
		}
	}
	return nil
}

// wire is a message as it arrives.
func wire[M goproto.Message](tb testing.TB, from, to M) M {
	raw, err := goproto.Marshal(from)
	if err == nil {
		err = goproto.Unmarshal(raw, to)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return to
}

// follow compares a light ledger of every account with the scenario's ledger.
// Every other step, so to speak, the light ledger's process starts anew.
func (s *scenario) follow() error {
	if s.l == nil {
		return nil
	}
	if s.lights == nil {
		s.lights = map[peer.ID]*follower{}
	}
	for _, id := range s.l.Accounts() {
		x := s.lights[id]
		if x == nil {
			x = s.w.light(id, mem.New())
			s.lights[id] = x
		}
		for _, hold := range s.holds {
			h, ok := s.l.Hold(hold)
			if _, _, mine := h.Lane(id); !ok || !mine || h.Payer == id {
				continue
			}
			var events []*proto.CertifiedEvent
			for _, c := range s.l.HoldEvents(hold) {
				events = append(events, c.Wire)
			}
			if _, known := x.l.Hold(hold); known && h.Closed || len(events) == 0 {
				continue
			}
			if _, err := x.l.Watch(events[0], events[1:]); err != nil {
				return fmt.Errorf("watch: %w", err)
			}
		}
		if err := s.w.hear(x, s.l); err != nil {
			return err
		}
		if err := s.same(id, x.l); err != nil {
			return fmt.Errorf("light ledger of %s: %w", s.names[id].id, err)
		}
		again := s.w.light(id, x.store.Clone())
		if err := s.w.hear(again, s.l); err != nil {
			return err
		}
		if err := s.same(id, again.l); err != nil {
			return fmt.Errorf("light ledger of %s from its store: %w", s.names[id].id, err)
		}
	}
	return nil
}

func (s *scenario) same(id peer.ID, light *ledger.Ledger) error {
	want, got := s.l.Account(id), light.Account(id)
	if !reflect.DeepEqual(want, got) {
		return fmt.Errorf("%+v\nwant %+v", got, want)
	}
	if want, got := s.l.Receivables(id), light.Receivables(id); !reflect.DeepEqual(texts(want), texts(got)) {
		return fmt.Errorf("receivables %v, want %v", got, want)
	}
	for name, hold := range s.holds {
		want, ok := s.l.Hold(hold)
		got, known := light.Hold(hold)
		if !ok || !known {
			continue
		}
		if n, lane, ok := want.Lane(id); ok && got.Lanes[n] != lane || want.Closed != got.Closed || want.DeadlineUnixMs != got.DeadlineUnixMs {
			return fmt.Errorf("hold %s: %+v\nwant %+v", name, got, want)
		}
	}
	if want.Frozen || !want.Opened || want.Avail == 0 {
		return nil
	}
	// What it drafts is what the full ledger drafts.
	body := transfer(someone("nobody"), 1)
	a, err := s.l.Draft(id, s.l.Epoch(), 0, body)
	b, lerr := light.Draft(id, light.Epoch(), 0, body)
	if fmt.Sprint(err) != fmt.Sprint(lerr) || !goproto.Equal(a, b) {
		return fmt.Errorf("draft %v (%v)\nwant %v (%v)", b, lerr, a, err)
	}
	return nil
}

func texts(list []ledger.Receivable) (out []string) {
	for _, r := range list {
		out = append(out, fmt.Sprintf("%x/%d %d %s", r.Source.Event, r.Source.Index, r.Amount, r.From))
	}
	return out
}

// f witnesses that lie alike cannot make a payment or end a hold, and cannot hide
// what f+1 honest ones say.
func TestLightTrustsNobodyAlone(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 100 * credit, "bob": 10 * credit})
	full := w.ledger()
	w.do(full, alice, &proto.Open{})
	w.do(full, bob, &proto.Open{})
	hold := w.do(full, alice, &proto.Hold{Job: job(1), DeadlineUnixMs: 5, Budget: 50 * credit, Lanes: []*proto.Lane{{Worker: []byte(bob.id), Cap: 20 * credit}}})
	x := w.light(bob.id, mem.New())
	if _, err := x.l.Watch(hold.Wire, nil); err != nil {
		t.Fatal(err)
	}
	w.do(full, alice, transfer(bob, credit))
	say := func(by person, change func(*proto.ProofReply)) {
		t.Helper()
		q := x.l.Ask()
		r, err := full.Report(q)
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(r)
		}
		if _, err := x.l.Heard(by.id, q, r); err != nil {
			t.Fatal(err)
		}
	}
	lie := func(r *proto.ProofReply) {
		r.Report.Payables = []*proto.Payable{{Source: proto.CIDOf([]byte("nothing")).Bytes(), Amount: 90 * credit, From: []byte(alice.id)}}
		r.Report.Lanes[0].Closed, r.Report.Lanes[0].Paid = true, 20*credit
	}
	say(w.witnesses[0], lie)
	say(w.witnesses[0], lie) // twice is not two
	say(w.witnesses[1], nil)
	if got := x.l.Account(bob.id).Receivable; got != 0 {
		t.Fatalf("one witness's word makes %s receivable", got)
	}
	if h, _ := x.l.Hold(hold.ID); h.Closed || h.Lanes[0].Paid != 0 {
		t.Fatalf("one witness's word counts: %+v", h)
	}
	say(w.witnesses[2], nil)
	if list := x.l.Receivables(bob.id); len(list) != 1 || list[0].Amount != proto.OneCredit || list[0].From != alice.id {
		t.Fatalf("two witnesses say alike, and nothing follows: %v", list)
	}
	q := x.l.Ask()
	r, err := full.Report(q)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.l.Heard(alice.id, q, r); proto.CodeOf(err) != proto.CodeNotWitness {
		t.Fatalf("alice is heard as a witness: %v", err)
	}
	// What was claimed is not said again by a report from before.
	claimed := w.receive(full, bob)
	if _, err := x.l.Add(claimed.Wire); err != nil {
		t.Fatal(err)
	}
	if _, err := x.l.Heard(w.witnesses[3].id, q, r); err != nil {
		t.Fatal(err)
	}
	say(w.witnesses[1], nil)
	say(w.witnesses[2], nil)
	if list := x.l.Receivables(bob.id); len(list) != 0 || x.l.Account(bob.id).Avail != 11*proto.OneCredit {
		t.Fatalf("after claiming: %v, %+v", list, x.l.Account(bob.id))
	}
}

// Whatever happens, what a light ledger keeps stays bounded, and an own open
// hold can still be settled after a restart.
func TestLightStaysSmall(t *testing.T) {
	const rounds = 1500
	w := newWorld(t, 1, map[string]uint64{"alice": 100 * credit, "bob": 1_000_000 * credit})
	full := w.ledger()
	x := w.light(bob.id, mem.New())
	own := func(body any) *ledger.Certified {
		t.Helper()
		c := w.do(full, bob, body)
		if _, err := x.l.Add(c.Wire); err != nil {
			t.Fatal(err)
		}
		return c
	}
	w.do(full, alice, &proto.Open{})
	own(&proto.Open{})
	records := func() (n int) {
		if err := x.store.Scan(nil, func(_, _ []byte) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	var hold *ledger.Certified
	for i := range rounds {
		if i == rounds-400 {
			hold = own(&proto.Hold{Job: job(1), DeadlineUnixMs: 5, Budget: 50 * credit, Lanes: []*proto.Lane{{Worker: []byte(alice.id), Cap: 20 * credit}}})
		}
		own(transfer(alice, 1))
		if _, err := x.l.Add(w.receive(full, alice).Wire); err != nil {
			t.Fatal(err)
		}
		if x.l.Len() > 800 || records() > 900 {
			t.Fatalf("after %d own events: %d events, %d records", i, x.l.Len(), records())
		}
	}
	x = w.light(bob.id, x.store.Clone())
	if err := w.hear(x, full); err != nil {
		t.Fatal(err)
	}
	if want := full.Account(bob.id); !reflect.DeepEqual(want, x.l.Account(bob.id)) {
		t.Fatalf("%+v\nwant %+v", x.l.Account(bob.id), want)
	}
	settle := &proto.Settle{Hold: hold.ID.Bytes(), Pays: []*proto.LanePay{{Lane: 0, Amount: credit}}}
	a, err := full.Draft(bob.id, 0, 0, settle)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x.l.Draft(bob.id, 0, 0, settle)
	if err != nil || !goproto.Equal(a, b) {
		t.Fatalf("the hold of an earlier run: %v, %v", b, err)
	}
}

// A tab that lost its store begins with what the witnesses still have of its
// chain, and one that slept catches up.
func TestLightResumes(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 100 * credit, "bob": 100 * credit})
	full := w.ledger()
	w.do(full, bob, &proto.Open{})
	asleep, half := w.light(bob.id, mem.New()), w.light(bob.id, mem.New())
	for _, x := range []*follower{asleep, half} {
		if err := w.hear(x, full); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		w.do(full, bob, transfer(alice, credit))
	}
	w.checkpoint(full)
	w.prune(full, 0) // all but the head is gone
	head, _ := full.At(bob.id, full.Account(bob.id).Seq)
	if _, err := half.l.Add(head.Wire); err != nil || half.l.Pending() != 1 {
		t.Fatal(err, half.l.Pending())
	}
	if err := w.hear(half, full); err != nil || half.l.Account(bob.id).Seq != head.Seq {
		t.Fatal(err, half.l.Account(bob.id))
	}
	for range 3 {
		w.do(full, bob, transfer(alice, credit))
	}
	for name, x := range map[string]*follower{"a fresh one": w.light(bob.id, mem.New()), "one that slept": asleep, "one in which the head waits": half} {
		if err := w.hear(x, full); err != nil {
			t.Fatal(err)
		}
		if err := w.hear(x, full); err != nil {
			t.Fatal(err)
		}
		x = w.light(bob.id, x.store.Clone())
		if want := full.Account(bob.id); !reflect.DeepEqual(want, x.l.Account(bob.id)) || x.l.Epoch() != full.Epoch() {
			t.Fatalf("%s: %+v\nwant %+v", name, x.l.Account(bob.id), want)
		}
	}
}

// A store of a full ledger can be opened by a light one.
func TestLightOpensAFullStore(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 100 * credit, "bob": 100 * credit})
	store := mem.New()
	full := w.open(store)
	w.do(full, bob, &proto.Open{})
	w.do(full, alice, &proto.Open{})
	w.do(full, alice, transfer(bob, credit))
	w.receive(full, bob)
	w.checkpoint(full)
	w.prune(full, 0)
	w.do(full, bob, transfer(alice, credit))
	x := w.light(bob.id, store.Clone())
	if err := w.hear(x, full); err != nil {
		t.Fatal(err)
	}
	if want := full.Account(bob.id); !reflect.DeepEqual(want, x.l.Account(bob.id)) {
		t.Fatalf("%+v\nwant %+v", x.l.Account(bob.id), want)
	}
}

// A store of a light ledger can be opened by a full one: what the light one left
// out stands in nothing's way, and what came since stays.
func TestFullOpensALightStore(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 100 * credit, "bob": 100 * credit})
	full, whole := w.ledger(), w.ledger()
	var wires []*proto.CertifiedEvent
	do := func(by person, body any) {
		c := w.do(full, by, body)
		wires = append(wires, c.Wire)
		if _, err := whole.Add(c.Wire); err != nil {
			t.Fatal(err)
		}
	}
	do(bob, &proto.Open{})
	do(alice, &proto.Open{})
	for range 5 {
		do(bob, transfer(alice, credit))
	}
	w.checkpoint(full)
	w.prune(full, 0)
	do(bob, transfer(alice, credit))
	light := w.light(bob.id, mem.New())
	if err := w.hear(light, full); err != nil {
		t.Fatal(err)
	}
	if light.l.Account(bob.id).Seq != full.Account(bob.id).Seq {
		t.Fatal("the light ledger does not know its account")
	}
	store := light.store.Clone()
	x := w.open(store)
	for _, wire := range wires {
		if _, err := x.Add(wire); err != nil {
			t.Fatal(err)
		}
	}
	for name, x := range map[string]*ledger.Ledger{"at once": x, "opened again": w.open(store)} {
		if a := x.Audit(); x.StateHash() != whole.StateHash() || !a.Conserved() || x.Pending() != 0 {
			t.Errorf("%s: %d pending, %+v; bob has %+v, want %+v", name, x.Pending(), a, x.Account(bob.id), whole.Account(bob.id))
		}
	}
}

// FuzzHeard: no reply does more than be refused, and none makes money alone.
func FuzzHeard(f *testing.F) {
	w := newWorld(f, 4, map[string]uint64{"alice": 100 * credit, "bob": 100 * credit})
	full := w.ledger()
	w.do(full, bob, &proto.Open{})
	w.do(full, alice, &proto.Open{})
	w.do(full, alice, transfer(bob, credit))
	hold := w.do(full, alice, &proto.Hold{Job: job(1), DeadlineUnixMs: 5, Budget: 50 * credit, Lanes: []*proto.Lane{{Worker: []byte(bob.id), Cap: 20 * credit}}})
	first := w.light(bob.id, mem.New())
	if _, err := first.l.Watch(hold.Wire, nil); err != nil {
		f.Fatal(err)
	}
	r, err := full.Report(first.l.Ask())
	if err != nil {
		f.Fatal(err)
	}
	raw, err := goproto.Marshal(r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r proto.ProofReply
		if goproto.Unmarshal(raw, &r) != nil {
			return
		}
		x := w.at(t).light(bob.id, first.store.Clone())
		q := x.l.Ask()
		if _, err := x.l.Heard(w.witnesses[1].id, q, &r); err != nil && proto.CodeOf(err) == proto.CodeInternal {
			t.Fatalf("a reply is this machine's fault: %v", err)
		}
		if a := x.l.Account(bob.id); a.Receivable != 0 || a.Avail > 100*proto.OneCredit {
			t.Fatalf("one reply makes money: %+v", a)
		}
	})
}

// Resume forgets no more than it must: an event that follows is added, one that
// waited for the new beginning follows it, and what the events in between took
// cannot be claimed again.
func TestLightResumesGently(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 100 * credit, "bob": 100 * credit})
	full := w.ledger()
	w.do(full, alice, &proto.Open{})
	w.do(full, bob, &proto.Open{})
	hold := w.do(full, bob, &proto.Hold{Job: job(1), DeadlineUnixMs: 5, Budget: 50 * credit, Lanes: []*proto.Lane{{Worker: []byte(alice.id), Cap: 20 * credit}}})
	w.do(full, alice, transfer(bob, credit))
	x := w.light(bob.id, mem.New())
	if err := w.hear(x, full); err != nil {
		t.Fatal(err)
	}
	if n := len(x.l.Receivables(bob.id)); n != 1 {
		t.Fatalf("%d receivables", n)
	}
	next := w.do(full, bob, transfer(alice, credit))
	if err := x.l.Resume(next); err != nil {
		t.Fatal(err)
	}
	if open := x.l.Holds(bob.id); len(open) != 1 || !open[0].ID.Equals(hold.ID) {
		t.Fatalf("after an event that follows, %d own holds are known", len(open))
	}
	w.receive(full, bob)
	from := w.do(full, bob, transfer(alice, credit))
	last := w.do(full, bob, transfer(alice, credit))
	if added, err := x.l.Add(last.Wire); err != nil || len(added) != 0 || x.l.Pending() != 1 {
		t.Fatal(added, err)
	}
	if err := x.l.Resume(from); err != nil {
		t.Fatal(err)
	}
	if a := x.l.Account(bob.id); a.Seq != last.Seq || x.l.Pending() != 0 || a.Receivable != 0 || len(x.l.Receivables(bob.id)) != 0 {
		t.Fatalf("%+v, %d wait", a, x.l.Pending())
	}
	if err := w.hear(x, full); err != nil {
		t.Fatal(err)
	}
	if want := full.Account(bob.id); !reflect.DeepEqual(want, x.l.Account(bob.id)) {
		t.Fatalf("%+v\nwant %+v", x.l.Account(bob.id), want)
	}
}

// One witness that withholds events does not make a light ledger forget its
// own open holds.
func TestLightIsNotMadeToForget(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 100 * credit, "bob": 100 * credit})
	full := w.ledger()
	w.do(full, bob, &proto.Open{})
	hold := w.do(full, bob, &proto.Hold{Job: job(1), DeadlineUnixMs: 5, Budget: 50 * credit, Lanes: []*proto.Lane{{Worker: []byte(alice.id), Cap: 20 * credit}}})
	x := w.light(bob.id, mem.New())
	if err := w.hear(x, full); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.do(full, bob, transfer(alice, credit))
	}
	q := x.l.Ask()
	r, err := full.Report(q)
	if err != nil {
		t.Fatal(err)
	}
	r.Events = r.Events[1:]
	for range 2 {
		if _, err := x.l.Heard(w.witnesses[3].id, q, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.hear(x, full); err != nil {
		t.Fatal(err)
	}
	if open := x.l.Holds(bob.id); len(open) != 1 || !open[0].ID.Equals(hold.ID) {
		t.Fatalf("own holds %v", open)
	}
	if want := full.Account(bob.id); !reflect.DeepEqual(want, x.l.Account(bob.id)) {
		t.Fatalf("%+v\nwant %+v", x.l.Account(bob.id), want)
	}
}

// A hold that f+1 witnesses know is not forgotten because others do not know
// it, in whatever order they are heard.
func TestLightKnowsWhatSomeKnow(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 100 * credit, "bob": 10 * credit})
	behind, full := w.ledger(), w.ledger()
	w.do(full, bob, &proto.Open{})
	w.do(full, alice, &proto.Open{})
	hold := w.do(full, alice, &proto.Hold{Job: job(1), DeadlineUnixMs: 5, Budget: 50 * credit, Lanes: []*proto.Lane{{Worker: []byte(bob.id), Cap: 20 * credit}}})
	open, _ := full.At(bob.id, 0)
	fill(t, behind, open)
	for range 20 { // maps are walked in any order
		x := w.light(bob.id, mem.New())
		if _, err := x.l.Watch(hold.Wire, nil); err != nil {
			t.Fatal(err)
		}
		for i, by := range w.witnesses {
			of := behind
			if i >= 2 {
				of = full
			}
			q := x.l.Ask()
			q.Next = 0
			r, err := of.Report(q)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := x.l.Heard(by.id, q, r); err != nil {
				t.Fatal(err)
			}
			if h, _ := x.l.Hold(hold.ID); h.Forgotten != (i == 1 || i == 2) {
				t.Fatalf("after %d reports: forgotten %v", i+1, h.Forgotten)
			}
		}
	}
}

// A payer that leaves out an Extend shows a lane under a number that is
// another's. What witnesses say of that number sets it right, and nothing of the
// other lane sticks to this account's once all is shown.
func TestLightFindsAHiddenExtend(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 100 * credit, "bob": 10 * credit})
	full := w.ledger()
	w.do(full, alice, &proto.Open{})
	w.do(full, bob, &proto.Open{})
	lane := func(p person) []*proto.Lane { return []*proto.Lane{{Worker: []byte(p.id), Cap: 5 * credit}} }
	hold := w.do(full, alice, &proto.Hold{Job: job(1), DeadlineUnixMs: 5, Budget: 50 * credit, Lanes: lane(someone("first"))})
	hidden := w.do(full, alice, &proto.Extend{Hold: hold.ID.Bytes(), Lanes: lane(carol)})
	shown := w.do(full, alice, &proto.Extend{Hold: hold.ID.Bytes(), Lanes: lane(bob)})
	w.do(full, alice, &proto.Settle{Hold: hold.ID.Bytes(), Pays: []*proto.LanePay{{Lane: 1, Amount: 2 * credit}}})
	x := w.light(bob.id, mem.New())
	h, err := x.l.Watch(hold.Wire, []*proto.CertifiedEvent{shown.Wire})
	if n, _, ok := h.Lane(bob.id); err != nil || !ok || n != 1 {
		t.Fatal(n, ok, err)
	}
	if err := w.hear(x, full); err != nil {
		t.Fatal(err)
	}
	h, _ = x.l.Hold(hold.ID)
	if _, _, ok := h.Lane(bob.id); ok || h.Lanes[1].Worker != carol.id {
		t.Fatalf("bob has a lane in %+v", h.Lanes)
	}
	h, err = x.l.Watch(hold.Wire, []*proto.CertifiedEvent{hidden.Wire, shown.Wire})
	if n, own, ok := h.Lane(bob.id); err != nil || !ok || n != 2 || own.Paid != 0 {
		t.Fatal(n, own, ok, err)
	}
}
