package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Events that are still undecided when their epoch has passed.

func (c *council) idle() {
	c.tb.Helper()
	for i, s := range c.seats {
		if n := s.w.Live(); n != 0 {
			c.tb.Errorf("witness %d: %d slots are undecided", i, n)
		}
	}
}

// An event reached two of four witnesses, and its epoch passed. One that may be
// late is certified. One whose epoch means something is not: its place ends,
// whoever restarts meanwhile, and whether or not its owner comes back.
func TestExpiredEventEndsItsPlace(t *testing.T) {
	for _, body := range []any{transfer(bob, credit), ledger.Unstake(credit)} {
		c := newCouncil(t, 4)
		ev := c.do(c.l, alice, ledger.Stake(100*credit))
		for _, s := range c.seats {
			fill(t, s.l, ev)
		}
		draft, err := c.l.Draft(alice.id, 0, 0, body)
		if err != nil {
			t.Fatal(err)
		}
		raw := c.event(alice, draft)
		for _, s := range c.seats[2:] {
			s.silent = true
		}
		c.send(alice.id, &proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: c.propose(alice, raw)}})
		c.pass(500 * time.Millisecond)
		for _, s := range c.seats {
			s.silent = false
			c.restart(s)
			until(t, s.l, 3)
		}
		c.mail = nil
		c.pass(2 * time.Minute)
		c.idle()
		for i, s := range c.seats {
			got, ok := s.l.At(alice.id, draft.Seq)
			if _, late := body.(*proto.Transfer); !ok || late != (got.Event.GetTransfer() != nil) || !late && got.Event.GetVoid().GetReason() != ledger.VoidExpired {
				t.Errorf("%T at witness %d: %v", body, i, got)
			}
		}
		until(t, c.l, 3)
		for _, s := range c.seats[:1] {
			fill(t, c.l, all(s.l)...)
		}
		if a := c.l.Audit(); !a.Conserved() {
			t.Errorf("%+v", a)
		}
	}
}

// Accounts that nobody has opened yet sign two Opens and give each to half of
// the witnesses, just before these are too old: no slot stays behind.
func TestHalvesOfOpensAreDecided(t *testing.T) {
	c := newCouncil(t, 4)
	for i := range 30 {
		p := someone(fmt.Sprint("half ", i))
		for half := range 2 {
			ev, err := c.l.Draft(p.id, 0, uint64(half), &proto.Open{})
			if err != nil {
				t.Fatal(err)
			}
			f := &proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: c.propose(p, c.event(p, ev))}}
			c.send(p.id, f, c.seats[2*half].id, c.seats[2*half+1].id)
		}
	}
	c.pass(300 * time.Millisecond)
	for _, s := range c.seats {
		until(t, s.l, 3)
	}
	c.pass(time.Minute)
	c.idle()
}

