package market

import (
	"slices"
	"time"

	"edgenet.dev/proto"
)

// A submitter whose turn it is need not wait until somebody else's long execution
// ends: after its slice that one is halted, and goes on when no earlier turn is
// left. So a guest that never ends delays a short task by a slice and not by its
// whole time limit. What stands keeps its memory, so few do, and none for so long
// that its submitter would give it up.

const (
	// slice is what an execution has of its slot before another's turn may come.
	slice = 30 * time.Millisecond
	// mostHalted is for how long one may stand in all: less than the slack that its
	// submitter and its executor give it.
	mostHalted = 4 * time.Second
	// haltMemory is the most that one may use that stands beside others.
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

// yields reports whether x may be halted for another's turn, and from when on.
func (m *Machine) yields(x *exec) (time.Time, bool) {
	if x.a.MemoryLimit > haltMemory || x.stood >= mostHalted {
		return time.Time{}, false
	}
	return x.began.Add(slice), true
}

// spare reports whether one more execution may be halted.
func (w *workside) spare() bool {
	return w.running == w.cfg.Slots && len(w.halted) < w.cfg.Spare
}

// makeWay reports whether a submitter's execution would have a slot within a
// slice, though all are taken.
func (m *Machine) makeWay(c *customer) bool {
	w := &m.work
	if !w.spare() {
		return false
	}
	m.recharge()
	own := w.served // of one that comes anew
	if c != nil {
		own = max(own, c.served)
	}
	if w.queued > 0 && w.turn().served <= own {
		return false
	}
	for x := range w.executing {
		if _, ok := m.yields(x); ok && x.c != c && x.c.served > own {
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

// rotate lets those go on that stood for long enough, and halts the execution
// that is furthest ahead of the submitter whose turn it is.
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
	if w.queued > 0 && w.spare() {
		c := w.turn()
		var ahead *exec
		for x := range w.executing {
			at, ok := m.yields(x)
			switch {
			case !ok || x.c == c:
			case m.now.Before(at):
				look(at)
			case x.c.served > c.served && (ahead == nil || m.before(ahead, x)):
				ahead = x
			}
		}
		if ahead != nil {
			m.halt(ahead)
			m.fill()
		}
	}
	if !next.IsZero() {
		m.sooner(w.rotated, next)
	}
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
		if c := w.turn(); c != next.c && c.served < next.c.served {
			return nil
		}
	}
	return next
}
