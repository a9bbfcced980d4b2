//go:build !js

package sandbox

import (
	"testing"
	"time"
)

// A child that is stopped uses up nothing of its limit, and only so much time
// may pass.
func TestAllowance(t *testing.T) {
	over := make(chan struct{}, 2)
	a := &allowance{over: func() { over <- struct{}{} }}
	ends := func(what string) {
		t.Helper()
		select {
		case <-over:
		case <-time.After(time.Minute):
			t.Fatalf("%s: never ended", what)
		}
	}
	a.begin(time.Millisecond, time.Hour)
	ends("a child that runs all the time")

	a.halt(true)
	a.begin(time.Nanosecond, 50*time.Millisecond)
	ends("a child that never runs")
	if ran := a.end(); ran != 0 {
		t.Fatalf("a child that never ran is said to have run for %s", ran)
	}

	a.begin(time.Millisecond, time.Hour)
	a.halt(false)
	ends("a child that goes on")

	a.begin(time.Hour, time.Hour)
	a.halt(true)
	left := a.left
	time.Sleep(5 * time.Millisecond)
	a.halt(false)
	if a.left != left || left >= time.Hour {
		t.Fatalf("%s were left when the child was stopped, %s when it went on", left, a.left)
	}
	if ran := a.end(); ran <= 0 {
		t.Fatalf("it ran for %s", ran)
	}
	a.begin(time.Millisecond, time.Hour)
	a.end()
	time.Sleep(20 * time.Millisecond)
	select {
	case <-over:
		t.Fatal("a run that had ended was ended")
	default:
	}
}
