//go:build unix

package jsengine_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
	"edgenet.dev/sandbox/enginetest/jsengine"
)

const source = "../../../browser/ts"

var bundleDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "edgenet-bundle-")
	if err != nil {
		panic(err)
	}
	bundleDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

var build = sync.OnceValues(func() (string, error) {
	npm := func(args ...string) (string, error) {
		cmd := exec.Command("npm", args...)
		cmd.Dir = source
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if _, err := os.Stat(filepath.Join(source, "node_modules")); err != nil {
		if out, err := npm("ci", "--no-audit", "--no-fund"); err != nil {
			return "npm ci: " + out, err
		}
	}
	// The go command sees what this process opens, not what npm does: touch
	// the sources, so that a change of theirs is not answered from its cache.
	for _, pattern := range []string{"*.*", "src/*"} {
		files, err := filepath.Glob(filepath.Join(source, pattern))
		if err != nil {
			return "", err
		}
		for _, f := range files {
			if _, err := os.ReadFile(f); err != nil {
				return "", err
			}
		}
	}
	out, err := npm("run", "--silent", "build", "--", bundleDir)
	return "npm run build: " + out, err
})

// bundle builds the Worker script from its sources: never an old one.
func bundle(t testing.TB) string {
	t.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is not installed: run make setup", tool)
		}
	}
	if out, err := build(); err != nil {
		t.Fatalf("the browser bundle does not build (run make setup, then npm ci in browser/ts): %v\n%s", err, out)
	}
	return bundleDir
}

func node(t testing.TB, opt jsengine.Options) *jsengine.Engine {
	return start(t, jsengine.NewNode, opt)
}

