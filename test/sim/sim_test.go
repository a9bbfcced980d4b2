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

// seeds are those of one size: TEST_SIM_SEEDS is "100:500" for 500 runs of
// 100 nodes, or several of these with commas.
func seeds(t *testing.T, nodes, usual int) int {
	text := os.Getenv("TEST_SIM_SEEDS")
	if text == "" {
		return usual
	}
	n := 0
	for _, part := range strings.Split(text, ",") {
		size, count, ok := strings.Cut(part, ":")
		if x, err := strconv.Atoi(size); !ok || err != nil {
			t.Fatalf("TEST_SIM_SEEDS: %q, want nodes:seeds", part)
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
	if seeds < 20 || t.Failed() {
		return
	}
	// The runs are worth something only when all of it happens in some.
	for what, n := range map[string]int{
		"slash": total.Slashed, "void": total.Voids, "close": total.Closes, "final settlement": total.Finals, "lane paid by a close": total.Paid,
		"checkpoint": total.Checkpoints, "pruning": total.Pruned, "state taken from a checkpoint": total.Joined, "crash": total.Crashes,
		"skip": total.Skips, "misconduct": total.Misconduct, "claim": total.Claims, "round 3": total.Rounds / 3, "rotation": total.Rotates,
		"bonus": total.Bonuses, "reward for being up": total.Uptimes, "reward for a referral": total.Referrals, "owner that is away": total.Absent,
		"false probe report": total.Misreports, "right work that is accused": total.Lies, "false report of wrong work": total.Slanders,
		"liar that a checkpoint names": total.Liars, "question of a light client": total.Asked, "event of a light client": total.Lights,
		"event of another epoch": total.Early, "checkpoint that would be the last": total.Endless,
	} {
		if n == 0 {
			t.Errorf("no %s in %d seeds", what, seeds)
		}
	}
	for _, kind := range []string{"open", "transfer", "receive", "hold", "extend", "settle", "stake", "unstake", "rotate", "close", "slash", "void"} {
		if total.Kinds[kind] == 0 {
			t.Errorf("no %s in %d seeds", kind, seeds)
		}
	}
}

// One seed is one run: of messages, of crashes, of everything.
func TestSameSeedSameRun(t *testing.T) {
	for seed := uint64(1000); seed < 1003; seed++ {
		var traces [2]uint64
		for i := range traces {
			out, err := Run(Config{Seed: seed, Nodes: 20})
			if err != nil {
				t.Fatal(err)
			}
			traces[i] = out.Trace
		}
		if traces[0] != traces[1] {
			t.Errorf("seed %d gave two runs: %x and %x", seed, traces[0], traces[1])
		}
	}
	a, errA := Run(Config{Seed: 1, Nodes: 12})
	b, errB := Run(Config{Seed: 2, Nodes: 12})
	if errA != nil || errB != nil || a.Trace == b.Trace {
		t.Errorf("two seeds, one run: %x, %v, %v", a.Trace, errA, errB)
	}
}

// A quorum of keys certifies second events now and then, as a broken agreement
// would: every run must see it. That rules 2, 3 and 5 are what prevents it is
// shown where they can be switched off, in the ledger's own random walks.
func TestRefereeSeesTwoCertificates(t *testing.T) {
	for seed := uint64(1); seed <= 5; seed++ {
		_, err := Run(Config{Seed: seed, Nodes: 12, Forge: true})
		if err == nil || !strings.Contains(err.Error(), "two certificates") && !strings.Contains(err.Error(), "refuses a certified event") {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}
