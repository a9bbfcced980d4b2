//go:build !js

package sandbox

import (
	"context"
	"time"
)

// A child under a CPU limit earns its share of the wall clock as credit and
// pays for the processor time it used. It is stopped when the credit is gone
// and goes on when there is half a period's worth. What it does not use is lost
// beyond three periods' worth, so that a long rest buys no long burst. Credit
// outlives a task: many short ones get no more than a long one.

const dutyPeriod = 100 * time.Millisecond

// credit is a child's account. One goroutine at a time works on it.
type credit struct {
	at    time.Time // of the last settlement
	cpu   time.Duration
	stood time.Duration
	left  time.Duration
}

func share(percent int) time.Duration { return dutyPeriod * time.Duration(percent) / 100 }

// settle brings the account up to date and returns what is left. Where the
// system does not tell processor time, a child that has a task is taken to have
// used all of it in which it did not stand.
func (c *process) settle(percent int, busy bool) time.Duration {
	now := time.Now()
	used, known := c.cpuTime()
	stood := c.standing()
	a := &c.credit
	if a.at.IsZero() {
		*a = credit{at: now, cpu: used, stood: stood, left: share(percent) / 2}
		return a.left
	}
	passed := now.Sub(a.at)
	cost := used - a.cpu
	if !known {
		used, cost = a.cpu, 0
		if busy {
			cost = passed - (stood - a.stood)
		}
	}
	a.left = min(a.left+passed*time.Duration(percent)/100-cost, 3*share(percent))
	a.at, a.cpu, a.stood = now, used, stood
	return a.left
}

// awaitCredit sleeps until an idle child may start a task.
func (c *process) awaitCredit(ctx context.Context, percent int) {
	left := c.settle(percent, false)
	if left > 0 {
		return
	}
	timer := time.NewTimer((share(percent)/2 - left) * 100 / time.Duration(percent))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	c.settle(percent, false)
}

// duty holds the child to its share until done is closed, and tells halted when
// it stops the child and when it lets it go on.
func (c *process) duty(percent int, halted func(bool), done <-chan struct{}) {
	const soonest = time.Millisecond
	timer := time.NewTimer(soonest)
	defer timer.Stop()
	stopped := false
	for {
		select {
		case <-done:
			c.settle(percent, true)
			if stopped {
				c.hold(brakeDuty, false, halted)
			}
			return
		case <-timer.C:
		}
		left := c.settle(percent, true)
		if stop := left <= 0 || stopped && left < share(percent)/2; stop != stopped {
			c.hold(brakeDuty, stop, halted)
			stopped = stop
		}
		if stopped {
			timer.Reset(max((share(percent)/2-left)*100/time.Duration(percent), soonest))
		} else {
			timer.Reset(max(left/2, soonest)) // a child has two threads at work at most
		}
	}
}
