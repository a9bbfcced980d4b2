//go:build unix

package jsengine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
	"edgenet.dev/sandbox/enginetest/jsengine"
)

// fuzzModules is how many random modules TestFourEngines runs, and the first
// seed: TEST_FUZZ_MODULES and TEST_FUZZ_SEED, or a few from 0.
func fuzzModules(t *testing.T) (n, first uint64) {
	read := func(name string, otherwise uint64) uint64 {
		s := os.Getenv(name)
		if s == "" {
			return otherwise
		}
		v, err := strconv.ParseUint(s, 10, 48)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return v
	}
	n = 150
	if testing.Short() {
		n = 30
	}
	return read("TEST_FUZZ_MODULES", n), read("TEST_FUZZ_SEED", 0)
}

// TestFourEngines runs random modules on wazero's compiler and interpreter, on
// Node's V8 and on Chromium, with fuel enough for most of them, and again with
// less, so that they stop at several points: both on wazero, one on each V8. One
// of 16 is about segments and tables. All
// must agree on status, exit code, output, log and fuel.
func TestFourEngines(t *testing.T) {
	const workers = 12 // modules in flight: the way to the browser is slow, not its engine
	n, first := fuzzModules(t)
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // compilers make much garbage
	type engine struct {
		name string
		ex   sandbox.Executor
		took atomic.Int64
	}
	var engines []*engine
	for _, interpreter := range []bool{false, true} {
		ex, err := sandbox.NewInProcess(sandbox.InProcessConfig{Interpreter: interpreter})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ex.Close() })
		name := "wazero compiler"
		if interpreter {
			name = "wazero interpreter"
		}
		engines = append(engines, &engine{name: name, ex: ex})
	}
	opt := jsengine.Options{Slots: workers}
	js := []*jsengine.Engine{start(t, jsengine.NewNode, opt), start(t, jsengine.NewChromium, opt)}
	for _, e := range js {
		engines = append(engines, &engine{name: e.Name(), ex: e})
	}

	var next, runs, reran, refused atomic.Uint64
	var mu sync.Mutex
	seen := map[proto.Status]int{}
	module := func(seed uint64) error {
		raw := enginetest.Random(seed, seed%4 != 0)
		if seed%16 == 2 {
			raw = enginetest.Segments(seed)
		}
		m, err := sandbox.Prepare(raw, sandbox.Policy{})
		if err != nil {
			if seed%16 == 2 && proto.CodeOf(err) == proto.CodeModule {
				refused.Add(1)
				return nil
			}
			return err
		}
		input := []byte("input")
		r := rand.New(rand.NewPCG(seed, 1))
		fuel := proto.Fuel(200_000)
		for round := range 3 {
			task := sandbox.Task{Limits: proto.Limits{Fuel: fuel, Memory: 16 << 20}, Seed: proto.HashOf(input)}
			var want sandbox.Result
			var diff error
			for i, e := range engines {
				if i >= 2 && round > 0 && round != i-1 {
					continue // one of the two stops in each V8: the way there takes most of the time
				}
				at := time.Now()
				got, again, err := runOut(context.Background(), e.ex, m, input, task)
				reran.Add(uint64(again))
				e.took.Add(int64(time.Since(at)))
				if err != nil {
					return fmt.Errorf("%s: %w", e.name, err)
				}
				if i == 0 {
					want = got
				} else if !same(got, want) {
					diff = errors.Join(diff, fmt.Errorf("fuel %d: %s: %s", fuel, e.name, show(got)))
				}
			}
			if diff != nil {
				return fmt.Errorf("%w\n%s: %s", diff, engines[0].name, show(want))
			}
			runs.Add(1)
			mu.Lock()
			seen[want.Status]++
			mu.Unlock()
			if round == 0 && want.Status == proto.StatusOK {
				fuel = want.Fuel - 1 // what the run needs, but for one
			} else {
				fuel = 4_100 + proto.Fuel(r.Uint64N(uint64(max(fuel, 4_200)-4_100)))
			}
		}
		return nil
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for !t.Failed() {
				i := next.Add(1) - 1
				if i >= n {
					return
				}
				if err := module(first + i); err != nil {
					t.Errorf("seed %d: %v", first+i, err)
				}
			}
		})
	}
	wg.Wait()
	for _, e := range engines {
		t.Logf("%s: %s", e.name, time.Duration(e.took.Load()).Round(time.Millisecond))
	}
	t.Logf("%d modules from seed %d, %d runs compared over %d engines: %v; %d run again for want of address space",
		min(next.Load(), n), first, runs.Load(), len(engines), seen, reran.Load())
	if bad := refused.Load(); bad > n/100+2 {
		t.Errorf("%d modules refused", bad)
	}
	for _, s := range []proto.Status{proto.StatusOK, proto.StatusTrap, proto.StatusOutOfFuel} {
		if n >= 30 && seen[s] == 0 {
			t.Errorf("no run ended %s", s)
		}
	}
}

// runOut runs a task until it ends with more than a lack of memory, and counts
// how often again. V8 reserves gigabytes of address space for each memory and
// gives them back when it collects garbage; until then a browser may have none
// left. That is a local end, which never votes.
func runOut(ctx context.Context, ex sandbox.Executor, m *sandbox.Module, input []byte, task sandbox.Task) (got sandbox.Result, again int, err error) {
	for {
		got, err = ex.Run(ctx, m, input, task)
		if err != nil || got.Status != proto.StatusHostOOM || again == 10 {
			return got, again, err
		}
		again++
		time.Sleep(time.Duration(again) * 100 * time.Millisecond)
	}
}
