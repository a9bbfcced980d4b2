//go:build !js

package sandbox_test

import (
	"context"
	"encoding/binary"
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
		f.Add(enginetest.Segments(seed), []byte("input"))
	}
	d := sandbox.NewDifferential(f, enginetest.Echo())
	f.Fuzz(func(t *testing.T, raw, input []byte) {
		if len(input) <= 1<<10 {
			d.Check(t, raw, input, 200_000)
		}
	})
}

// TestPressure compares the compiler with the interpreter on modules that make
// it spill.
func TestPressure(t *testing.T) {
	d := sandbox.NewDifferential(t, enginetest.Echo())
	n := uint64(1500)
	if testing.Short() || raceEnabled {
		n = 150
	}
	for seed := range n {
		if s := d.Check(t, enginetest.Pressure(seed), nil, 1_000_000); s != proto.StatusOK || t.Failed() {
			t.Fatalf("seed %d: %s", seed, s)
		}
	}
}

// TestRandomModules compares generated modules; it runs many statuses and
// enough fuel limits to stop at many points.
func TestRandomModules(t *testing.T) {
	d := sandbox.NewDifferential(t, enginetest.Echo())
	seen := map[proto.Status]int{}
	n := uint64(200)
	if testing.Short() || raceEnabled {
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

// TestSegments compares modules about segments and tables.
func TestSegments(t *testing.T) {
	d := sandbox.NewDifferential(t, enginetest.Echo())
	seen := map[proto.Status]int{}
	for seed := range uint64(200) {
		seen[d.Check(t, enginetest.Segments(seed), []byte("input"), 1_000_000)]++
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Log(seen)
	if seen[proto.StatusOK] < 80 || seen[proto.StatusUnknown] > 20 {
		t.Errorf("%d ended ok, %d were refused", seen[proto.StatusOK], seen[proto.StatusUnknown])
	}
}

// FuzzRandom generates the module from the fuzzer's numbers and stops it at any
// fuel.
func FuzzRandom(f *testing.F) {
	for seed := range uint64(10) {
		f.Add(seed, uint32(seed*5_000), seed%2 == 0)
	}
	d := sandbox.NewDifferential(f, enginetest.Echo())
	f.Fuzz(func(t *testing.T, seed uint64, fuel uint32, floats bool) {
		raw := enginetest.Random(seed, floats)
		if d.Check(t, raw, []byte("input"), 1+proto.Fuel(fuel%2_000_000)) == proto.StatusUnknown {
			_, err := sandbox.Prepare(raw, sandbox.Policy{})
			t.Fatalf("generated module refused: %v", err)
		}
	})
}

// TestFuelIsExact: a run that needs F succeeds with every limit from F up, for
// the same fuel, and runs out below, billing the limit.
func TestFuelIsExact(t *testing.T) {
	ex, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer ex.Close()
	checked := 0
	for seed := range uint64(60) {
		m := prepare(t, enginetest.Random(seed, seed%2 == 0))
		need := run(t, ex, context.Background(), m, "input", sandbox.Task{Limits: proto.Limits{Fuel: 1_000_000}})
		if need.Status != proto.StatusOK {
			continue
		}
		checked++
		for _, limit := range []proto.Fuel{1, need.Fuel / 3, need.Fuel * 9 / 10, need.Fuel - 1, need.Fuel, need.Fuel + 1, 2 * need.Fuel} {
			want := sandbox.Result{Status: proto.StatusOK, Fuel: need.Fuel}
			if limit < need.Fuel {
				want = sandbox.Result{Status: proto.StatusOutOfFuel, Fuel: limit}
			}
			got := run(t, ex, context.Background(), m, "input", sandbox.Task{Limits: proto.Limits{Fuel: limit}})
			if got.Status != want.Status || got.Fuel != want.Fuel {
				t.Errorf("seed %d needs %d, limit %d: %s with fuel %d", seed, need.Fuel, limit, got.Status, got.Fuel)
			}
		}
	}
	if checked < 10 {
		t.Errorf("only %d modules ended well", checked)
	}
}

// TestLargeMemory reaches the ceiling inside a child, whose address space must
// have room for it.
func TestLargeMemory(t *testing.T) {
	p := newPool(t, sandbox.PoolConfig{})
	m := prepare(t, enginetest.TouchAll())
	for _, pages := range []uint64{2, 1024, sandbox.MaxMemory >> 16} {
		res := run(t, p, context.Background(), m, "", sandbox.Task{Limits: proto.Limits{Memory: pages << 16}})
		if got := binary.LittleEndian.Uint32(append(res.Output, 0, 0, 0, 0)); res.Status != proto.StatusOK || uint64(got) != pages {
			t.Errorf("%s after %d pages, want %d", res.Status, got, pages)
		}
	}
}
