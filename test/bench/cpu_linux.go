package main

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// timeOf is the processor time that f takes on its thread: other work of the
// machine does not count.
func timeOf(f func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now := func() time.Duration {
		var t unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) // the clock is always there
		return time.Duration(t.Nano())
	}
	began := now()
	f()
	return now() - began
}
