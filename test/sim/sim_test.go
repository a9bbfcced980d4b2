package sim

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"edgenet.dev/proto"
)

var (
	oneSeed = flag.Uint64("sim-seed", 0, "run only this seed")
	oneSize = flag.Int("sim-nodes", 20, "number of nodes of that seed")
)

func TestMain(m *testing.M) {
	proto.RememberSignatures(1 << 16)
	os.Exit(m.Run())
}

// seeds are those of one size: EDGENET_SIM_SEEDS is "100:500" for 500 runs of
// 100 nodes, or several of these with commas.
func seeds(t *testing.T, nodes, usual int) int {
	text := os.Getenv("EDGENET_SIM_SEEDS")
	if text == "" {
		return usual
	}
	n := 0
	for _, part := range strings.Split(text, ",") {
		size, count, ok := strings.Cut(part, ":")
		if x, err := strconv.Atoi(size); !ok || err != nil {
			t.Fatalf("EDGENET_SIM_SEEDS: %q, want nodes:seeds", part)
		} else if x == nodes {
			if n, err = strconv.Atoi(count); err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}

func TestSimulation(t *testing.T) {
	if *oneSeed > 0 {
		debug = true
		out, err := Run(Config{Seed: *oneSeed, Nodes: *oneSize})
		t.Logf("%+v", out)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, size := range []struct{ nodes, seeds int }{{100, 50}, {20, 450}} {
		t.Run(fmt.Sprint(size.nodes), func(t *testing.T) { many(t, size.nodes, seeds(t, size.nodes, size.seeds)) })
	}
}

// many runs seeds side by side and adds up what happened.
func many(t *testing.T, nodes, seeds int) {
	if seeds == 0 {
		return
	}
	var next atomic.Uint64
	var mu sync.Mutex
	total := Outcome{Kinds: map[string]int{}}
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for seed := next.Add(1); seed <= uint64(seeds) && !t.Failed(); seed = next.Add(1) {
				out, err := Run(Config{Seed: seed, Nodes: nodes})
				if err != nil {
					t.Errorf("%v\nagain: go test ./test/sim -run 'TestSimulation$' -sim-seed %d -sim-nodes %d -v", err, seed, nodes)
				}
				mu.Lock()
				total.add(out)
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	t.Logf("%d seeds: %+v", seeds, total)
}
