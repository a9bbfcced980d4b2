package market

import (
	"cmp"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// customer is a submitter this worker serves.
type customer struct {
	id        peer.ID
	used      uint64
	grants    map[grantKey]grant
	lanes     map[laneKey]*workLane
	execs     map[proto.Ref]*exec
	fetching  int // of those, that wait for their input or module
	held      int // fetching, queued and running
	running   int
	queue     []*exec // heap: priority, then arrival
	served    turn    // slot time it had
	commits   []*exec // that wait to be asked for, oldest first; others stay until they come up
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
	worst     proto.Credit // of what is queued or running
	active    int          // queued or running
	finish    bool         // the payer asked for Done
	done      bool
}

// exposed is what the payer may have to pay on the lane in the worst case.
func (l *workLane) exposed() proto.Credit { return max(l.vouchered, l.owed, l.Paid) + l.worst }

// stake is what a submitter has here that it would lose its place with.
type stake uint8

const (
	stakeNone stake = iota // talk only
	stakeLane              // a lane that is open
	stakeOwed              // work done that is not promised yet
)

func (c *customer) stake(now time.Time) stake {
	s := stakeNone
	for _, l := range c.lanes {
		if l.done || !now.Before(l.Deadline) {
			continue
		}
		if l.owed > l.vouchered {
			return stakeOwed
		}
		s = stakeLane
	}
	return s
}

// customer finds a submitter or makes room for it, at the cost of others with
// a stake of most at the highest; nil when all places are taken by submitters
// with more, or with work here.
func (m *Machine) customer(p peer.ID, most stake) *customer {
	w := &m.work
	w.seq++
	c := w.customers[p]
	if c == nil {
		if len(w.customers) >= maxCustomers && !m.evict(most) {
			return nil
		}
		c = &customer{id: p, grants: map[grantKey]grant{}, lanes: map[laneKey]*workLane{}, execs: map[proto.Ref]*exec{}}
		w.customers[p] = c
	}
	c.used = w.seq
	return c
}

// evict forgets the submitter with the least at stake, of equals the one not
// heard from for longest.
func (m *Machine) evict(most stake) bool {
	w := &m.work
	var old *customer
	least := most
	for _, c := range w.customers {
		if len(c.execs) > c.sentLive {
			continue
		}
		if s := c.stake(m.now); s < least || s == least && (old == nil || c.used < old.used) {
			old, least = c, s
		}
	}
	if old == nil {
		return false
	}
	for _, x := range old.ordered(nil) {
		m.drop(x) // says Forget for what is kept
	}
	delete(w.customers, old.id)
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

// granted reports whether this worker claimed work with that module, and what
// it asks for at priority p.
func (m *Machine) granted(c *customer, module cid.Cid, p proto.Priority) (bool, proto.Credit) {
	if g, ok := c.grants[grantKey{module, p}]; ok && m.now.Before(g.expires) {
		return true, g.price
	}
	for k, g := range c.grants {
		if k.module == module && m.now.Before(g.expires) {
			return true, m.leastPrice(p)
		}
	}
	return false, m.leastPrice(p)
}

// lane finds the books of a certified lane or opens them; nil when too many
// are open.
func (c *customer) lane(certified Lane) *workLane {
	key := laneKey{certified.Hold, certified.Index}
	l := c.lanes[key]
	if l == nil {
		if len(c.lanes) >= maxLanesPer {
			for k, o := range c.lanes {
				if o.done {
					delete(c.lanes, k)
				}
			}
			if len(c.lanes) >= maxLanesPer {
				return nil
			}
		}
		l = &workLane{Lane: certified, vouchered: certified.Paid, owed: max(certified.Paid, certified.Earned)}
		c.lanes[key] = l
		return l
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
	c := m.work.customers[in.From]
	certified := in.Lane.Hold.Defined() && in.Lane.Hold == hold && in.Lane.Index == v.Lane &&
		in.Lane.Payer == in.From && in.Lane.Worker == m.cfg.Self
	var l *workLane
	if c != nil {
		l = c.lanes[laneKey{hold, v.Lane}]
	}
	if certified && (l == nil || l.Cap < in.Lane.Cap) {
		if c == nil {
			if c = m.customer(in.From, stakeOwed); c == nil {
				return
			}
		}
		l = c.lane(in.Lane)
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
	m.book(worthKey{payer: in.From}, amount-l.vouchered, 0)
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