// keptLock is a bad witness that keeps back its Prepare for an event that two
// honest ones prepared in time, and shows the lock many epochs later. The owner
// starts the timer of its stake in the past that way. It reports whether it
// succeeds.
func keptLock(t *testing.T, off []string) bool {
	c := newCouncil(t, 4, off...)
	ev := c.do(c.l, alice, ledger.Stake(100*credit))
	for _, s := range c.seats {
		fill(t, s.l, ev)
	}
	bad := c.unseat(c.witnesses[3].id)
	draft, err := c.l.Draft(alice.id, 0, 0, ledger.Unstake(100*credit))
	if err != nil {
		t.Fatal(err)
	}
	raw := c.event(alice, draft)
	s, err := proto.Inspect(raw, proto.KindEvent)
	if err != nil {
		t.Fatal(err)
	}
	slot := ledger.AccountSlot(alice.id, draft.Seq)
	propose := &proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: c.propose(alice, raw)}}
	until(t, c.seats[2].l, 3) // to it the event is old already
	c.send(alice.id, propose, c.seats[0].id, c.seats[1].id)
	c.pass(300 * time.Millisecond)
	for _, s := range c.seats[:2] {
		until(t, s.l, 3)
	}
	votes := map[peer.ID][]byte{bad.id: c.seal(bad, &proto.Payload{Body: &proto.Payload_Prepare{Prepare: &proto.Prepare{Slot: slot, Id: s.ID.Bytes()}}})}
	for _, f := range c.inbox[bad.id] {
		if raw := f.GetPrepare(); raw != nil {
			if x, err := proto.Inspect(raw, proto.KindPrepare); err == nil && x.Payload.GetPrepare().Round == 0 {
				votes[x.Signer] = raw
			}
		}
	}
	if len(votes) != 3 {
		t.Fatalf("%d prepares", len(votes))
	}
	var pqc [][]byte
	for _, p := range c.net.Witnesses {
		if votes[p] != nil {
			pqc = append(pqc, votes[p])
		}
	}
	c.pass(5 * time.Minute)
	for _, s := range c.seats {
		until(t, s.l, 200)
	}
	for range 12 {
		round := uint32(0)
		for _, f := range c.inbox[bad.id] {
			if x, err := proto.Inspect(f.GetReport(), proto.KindReport); err == nil && x.Payload.GetReport().Slot.String() == slot.String() {
				round = max(round, x.Payload.GetReport().Round)
			}
		}
		c.send(bad.id, &proto.VoteFrame{Body: &proto.VoteFrame_Report{Report: c.seal(bad, &proto.Payload{Body: &proto.Payload_Report{Report: &proto.Report{
			Slot: slot, Round: round + 1, Body: raw, LockId: s.ID.Bytes(), LockPqc: pqc,
		}}})}})
		c.pass(5 * time.Second)
	}
	for _, s := range c.seats {
		if a := s.l.Account(alice.id); a.Unbonding > 0 {
			return true
		}
	}
	c.idle()
	return false
}

// What the rule takes for expired, and what not.
func TestVoidOfAnExpiredEvent(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 100 * credit, "bob": 10 * credit})
	l := w.ledger()
	for _, p := range []person{alice, bob} {
		w.do(l, p, &proto.Open{RecoveryKey: []byte(carol.id)})
	}
	w.do(l, alice, ledger.Stake(50*credit))
	sign := func(by person, body any, change ...func(*proto.Event)) []byte {
		t.Helper()
		ev, err := l.Draft(alice.id, l.Epoch(), 0, body)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range change {
			f(ev)
		}
		return w.event(by, ev)
	}
	good := sign(alice, ledger.Unstake(credit))
	later := sign(alice, ledger.Unstake(credit), func(ev *proto.Event) { ev.Seq++ })
	others := sign(bob, ledger.Unstake(credit))
	undated := sign(alice, transfer(bob, 1))
	recovery := sign(carol, &proto.Rotate{Recovery: true, Key: []byte(dave.id)})
	_, err := l.DraftExpired(alice.id, good)
	wantCode(t, err, proto.CodeNotFinal)
	until(t, l, 2)
	_, err = l.DraftExpired(alice.id, good)
	wantCode(t, err, proto.CodeNotFinal)
	until(t, l, 3)
	for name, raw := range map[string][]byte{"another slot": later, "another signer": others, "undated": undated, "recovery": recovery, "noise": []byte("noise"), "nothing": nil} {
		if _, err := l.DraftExpired(alice.id, raw); err == nil || proto.CodeOf(err) == proto.CodeNotFinal {
			t.Errorf("%s: %v", name, err)
		}
	}
	ev, err := l.DraftExpired(alice.id, good)
	c := w.made(l, mustDraft(ev, err), nil)
	if a := l.Account(alice.id); a.Seq != c.Seq || a.Unbonding != 0 || a.Staked != 50*proto.OneCredit {
		t.Errorf("after the void: %+v", a)
	}
	w.do(l, alice, ledger.Unstake(credit))

	// Who learns of the Void before the checkpoint waits for that.
	x := w.ledger()
	early := all(l)
	added, err := x.AddVerified(nil, early...)
	if err != nil || x.Pending() == 0 || len(added) == len(early) {
		t.Fatalf("%d of %d added, %v", len(added), len(early), err)
	}
	until(t, x, 3)
	if x.Pending() != 0 || x.StateHash() != l.StateHash() {
		t.Errorf("%d events wait, states are equal: %v", x.Pending(), x.StateHash() == l.StateHash())
	}
}
