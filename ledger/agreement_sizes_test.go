package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// asks runs a proposal of alice's until there is a result or time is over.
func (c *council) asks(p *ledger.Proposal, limit time.Duration) (won *ledger.Certified, took time.Duration) {
	c.tb.Helper()
	begin := c.now
	for c.now.Sub(begin) < limit {
		for _, o := range p.Tick(c.now) {
			if s, ok := o.(ledger.Send); ok {
				c.send(alice.id, s.Frame, s.To...)
			}
		}
		until := begin.Add(limit)
		if next := p.Next(); !next.IsZero() && next.Before(until) {
			until = next
		}
		c.run(until, func() bool {
			for _, f := range c.inbox[alice.id] {
				if _, err := p.Handle(c.now, c.seats[len(c.seats)-1].id, f); err != nil {
					c.tb.Fatal(err)
				}
			}
			c.inbox[alice.id] = nil
			_, _, ok := p.Result()
			return ok
		})
		if won, err, ok := p.Result(); ok {
			if err != nil {
				c.tb.Fatal(err)
			}
			return won, c.now.Sub(begin)
		}
	}
	return nil, limit
}

func (c *council) proposal(body []byte) *ledger.Proposal {
	c.tb.Helper()
	p, err := ledger.NewProposal(c.l, body, ledger.AuthorConfig{Sign: func(p *proto.Payload) ([]byte, error) { return c.seal(alice, p), nil }})
	if err != nil {
		c.tb.Fatal(err)
	}
	return p
}

func (c *council) silence(n int, silent bool) {
	for _, s := range c.seats[:n] {
		s.silent = silent
	}
}

// agree wants all witnesses to have the same event at a place.
func (c *council) agree(seq uint64) *ledger.Certified {
	c.tb.Helper()
	var first *ledger.Certified
	for i, s := range c.seats {
		e, ok := s.l.At(alice.id, seq)
		if !ok || first != nil && !e.ID.Equals(first.ID) {
			c.tb.Fatalf("witness %d has %v at seq %d, another one %v", i, e, seq, first)
		}
		first = e
	}
	return first
}

// The agreement for every number of bad witnesses that the design names: none,
// one and two.
func TestAgreementSizes(t *testing.T) {
	const delay = 50 * time.Millisecond
	for _, n := range []int{1, 4, 7} {
		f := (n - 1) / 3
		t.Run(fmt.Sprintf("%d: three message delays, f of them silent", n), func(t *testing.T) {
			c := newCouncil(t, n)
			for _, silent := range []int{0, f} {
				c.silence(silent, true)
				p := c.proposal(c.draft(c.l, alice, transfer(bob, credit)).Event)
				won, took := c.asks(p, time.Minute)
				limit := 3 * delay // Propose, Prepare, Commit
				if n == 1 {
					limit = 2 * delay
				}
				if won == nil || took > limit {
					t.Fatalf("%v after %s with %d silent", won, took, silent)
				}
			}
		})
		t.Run(fmt.Sprintf("%d: more than f silent", n), func(t *testing.T) {
			c := newCouncil(t, n)
			c.silence(f+1, true)
			p := c.proposal(c.draft(c.l, alice, transfer(bob, credit)).Event)
			if won, _ := c.asks(p, 5*time.Minute); won != nil {
				t.Fatal("certified without a quorum")
			}
			c.silence(f+1, false)
			won, took := c.asks(p, 30*time.Second)
			if won == nil || won.Event.GetTransfer() == nil {
				t.Fatalf("%v after %s with all back", won, took)
			}
			c.pass(10 * time.Second)
			c.agree(won.Seq)
		})
		t.Run(fmt.Sprintf("%d: two events for one place", n), func(t *testing.T) {
			c := newCouncil(t, n)
			stake := c.do(c.l, alice, ledger.Stake(100*credit))
			for _, s := range c.seats {
				fill(t, s.l, stake)
			}
			a, b := c.draft(c.l, alice, transfer(bob, credit)).Event, c.draft(c.l, alice, transfer(carol, credit)).Event
			for i, s := range c.seats {
				first, second := a, b
				if i >= n/2 {
					first, second = b, a
				}
				c.send(alice.id, &proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: c.propose(alice, first)}}, s.id)
				c.mail = append(c.mail, letter{c.now.Add(3 * delay / 2), alice.id, s.id, &proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: c.propose(alice, second)}}})
			}
			c.pass(time.Minute)
			won := c.agree(stake.Seq + 1)
			switch {
			case won.Event.GetTransfer() != nil && (string(won.Wire.Event) == string(a) || string(won.Wire.Event) == string(b)), won.Event.GetSlash() != nil:
			default:
				t.Fatalf("%v has the place", won.Event)
			}
			acc := c.seats[0].l.Account(alice.id)
			if n > 1 && (acc.Staked != 95*proto.OneCredit || !acc.Frozen) {
				t.Fatalf("not slashed: %+v", acc)
			}
		})
		t.Run(fmt.Sprintf("%d: a place given up", n), func(t *testing.T) {
			c := newCouncil(t, n)
			c.silence(f, true)
			seq := c.hold.Seq + 1
			raw := c.seal(alice, &proto.Payload{Body: &proto.Payload_Skip{Skip: &proto.Skip{Account: []byte(alice.id), Seq: seq}}})
			p, err := ledger.NewSkip(c.l, raw, ledger.AuthorConfig{})
			if err != nil {
				t.Fatal(err)
			}
			won, took := c.asks(p, time.Minute)
			if won == nil || won.Event.GetVoid() == nil || won.Seq != seq {
				t.Fatalf("%v after %s", won, took)
			}
		})
	}
}
