package ledger_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// council is all witnesses of a lease's network. A message takes 50 ms.
type council struct {
	*lease
	now   time.Time
	seats []*seat
	mail  []letter
	inbox map[peer.ID][]*proto.VoteFrame // of those who are no witnesses
	fetch []ledger.Fetch
	off   []string // countermeasures
}

type seat struct {
	person
	disk   *mem.Store
	l      *ledger.Ledger
	w      *ledger.Witness
	silent bool                        // says nothing and hears nothing
	skew   time.Duration               // of its clock
	write  func() (before, after bool) // whether the disk fails
	config func(*ledger.WitnessConfig) // changes
}

type letter struct {
	at       time.Time
	from, to peer.ID
	frame    *proto.VoteFrame
}

// over is when the lease's hold is over.
func (c *council) over() time.Time {
	h, _ := c.l.Hold(c.hold.ID)
	return time.UnixMilli(int64(h.DeadlineUnixMs) + int64(c.net.Genesis.GraceSeconds)*1000)
}

func newCouncil(tb testing.TB, n int, off ...string) *council {
	c := &council{lease: newLease(tb, n), inbox: map[peer.ID][]*proto.VoteFrame{}, off: off}
	c.now = time.UnixMilli(500_000)
	for _, p := range c.witnesses {
		s := &seat{person: p, disk: mem.New(), write: func() (bool, bool) { return false, false }, config: func(*ledger.WitnessConfig) {}}
		l := c.open(s.disk)
		fill(tb, l, all(c.l)...)
		c.seats = append(c.seats, s)
		c.restart(s)
	}
	return c
}

func (c *council) restart(s *seat) {
	c.tb.Helper()
	s.disk = s.disk.Clone()
	store := &flaky{s.disk, func() (bool, bool) { return s.write() }}
	s.l = c.open(store)
	cfg := ledger.WitnessConfig{T: time.Second, Sign: func(p *proto.Payload) ([]byte, error) {
		if ok, err := ledger.Durable(s.disk, p); err != nil || !ok {
			c.tb.Errorf("%s is asked to sign what is not durable: %v, %v", s.id, p, err)
		}
		return proto.Seal(s.key, c.net.ID, p)
	}}
	s.config(&cfg)
	var err error
	if s.w, err = ledger.NewWitness(c.net, s.id, s.l, store, cfg); err != nil {
		c.tb.Fatal(err)
	}
	s.w.SwitchOffNamed(c.off...)
}

func (c *council) seat(id peer.ID) *seat {
	for _, s := range c.seats {
		if s.id == id {
			return s
		}
	}
	return nil
}

func (c *council) send(from peer.ID, frame *proto.VoteFrame, to ...peer.ID) {
	if len(to) == 0 {
		to = c.net.Witnesses
	}
	for _, id := range to {
		c.mail = append(c.mail, letter{c.now.Add(50 * time.Millisecond), from, id, frame})
	}
}

// act gives a seat its turn and posts what it wants sent. A disk that fails
// crashes the machine.
func (c *council) act(s *seat, do func(now time.Time) ([]ledger.Output, error)) {
	outs, err := do(c.now.Add(s.skew))
	if errors.Is(err, errDisk) {
		c.restart(s)
		return
	}
	if err != nil {
		c.tb.Fatal(err)
	}
	for _, o := range outs {
		switch o := o.(type) {
		case ledger.Send:
			if !s.silent {
				c.send(s.id, o.Frame, o.To...)
			}
		case ledger.Fetch:
			c.fetch = append(c.fetch, o)
		}
	}
}

// run lets time pass until the end of it, or until done.
func (c *council) run(until time.Time, done func() bool) {
	for turn := 0; !done(); turn++ {
		if turn > 100_000 {
			c.tb.Fatal("they never come to rest")
		}
		next := until
		var who *seat
		for _, s := range c.seats {
			if at := s.w.Next(); !s.silent && !at.IsZero() && at.Add(-s.skew).Before(next) {
				next, who = at.Add(-s.skew), s
			}
		}
		mail := -1
		for i, m := range c.mail {
			if !m.at.After(next) && (mail < 0 || m.at.Before(c.mail[mail].at)) {
				mail = i
			}
		}
		if mail >= 0 {
			m := c.mail[mail]
			c.mail = slices.Delete(c.mail, mail, mail+1)
			if m.at.After(c.now) {
				c.now = m.at
			}
			if s := c.seat(m.to); s == nil {
				c.inbox[m.to] = append(c.inbox[m.to], m.frame)
			} else if !s.silent {
				c.act(s, func(now time.Time) ([]ledger.Output, error) { return s.w.Handle(now, m.from, m.frame) })
			}
			continue
		}
		if next.After(c.now) {
			c.now = next
		}
		if who == nil {
			return
		}
		c.act(who, who.w.Tick)
	}
}

