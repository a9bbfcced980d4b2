//go:build unix

package sandbox_test

import (
	"context"
	"testing"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
)

// While a guest is halted another one runs beside it, in a child more; the halted
// one uses no processor time, its clock stands, and it goes on where it was.
func TestHaltedGuestStandsStill(t *testing.T) {
	p := newPool(t, sandbox.PoolConfig{Slots: 1, Spare: 1})
	if n := sandbox.Spare(p); n != 1 {
		t.Fatalf("%d spare", n)
	}
	spin, echo := prepare(t, enginetest.Spin()), prepare(t, enginetest.Echo())
	const wall = 2 * time.Second
	halt := make(chan bool, 1)
	ended := make(chan sandbox.Result, 1)
	go func() {
		ended <- run(t, p, context.Background(), spin, "", sandbox.Task{Limits: proto.Limits{Fuel: proto.MaxFuel, Wall: wall}, Halt: halt})
	}()
	halt <- true
	if got := run(t, p, context.Background(), echo, "beside it", sandbox.Task{}); string(got.Output) != "beside it" {
		t.Fatalf("%s", got.Status)
	}
	select {
	case got := <-ended:
		t.Fatalf("it ended though it is halted: %s", got.Status)
	case <-time.After(wall + wall/2):
	}
	halt <- false
	got := <-ended
	if got.Status != proto.StatusTimeout || got.Ran > wall+wall/2 {
		t.Errorf("%s after %s, which the time that it stood is not part of", got.Status, got.Ran)
	}
}

// A child that is held to a share of a core, and may be halted, too, ends with
// its task.
func TestHaltAndShareEndTogether(t *testing.T) {
	p := newPool(t, sandbox.PoolConfig{Slots: 1, Spare: 1, CPUPercent: 50})
	echo := prepare(t, enginetest.Echo())
	for range 2 {
		if got := run(t, p, context.Background(), echo, "both", sandbox.Task{Halt: make(chan bool, 1)}); string(got.Output) != "both" {
			t.Fatalf("%s", got.Status)
		}
	}
}
