package ledger_test

import (
	"slices"
	"testing"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// epochal is a council that agrees on checkpoints and has the first one. Its
// hold is closed, and the second checkpoint is due soon.
func epochal(t *testing.T) *council {
	c := newCouncil(t, 4)
	for _, s := range c.seats {
		s.config = func(cfg *ledger.WitnessConfig) { cfg.Checkpoints = ledger.NewEpochs(s.l) }
		c.restart(s)
	}
	if c.run(c.now.Add(2*c.hour()), c.reached(1)); !c.reached(1)() {
		t.Fatal("no checkpoint 1")
	}
	c.pass(c.hour() * 5 / 6)
	return c
}

func (c *council) hour() time.Duration {
	return time.Duration(c.net.Genesis.EpochSeconds) * time.Second
}

// reached says that every witness has an epoch's checkpoint.
func (c *council) reached(epoch uint64) func() bool {
	return func() bool {
		return !slices.ContainsFunc(c.seats, func(s *seat) bool { return s.l.Epoch() < epoch })
	}
}

// move makes an event that the next checkpoint covers.
func (c *council) move() {
	fill(c.tb, c.l, all(c.seats[0].l)...)
	ev := c.do(c.l, alice, transfer(bob, credit))
	for _, s := range c.seats {
		fill(c.tb, s.l, ev)
	}
}

// lose drops mail that is on its way.
func (c *council) lose(lost func(m letter) bool) { c.mail = slices.DeleteFunc(c.mail, lost) }

// commits runs until that many Commits are on their way.
func (c *council) commits(n int) {
	c.tb.Helper()
	there := func() bool {
		got := 0
		for _, m := range c.mail {
			if m.frame.GetCommit() != nil {
				got++
			}
		}
		return got >= n
	}
	if c.run(c.now.Add(2*c.hour()), there); !there() {
		c.tb.Fatalf("not %d commits", n)
	}
}

// changesKept wants a checkpoint's changes everywhere and no votes for it.
func (c *council) changesKept(epoch uint64) {
	c.tb.Helper()
	for i, s := range c.seats {
		h, ok := s.l.Checkpoint(epoch)
		if !ok || len(h.Wire.Changes) == 0 {
			c.tb.Fatalf("witness %d lacks checkpoint %d or its changes", i, epoch)
		}
		if n := s.records(c.tb, epoch); n != 0 {
			c.tb.Fatalf("witness %d keeps %d records of checkpoint %d", i, n, epoch)
		}
	}
}

func (s *seat) records(tb testing.TB, epoch uint64) (n int) {
	key := append([]byte("vc"), 0, 0, 0, 0, 0, 0, 0, byte(epoch))
	if err := s.disk.Scan(key, func(_, _ []byte) error { n++; return nil }); err != nil {
		tb.Fatal(err)
	}
	return n
}

// All witnesses are locked on a checkpoint when power fails and their Commits
// are lost. Its proposer stays away at first. It is certified with its changes,
// and later epochs end.
func TestChangesSurviveRestart(t *testing.T) {
	c := epochal(t)
	c.move()
	c.commits(12)
	c.mail = nil
	late := c.do(c.l, alice, transfer(bob, credit)) // others would draft another checkpoint now
	for _, s := range c.seats {
		fill(t, s.l, late)
		c.restart(s)
		if s.records(t, 2) == 0 {
			t.Fatal("no records of votes for checkpoint 2")
		}
	}
	proposer := c.seat(ledger.Leader(c.net, ledger.CheckpointSlot(2), 0))
	proposer.silent = true
	c.pass(time.Minute)
	proposer.silent = false
	if c.run(c.now.Add(5*c.hour()), c.reached(5)); !c.reached(5)() {
		_, _, err := c.seats[0].l.DraftCheckpoint(c.seats[0].l.Epoch() + 1)
		t.Fatalf("after 5 hours in epoch %d: %v", c.seats[0].l.Epoch(), err)
	}
	c.changesKept(2)
}

// A checkpoint comes by reconciliation from somebody who lacks its changes. A
// witness that voted for it has them, and its records go, even when it crashes
// or its disk fails in between.
func TestChangesOfCheckpointFromElsewhere(t *testing.T) {
	for _, crash := range []bool{false, true} {
		c := epochal(t)
		c.move()
		c.commits(12)
		victim := c.seats[3]
		c.lose(func(m letter) bool { return m.to == victim.id })
		c.restart(victim) // changes that proposals brought are not in memory
		victim.silent = true
		if c.run(c.now.Add(c.hour()/4), c.reached(2)); c.seats[0].l.Epoch() != 2 {
			t.Fatal("no checkpoint 2")
		}
		c.mail = nil
		h, _ := c.seats[0].l.Checkpoint(2)
		bare := &proto.CertifiedCheckpoint{Checkpoint: h.Wire.Checkpoint, Certificate: h.Wire.Certificate}
		if _, err := victim.l.AddCheckpoint(bare); err != nil {
			t.Fatal(err)
		}
		victim.silent = false
		if crash {
			c.restart(victim)
		} else {
			failed := false
			victim.write = func() (bool, bool) { before := !failed; failed = true; return before, false }
			c.pass(time.Minute)
		}
		c.changesKept(2)
	}
}

// The leader of round 1 shows a lock and proposes its body without the changes.
// A witness that lacks them votes for nothing (which the law of the store in
// council.restart checks), until another leader brings them.
func TestNoVoteWithoutChanges(t *testing.T) {
	c := epochal(t)
	epoch := uint64(2)
	slot := ledger.CheckpointSlot(epoch)
	for ledger.Leader(c.net, slot, 1) == ledger.Leader(c.net, slot, 0) {
		if c.run(c.now.Add(2*c.hour()), c.reached(epoch)); !c.reached(epoch)() {
			t.Fatalf("no checkpoint %d", epoch)
		}
		epoch++
		slot = ledger.CheckpointSlot(epoch)
	}
	c.move()
	bad := c.unseat(ledger.Leader(c.net, slot, 1))
	var victim *seat
	for _, s := range c.seats {
		if s.id != ledger.Leader(c.net, slot, 0) {
			victim = s
		}
	}
	// Everybody but the victim hears the first round, with the bad one's Prepare.
	blind := func(m letter) bool {
		return m.to == victim.id && m.frame.GetPropose() != nil || m.frame.GetCommit() != nil
	}
	voted := false
	c.run(c.now.Add(2*c.hour()), func() bool {
		c.lose(blind)
		for _, f := range c.inbox[bad.id] {
			if raw := f.GetPrepare(); raw != nil && !voted {
				s, err := proto.Inspect(raw, proto.KindPrepare)
				if err != nil {
					t.Fatal(err)
				}
				if p := s.Payload.GetPrepare(); p.Slot.String() == slot.String() && p.Round == 0 {
					c.send(bad.id, &proto.VoteFrame{Body: &proto.VoteFrame_Prepare{Prepare: c.seal(bad, s.Payload)}})
					voted = true
				}
			}
		}
		return len(c.reportsTo(bad, slot)) == 3
	})
	reports := c.reportsTo(bad, slot)
	var body []byte
	for _, raw := range reports {
		s, err := proto.Inspect(raw, proto.KindReport)
		if err != nil {
			t.Fatal(err)
		}
		if r := s.Payload.GetReport(); len(r.LockId) > 0 {
			body = r.Body
		}
	}
	if len(reports) != 3 || body == nil {
		t.Fatalf("%d reports, %d bytes of a locked body", len(reports), len(body))
	}
	c.lead(bad, slot, body, nil, reports)
	if c.run(c.now.Add(c.hour()/4), c.reached(epoch)); !c.reached(epoch)() {
		t.Fatalf("no checkpoint %d", epoch)
	}
	c.changesKept(epoch)
}
