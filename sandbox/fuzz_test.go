//go:build !js

package sandbox_test

import (
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
)

// FuzzPrepare feeds bytes to the reader and the rewriter. What is accepted must
// be valid for the engine, agree between engines, and compute what the plain
// module computes.
func FuzzPrepare(f *testing.F) {
	for _, v := range enginetest.Vectors() {
		f.Add(v.Module, []byte(v.Input))
	}
	for seed := range uint64(8) {
		f.Add(enginetest.Random(seed, seed%2 == 0), []byte("input"))
	}
	d := sandbox.NewDifferential(f, enginetest.Echo())
	f.Fuzz(func(t *testing.T, raw, input []byte) {
		if len(input) <= 1<<10 {
			d.Check(t, raw, input, 200_000)
		}
	})
}

// TestRandomModules compares generated modules; it runs many statuses and
// enough fuel limits to stop at many points.
func TestRandomModules(t *testing.T) {
	d := sandbox.NewDifferential(t, enginetest.Echo())
	seen := map[proto.Status]int{}
	n := uint64(200)
	if testing.Short() {
		n = 60
	}
	for seed := range n {
		raw := enginetest.Random(seed, seed%2 == 0)
		s := d.Check(t, raw, []byte("input"), 1_000_000)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		if s == proto.StatusUnknown {
			_, err := sandbox.Prepare(raw, sandbox.Policy{})
			t.Fatalf("seed %d: %v", seed, err)
		}
		seen[s]++
		d.Check(t, raw, []byte("input"), 4_200+proto.Fuel(seed*7))
	}
	t.Log(seen)
	for _, s := range []proto.Status{proto.StatusOK, proto.StatusTrap, proto.StatusOutOfFuel} {
		if seen[s] == 0 {
			t.Errorf("no module ended %s", s)
		}
	}
}
