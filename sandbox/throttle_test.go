//go:build linux

package sandbox_test

import (
	"context"
	"testing"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
)

// The wall clock limit of a throttled guest counts what it is let run: work that
// takes a tenth of a second of processor time takes five seconds with 2 % of a
// core, and half of that would do if the clock ran on meanwhile.
func TestThrottledClockCountsWhatRuns(t *testing.T) {
	spin := prepare(t, enginetest.Spin())
	full := newPool(t, sandbox.PoolConfig{})
	const probe = 200_000_000
	task := sandbox.Task{Limits: proto.Limits{Fuel: probe, Wall: time.Hour}}
	run(t, full, context.Background(), spin, "", task) // compiles
	res := run(t, full, context.Background(), spin, "", task)
	if res.Status != proto.StatusOutOfFuel || res.Ran <= 0 {
		t.Fatalf("%s after %s", res.Status, res.Ran)
	}
	fuel := proto.Fuel(float64(probe) * 0.1 / res.Ran.Seconds())

	p := newPool(t, sandbox.PoolConfig{CPUPercent: 2})
	run(t, p, context.Background(), spin, "", sandbox.Task{Limits: proto.Limits{Fuel: 1000, Wall: time.Hour}}) // compiles
	began := time.Now()
	got := run(t, p, context.Background(), spin, "", sandbox.Task{Limits: proto.Limits{Fuel: fuel, Wall: 2500 * time.Millisecond}})
	if got.Status != proto.StatusOutOfFuel {
		t.Fatalf("%s after %s: the time in which it was stopped counted", got.Status, time.Since(began))
	}
	if passed := time.Since(began); got.Ran <= 0 || got.Ran >= passed {
		t.Fatalf("it was let run for %s of %s", got.Ran, passed)
	}
	// What it is let run is limited all the same.
	if got := run(t, p, context.Background(), spin, "", sandbox.Task{Limits: proto.Limits{Fuel: proto.MaxFuel, Wall: 20 * time.Millisecond}}); got.Status != proto.StatusTimeout {
		t.Fatalf("%s, want a timeout", got.Status)
	}
}
