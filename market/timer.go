package market

import "time"

// timer is one thing that falls due. Timers live in an indexed heap, so that
// moving or stopping one costs O(log n) and leaves nothing behind.
type timer struct {
	at   time.Time
	id   uint64 // order among equal times: creation order, for determinism
	pos  int    // place in the heap, -1 when stopped
	fire func()
}

func (t *timer) armed() bool { return t.pos >= 0 }

type timers struct {
	heap []*timer
	ids  uint64
}

func (h *timers) make(fire func()) *timer {
	h.ids++
	return &timer{id: h.ids, pos: -1, fire: fire}
}

func (h *timers) less(i, j int) bool {
	a, b := h.heap[i], h.heap[j]
	if !a.at.Equal(b.at) {
		return a.at.Before(b.at)
	}
	return a.id < b.id
}

func (h *timers) swap(i, j int) {
	h.heap[i], h.heap[j] = h.heap[j], h.heap[i]
	h.heap[i].pos, h.heap[j].pos = i, j
}

func (h *timers) up(i int) {
	for i > 0 {
		p := (i - 1) / 2
		if !h.less(i, p) {
			return
		}
		h.swap(i, p)
		i = p
	}
}

func (h *timers) down(i int) {
	for {
		c := 2*i + 1
		if c >= len(h.heap) {
			return
		}
		if c+1 < len(h.heap) && h.less(c+1, c) {
			c++
		}
		if !h.less(c, i) {
			return
		}
		h.swap(i, c)
		i = c
	}
}

func (h *timers) set(t *timer, at time.Time) {
	t.at = at
	if t.pos < 0 {
		t.pos = len(h.heap)
		h.heap = append(h.heap, t)
	}
	h.up(t.pos)
	h.down(t.pos)
}

func (h *timers) stop(t *timer) {
	if t == nil || t.pos < 0 {
		return
	}
	i, last := t.pos, len(h.heap)-1
	h.swap(i, last)
	h.heap[last] = nil
	h.heap = h.heap[:last]
	t.pos = -1
	if i < last {
		h.up(i)
		h.down(i)
	}
}

// at arms t, never at or before the present: a timer that arms itself again
// while it fires must not fire twice in one Step.
func (m *Machine) at(t *timer, when time.Time) {
	if !when.After(m.now) {
		when = m.now.Add(time.Millisecond)
	}
	m.timers.set(t, when)
}

// sooner arms t at when unless it is armed earlier already.
func (m *Machine) sooner(t *timer, when time.Time) {
	if t.armed() && !when.Before(t.at) {
		return
	}
	m.at(t, when)
}

func (m *Machine) stop(ts ...*timer) {
	for _, t := range ts {
		m.timers.stop(t)
	}
}

func (m *Machine) fireDue() {
	for len(m.timers.heap) > 0 {
		t := m.timers.heap[0]
		if t.at.After(m.now) {
			return
		}
		m.timers.stop(t)
		t.fire()
	}
}

// Next is when the next Tick is due; false when nothing waits for time.
func (m *Machine) Next() (time.Time, bool) {
	if len(m.timers.heap) == 0 {
		return time.Time{}, false
	}
	return m.timers.heap[0].at, true
}
