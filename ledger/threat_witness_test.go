package ledger_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
)

// Attacks on witnesses and on what they do for others: rows of TestThreats.

func vanishes(t *testing.T, off []string) bool {
	c := newCouncil(t, 4, off...)
	c.file(bob, &proto.WorkClaim{Voucher: c.voucher(alice, 0, 20*credit)})
	c.run(c.over().Add(time.Hour), func() bool { return false })
	return c.seats[0].l.Account(bob.id).Receivable != 20*proto.OneCredit
}

// The payer always has another event ready for its next place.
func keepsCloseAway(t *testing.T, off []string) bool {
	c := newCouncil(t, 4, off...)
	c.run(c.over().Add(time.Millisecond), func() bool { return false })
	for range 10 {
		draft := c.draft(c.l, alice, transfer(bob, 1))
		p, err := ledger.NewProposal(c.l, draft.Event, ledger.AuthorConfig{Sign: func(p *proto.Payload) ([]byte, error) { return c.seal(alice, p), nil }})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range p.Tick(c.now) {
			c.send(alice.id, o.(ledger.Send).Frame)
		}
		c.inbox[alice.id] = nil
		c.run(c.now.Add(30*time.Second), func() bool {
			for _, f := range c.inbox[alice.id] {
				if _, err := p.Handle(c.now, c.seats[0].id, f); err != nil {
					t.Fatal(err)
				}
			}
			c.inbox[alice.id] = nil
			_, _, ok := p.Result()
			return ok
		})
		if won, _, ok := p.Result(); !ok || won.Event.GetClose() != nil {
			return false
		}
	}
	h, _ := c.seats[0].l.Hold(c.hold.ID)
	return !h.Closed
}

func withholds(t *testing.T, off []string) bool {
	c := newCouncil(t, 4)
	for _, s := range c.seats {
		s.config = func(cfg *ledger.WitnessConfig) { cfg.Fetch = len(off) == 0 }
		c.restart(s)
	}
	c.file(bob, &proto.WorkClaim{Assignments: [][]byte{c.assignments(alice, 0, 0)}, Receipts: []*proto.SignedReceipt{c.receipt(0, 0, 3)}})
	c.pass(time.Second)
	for _, f := range c.fetch {
		for _, s := range c.seats {
			c.act(s, func(now time.Time) ([]ledger.Output, error) {
				return s.w.Fetched(now, f.Claim, errors.New("nobody has it"))
			})
		}
	}
	c.run(c.over().Add(time.Minute), func() bool { return false })
	return c.seats[0].l.Account(bob.id).Receivable > 0
}

