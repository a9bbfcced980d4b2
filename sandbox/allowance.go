//go:build !js

package sandbox

import (
	"sync"
	"time"
)

// allowance is the time that a child may spend on a run. Only what the child is
// let run counts: a worker that throttles itself takes nothing from its
// customers' limit. Whoever stops and continues the child tells.
type allowance struct {
	over func() // called once, when the time is up

	mu     sync.Mutex
	halted bool // the child is stopped
	on     bool // a run is being timed
	since  time.Time
	left   time.Duration
	ran    time.Duration
	timer  *time.Timer // of left
	hard   *time.Timer // of the time that passes, whatever is let run
}

// begin times a run: limit is the time that it may be let run, most the time
// that may pass.
func (a *allowance) begin(limit, most time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.on, a.left, a.ran, a.since = true, limit, 0, time.Now()
	a.timer = time.AfterFunc(limit, a.up)
	if a.halted {
		a.timer.Stop()
	}
	a.hard = time.AfterFunc(most, a.up)
}

// up ends the run. It holds the lock meanwhile, so that a run that has ended is
// never ended in place of the next one.
func (a *allowance) up() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.on {
		a.stop()
		a.over()
	}
}

// halt tells that the child was stopped, or goes on.
func (a *allowance) halt(stopped bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.halted == stopped {
		return
	}
	a.halted = stopped
	if !a.on {
		return
	}
	now := time.Now()
	if stopped {
		a.timer.Stop()
		a.left -= now.Sub(a.since)
		a.ran += now.Sub(a.since)
		return
	}
	a.since = now
	a.timer.Reset(max(0, a.left))
}

// end stops the clock and returns the time that the child was let run.
func (a *allowance) end() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.on {
		a.stop()
	}
	return a.ran
}

func (a *allowance) stop() {
	a.on = false
	a.timer.Stop()
	a.hard.Stop()
	if !a.halted {
		a.ran += time.Since(a.since)
	}
}