func start(t testing.TB, engine func(string, jsengine.Options) (*jsengine.Engine, error), opt jsengine.Options) *jsengine.Engine {
	t.Helper()
	e, err := engine(bundle(t), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	t.Log(e.Name())
	return e
}

func prepare(t testing.TB, raw []byte) *sandbox.Module {
	t.Helper()
	m, err := sandbox.Prepare(raw, sandbox.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// forms are the ways in which every module must give the same: with slices so
// short that each loop asks for more, and without.
var forms = map[string]jsengine.Options{
	"plain":        {},
	"sliced":       {Sliced: true},
	"short slices": {Sliced: true, Slice: 50},
	"baseline":     {V8: baseline},
	"optimised":    {V8: optimised},
}

// V8 compiles first quickly, then better, when it finds the time. These flags
// hold it to one of its compilers.
var (
	baseline  = []string{"--liftoff", "--no-wasm-tier-up"}
	optimised = []string{"--no-liftoff"}
)

func TestConformanceNode(t *testing.T)     { conformance(t, jsengine.NewNode) }
func TestConformanceChromium(t *testing.T) { conformance(t, jsengine.NewChromium) }

func conformance(t *testing.T, engine func(string, jsengine.Options) (*jsengine.Engine, error)) {
	for name, opt := range forms {
		t.Run(name, func(t *testing.T) {
			e := start(t, engine, opt)
			enginetest.Run(t, e)
		})
	}
}

// count is how many random modules a test runs: TEST_RANDOM_MODULES, or a
// few.
func count(t *testing.T) uint64 {
	t.Helper()
	if s := os.Getenv("TEST_RANDOM_MODULES"); s != "" {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			t.Fatalf("TEST_RANDOM_MODULES: %v", err)
		}
		return n
	}
	if testing.Short() {
		return 40
	}
	return 200
}

func TestRandomModulesNode(t *testing.T)     { random(t, jsengine.NewNode) }
func TestRandomModulesChromium(t *testing.T) { random(t, jsengine.NewChromium) }

// random compares generated modules with wazero, each with enough fuel and
// stopped somewhere.
func random(t *testing.T, engine func(string, jsengine.Options) (*jsengine.Engine, error)) {
	native, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer native.Close()
	engines := []*jsengine.Engine{start(t, engine, forms["short slices"]), start(t, engine, forms["optimised"])}
	seen := map[proto.Status]int{}
	input := []byte("input")
	for seed := range count(t) {
		raw := enginetest.Random(seed, seed%2 == 0)
		m := prepare(t, raw)
		for _, fuel := range []proto.Fuel{1_000_000, 4_200 + proto.Fuel(seed*7%100_000)} {
			task := sandbox.Task{Limits: proto.Limits{Fuel: fuel, Memory: 16 << 20}, Seed: proto.HashOf(input)}
			want := run(t, native, m, input, task)
			for _, e := range engines {
				if got := run(t, e, m, input, task); !same(got, want) {
					t.Errorf("seed %d, fuel %d: %s; wazero: %s", seed, fuel, show(got), show(want))
				}
			}
			seen[want.Status]++
		}
	}
	t.Log(seen)
	for _, s := range []proto.Status{proto.StatusOK, proto.StatusTrap, proto.StatusOutOfFuel} {
		if seen[s] == 0 {
			t.Errorf("no module ended %s", s)
		}
	}
}

func run(t testing.TB, ex sandbox.Executor, m *sandbox.Module, input []byte, task sandbox.Task) sandbox.Result {
	t.Helper()
	res, err := ex.Run(context.Background(), m, input, task)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func same(a, b sandbox.Result) bool {
	return a.Status == b.Status && a.ExitCode == b.ExitCode && a.Fuel == b.Fuel && bytes.Equal(a.Output, b.Output) && bytes.Equal(a.Log, b.Log)
}

func show(r sandbox.Result) string {
	return r.Status.String() + ", fuel " + strconv.FormatUint(uint64(r.Fuel), 10) + ", exit code " + strconv.Itoa(int(r.ExitCode)) +
		", output " + strconv.QuoteToASCII(string(r.Output)) + ", log " + strconv.QuoteToASCII(string(r.Log))
}

// The Worker's script has a budget of 10 KB compressed.
func TestTaskWorkerSize(t *testing.T) {
	js, err := os.ReadFile(filepath.Join(bundle(t), "task-worker.js"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(js)
	w.Close()
	t.Logf("task-worker.js: %d bytes, %d compressed", len(js), b.Len())
	if b.Len() > 10<<10 {
		t.Errorf("task-worker.js has %d bytes compressed, at most %d", b.Len(), 10<<10)
	}
}

// The throttle's own tests have a clock of their own.
func TestThrottle(t *testing.T) {
	out, err := exec.Command("node", "--test", filepath.Join(bundle(t), "test", "throttle.test.mjs")).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestCancelAndTimeout(t *testing.T) {
	e := node(t, jsengine.Options{Slots: 2})
	m := prepare(t, enginetest.Spin())
	ctx, cancel := context.WithCancel(context.Background())
	progress := make(chan uint32, 1)
	task := sandbox.Task{Limits: proto.Limits{Fuel: proto.MaxFuel}, Progress: func(p uint32) {
		select {
		case progress <- p:
		default:
		}
	}}
	done := make(chan sandbox.Result, 1)
	go func() {
		res, err := e.Run(ctx, m, nil, task)
		if err != nil {
			t.Error(err)
		}
		done <- res
	}()
	if p := <-progress; p != 1 {
		t.Errorf("progress %d, want 1", p)
	}
	cancel()
	if res := <-done; res.Status != proto.StatusCancelled {
		t.Errorf("after cancel: %s", res.Status)
	}
	task.Limits.Wall = 50 * time.Millisecond
	if res := run(t, e, m, nil, task); res.Status != proto.StatusTimeout {
		t.Errorf("after the wall clock's limit: %s", res.Status)
	}
	task.Limits.Wall = time.Second
	if res := run(t, e, prepare(t, enginetest.LogAndSpin()), nil, task); res.Status != proto.StatusTimeout || string(res.Log) != enginetest.LastWords {
		t.Errorf("after a Worker with a log was ended: %s, log %q", show(res), res.Log)
	}
	// The engine goes on with another Worker.
	echo := prepare(t, enginetest.Echo())
	if res := run(t, e, echo, []byte("hi"), sandbox.Task{}); string(res.Output) != "hi" {
		t.Errorf("after a timeout: %s", show(res))
	}
}

// An engine that cannot grow a memory as far as the task may has no vote.
func TestGrowBeyondTheEngine(t *testing.T) {
	for name, engine := range map[string]func(string, jsengine.Options) (*jsengine.Engine, error){"Node": jsengine.NewNode, "Chromium": jsengine.NewChromium} {
		t.Run(name, func(t *testing.T) {
			e := start(t, engine, jsengine.Options{V8: []string{"--wasm-max-mem-pages=8"}})
			for _, v := range enginetest.Vectors() {
				want := v.Status
				switch v.Name {
				case "grow to the limit":
					want = proto.StatusHostOOM // 16 pages
				case "grow", "grow past the limit", "grow past the maximum":
				default:
					continue
				}
				res := run(t, e, prepare(t, v.Module), nil, sandbox.Task{Limits: proto.Limits{Fuel: 1_000_000, Memory: v.Limits.Memory}})
				if res.Status != want || want == proto.StatusOK && (string(res.Output) != v.Output || res.Fuel != v.Fuel) {
					t.Errorf("%s: %s, want %s", v.Name, show(res), want)
				}
			}
		})
	}
}

// A sliced module stops at the wall clock's limit by itself: the Worker lives.
func TestTimeoutBetweenSlices(t *testing.T) {
	e := node(t, jsengine.Options{Sliced: true})
	m := prepare(t, endless())
	res := run(t, e, m, nil, sandbox.Task{Limits: proto.Limits{Fuel: proto.MaxFuel, Wall: 100 * time.Millisecond}})
	if res.Status != proto.StatusTimeout {
		t.Errorf("%s, want %s", res.Status, proto.StatusTimeout)
	}
}

func endless() []byte {
	for _, v := range enginetest.Vectors() {
		if v.Name == "endless loop" {
			return v.Module
		}
	}
	panic("no endless loop among the vectors")
}

func TestMoreModulesThanTheCacheKeeps(t *testing.T) {
	e := node(t, jsengine.Options{Ask: true})
	var modules []*sandbox.Module
	for seed := range uint64(40) {
		modules = append(modules, prepare(t, enginetest.Random(seed, false)))
	}
	task := sandbox.Task{Limits: proto.Limits{Fuel: 100_000}}
	var first []sandbox.Result
	for _, m := range modules {
		first = append(first, run(t, e, m, nil, task))
	}
	for i, m := range modules {
		if again := run(t, e, m, nil, task); !same(again, first[i]) {
			t.Errorf("module %d: %s, then %s", i, show(first[i]), show(again))
		}
	}
}

func TestClosed(t *testing.T) {
	e := node(t, jsengine.Options{})
	m := prepare(t, enginetest.Echo())
	for range 2 {
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Run(context.Background(), m, nil, sandbox.Task{}); err != sandbox.ErrClosed {
		t.Errorf("run after close: %v", err)
	}
}
