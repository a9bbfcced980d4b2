package ledger_test

import (
	"slices"
	"testing"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// What a leader of round 1 can do that chooses its reports: rows of TestThreats.

// unseat makes a witness hostile: what is sent to it is the test's to read.
func (c *council) unseat(id peer.ID) person {
	s := c.seat(id)
	c.seats = slices.DeleteFunc(c.seats, func(x *seat) bool { return x == s })
	return s.person
}

// reportsTo lists what honest witnesses reported to a hostile one on entering
// round 1 of a slot.
func (c *council) reportsTo(bad person, slot *proto.Slot) (out [][]byte) {
	c.tb.Helper()
	heard := map[peer.ID]bool{}
	for _, f := range c.inbox[bad.id] {
		raw := f.GetReport()
		if raw == nil {
			continue
		}
		s, err := proto.Inspect(raw, proto.KindReport)
		if err != nil {
			c.tb.Fatal(err)
		}
		if r := s.Payload.GetReport(); r.Round == 1 && r.Slot.String() == slot.String() && !heard[s.Signer] {
			heard[s.Signer] = true
			out = append(out, raw)
		}
	}
	return out
}

func (c *council) lead(bad person, slot *proto.Slot, body, changes []byte, reports [][]byte) {
	c.send(bad.id, &proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: c.seal(bad, &proto.Payload{Body: &proto.Payload_Propose{Propose: &proto.Propose{
		Slot: slot, Round: 1, Body: body, Changes: changes, Justification: reports,
	}}})}})
}

// futureEpoch is a thief with one witness on its side: a hold runs out, so that
// everybody enters round 1, whose leader proposes an event of a week later with
// two reports that ask for no Close and one of its own.
func futureEpoch(t *testing.T, off []string) bool {
	c := newCouncil(t, 4, off...)
	for _, b := range []any{ledger.Stake(100 * credit), ledger.Unstake(100 * credit)} {
		ev := c.do(c.l, alice, b)
		for _, s := range c.seats {
			fill(t, s.l, ev)
		}
	}
	slot := ledger.AccountSlot(alice.id, c.l.Account(alice.id).Seq+1)
	bad := c.unseat(ledger.Leader(c.net, slot, 1))
	c.run(c.over().Add(1200*time.Millisecond), func() bool { return false })
	reports := c.reportsTo(bad, slot)
	if len(reports) < 2 {
		t.Fatalf("%d reports", len(reports))
	}
	mine := c.seal(bad, &proto.Payload{Body: &proto.Payload_Report{Report: &proto.Report{Slot: slot, Round: 1}}})

	future := c.open(mem.New())
	fill(t, future, all(c.l)...)
	until(t, future, week)
	ev, err := future.Draft(alice.id, week, 0, ledger.Withdraw(100*credit))
	if err != nil {
		t.Fatal(err)
	}
	c.lead(bad, slot, c.event(alice, ev), nil, append(reports[:2], mine))
	c.pass(5 * time.Second)
	return slices.ContainsFunc(c.seats, func(s *seat) bool { return s.l.Account(alice.id).Unbonding == 0 })
}

// endlessEpoch is a witness that leads rounds 0 and 1 of a checkpoint, says
// nothing in the first and proposes the right state at a time in 2248.
func endlessEpoch(t *testing.T, off []string) bool {
	c := newCouncil(t, 4, off...)
	for _, s := range c.seats {
		s.config = func(cfg *ledger.WitnessConfig) { cfg.Checkpoints = ledger.NewEpochs(s.l) }
		c.restart(s)
	}
	epoch := uint64(1)
	for ledger.Leader(c.net, ledger.CheckpointSlot(epoch), 1) != c.net.Witnesses[epoch%4] {
		epoch++
	}
	reached := func(e uint64) func() bool {
		return func() bool {
			return !slices.ContainsFunc(c.seats, func(s *seat) bool { return s.l.Epoch() < e })
		}
	}
	hour := time.Duration(c.net.Genesis.EpochSeconds) * time.Second
	if c.run(c.now.Add(time.Duration(epoch+2)*hour), reached(epoch-1)); !reached(epoch - 1)() {
		t.Fatalf("epoch %d of %d", c.seats[0].l.Epoch(), epoch-1)
	}
	slot := ledger.CheckpointSlot(epoch)
	was := c.seat(ledger.Leader(c.net, slot, 1))
	bad := c.unseat(was.id)
	c.run(c.now.Add(2*hour), func() bool { return len(c.reportsTo(bad, slot)) == 3 })
	body, changes, err := was.l.DraftCheckpoint(epoch)
	if err != nil {
		t.Fatal(err)
	}
	body.TimeUnixMs = 1 << 43
	c.lead(bad, slot, c.seal(bad, &proto.Payload{Body: &proto.Payload_Checkpoint{Checkpoint: body}}), changes, c.reportsTo(bad, slot))
	c.run(c.now.Add(4*hour), reached(epoch+1))
	return !reached(epoch + 1)()
}
