package market

import (
	"cmp"
	"math"
	"time"

	"github.com/ipfs/go-cid"

	"edgenet.dev/proto"
)

// Whose turn it is at a worker. Slots go round the submitters that have work
// queued: next is the one that had the least slot time, in proportion to what it
// pays and to what its work was worth here before (worth.go). So each gets its share whatever its tasks take and however many it
// queued, and a single task of one never waits for all of another's. This is
// deficit round robin without the quantum, which long and short tasks would need
// to be very large: start-time fair queueing. Whoever comes back after a while
// starts where the others stand and has saved nothing up.

// turn is slot time at the price of normal priority, in nanoseconds.
type turn int64

// leastTurn keeps tasks that take no time from coming for free.
const leastTurn = time.Millisecond

// charge is what time in a slot counts for work of a priority: high priority
// pays more and gets as much more, low less.
func (m *Machine) charge(d time.Duration, p proto.Priority) turn {
	return turn(max(d, leastTurn)/time.Duration(m.cfg.percent(p))) * 100
}

// turn is the submitter whose queue is served next, nil when none has work queued.
// Among equals the higher priority goes first, then the older execution.
func (w *workside) turn() *customer { return w.turnWithin(math.MaxUint64) }

// turnWithin is the turn of those whose next execution uses no more than that much
// memory.
func (w *workside) turnWithin(memory uint64) *customer {
	return w.turnOf(func(c *customer) bool { return c.queue[0].memory() <= memory })
}

// turnOf is the turn of some that have work queued.
func (w *workside) turnOf(some func(*customer) bool) *customer {
	var next *customer
	for _, c := range w.customers {
		if len(c.queue) == 0 || !some(c) {
			continue
		}
		if next == nil || cmp.Or(cmp.Compare(c.served, next.served), cmp.Compare(next.queue[0].a.Priority, c.queue[0].a.Priority),
			cmp.Compare(c.queue[0].seq, next.queue[0].seq)) < 0 {
			next = c
		}
	}
	return next
}

// begins gives x a slot. What it will take is guessed until it ends.
func (m *Machine) begins(x *exec) {
	w := &m.work
	w.running++
	x.c.running++
	w.executing[x] = true
	w.served = max(w.served, x.c.served)
	x.phase, x.began, x.ran, x.stood = execRunning, m.now, 0, 0
	x.dear = turn(m.dearest(x.c.id, x.module))
	x.charged = x.dear * m.charge(w.typical, proto.Priority(x.a.Priority))
	x.c.served += x.charged
}

// ends takes x out of its slot. What it earned, if its submitter pays, and what it
// took decide how often its time counts; a failure of this worker is nobody's.
func (m *Machine) ends(x *exec, earned proto.Credit, failed bool) {
	w := &m.work
	took := m.ran(x)
	x.c.running--
	if x.phase == execHalted {
		m.unhalt(x)
	} else {
		w.running--
		delete(w.executing, x)
	}
	if !failed {
		m.tookSlot(x.c.id, x.module, took, earned)
		x.dear = turn(m.dearest(x.c.id, x.module))
	}
	x.c.served += x.dear*m.charge(took, proto.Priority(x.a.Priority)) - x.charged
	w.typical = smoothed(w.typical, took)
	x.c.takes = smoothed(x.c.takes, took)
	p := w.pace(x.module)
	p.takes = smoothed(p.takes, took)
}

// room is how many more assignments of c this worker takes. Above what it holds
// in all there is room for one for each slot of every submitter, so that nobody
// finds it full of others'. What waits for its input is counted apart.
func (w *workside) room(c *customer) int {
	return max(0, w.cfg.InFlight-w.held, min(w.cfg.Slots, w.cfg.InFlight)-c.heldNow())
}

// startsSoon is how soon a worker begins what it claims: it makes no claim for
// more than that.
const startsSoon = 10 * time.Second

// soon is how many executions of c with module could start within startsSoon, from
// how long the module's take here or the submitter's, whichever is less; at least
// one. Of what is not known an idle worker takes what it has room for.
func (m *Machine) soon(c *customer, module cid.Cid) int {
	w := &m.work
	free, left := max(0, w.cfg.Slots-w.held), startsSoon
	takes := time.Duration(0)
	if p := w.paces[module]; p != nil {
		takes = p.takes
	}
	if c != nil && c.takes > 0 && (takes == 0 || c.takes < takes) {
		takes = c.takes
	}
	if w.running >= w.cfg.Slots {
		takes = cmp.Or(takes, w.typical)
		left -= m.untilFree()
	}
	switch {
	case left <= 0:
		return 1
	case takes == 0:
		return w.cfg.InFlight
	}
	return max(1, free+int(min(int64(w.cfg.Slots)*int64(left)/int64(takes), int64(w.cfg.InFlight))))
}

// untilFree is when the first slot becomes free, as far as is known how long the
// modules take; what runs for longer than that may take as long again.
func (m *Machine) untilFree() time.Duration {
	soonest := startsSoon
	for x := range m.work.executing {
		ran := m.ran(x)
		left := ran
		if p := m.work.paces[x.module]; p != nil && p.takes > ran {
			left = p.takes - ran
		}
		soonest = min(soonest, left)
	}
	return soonest
}

func (c *customer) heldNow() int {
	if c == nil {
		return 0
	}
	return c.held
}

// A submitter's queue: a heap by priority, then arrival.

func (c *customer) earlier(i, j int) bool {
	a, b := c.queue[i], c.queue[j]
	if a.a.Priority != b.a.Priority {
		return a.a.Priority > b.a.Priority
	}
	return a.seq < b.seq
}

func (c *customer) exchange(i, j int) {
	c.queue[i], c.queue[j] = c.queue[j], c.queue[i]
	c.queue[i].pos, c.queue[j].pos = i, j
}

func (c *customer) fix(i int) {
	for i > 0 && c.earlier(i, (i-1)/2) {
		c.exchange(i, (i-1)/2)
		i = (i - 1) / 2
	}
	for {
		n := 2*i + 1
		if n >= len(c.queue) {
			return
		}
		if n+1 < len(c.queue) && c.earlier(n+1, n) {
			n++
		}
		if !c.earlier(n, i) {
			return
		}
		c.exchange(i, n)
		i = n
	}
}

func (w *workside) push(x *exec) {
	c := x.c
	// Whose work all waits for inputs, or was not here, asked for no slot meanwhile:
	// its turn is not older than the others'.
	if len(c.queue) == 0 && c.running == 0 {
		c.served = max(c.served, w.served)
	}
	x.phase, x.pos = execQueued, len(c.queue)
	w.held++
	c.held++
	c.queue = append(c.queue, x)
	c.fix(x.pos)
	w.queued++
}

func (w *workside) unqueue(x *exec) {
	c := x.c
	i, last := x.pos, len(c.queue)-1
	c.exchange(i, last)
	c.queue[last] = nil
	c.queue = c.queue[:last]
	w.queued--
	if i < last {
		c.fix(i)
	}
}
