package market

import (
	"cmp"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"

	"edgenet.dev/proto"
)

// customer is a submitter this worker serves.
type customer struct {
	id        peer.ID
	used      uint64
	grants    map[grantKey]grant
	claims    *rate.Limiter // for its offers
	lanes     map[laneKey]*workLane
	execs     map[proto.Ref]*exec
	fetching  int // of those, that wait for their input or module
	held      int // queued and running
	running   int
	queue     []*exec       // heap: priority, then arrival
	served    turn          // slot time it had
	takes     time.Duration // that its executions keep a slot, smoothed
	commits   []*exec       // that wait to be asked for, oldest first; others stay until they come up
	kept      int
	sent      []*exec // delivered, oldest first; dropped ones stay until they come up
	sentBytes uint64
	sentLive  int
}

// grantKey is what a claim is for.
type grantKey struct {
	module   cid.Cid
	priority proto.Priority
}

// grant is a claim this worker made: until when and at what price it runs what
// it is for.
type grant struct {
	expires time.Time
	price   proto.Credit
}

type laneKey struct {
	hold  cid.Cid
	index uint32
}

// workLane is a lane as its worker keeps books on it.
type workLane struct {
	Lane
	vouchered proto.Credit
	owed      proto.Credit // earned, cumulative: results that were sent, whatever became of them, and such as wait
	worst     proto.Credit // of those that are active
	active    int          // fetching, queued or running
	used      uint64
	finish    bool // the payer asked for Done
	done      bool
}

// exposed is what the payer may have to pay on the lane in the worst case.
func (l *workLane) exposed() proto.Credit { return max(l.vouchered, l.owed, l.Paid) + l.worst }

// remaining is what the payer may still pay on the lane beyond what it promised.
func (l *workLane) remaining(now time.Time) proto.Credit {
	if l.done || !now.Before(l.Deadline) {
		return 0
	}
	return l.Cap - min(l.Cap, max(l.vouchered, l.Paid))
}

// stake is what a submitter may still pay here on its open lanes.
func (c *customer) stake(now time.Time) (sum proto.Credit) {
	for _, l := range c.lanes {
		sum += l.remaining(now)
	}
	return sum
}

// idle reports whether nothing of a submitter is under way here; what it was sent
// may still be fetched.
func (c *customer) idle() bool { return len(c.execs) == c.sentLive }

// customer finds a submitter. One without a place is made, but has none before
// place.
func (m *Machine) customer(p peer.ID) *customer {
	if c := m.work.customers[p]; c != nil {
		return c
	}
	return &customer{id: p, claims: claimLimit(claimsOf), grants: map[grantKey]grant{}, lanes: map[laneKey]*workLane{}, execs: map[proto.Ref]*exec{}}
}

// place gives c a place, at the cost of another when all are taken: stake is what
// c may pay with what it came for, 0 for talk. False when nobody gives way.
func (m *Machine) place(c *customer, stake proto.Credit) bool {
	w := &m.work
	if w.customers[c.id] != c {
		if len(w.customers) >= maxCustomers && !m.evict(stake) {
			return false
		}
		w.customers[c.id] = c
	}
	w.seq++
	c.used = w.seq
	return true
}

// evict frees a place for a submitter that may pay stake. First those give way of
// whom nothing is under way, then those of whom nothing runs now and who may pay
// less than stake; of these who may pay least, of equals the one not heard from for
// longest. So talk takes one place in all that somebody with a lane had, of who has
// least at stake, and many small holds keep nobody out.
func (m *Machine) evict(stake proto.Credit) bool {
	var least *customer
	var most proto.Credit // of least
	for _, c := range m.work.customers {
		s := c.stake(m.now)
		if c.running > 0 || !c.idle() && s >= stake {
			continue
		}
		if least == nil || cmp.Or(first(c.idle(), least.idle()), cmp.Compare(s, most), cmp.Compare(c.used, least.used)) < 0 {
			least, most = c, s
		}
	}
	if least == nil {
		return false
	}
	for _, x := range least.ordered(nil) {
		if x.phase != execSent {
			m.refuse(least.id, x.ref, proto.CodeBusy, "it serves others who may pay more")
		}
		m.drop(x) // says Forget for what is kept
	}
	delete(m.work.customers, least.id)
	return true
}

func (c *customer) grant(key grantKey, g grant, now time.Time) bool {
	if _, known := c.grants[key]; !known && len(c.grants) >= maxModules {
		for old, g := range c.grants {
			if !now.Before(g.expires) {
				delete(c.grants, old)
			}
		}
		if len(c.grants) >= maxModules {
			return false
		}
	}
	c.grants[key] = g
	return true
}

// granted reports whether this worker claimed work with that module, and what it
// asks for at priority p: what it claimed for, in proportion to what the priorities
// pay, or what a claim would ask for.
func (m *Machine) granted(c *customer, module cid.Cid, p proto.Priority) (bool, proto.Credit) {
	if g, ok := c.grants[grantKey{module, p}]; ok && m.now.Before(g.expires) {
		return true, g.price
	}
	leased, price := false, m.asks(p)
	for k, g := range c.grants {
		if k.module == module && m.now.Before(g.expires) {
			leased, price = true, min(price, saturate(g.price, m.cfg.percent(p))/proto.Credit(m.cfg.percent(k.priority)))
		}
	}
	return leased, max(price, m.leastPrice(p))
}