func (c *council) pass(d time.Duration) { c.run(c.now.Add(d), func() bool { return false }) }

func (c *council) file(by person, claim *proto.WorkClaim, to ...peer.ID) {
	c.send(by.id, &proto.VoteFrame{Body: &proto.VoteFrame_WorkClaim{WorkClaim: c.claim(by, claim)}}, to...)
}

// replies takes the answers to claims out of a worker's inbox.
func (c *council) replies(to person) (codes []proto.Code) {
	for _, f := range c.inbox[to.id] {
		if r := f.GetClaimReply(); r != nil {
			codes = append(codes, proto.Code(r.Code))
		}
	}
	c.inbox[to.id] = nil
	return codes
}

// closed wants every seat that speaks to have closed the hold once and to
// agree with the others.
func (c *council) closed(bobs, daves uint64) {
	c.tb.Helper()
	var want proto.Hash
	for i, s := range c.seats {
		if s.silent {
			continue
		}
		h, _ := s.l.Hold(c.hold.ID)
		if !h.Closed || h.Remaining != 0 {
			c.tb.Fatalf("witness %d: %+v", i, h)
		}
		closes := 0
		for _, e := range s.l.History(alice.id, 1000) {
			if e.Event.GetClose() != nil {
				closes++
			}
		}
		b, d := s.l.Account(bob.id).Receivable, s.l.Account(dave.id).Receivable
		if closes != 1 || uint64(b) != bobs || uint64(d) != daves {
			c.tb.Fatalf("witness %d: closed %d times, bob has %s, carol's payee %s", i, closes, b, d)
		}
		if a := s.l.Audit(); !a.Conserved() {
			c.tb.Fatalf("witness %d: not conserved: %+v", i, a)
		}
		if hash := s.l.StateHash(); want.IsZero() {
			want = hash
		} else if hash != want {
			c.tb.Fatalf("witness %d has another state", i)
		}
		left := 0
		if err := s.disk.Scan([]byte("vh"), func(_, _ []byte) error { left++; return nil }); err != nil || left != 0 {
			c.tb.Fatalf("witness %d: %d records of the closed hold are left, %v", i, left, err)
		}
	}
}

func codes(n int, code proto.Code) []proto.Code { return slices.Repeat([]proto.Code{code}, n) }

// The submitter vanishes after delivery: workers are paid what they can prove,
// once, and the rest goes back.
func TestSubmitterVanishes(t *testing.T) {
	for _, n := range []int{1, 4, 7} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			c := newCouncil(t, n)
			c.file(bob, &proto.WorkClaim{Voucher: c.voucher(alice, 0, 8*credit)})
			c.pass(time.Second)
			if got := c.replies(bob); !slices.Equal(got, codes(n, proto.CodeOK)) {
				t.Fatalf("answers: %v", got)
			}
			c.file(bob, &proto.WorkClaim{Voucher: c.voucher(alice, 0, 20*credit)})
			c.file(bob, &proto.WorkClaim{Voucher: c.voucher(alice, 0, 6*credit)}) // an old one
			c.file(carol, &proto.WorkClaim{Lane: 1, Assignments: [][]byte{c.assignments(alice, 1, 0, 1)}, Receipts: []*proto.SignedReceipt{c.receipt(1, 0, 3), c.receipt(1, 1, 4)}})
			c.file(carol, &proto.WorkClaim{Lane: 0, Voucher: c.voucher(alice, 0, 20*credit)}) // bob's lane
			c.pass(time.Second)
			if got := c.replies(bob); !slices.Equal(got, codes(2*n, proto.CodeOK)) {
				t.Fatalf("answers: %v", got)
			}
			c.run(c.over(), func() bool { return false })
			if h, _ := c.seats[0].l.Hold(c.hold.ID); h.Closed {
				t.Fatal("closed before its time")
			}
			c.pass(30 * time.Second)
			c.closed(20*credit, 7*credit)
			if a := c.seats[0].l.Account(alice.id); uint64(a.Avail) != 1000*credit-27*credit-27*credit/100 || a.Held != 0 {
				t.Fatalf("alice: %+v", a)
			}
			// Too late, also after a restart with a clock that went back.
			c.inbox = map[peer.ID][]*proto.VoteFrame{}
			for _, s := range c.seats {
				s.skew = -time.Hour
				c.restart(s)
			}
			c.file(bob, &proto.WorkClaim{Voucher: c.voucher(alice, 0, 40*credit)})
			c.pass(time.Minute)
			if got := c.replies(bob); !slices.Equal(got, codes(n, proto.CodeExpired)) {
				t.Fatalf("answers: %v", got)
			}
			c.closed(20*credit, 7*credit)
		})
	}
}

