//go:build unix

package jsengine_test

import (
	"bytes"
	"slices"
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest/jsengine"
)

// trapAtSliceEnd spends nearly a slice of fuel in a loop, the rest and more in
// straight code, and traps in a function it calls: there the stored counter is
// negative, and the last of the fuel was handed out since.
func trapAtSliceEnd(slice uint32) []byte {
	const counter = 2 // each of its steps is 5 fuel
	return reactor(nil, nil, []byte{0x7f}, slices.Concat(
		i32const((slice-2_000)/5), set(counter),
		loopOp, get(counter), i32const(1), []byte{0x6b, 0x22, counter, 0x0d, 0}, endOp,
		bytes.Repeat(append(i32const(1), 0x1a), 2_000), // const and drop: 2 fuel
		call(2), packed(0, 0),
	), function{sig: ":", code: unreachable})
}

// TestTrapAtSliceEndInProcess: the same for the sliced engine of Go.
func TestTrapAtSliceEndInProcess(t *testing.T) {
	const slice = 8_000_000 // what the in-process engine hands out
	plain := node(t, jsengine.Options{})
	sliced, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer sliced.Close()
	m := prepare(t, trapAtSliceEnd(slice))
	for _, more := range []proto.Fuel{1_000, 2_100, 8_000} {
		task := sandbox.Task{Limits: proto.Limits{Fuel: slice + 4_096 + more}}
		got, want := run(t, sliced, m, nil, task), run(t, plain, m, nil, task)
		if !same(got, want) {
			t.Errorf("%d more than a slice: sliced %s, plain %s", more, show(got), show(want))
		}
	}
}

// TestTrapAtSliceEnd: how a module is sliced does not show in how it ends.
func TestTrapAtSliceEnd(t *testing.T) {
	const slice = 100_000
	plain := node(t, jsengine.Options{})
	sliced := node(t, jsengine.Options{Sliced: true, Slice: slice})
	raw := trapAtSliceEnd(slice)
	m := prepare(t, raw)
	for _, more := range []proto.Fuel{1_000, 2_100, 2_500, 8_000} {
		task := sandbox.Task{Limits: proto.Limits{Fuel: slice + 4_096 + more}}
		got, want := run(t, sliced, m, nil, task), run(t, plain, m, nil, task)
		if !same(got, want) {
			t.Errorf("%d more than a slice: sliced %s, plain %s", more, show(got), show(want))
		}
		if wants := map[bool]proto.Status{true: proto.StatusTrap, false: proto.StatusOutOfFuel}[more > 2_050]; want.Status != wants {
			t.Errorf("%d more than a slice: %s, want %s", more, want.Status, wants)
		}
	}
}
