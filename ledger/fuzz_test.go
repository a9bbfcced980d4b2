package ledger_test

import (
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	goproto "google.golang.org/protobuf/proto"
)

// Any body, signed and certified at the right place, is refused or keeps the
// supply equation, and never panics.
func FuzzEvent(f *testing.F) {
	w := newWorld(f, 1, map[string]uint64{"alice": 10 * credit})
	base := w.ledger()
	w.do(base, alice, &proto.Open{})
	hold := w.do(base, alice, &proto.Hold{Job: job(1), Budget: 3 * credit, DeadlineUnixMs: 5, Lanes: []*proto.Lane{{Worker: []byte(bob.id), Cap: credit}}})
	for _, body := range []any{
		transfer(bob, 1),
		&proto.Hold{Job: job(2), Budget: credit, DeadlineUnixMs: 5, Lanes: []*proto.Lane{{Worker: []byte(carol.id), Cap: 7}}},
		&proto.Extend{Hold: hold.ID.Bytes(), Budget: 9, DeadlineUnixMs: 8},
		&proto.Settle{Hold: hold.ID.Bytes(), Pays: []*proto.LanePay{{Amount: 5, Done: w.done(bob, hold.ID, 0, 5)}}, Final: true},
		ledger.Stake(5), &proto.Rotate{Key: []byte(bob.id), RecoveryKey: []byte(carol.id)},
	} {
		ev, err := base.Draft(alice.id, 0, 0, body)
		if err != nil {
			f.Fatal(err)
		}
		raw, err := goproto.Marshal(ev)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, true)
	}
	list := w.seal(w.witnesses[0], &proto.Payload{Body: &proto.Payload_ClaimList{ClaimList: &proto.ClaimList{
		Hold: hold.ID.Bytes(), DeadlineUnixMs: 5, Entries: []*proto.ClaimEntry{{Amount: 9, Fuel: 1 << 40}},
	}}})
	for _, ev := range []*proto.Event{
		mustDraft(base.DraftVoid(alice.id, w.skip(alice, alice, 2))),
		mustDraft(base.DraftSlash(w.twice(base, alice))),
		mustDraft(base.DraftClose(hold.ID, [][]byte{list})),
	} {
		raw, err := goproto.Marshal(ev)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, true)
	}
	head := base.Account(alice.id)
	f.Fuzz(func(t *testing.T, raw []byte, place bool) {
		w := w.at(t)
		ev := new(proto.Event)
		if goproto.Unmarshal(raw, ev) != nil {
			return
		}
		if place { // else even the place is the fuzzer's
			ev.Account, ev.Seq, ev.Prev = []byte(alice.id), head.Seq+1, head.Head.Bytes()
		}
		payload := &proto.Payload{Body: &proto.Payload_Event{Event: ev}}
		if goproto.Size(payload) > proto.KindEvent.Cap() {
			return
		}
		l := w.ledger()
		fill(t, l, all(base)...)
		by := alice
		switch ev.Body.(type) {
		case *proto.Event_Close, *proto.Event_Slash, *proto.Event_Void:
			by = w.witnesses[0]
		}
		added, err := l.Add(w.certify(w.seal(by, payload)))
		if (err == nil) != (len(added)+l.Pending() == 1) {
			t.Fatalf("%d added, %d pending, %v", len(added), l.Pending(), err)
		}
		if a := l.Audit(); !a.Conserved() {
			t.Fatalf("not conserved: %+v", a)
		}
	})
}

// Bytes from the network: decoders and the witness refuse, they never panic.
func FuzzWire(f *testing.F) {
	w := newWorld(f, 1, map[string]uint64{"alice": 10 * credit})
	l := w.ledger()
	open := w.do(l, alice, &proto.Open{})
	next := w.draft(l, alice, transfer(bob, credit))
	raw, err := goproto.Marshal(next)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(w.propose(alice, next.Event, open.Wire))
	f.Fuzz(func(t *testing.T, raw []byte) {
		w := w.at(t)
		wire := new(proto.CertifiedEvent)
		if goproto.Unmarshal(raw, wire) == nil {
			if c, err := ledger.Verify(w.net, wire); err == nil && c.Account != alice.id {
				t.Fatal("an event that nobody signed is verified")
			}
			_, _ = ledger.VerifyLane(w.net, wire, []*proto.CertifiedEvent{wire})
		}
		wit := w.witness(mem.New())
		fill(t, wit.l, all(l)...)
		frame := wit.handle(raw)
		if frame.GetError() == nil && wit.l.Len() != 2 {
			t.Fatalf("neither refused nor certified: %v", frame)
		}
		_, _, _, _ = ledger.VerifyHead(w.net, raw, alice.id, nil)
	})
}