// Nobody claims: the rest of the hold goes back to its payer.
func TestHoldWithoutClaimsIsClosed(t *testing.T) {
	for _, n := range []int{1, 4} {
		c := newCouncil(t, n)
		c.run(c.over().Add(30*time.Second), func() bool { return false })
		c.closed(0, 0)
		if a := c.seats[0].l.Account(alice.id); uint64(a.Avail) != 1000*credit || a.Held != 0 {
			t.Fatalf("alice: %+v", a)
		}
	}
}

// Once the list is signed no claim counts, whatever the clock says later; and
// an Extend that was certified meanwhile opens the hold to claims again.
func TestNoClaimAfterTheList(t *testing.T) {
	c := newCouncil(t, 4)
	s := c.seats[0]
	for _, other := range c.seats[1:] {
		other.silent = true
	}
	c.file(bob, &proto.WorkClaim{Voucher: c.voucher(alice, 0, 5*credit)}, s.id)
	c.run(c.over().Add(time.Second), func() bool { return false })
	c.replies(bob)
	for range 2 {
		c.file(bob, &proto.WorkClaim{Voucher: c.voucher(alice, 0, 9*credit)}, s.id)
		c.pass(100 * time.Millisecond)
		if got := c.replies(bob); !slices.Equal(got, codes(1, proto.CodeExpired)) {
			t.Fatalf("answers: %v", got)
		}
		s.skew = -time.Hour // the list is durable
		c.restart(s)
		s.skew = 0
		c.act(s, s.w.Tick)
	}
	extend := c.do(c.l, alice, &proto.Extend{Hold: c.hold.ID.Bytes(), DeadlineUnixMs: 9_000_000})
	c.send(alice.id, &proto.VoteFrame{Body: &proto.VoteFrame_Certified{Certified: extend.Wire}})
	for _, other := range c.seats[1:] {
		other.silent = false
	}
	c.pass(time.Second)
	c.file(bob, &proto.WorkClaim{Voucher: c.voucher(alice, 0, 9*credit)})
	c.pass(time.Second)
	if got := c.replies(bob); !slices.Equal(got, codes(4, proto.CodeOK)) {
		t.Fatalf("answers after the deadline moved: %v", got)
	}
	c.run(c.over().Add(time.Minute), func() bool { return false })
	c.closed(9*credit, 0)
}

// An event of the author that comes when Close is due is refused; the author
// learns of the Close and builds on it.
func TestCloseComesBeforeTheAuthor(t *testing.T) {
	for _, n := range []int{1, 4} {
		c := newCouncil(t, n)
		draft := c.draft(c.l, alice, transfer(bob, credit))
		p, err := ledger.NewProposal(c.l, draft.Event, ledger.AuthorConfig{Sign: func(p *proto.Payload) ([]byte, error) { return c.seal(alice, p), nil }})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range c.seats { // nobody saw that it is over
			s.silent = true
		}
		c.now = c.over().Add(time.Millisecond)
		for _, s := range c.seats {
			s.silent = false
		}
		refused := 0
		for _, o := range p.Tick(c.now) {
			if s, ok := o.(ledger.Send); ok {
				c.send(alice.id, s.Frame, s.To...)
			}
		}
		c.run(c.now.Add(30*time.Second), func() bool {
			for _, f := range c.inbox[alice.id] {
				if e := f.GetError(); e != nil {
					wantRefusal(t, f, proto.CodeConflict)
					refused++
				}
				if _, err := p.Handle(c.now, c.seats[0].id, f); err != nil {
					t.Fatal(err)
				}
			}
			c.inbox[alice.id] = nil
			return false
		})
		won, err, ok := p.Result()
		if !ok || err != nil || won.Event.GetClose() == nil || n > 1 && refused == 0 {
			t.Fatalf("%d witnesses: %v, %v, %v, %d refusals", n, won, err, ok, refused)
		}
		c.closed(0, 0)
		c.do(c.l, alice, transfer(bob, credit)) // built on the Close
	}
}

