//go:build !js

package sandbox_test

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
	"go.uber.org/goleak"
)

// The test binary is its own child, as an embedder's program would be.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "sandbox-child" {
		os.Exit(sandbox.ChildMain())
	}
	if len(os.Args) > 1 && os.Args[1] == "pool-parent" {
		poolParent()
	}
	if len(os.Args) > 2 && os.Args[1] == "lying-child" {
		sandbox.LyingChild(os.Args[2])
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func newPool(t testing.TB, cfg sandbox.PoolConfig) sandbox.Executor {
	t.Helper()
	cfg.Log = t.Logf
	p, err := sandbox.NewPool(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func run(t testing.TB, ex sandbox.Executor, ctx context.Context, m *sandbox.Module, input string, task sandbox.Task) sandbox.Result {
	t.Helper()
	res, err := ex.Run(ctx, m, []byte(input), task)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func prepare(t testing.TB, raw []byte) *sandbox.Module {
	t.Helper()
	m, err := sandbox.Prepare(raw, sandbox.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// children are the live sandbox children of this process.
func children(t testing.TB) []int {
	t.Helper()
	pids, err := childPIDs()
	if err != nil {
		t.Fatal(err)
	}
	return pids
}

func childPIDs() (pids []int, err error) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, err
	}
	for _, e := range tasks {
		b, _ := os.ReadFile("/proc/self/task/" + e.Name() + "/children") // the thread may be gone
		for _, f := range strings.Fields(string(b)) {
			if argv, _ := os.ReadFile("/proc/" + f + "/cmdline"); strings.Contains(string(argv), "sandbox-child") {
				pid, err := strconv.Atoi(f)
				if err != nil {
					return nil, err
				}
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// generous is the fuel of runs that something else must end.
var generous = proto.Limits{Fuel: proto.MaxFuel, Wall: time.Hour}

func TestPoolCancelKillsAndRestarts(t *testing.T) {
	p := newPool(t, sandbox.PoolConfig{})
	spin, echo := prepare(t, enginetest.Spin()), prepare(t, enginetest.Echo())
	for range 3 {
		ctx, cancel := context.WithCancel(context.Background())
		started := make(chan struct{}, 1)
		go func() {
			<-started
			cancel()
		}()
		task := sandbox.Task{Limits: generous, Progress: func(uint32) {
			select {
			case started <- struct{}{}:
			default:
			}
		}}
		if res := run(t, p, ctx, spin, "", task); res.Status != proto.StatusCancelled {
			t.Errorf("cancelled run ended %s", res.Status)
		}
		if res := run(t, p, context.Background(), echo, "again", sandbox.Task{}); res.Status != proto.StatusOK || string(res.Output) != "again" {
			t.Errorf("after a cancel: %s %q", res.Status, res.Output)
		}
		cancel()
	}
}

func TestPoolWallClock(t *testing.T) {
	p := newPool(t, sandbox.PoolConfig{})
	task := sandbox.Task{Limits: proto.Limits{Fuel: proto.MaxFuel, Wall: 50 * time.Millisecond}}
	if res := run(t, p, context.Background(), prepare(t, enginetest.Spin()), "", task); res.Status != proto.StatusTimeout {
		t.Errorf("ended %s", res.Status)
	}
}

// TestLogOfAKilledGuest: a child that is killed takes nothing with it that its
// guest had logged.
func TestLogOfAKilledGuest(t *testing.T) {
	inProcess, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer inProcess.Close()
	m := prepare(t, enginetest.LogAndSpin())
	for name, ex := range map[string]sandbox.Executor{"pool": newPool(t, sandbox.PoolConfig{}), "in process": inProcess} {
		for range 2 {
			task := sandbox.Task{Limits: proto.Limits{Fuel: proto.MaxFuel, Wall: time.Second}}
			res := run(t, ex, context.Background(), m, "", task)
			if res.Status != proto.StatusTimeout || string(res.Log) != enginetest.LastWords {
				t.Errorf("%s: ended %s with log %q, want %q", name, res.Status, res.Log, enginetest.LastWords)
			}
		}
	}
}

// TestFuelOfAKilledGuest: so it is with what a guest has used when its time is
// over, but for the last moment.
func TestFuelOfAKilledGuest(t *testing.T) {
	inProcess, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer inProcess.Close()
	for name, ex := range map[string]sandbox.Executor{"pool": newPool(t, sandbox.PoolConfig{}), "in process": inProcess} {
		for what, guest := range map[string][]byte{"a guest that spins": enginetest.Spin(), "one that logs and spins": enginetest.LogAndSpin()} {
			res := run(t, ex, context.Background(), prepare(t, guest), "", sandbox.Task{Limits: proto.Limits{Fuel: proto.MaxFuel, Wall: time.Second}})
			if res.Status != proto.StatusTimeout || res.Fuel == 0 || res.Fuel > proto.MaxFuel || res.Ran == 0 {
				t.Errorf("%s: %s ended %s after %s with %d fuel", name, what, res.Status, res.Ran, res.Fuel)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		if res := run(t, ex, ctx, prepare(t, enginetest.Spin()), "", sandbox.Task{Limits: proto.Limits{Fuel: proto.MaxFuel}}); res.Status != proto.StatusCancelled {
			t.Errorf("%s: ended %s", name, res.Status)
		}
		cancel()
	}
}

// TestOutputOfAKilledGuest: so it is with what the guest had written, up to a
// bound and less the last few bytes.
func TestOutputOfAKilledGuest(t *testing.T) {
	inProcess, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer inProcess.Close()
	pool := newPool(t, sandbox.PoolConfig{})
	for name, ex := range map[string]sandbox.Executor{"pool": pool, "in process": inProcess} {
		text := strings.Repeat(enginetest.LastWords, 10)
		for times, least := range map[int]int{1: len(text), 60: 4 << 10, 600: proto.MaxLostOutput} {
			all := strings.Repeat(text, times)
			task := sandbox.Task{Limits: proto.Limits{Fuel: proto.MaxFuel, Wall: time.Second}}
			res := run(t, ex, context.Background(), prepare(t, enginetest.WriteAndSpin(text, times)), "", task)
			if got := string(res.Output); res.Status != proto.StatusTimeout || !strings.HasPrefix(all, got) || len(got) < least || len(got) > proto.MaxLostOutput {
				t.Errorf("%s: ended %s with %d bytes of %d, want %d or more of them", name, res.Status, len(got), len(all), least)
			}
		}
	}
	// A child may not tell more than there can be.
	task := sandbox.Task{Limits: proto.Limits{Fuel: proto.MaxFuel, Wall: time.Second, Output: 5}}
	if res := run(t, pool, context.Background(), prepare(t, enginetest.WriteAndSpin(enginetest.LastWords, 1)), "", task); len(res.Output) > 5 {
		t.Errorf("%d bytes of an output of at most 5", len(res.Output))
	}
}

func TestPoolChildKilledFromOutside(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Logf("finding the child needs /proc; the restart after a kill is covered by TestPoolCancelKillsAndRestarts")
		return
	}
	p := newPool(t, sandbox.PoolConfig{})
	spin, echo := prepare(t, enginetest.Spin()), prepare(t, enginetest.Echo())
	task := sandbox.Task{Limits: generous}
	var once sync.Once
	task.Progress = func(uint32) {
		once.Do(func() {
			pids := children(t)
			if len(pids) != 1 {
				t.Errorf("%d children", len(pids))
			}
			for _, pid := range pids {
				if c, err := os.FindProcess(pid); err == nil {
					c.Kill()
				}
			}
		})
	}
	if res := run(t, p, context.Background(), spin, "", task); res.Status != proto.StatusKilled {
		t.Errorf("ended %s", res.Status)
	}
	if res := run(t, p, context.Background(), echo, "again", sandbox.Task{}); string(res.Output) != "again" {
		t.Errorf("after a kill: %s %q", res.Status, res.Output)
	}
	p.Close()
	if pids := children(t); len(pids) != 0 {
		t.Errorf("children %v outlive the pool", pids)
	}
}

func TestPoolMoreCallersThanSlots(t *testing.T) {
	p := newPool(t, sandbox.PoolConfig{Slots: 2})
	echo := prepare(t, enginetest.Echo())
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			want := strconv.Itoa(i)
			res, err := p.Run(context.Background(), echo, []byte(want), sandbox.Task{})
			if err != nil || string(res.Output) != want {
				t.Errorf("%s: %v %s %q", want, err, res.Status, res.Output)
			}
		}()
	}
	wg.Wait()
	if runtime.GOOS == "linux" {
		if n := len(children(t)); n > 2 {
			t.Errorf("%d children for 2 slots", n)
		}
	}
}

func TestPoolWaitingCallerIsCancelled(t *testing.T) {
	p := newPool(t, sandbox.PoolConfig{})
	spin := prepare(t, enginetest.Spin())
	busy, stop := context.WithCancel(context.Background())
	started := make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		p.Run(busy, spin, nil, sandbox.Task{Limits: generous, Progress: func(uint32) { once.Do(func() { close(started) }) }})
	}()
	<-started
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if res := run(t, p, ctx, spin, "", sandbox.Task{}); res.Status != proto.StatusCancelled {
		t.Errorf("waiting caller ended %s", res.Status)
	}
	stop()
	wg.Wait()
}

func TestPoolCloseEndsRuns(t *testing.T) {
	p := newPool(t, sandbox.PoolConfig{})
	spin := prepare(t, enginetest.Spin())
	started, ended := make(chan struct{}), make(chan sandbox.Result)
	var once sync.Once
	go func() {
		res, _ := p.Run(context.Background(), spin, nil, sandbox.Task{Limits: generous, Progress: func(uint32) { once.Do(func() { close(started) }) }})
		ended <- res
	}()
	<-started
	go p.Close()
	if res := <-ended; res.Status != proto.StatusCancelled {
		t.Errorf("run ended %s", res.Status)
	}
	p.Close()
	if _, err := p.Run(context.Background(), spin, nil, sandbox.Task{}); err != sandbox.ErrClosed {
		t.Errorf("run after close: %v", err)
	}
}

func TestPoolCommandThatIsNoChild(t *testing.T) {
	for _, argv := range [][]string{{"/nonexistent/child"}, {"/bin/sh", "-c", "echo not a frame; exit 3"}, {"/bin/sh", "-c", "exit 0"}} {
		p := newPool(t, sandbox.PoolConfig{Command: argv})
		if _, err := p.Run(context.Background(), prepare(t, enginetest.Echo()), nil, sandbox.Task{}); err == nil {
			t.Errorf("%q ran a task", argv)
		}
		p.Close()
	}
}

// TestPoolDistrustsItsChildren: a child that a guest took over can forge the
// results of its own tasks, but neither hold its slot nor get impossible answers
// through.
func TestPoolDistrustsItsChildren(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	echo := prepare(t, enginetest.Echo())
	for _, lie := range sandbox.Liars {
		t.Run(lie, func(t *testing.T) {
			want, wall := proto.StatusKilled, time.Hour
			if lie == "silence" {
				want, wall = proto.StatusTimeout, 20*time.Millisecond
			}
			p := newPool(t, sandbox.PoolConfig{Command: []string{self, "lying-child", lie}})
			for range 2 {
				if res := run(t, p, context.Background(), echo, "", sandbox.Task{Limits: proto.Limits{Wall: wall}}); res.Status != want {
					t.Errorf("ended %s, want %s", res.Status, want)
				}
			}
		})
	}
}

func TestMisuse(t *testing.T) {
	in, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	pool := newPool(t, sandbox.PoolConfig{})
	echo := prepare(t, enginetest.Echo())
	for name, ex := range map[string]sandbox.Executor{"in process": in, "pool": pool} {
		for what, limits := range map[string]proto.Limits{
			"fuel": {Fuel: proto.MaxFuel + 1}, "memory": {Memory: sandbox.MaxMemory + 1}, "output": {Output: proto.MaxOutput + 1}, "log": {Log: proto.MaxLog + 1},
		} {
			if _, err := ex.Run(context.Background(), echo, nil, sandbox.Task{Limits: limits}); err == nil {
				t.Errorf("%s: %s above its ceiling ran", name, what)
			}
		}
		if _, err := ex.Run(context.Background(), nil, nil, sandbox.Task{}); err == nil {
			t.Errorf("%s: ran nothing", name)
		}
		ex.Close()
		ex.Close()
		if _, err := ex.Run(context.Background(), echo, nil, sandbox.Task{}); err != sandbox.ErrClosed {
			t.Errorf("%s: run after close: %v", name, err)
		}
	}
}

func TestInProcessCancel(t *testing.T) {
	ex, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer ex.Close()
	spin := prepare(t, enginetest.Spin())
	ctx, cancel := context.WithCancel(context.Background())
	task := sandbox.Task{Limits: generous, Progress: func(uint32) { cancel() }}
	if res := run(t, ex, ctx, spin, "", task); res.Status != proto.StatusCancelled {
		t.Errorf("ended %s", res.Status)
	}
	task = sandbox.Task{Limits: proto.Limits{Fuel: proto.MaxFuel, Wall: 20 * time.Millisecond}}
	if res := run(t, ex, context.Background(), spin, "", task); res.Status != proto.StatusTimeout {
		t.Errorf("ended %s", res.Status)
	}
}
