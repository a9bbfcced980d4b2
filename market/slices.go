package market

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// A submitter whose turn it is need not wait until somebody else's long execution
// ends: after its slice that one is halted, and goes on when no earlier turn is
// left. So a guest that never ends delays a short task by a slice and not by its
// whole time limit. What stands keeps its memory, so few do, and none for so long
// that its submitter would give it up: after that it may lose its place to others.

const (
	// slice is what an execution has of its slot before another's turn may come.
	slice = 30 * time.Millisecond
	// mostHalted is for how long one may stand in all: less than the slack that its
	// submitter and its executor give it.
	mostHalted = 4 * time.Second
	// haltMemory is what executions may use while some stand, beyond what the slots
	// may in all.
	haltMemory = proto.DefaultMemory
)

// ran is how long x had a slot so far.
func (m *Machine) ran(x *exec) time.Duration {
	if x.phase == execHalted {
		return x.ran
	}
	return x.ran + m.now.Sub(x.began)
}

// recharge brings the turns of those up to date whose executions have taken more
// than was guessed.
func (m *Machine) recharge() {
	w := &m.work
	more := func(x *exec) {
		if took := x.dear * m.charge(m.ran(x), proto.Priority(x.a.Priority)); took > x.charged {
			x.c.served += took - x.charged
			x.charged = took
		}
	}
	for x := range w.executing {
		more(x)
	}
	for _, x := range w.halted {
		more(x)
	}
}

// spent reports whether x stood for as long as it may.
func (x *exec) spent() bool { return x.stood >= mostHalted }

// memory is what x may use, in bytes; no guest can address more than 4 GiB.
func (x *exec) memory() uint64 {
	return min(cmp.Or(x.a.MemoryLimit, proto.DefaultMemory), 4<<30)
}

// memoryLeft is what the next execution may use beside those that have a slot and
// those that stand. Where none stands a slot has room for whatever was taken.
func (w *workside) memoryLeft() uint64 {
	if w.running < w.cfg.Slots && len(w.halted) == 0 {
		return math.MaxUint64
	}
	left := haltMemory + uint64(w.cfg.Slots)*min(w.cfg.MaxMemory, 4<<30)
	for x := range w.executing {
		left -= min(left, x.memory())
	}
	for _, x := range w.halted {
		left -= min(left, x.memory())
	}
	return left
}

// spare reports whether one more execution may be halted.
func (w *workside) spare() bool {
	return w.running == w.cfg.Slots && len(w.halted) < w.cfg.Spare
}

// pays reports whether a submitter is known here for work that was worth as much as
// others'.
func (m *Machine) pays(p peer.ID) bool {
	x := m.work.worths[worthKey{payer: p}]
	return x != nil && x.took >= worthLeast && x.earned+x.due > 0 && m.dear(worthKey{payer: p}) == 1
}

// makeWay reports whether a submitter's execution would have a slot within a
// slice, though all are taken. It may use that much memory.
func (m *Machine) makeWay(c *customer, memory uint64) bool {
	w := &m.work
	if !w.spare() || memory > w.memoryLeft() {
		return false
	}
	m.recharge()
	own := w.served // of one that comes anew
	if c != nil {
		own = max(own, c.served)
	}
	if next := w.turn(); next != nil && next.served <= own {
		return false
	}
	for x := range w.executing {
		if !x.spent() && x.c != c && x.c.served > own {
			return true
		}
	}
	return false
}

// halt takes x out of its slot for a while.
func (m *Machine) halt(x *exec) {
	w := &m.work
	x.ran, x.began = m.ran(x), m.now
	x.phase = execHalted
	w.running--
	delete(w.executing, x)
	w.halted = append(w.halted, x)
	m.send(HaltExecution{From: x.c.id, Ref: x.ref, Halt: true})
}

// goOn gives x a slot again.
func (m *Machine) goOn(x *exec) {
	m.unhalt(x)
	m.work.running++
	m.work.executing[x] = true
	x.phase = execRunning
	m.send(HaltExecution{From: x.c.id, Ref: x.ref})
}

// unhalt notes that x stands no more.
func (m *Machine) unhalt(x *exec) {
	w := &m.work
	w.halted = slices.DeleteFunc(w.halted, func(o *exec) bool { return o == x })
	x.stood += m.now.Sub(x.began)
	x.began = m.now
}