// f of the witnesses lie: they conceal claims, list what nobody proved and
// make two lists. Workers get what honest witnesses checked.
func TestLyingClaimLists(t *testing.T) {
	for _, n := range []int{4, 7} {
		c := newCouncil(t, n)
		for i := range c.net.F() {
			s := c.seats[i]
			s.silent = true
			liars := [][]byte{c.list(s.person), c.list(s.person, entry(0, 50*credit), entry(1, 50*credit))}
			slot := ledger.AccountSlot(alice.id, c.hold.Seq+1)
			for round := uint32(1); round < 6; round++ {
				for j, to := range c.net.Witnesses {
					r := &proto.Report{Slot: slot, Round: round, Objections: [][]byte{liars[j%2]}}
					c.mail = append(c.mail, letter{
						c.over().Add(time.Duration(round) * time.Second), s.id, to,
						&proto.VoteFrame{Body: &proto.VoteFrame_Report{Report: c.seal(s.person, &proto.Payload{Body: &proto.Payload_Report{Report: r}})}},
					})
				}
			}
		}
		c.file(bob, &proto.WorkClaim{Voucher: c.voucher(alice, 0, 20*credit)})
		c.run(c.over().Add(time.Minute), func() bool { return false })
		c.closed(20*credit, 0)
	}
}

// A claim that rests on receipts counts only once its outputs could be had.
func TestOutputsMustBeFetchable(t *testing.T) {
	c := newCouncil(t, 4)
	for _, s := range c.seats {
		s.config = func(cfg *ledger.WitnessConfig) { cfg.Fetch = true }
		c.restart(s)
	}
	receipts := []*proto.SignedReceipt{c.receipt(0, 0, 3), c.receipt(0, 1, 4)}
	assigned := [][]byte{c.assignments(alice, 0, 0, 1)}
	answer := func(err error) {
		c.pass(time.Second)
		if len(c.fetch) != 4 || len(c.fetch[0].Outputs) != 2 || c.fetch[0].Worker != bob.id {
			t.Fatalf("to be fetched: %+v", c.fetch)
		}
		if got := c.replies(bob); len(got) != 0 {
			t.Fatalf("answers before the outputs came: %v", got)
		}
		id := c.fetch[0].Claim
		c.fetch = nil
		for _, s := range c.seats {
			for range 2 { // the second has no effect
				c.act(s, func(now time.Time) ([]ledger.Output, error) { return s.w.Fetched(now, id, err) })
			}
		}
		c.pass(time.Second)
	}
	c.file(bob, &proto.WorkClaim{Assignments: assigned, Receipts: receipts})
	answer(errors.New("the worker is away"))
	if got := c.replies(bob); !slices.Equal(got, codes(4, proto.CodeFetch)) {
		t.Fatalf("answers: %v", got)
	}
	// What the payer signed for it has.
	c.file(bob, &proto.WorkClaim{Voucher: c.voucher(alice, 0, 2*credit)})
	c.pass(time.Second)
	if got := c.replies(bob); !slices.Equal(got, codes(4, proto.CodeOK)) || len(c.fetch) != 0 {
		t.Fatalf("answers: %v, to be fetched %v", got, c.fetch)
	}
	c.file(bob, &proto.WorkClaim{Assignments: assigned, Receipts: receipts})
	answer(nil)
	if got := c.replies(bob); !slices.Equal(got, codes(4, proto.CodeOK)) {
		t.Fatalf("answers: %v", got)
	}
	// Asked for in time, fetched too late.
	c.file(bob, &proto.WorkClaim{Assignments: [][]byte{c.assignments(alice, 0, 0, 1, 2)}, Receipts: append(receipts, c.receipt(0, 2, 5))})
	c.pass(time.Second)
	id := c.fetch[0].Claim
	c.run(c.over().Add(time.Minute), func() bool { return false })
	for _, s := range c.seats {
		c.act(s, func(now time.Time) ([]ledger.Output, error) { return s.w.Fetched(now, id, nil) })
	}
	c.pass(time.Second)
	if got := c.replies(bob); !slices.Equal(got, codes(4, proto.CodeExpired)) {
		t.Fatalf("answers: %v", got)
	}
	c.closed(7*credit, 0)
}