// lane finds the books of a certified lane. New ones are made, but not kept before
// open.
func (c *customer) lane(certified Lane) *workLane {
	l := c.lanes[laneKey{certified.Hold, certified.Index}]
	if l == nil {
		promised := max(certified.Paid, certified.Promised)
		return &workLane{Lane: certified, vouchered: promised, owed: max(promised, certified.Earned)}
	}
	l.Earned = max(l.Earned, certified.Earned)
	l.owed = max(l.owed, l.Earned)
	// An extension raises cap and deadline; an older view lowers nothing.
	l.Cap = max(l.Cap, certified.Cap)
	l.Paid = max(l.Paid, certified.Paid)
	if certified.Deadline.After(l.Deadline) {
		l.Deadline = certified.Deadline
	}
	return l
}

// open keeps the books of a lane. Of too many one gives way on which nothing is
// under way: one that is over, else the one not used for longest. What it earned is
// known when it is shown again. False when there is none.
func (c *customer) open(l *workLane, m *Machine) bool {
	key := laneKey{l.Hold, l.Index}
	if c.lanes[key] == nil {
		if len(c.lanes) >= maxLanesPer && !c.forgetLane(m.now) {
			return false
		}
		c.lanes[key] = l
	}
	m.work.seq++
	l.used = m.work.seq
	return true
}

func (c *customer) forgetLane(now time.Time) bool {
	busy := map[*workLane]bool{}
	for _, x := range c.execs {
		if x.phase != execSent {
			busy[x.lane] = true
		}
	}
	over := func(l *workLane) bool { return l.done || !now.Before(l.Deadline) }
	var old *workLane
	for _, l := range c.lanes {
		if !busy[l] && (old == nil || cmp.Or(first(over(l), over(old)), cmp.Compare(l.used, old.used)) < 0) {
			old = l
		}
	}
	if old == nil {
		return false
	}
	delete(c.lanes, laneKey{old.Hold, old.Index})
	return true
}

// ordered are the executions on lane (all, when nil) by arrival.
func (c *customer) ordered(lane *workLane) []*exec {
	var out []*exec
	for _, x := range c.execs {
		if lane == nil || x.lane == lane {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(a, b *exec) int { return cmp.Compare(a.seq, b.seq) })
	return out
}

// voucherSeen books a promise. Totals only grow and never pass the cap.
func (m *Machine) voucherSeen(in VoucherSeen) {
	v := in.Voucher
	if v == nil || peer.ID(v.Worker) != m.cfg.Self {
		return
	}
	hold, err := proto.ParseCID(v.Hold)
	if err != nil {
		return
	}
	c := m.customer(in.From)
	l := c.lanes[laneKey{hold, v.Lane}]
	certified := in.Lane.Hold.Defined() && in.Lane.Hold == hold && in.Lane.Index == v.Lane &&
		in.Lane.Payer == in.From && in.Lane.Worker == m.cfg.Self
	if certified && (l == nil || l.Cap < in.Lane.Cap) {
		l = c.lane(in.Lane)
		if !m.place(c, l.remaining(m.now)) || !c.open(l, m) {
			return
		}
	}
	if l == nil {
		m.note(in.From, proto.Ref{}, proto.CodeNoLane, "voucher for a lane that is not known")
		return
	}
	amount := proto.Credit(v.Amount)
	if amount < l.vouchered || amount > l.Cap {
		m.note(in.From, proto.Ref{}, proto.CodeConflict, "voucher for %s credits, had %s before, cap is %s", amount, l.vouchered, l.Cap)
		return
	}
	m.paid(in.From, amount-l.vouchered)
	l.vouchered = amount
	l.owed = max(l.owed, amount)
	if in.Finish {
		l.finish = true
		m.answerFinish(l)
	}
}

// answerFinish says Done on a lane whose payer asked for it, once nothing of it
// is queued or running. Outcomes nobody asked for by now are let go. It is for what
// the payer promised; node, which keeps the receipts, asks for what they are worth.
func (m *Machine) answerFinish(l *workLane) {
	if !l.finish || l.active > 0 {
		return
	}
	if l.vouchered < l.owed {
		m.note(l.Payer, proto.Ref{}, proto.CodeOK, "lane ends with %s credits, %s were counted here", l.vouchered, l.owed)
	}
	l.finish, l.done = false, true
	m.send(SendDone{To: l.Payer, Done: &proto.Done{Hold: l.Hold.Bytes(), Lane: l.Index, Amount: uint64(l.vouchered)}, Cap: l.Cap})
	if c := m.work.customers[l.Payer]; c != nil {
		for _, x := range c.ordered(l) {
			m.drop(x)
		}
	}
}