// rotate lets those go on that stood for long enough, and has executions give way
// to the submitter whose turn it is.
func (m *Machine) rotate() {
	w := &m.work
	var next time.Time
	look := func(at time.Time) {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	for _, x := range slices.Clone(w.halted) {
		if end := x.began.Add(mostHalted - x.stood); m.now.Before(end) {
			look(end)
		} else { // beside the others, where there is a child for it
			m.goOn(x)
		}
	}
	for w.queued > 0 {
		x, ends := m.givesWay(look)
		if x == nil {
			break
		}
		if ends {
			m.drop(x)
			m.refuse(x.c.id, x.ref, proto.CodeBusy, "it stood still for others for as long as it may, and others wait")
		} else {
			m.halt(x)
		}
		m.fill()
	}
	if !next.IsZero() {
		m.sooner(w.rotated, next)
	}
}

// givesWay is the execution that makes room for the submitter whose turn it is, and
// whether for good; look is told when one may. Halted is the one furthest ahead.
// While those that stood for long enough run beside the others no more can be
// halted, so that of all the one that loses least ends here for a submitter of whom
// nothing runs, and goes to another worker. One that stood for long enough and has a
// slot of its own does so for a submitter that pays. Work of who is known to pay
// never ends so.
func (m *Machine) givesWay(look func(time.Time)) (x *exec, ends bool) {
	w := &m.work
	left := w.memoryLeft()
	c := w.turnWithin(left)
	halts := c != nil && w.spare()
	var idle, payer *customer // of whom nothing runs
	for x := range w.executing {
		if x.spent() {
			idle = w.turnOf(func(c *customer) bool { return c.running == 0 })
			payer = w.turnOf(func(c *customer) bool { return c.running == 0 && m.pays(c.id) })
			break
		}
	}
	beside := w.running > w.cfg.Slots && idle != nil
	var ahead, lost *exec
	soon := false
	for x := range w.executing {
		halt, to := halts && !x.spent(), c
		switch {
		case halt && x.c == c: // its own turn, until it is another's
			to = w.turnOf(func(o *customer) bool { return o != c && o.queue[0].memory() <= left })
		case halt:
		case m.pays(x.c.id):
			continue
		case beside:
			to = idle
		case x.spent():
			to = payer
		default:
			continue
		}
		if to == nil {
			continue
		}
		at := m.overtakes(x, to)
		switch {
		case m.now.Before(at):
			look(at)
			soon = soon || halt && at.Sub(m.now) <= slice
		case x.c == c:
		case halt && (ahead == nil || m.before(ahead, x)):
			ahead = x
		case !halt && (lost == nil || cmp.Or(cmp.Compare(m.ran(x), m.ran(lost)), cmp.Compare(lost.seq, x.seq)) < 0):
			lost = x
		}
	}
	if ahead == nil && !soon {
		return lost, true
	}
	return ahead, false
}

// overtakes is when x has had its slice and its submitter is ahead of another one,
// if that has no slot until then: the past, or later than now by a slice at least.
func (m *Machine) overtakes(x *exec, c *customer) time.Time {
	at := x.began.Add(slice)
	if x.c.served > c.served {
		return at
	}
	missing := (c.served-x.c.served)/turn(max(1, x.c.running)) + 1 // all of them count
	lasts := time.Duration((x.charged+missing)/x.dear) / 100 * time.Duration(m.cfg.percent(proto.Priority(x.a.Priority)))
	if then := m.now.Add(max(lasts-m.ran(x), slice)); at.Before(then) {
		at = then
	}
	return at
}

// before orders executions by their submitters' turns, then by arrival.
func (m *Machine) before(a, b *exec) bool {
	if a.c.served != b.c.served {
		return a.c.served < b.c.served
	}
	return a.seq < b.seq
}

// resumed is the halted execution whose turn is next, nil when the queue's comes
// first.
func (m *Machine) resumed() *exec {
	w := &m.work
	var next *exec
	for _, x := range w.halted {
		if next == nil || m.before(x, next) {
			next = x
		}
	}
	if next != nil && w.queued > 0 {
		if c := w.turnWithin(w.memoryLeft()); c != nil && c != next.c && c.served < next.c.served {
			return nil
		}
	}
	return next
}
