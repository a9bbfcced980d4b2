//go:build !js

package sandbox

import "time"

// MaxHalt is for how long a guest may stand in all, on top of its time to run.
const MaxHalt = 10 * time.Second

// Spare is how many runs an executor takes beyond its slots while as many guests
// are halted, see Task.Halt. One that cannot halt them has none.
func Spare(ex Executor) int {
	if p, ok := ex.(*pool); ok && canStop {
		return p.cfg.Spare
	}
	return 0
}

// brake is a reason for which a child is stopped.
type brake uint8

const (
	brakeDuty brake = 1 << iota // its share of a core is used up
	brakeHalt                   // others have its turn
)

// hold sets or clears one reason to stand still. The child runs while there is
// none; halted is told when that changes.
func (c *process) hold(why brake, on bool, halted func(bool)) {
	c.braking.Lock()
	defer c.braking.Unlock()
	before := c.brakes
	if c.brakes &^= why; on {
		c.brakes |= why
	}
	if stands := c.brakes != 0; stands != (before != 0) {
		c.signal(stands)
		halted(stands)
		if stands {
			c.since = time.Now()
		} else {
			c.stood += time.Since(c.since)
		}
	}
}

// standing is for how long the child stood in all.
func (c *process) standing() time.Duration {
	c.braking.Lock()
	defer c.braking.Unlock()
	if c.brakes != 0 {
		return c.stood + time.Since(c.since)
	}
	return c.stood
}

// obey halts the child as a task's Halt says, until done is closed.
func (c *process) obey(halt <-chan bool, halted func(bool), done <-chan struct{}) {
	for {
		select {
		case on := <-halt:
			c.hold(brakeHalt, on, halted)
		case <-done:
			c.hold(brakeHalt, false, halted)
			return
		}
	}
}