// A peer opens as many places as it can, and sends noise. What the witness
// keeps is bounded, and an honest owner's event is still voted for.
func floods(t *testing.T, off []string) bool {
	seal, _, restore := ledger.FakeSignatures()
	defer restore()
	x := newArena(t, 4, seal, false)
	disk := x.base.Clone()
	l := x.open(disk)
	voted := false
	w, err := ledger.NewWitness(x.net, x.witnesses[0].id, l, disk, ledger.WitnessConfig{T: time.Second, Sign: func(p *proto.Payload) ([]byte, error) {
		voted = voted || p.GetPrepare().GetSlot().GetAccount().GetSeq() == x.seq && string(p.GetPrepare().GetId()) == x.ids[0]
		return x.seal(x.witnesses[0].id, x.net, p), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.SwitchOffNamed(off...)
	post := &proto.Post{}
	for i := range 3 * ledger.MaxOpened {
		p := someone(fmt.Sprint("spam ", i))
		ev := &proto.Event{Account: []byte(p.id), Post: post, Body: &proto.Event_Open{Open: &proto.Open{}}}
		raw := x.seal(p.id, x.net, &proto.Payload{Body: &proto.Payload_Event{Event: ev}})
		m, err := ledger.NewPropose(raw, nil)
		if err != nil {
			t.Fatal(err)
		}
		noise := append([]byte{byte(i), byte(i >> 8)}, raw[:len(raw)/2]...)
		for _, f := range []*proto.VoteFrame{
			{Body: &proto.VoteFrame_Propose{Propose: x.seal(p.id, x.net, m)}},
			{Body: &proto.VoteFrame_Propose{Propose: noise}},
			{Body: &proto.VoteFrame_Prepare{Prepare: noise}},
			{Body: &proto.VoteFrame_Report{Report: noise}},
			{Body: &proto.VoteFrame_WorkClaim{WorkClaim: noise}},
			{},
		} {
			if _, err := w.Handle(clock, thief.id, f); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := w.Handle(clock, alice.id, x.propose(x.a)); err != nil {
		t.Fatal(err)
	}
	if !voted {
		t.Error("an honest owner gets no vote")
	}
	return w.Live() > ledger.MaxOpened+1
}

// The machine fails between the Commit's signature and the certificate; with
// its memory it would lose its vote.
func forgetsVote(t *testing.T, off []string) bool {
	w := newWorld(t, 1, map[string]uint64{"alice": 10 * credit})
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	first := w.propose(alice, w.draft(l, alice, transfer(bob, 10*credit)).Event)
	other := w.draft(l, alice, transfer(carol, 10*credit)).Event
	store := mem.New()
	wit := w.witness(&flaky{store, func() (bool, bool) { return false, false }})
	wit.w.SwitchOffNamed(off...)
	fill(t, wit.l, all(l)...)
	var wreck *mem.Store
	sign := wit.key
	wit.key = func(p *proto.Payload) ([]byte, error) {
		if p.GetCommit() != nil && wreck == nil {
			wreck = store.Clone() // the Commit is on its way
		}
		return sign(p)
	}
	if _, err := wit.try(first); err != nil || wreck == nil {
		t.Fatal(err)
	}
	again := w.witness(wreck)
	cert := again.handle(w.propose(alice, other)).GetCertified()
	return cert != nil && string(cert.Event) == string(other)
}

// Alice's machine signed an event that reached two witnesses, and then she
// goes on from a backup that does not know of it.
func restoredBackup(t *testing.T, off []string) bool {
	c := newCouncil(t, 4)
	stake := c.do(c.l, alice, ledger.Stake(100*credit))
	for _, s := range c.seats {
		fill(t, s.l, stake)
	}
	backup := c.open(mem.New())
	fill(t, backup, all(c.l)...)
	cfg := ledger.AuthorConfig{Sign: func(p *proto.Payload) ([]byte, error) { return c.seal(alice, p), nil }}
	first, err := ledger.NewProposal(c.l, c.draft(c.l, alice, transfer(bob, credit)).Event, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range first.Tick(c.now) {
		c.send(alice.id, o.(ledger.Send).Frame, c.seats[0].id, c.seats[1].id)
	}
	c.pass(60 * time.Millisecond)
	c.inbox[alice.id] = nil

	body := c.draft(backup, alice, transfer(carol, credit)).Event
	if len(off) == 0 { // what an owner does before it signs anything
		r, err := ledger.NewRecovery(backup, alice.id, make([]byte, 16), cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range r.Tick(c.now) {
			c.send(alice.id, o.(ledger.Send).Frame)
		}
		c.pass(time.Second)
		for _, f := range c.inbox[alice.id] {
			if err := r.Handle(c.now, "", f); err != nil {
				t.Fatal(err)
			}
		}
		found, ok := r.Result(true)
		switch {
		case !ok:
			t.Fatal("no quorum answers")
		case found.Head == nil || found.Head.Seq >= stake.Seq+1: // decided meanwhile
			body = nil
		case len(found.Finish) == 1:
			body = found.Finish[0]
		default:
			t.Fatalf("nothing to finish: %+v", found)
		}
	}
	if body != nil {
		second, err := ledger.NewProposal(backup, body, cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range second.Tick(c.now) {
			c.send(alice.id, o.(ledger.Send).Frame)
		}
	}
	c.pass(time.Minute)
	for _, s := range c.seats {
		if s.l.StateHash() != c.seats[0].l.StateHash() {
			t.Error("witnesses differ")
		}
	}
	a := c.seats[0].l.Account(alice.id)
	if a.Seq == stake.Seq {
		t.Error("the place is not decided")
	}
	return a.Staked < 100*proto.OneCredit
}

func replays(t *testing.T, off []string) bool {
	w := newWorld(t, 1, map[string]uint64{"alice": 10 * credit})
	l := w.ledger()
	l.SwitchOff(off...)
	w.do(l, alice, &proto.Open{})
	paid := w.do(l, alice, transfer(bob, credit))
	for range 3 {
		if _, err := l.AddVerified(nil, paid); err != nil {
			t.Fatal(err)
		}
	}
	return l.Account(bob.id).Receivable > proto.OneCredit
}

func strangersCertify(t *testing.T, off []string) bool {
	for _, n := range off {
		defer ledger.Disable(n)()
	}
	w := newWorld(t, 4, map[string]uint64{"alice": 10 * credit})
	l := w.ledger()
	raw := w.draft(l, alice, &proto.Open{}).Event
	added, err := l.Add(&proto.CertifiedEvent{Event: raw, Certificate: strangers(w, raw)})
	return err == nil && len(added) == 1
}

func claimsUnordered(t *testing.T, off []string) bool {
	x := newLease(t, 4)
	x.l.SwitchOff(off...)
	got, err := x.l.CheckClaim(x.claim(bob, &proto.WorkClaim{Receipts: []*proto.SignedReceipt{x.receipt(0, 5, 9)}}))
	return err == nil && got.Amount > 0
}

func claimsOtherInput(t *testing.T, off []string) bool {
	x := newLease(t, 4)
	x.l.SwitchOff(off...)
	signed, _ := x.ordered(bob, 0, "the task's")
	_, receipt := x.ordered(bob, 0, "another")
	got, err := x.l.CheckClaim(x.claim(bob, &proto.WorkClaim{Assignments: [][]byte{signed}, Receipts: []*proto.SignedReceipt{receipt}}))
	return err == nil && got.Amount > 0
}

// ordered is an assignment of a task with an input in a worker's lane, and the
// worker's receipt for it.
func (x *lease) ordered(worker person, lane uint32, input string) (assignment []byte, receipt *proto.SignedReceipt) {
	b := &proto.AssignmentBatch{Worker: []byte(worker.id), Hold: x.hold.ID.Bytes(), Lane: lane, Assignments: []*proto.Assignment{{
		Job: job(1), Task: 0, Replica: lane, Replicas: 2, Module: proto.CIDOf([]byte("module")).Bytes(), MeterVersion: 1,
		InputHash: hash(input), Price: credit, FuelLimit: 10 * uint64(proto.PriceUnit),
	}}}
	return x.seal(alice, &proto.Payload{Body: &proto.Payload_Assignments{Assignments: b}}), x.receipt(lane, 0, 3, func(r *proto.Receipt) {
		r.InputHash, r.Replica, r.OutputHash = hash(input), lane, hash("output of "+input)
	})
}

// A submitter gives two workers of one task different inputs, so that one of
// them is outvoted, and pays neither. Each of them claims with the assignment
// that the submitter signed, and neither's stake can be touched: there is no
// evidence but two events of one place and two votes of one round.
func TestFramedWorkersArePaid(t *testing.T) {
	c := newCouncil(t, 4)
	for lane, input := range []string{"the task's", "another"} {
		signed, receipt := c.ordered(workers[lane], uint32(lane), input)
		c.file(workers[lane], &proto.WorkClaim{Lane: uint32(lane), Assignments: [][]byte{signed}, Receipts: []*proto.SignedReceipt{receipt}})
		// The worker that was given one input cannot claim for the other.
		wrong := c.receipt(uint32(lane), 0, 4, func(r *proto.Receipt) { r.InputHash, r.Replica = hash("a third"), uint32(lane) })
		_, err := c.l.CheckClaim(c.claim(workers[lane], &proto.WorkClaim{Lane: uint32(lane), Assignments: [][]byte{signed}, Receipts: []*proto.SignedReceipt{wrong}}))
		wantCode(t, err, proto.CodeBadReceipt)
	}
	r := c.receipt(1, 0, 3)
	if _, err := ledger.NewEvidence(c.net, r.Batch, c.receipt(0, 0, 3).Batch); err == nil {
		t.Error("receipts are evidence")
	}
	c.run(c.over().Add(time.Minute), func() bool { return false })
	c.closed(3*credit, 3*credit)
	if a := c.seats[0].l.Account(bob.id); a.Frozen || a.Offences > 0 {
		t.Errorf("%+v", a)
	}
}
