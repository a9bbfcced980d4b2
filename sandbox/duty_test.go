//go:build !js

package sandbox

import (
	"testing"
	"time"
)

// Where the system does not tell what a child used, the time in which it is halted
// for others is not taken from its share.
func TestHaltedTimeIsNotUsed(t *testing.T) {
	c := &process{reaped: true} // whose processor time is not known
	ignore := func(bool) {}
	c.settle(50, true)
	c.hold(brakeHalt, true, ignore)
	time.Sleep(4 * dutyPeriod)
	before := c.settle(50, true)
	if before <= 0 {
		t.Errorf("%s are left", before)
	}
	c.hold(brakeHalt, false, ignore)
	time.Sleep(4 * dutyPeriod)
	if left := c.settle(50, true); left >= before {
		t.Errorf("%s are left after it ran", left)
	}
}