func FuzzSync(f *testing.F) {
	w := newWorld(f, 1, grants(3))
	l := w.ledger()
	set := chains(w, 3, 200)
	fill(f, l, set...)
	half := w.ledger()
	fill(f, half, set[:100]...)
	pruned := w.ledger()
	fill(f, pruned, set...)
	w.checkpoint(pruned)
	w.prune(pruned, 0)
	// Seeds are the frames of real sessions: a repair and a join.
	record := func(initiator, responder *ledger.Ledger) {
		sides := []*ledger.Sync{ledger.NewSync(initiator, []byte("a salt of a session"), true), ledger.NewSync(responder, nil, false)}
		out, _, _, err := sides[0].Step(nil)
		for to := 1; len(out) > 0 && err == nil; to = 1 - to {
			var answer []*proto.SyncFrame
			var before []byte
			for _, frame := range out {
				raw, merr := goproto.Marshal(frame)
				if merr != nil {
					f.Fatal(merr)
				}
				f.Add(before, raw, to == 0)
				before = raw
				answer, _, _, err = sides[to].Step(frame)
			}
			out = answer
		}
		if err != nil {
			f.Fatal(err)
		}
	}
	record(l, half)
	record(w.ledger(), pruned)
	f.Fuzz(func(t *testing.T, first, second []byte, initiator bool) {
		with := pruned
		if initiator {
			with = w.at(t).ledger()
		}
		state := with.StateHash()
		s := ledger.NewSync(with, []byte("a salt of a session"), initiator)
		if initiator {
			if _, _, _, err := s.Step(nil); err != nil {
				t.Fatal(err)
			}
		}
		for _, raw := range [][]byte{first, second} {
			in := new(proto.SyncFrame)
			if len(raw) > proto.MaxSyncFrame || goproto.Unmarshal(raw, in) != nil {
				return
			}
			out, _, done, err := s.Step(in)
			if with.StateHash() != state { // only a certified state can be installed, and none was asked for yet
				t.Fatal("a frame changed the state")
			}
			if err != nil || done {
				return
			}
			for _, frame := range out {
				if n := goproto.Size(frame); n > proto.MaxSyncFrame {
					t.Fatalf("answer of %d bytes", n)
				}
			}
		}
	})
}

// Whatever a worker files, it is refused or proves at most the lane's cap, and
// whatever is called evidence is refused or names who signed it.
func FuzzProofs(f *testing.F) {
	x := newLease(f, 1)
	for _, c := range []*proto.WorkClaim{
		{Voucher: x.voucher(alice, 0, 70*credit)},
		{Assignments: [][]byte{x.assignments(alice, 0, 0, 1)}, Receipts: []*proto.SignedReceipt{x.receipt(0, 0, 2), x.receipt(0, 1, 3)}},
	} {
		c.Hold = x.hold.ID.Bytes()
		raw, err := goproto.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, []byte{})
	}
	f.Add([]byte{}, x.twice(x.l, alice))
	f.Fuzz(func(t *testing.T, claim, evidence []byte) {
		x := &lease{x.at(t), x.l, x.hold}
		c := new(proto.WorkClaim)
		if goproto.Unmarshal(claim, c) == nil && goproto.Size(c) < proto.KindWorkClaim.Cap()/2 {
			got, err := x.l.CheckClaim(x.seal(bob, &proto.Payload{Body: &proto.Payload_WorkClaim{WorkClaim: c}}))
			if err == nil && uint64(got.Amount) > 50*credit {
				t.Fatalf("a claim proves %s", got.Amount)
			}
		}
		if o, err := ledger.CheckEvidence(x.net, evidence); err == nil && o.Account != alice.id {
			t.Fatalf("evidence against %s", o.Account)
		}
	})
}