// A witness's machine crashes at every write of the whole story, before or
// after it: the hold is closed once and the worker paid once.
func TestCloseSurvivesCrashes(t *testing.T) {
	for _, n := range []int{1, 4} {
		for _, after := range []bool{false, true} {
			for crashAt := 1; ; crashAt++ {
				c := newCouncil(t, n)
				s, writes := c.seats[n-1], 0
				s.write = func() (bool, bool) {
					writes++
					return writes == crashAt && !after, writes == crashAt && after
				}
				f, err := ledger.NewFiling(c.l, c.claim(bob, &proto.WorkClaim{Voucher: c.voucher(alice, 0, 20*credit)}), ledger.AuthorConfig{})
				if err != nil {
					t.Fatal(err)
				}
				for ok := false; !ok; _, ok = f.Result() {
					for _, o := range f.Tick(c.now) {
						s := o.(ledger.Send)
						c.send(bob.id, s.Frame, s.To...)
					}
					c.pass(time.Second)
					for _, p := range c.witnesses {
						for _, frame := range c.inbox[bob.id] {
							f.Handle(c.now, p.id, frame) // the council does not say who answered
						}
						if n > 1 {
							c.inbox[bob.id] = c.inbox[bob.id][min(1, len(c.inbox[bob.id])):]
						}
					}
					c.inbox[bob.id] = nil
				}
				if err, _ := f.Result(); err != nil {
					t.Fatal(err)
				}
				c.run(c.over().Add(time.Minute), func() bool { return false })
				c.closed(20*credit, 0)
				if writes < crashAt {
					if crashAt < 3 {
						t.Fatalf("only %d writes", writes)
					}
					break
				}
			}
		}
	}
}

// Clocks that differ by more than the rounds take delay a Close and change
// nothing about it.
func TestCloseWithSkewedClocks(t *testing.T) {
	c := newCouncil(t, 4)
	c.seats[1].skew, c.seats[2].skew, c.seats[3].skew = -20*time.Second, 40*time.Second, -3*time.Second
	c.file(bob, &proto.WorkClaim{Voucher: c.voucher(alice, 0, 20*credit)})
	c.run(c.over().Add(2*time.Minute), func() bool { return false })
	c.closed(20*credit, 0)
}

// Many holds that are over at once are closed one after the other.
func TestManyHoldsAreClosed(t *testing.T) {
	for _, n := range []int{1, 4} {
		c := newCouncil(t, n)
		var holds []cid.Cid
		for i := range 12 {
			h := c.do(c.l, alice, &proto.Hold{Job: job(byte(2 + i)), Budget: 2 * credit, DeadlineUnixMs: 900_000 + uint64(i/2)*10, Lanes: []*proto.Lane{{Worker: []byte(bob.id), Cap: credit}}})
			holds = append(holds, h.ID)
			for _, s := range c.seats {
				fill(t, s.l, h)
			}
		}
		c.run(c.over().Add(5*time.Minute), func() bool { return len(c.seats[0].l.Holds(alice.id)) == 0 })
		c.pass(time.Minute)
		for _, s := range c.seats {
			for _, id := range holds {
				if h, _ := s.l.Hold(id); !h.Closed {
					t.Fatalf("%d witnesses: hold %s is open", n, id)
				}
			}
			if a := s.l.Account(alice.id); a.Held != 0 || uint64(a.Avail) != 1000*credit {
				t.Fatalf("alice: %+v", a)
			}
		}
		if took := c.now.Sub(c.over()); took > 4*time.Minute {
			t.Errorf("%d witnesses took %s", n, took)
		}
	}
}
