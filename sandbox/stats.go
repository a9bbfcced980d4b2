//go:build !js

package sandbox

import "sync/atomic"

// Stats of a pool since it was made.
type Stats struct {
	Slots, Busy int
	Started     uint64    // children
	Ended       uint64    // children that were killed, or ended, in the middle of a task
	Isolation   Isolation // of the newest child, without attempts; empty before the first
}

// counters is a pool's part of Stats.
type counters struct {
	starts, ended atomic.Uint64
	newest        atomic.Pointer[Isolation]
}

func (c *counters) started(i Isolation) {
	c.starts.Add(1)
	c.newest.Store(&i)
}

// StatsOf reads the counters of a pool; false for another executor.
func StatsOf(ex Executor) (Stats, bool) {
	p, ok := ex.(*pool)
	if !ok {
		return Stats{}, false
	}
	s := Stats{Slots: cap(p.slots) + cap(p.spare), Busy: cap(p.slots) + cap(p.spare) - len(p.slots) - len(p.spare), Started: p.starts.Load(), Ended: p.ended.Load()}
	if i := p.newest.Load(); i != nil {
		s.Isolation = *i
	}
	return s, true
}
