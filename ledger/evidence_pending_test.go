package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	goproto "google.golang.org/protobuf/proto"
)

// offence is evidence that an account signed two events at seq, shown by bob.
func (c *council) offence(by person, seq uint64) *proto.VoteFrame {
	c.tb.Helper()
	var raws [2][]byte
	for i := range raws {
		ev, err := c.l.Draft(alice.id, 0, uint64(i), transfer(frank, 1))
		if err != nil {
			c.tb.Fatal(err)
		}
		ev.Account, ev.Seq = []byte(by.id), seq
		raws[i] = c.event(by, ev)
	}
	raw, err := ledger.NewEvidence(c.net, raws[0], raws[1])
	if err != nil {
		c.tb.Fatal(err)
	}
	e := new(proto.Evidence)
	if err := goproto.Unmarshal(raw, e); err != nil {
		c.tb.Fatal(err)
	}
	return &proto.VoteFrame{Body: &proto.VoteFrame_Evidence{Evidence: c.seal(bob, &proto.Payload{Body: &proto.Payload_Evidence{Evidence: e}})}}
}

// evidence counts the records of it that the seats keep.
func (c *council) evidence() (n int) {
	c.tb.Helper()
	for _, s := range c.seats {
		if err := s.disk.Scan([]byte("vx"), func(_, _ []byte) error { n++; return nil }); err != nil {
			c.tb.Fatal(err)
		}
	}
	return n
}

// Two offences shown at once cost what the table says: a share, then all. Then
// nothing is kept of either, and witnesses that restart in between lose none. A
// third one of an account that is frozen and has nothing left changes nothing.
func TestEveryOffenceIsSlashed(t *testing.T) {
	for _, restart := range []bool{false, true} {
		c := newCouncil(t, 4)
		ev := c.do(c.l, alice, ledger.Stake(100*credit))
		for _, s := range c.seats {
			fill(t, s.l, ev)
		}
		c.send(bob.id, c.offence(alice, 3))
		c.send(bob.id, c.offence(alice, 4))
		if restart {
			c.run(c.now.Add(time.Minute), func() bool { return c.evidence() == 8 })
			if n := c.evidence(); n != 8 {
				t.Fatalf("%d records of evidence", n)
			}
			for _, s := range c.seats {
				c.restart(s)
			}
		}
		c.pass(time.Minute)
		c.send(bob.id, c.offence(alice, 5))
		c.pass(time.Minute)
		for i, s := range c.seats {
			if a := s.l.Account(alice.id); a.Offences != 2 || a.Staked != 0 || !a.Frozen {
				t.Errorf("witness %d: %d offences are slashed, %s is staked", i, a.Offences, a.Staked)
			}
			if s.w.Live() != 0 {
				t.Errorf("witness %d: %d slots are open", i, s.w.Live())
			}
		}
		if n := c.evidence(); n != 0 {
			t.Errorf("%d records of evidence are left", n)
		}
	}
}

// Offences of accounts that have nothing keep nobody else's from a witness,
// neither those that were punished nor more at once than it keeps.
func TestPaupersShieldNobody(t *testing.T) {
	defer ledger.KeepEvidence(2)()
	c := newCouncil(t, 4)
	evs := []*ledger.Certified{c.do(c.l, alice, ledger.Stake(100*credit))}
	var paupers []person
	for i := range 6 {
		paupers = append(paupers, someone(fmt.Sprint("pauper ", i)))
		evs = append(evs, c.do(c.l, paupers[i], &proto.Open{}))
	}
	for _, s := range c.seats {
		fill(t, s.l, evs...)
	}
	for _, p := range paupers[:3] {
		c.send(bob.id, c.offence(p, 1))
		c.pass(time.Minute)
	}
	for _, p := range paupers[3:] {
		c.send(bob.id, c.offence(p, 1))
	}
	c.send(bob.id, c.offence(alice, 3))
	c.pass(time.Minute)
	for i, s := range c.seats {
		for _, p := range paupers[:3] {
			if a := s.l.Account(p.id); a.Offences != 1 {
				t.Errorf("witness %d: %d offences of a pauper", i, a.Offences)
			}
		}
		if a := s.l.Account(alice.id); a.Offences != 1 || a.Staked != 95*proto.OneCredit {
			t.Errorf("witness %d: %d offences, %s is staked", i, a.Offences, a.Staked)
		}
	}
	if n := c.evidence(); n != 0 {
		t.Errorf("%d records of evidence are left", n)
	}
	c.idle() // slots of evidence that gave way, too
}
