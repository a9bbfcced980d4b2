package sandbox_test

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
	"golang.org/x/sys/unix"
)

// whileSpinning calls look with the pid of a child that runs a guest.
func whileSpinning(t *testing.T, look func(pid int)) {
	p := newPool(t, sandbox.PoolConfig{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var once sync.Once
	task := sandbox.Task{Limits: generous, Progress: func(uint32) {
		once.Do(func() {
			defer cancel()
			pids := children(t)
			if len(pids) != 1 {
				t.Errorf("%d children", len(pids))
				return
			}
			look(pids[0])
		})
	}}
	if res := run(t, p, ctx, prepare(t, enginetest.Spin()), "", task); res.Status != proto.StatusCancelled {
		t.Errorf("ended %s", res.Status)
	}
}

func TestChildIsConfined(t *testing.T) {
	t.Setenv("EDGENET_SECRET", "not for guests")
	// A descriptor that a program would hand on without wanting to.
	secret, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(secret)
	whileSpinning(t, func(pid int) {
		dir := fmt.Sprintf("/proc/%d/", pid)
		if env, err := os.ReadFile(dir + "environ"); err != nil || len(env) != 0 {
			t.Errorf("environment %q, %v", env, err)
		}
		limits, err := os.ReadFile(dir + "limits")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(limits)) {
			f := strings.Fields(line)
			switch {
			case strings.HasPrefix(line, "Max core file size") && (f[4] != "0" || f[5] != "0"),
				strings.HasPrefix(line, "Max open files") && (f[3] != "64" || f[4] != "64"),
				strings.HasPrefix(line, "Max address space") && f[4] == "unlimited":
				t.Errorf("limit not lowered: %s", line)
			}
		}
		// Nothing of this process is open there: the pipes, and what Go's runtime
		// opens itself.
		fds, err := os.ReadDir(dir + "fd")
		if err != nil {
			t.Error(err)
		}
		for _, fd := range fds {
			to, _ := os.Readlink(dir + "fd/" + fd.Name())
			if !strings.HasPrefix(to, "pipe:") && !strings.HasPrefix(to, "anon_inode:[event") && !strings.HasPrefix(to, "/sys/fs/cgroup/") {
				t.Errorf("descriptor %s is %s", fd.Name(), to)
			}
		}
		if stat, err := os.ReadFile(dir + "stat"); err != nil {
			t.Error(err)
		} else if _, rest, _ := strings.Cut(string(stat), ") "); strings.Fields(rest)[2] != strconv.Itoa(pid) {
			t.Errorf("child is not the leader of its own process group: %s", stat)
		}
	})
}

// poolParent is the process of TestChildDiesWithParent: it runs an endless task
// and prints its child's pid.
func poolParent() {
	p, err := sandbox.NewPool(sandbox.PoolConfig{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	m, err := sandbox.Prepare(enginetest.Spin(), sandbox.Policy{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	var once sync.Once
	p.Run(context.Background(), m, nil, sandbox.Task{Limits: generous, Progress: func(uint32) {
		once.Do(func() {
			pids, err := childPIDs()
			if err != nil {
				fmt.Println(err)
			}
			fmt.Println(pids)
		})
	}})
	os.Exit(1)
}

func TestChildDiesWithParent(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(self, "pool-parent")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	pid, perr := strconv.Atoi(strings.Trim(line, "[]\n"))
	if err != nil || perr != nil {
		parent.Process.Kill()
		t.Fatalf("parent says %q: %v", line, err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil {
		t.Errorf("the child is not there to begin with: %v", err)
	}
	parent.Process.Kill()
	parent.Wait()
	// The orphan may stay as a zombie where nothing reaps it.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, rest, ok := strings.Cut(string(stat), ") "); err != nil || !ok || rest[0] == 'Z' || rest[0] == 'X' {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("child %d lives on: %s", pid, stat)
		}
	}
}

// TestCompileTimeout compiles a module that is within all limits and slow.
func TestCompileTimeout(t *testing.T) {
	p := newPool(t, sandbox.PoolConfig{})
	sandbox.SetCompileTimeout(p, 10*time.Millisecond)
	slow := prepare(t, enginetest.SlowToCompile())
	if res := run(t, p, context.Background(), slow, "", sandbox.Task{}); res.Status != proto.StatusCompileTimeout {
		t.Errorf("ended %s", res.Status)
	}
	sandbox.SetCompileTimeout(p, time.Hour)
	if res := run(t, p, context.Background(), prepare(t, enginetest.Echo()), "again", sandbox.Task{}); string(res.Output) != "again" {
		t.Errorf("after a compile timeout: %s %q", res.Status, res.Output)
	}
	if res := run(t, p, context.Background(), slow, "", sandbox.Task{}); res.Status != proto.StatusOK {
		t.Errorf("with time: %s", res.Status)
	}
}

// TestThrottledPool checks that stopping and continuing loses nothing.
func TestThrottledPool(t *testing.T) {
	p := newPool(t, sandbox.PoolConfig{CPUPercent: 20, Slots: 2})
	fast := newPool(t, sandbox.PoolConfig{})
	m := prepare(t, enginetest.Busy())
	want := run(t, fast, context.Background(), m, "", sandbox.Task{})
	if want.Status != proto.StatusOK {
		t.Fatal(want.Status)
	}
	for range 3 {
		if res := run(t, p, context.Background(), m, "", sandbox.Task{}); res.Status != proto.StatusOK || res.Fuel != want.Fuel {
			t.Errorf("throttled: %s fuel %d, want %d", res.Status, res.Fuel, want.Fuel)
		}
	}
	p.Close()
	if pids := children(t); len(pids) != 1 {
		t.Errorf("children %v, want only the unthrottled pool's", pids)
	}
}

// allowedThrough returns what a child of p may do that no guest must.
func allowedThrough(t *testing.T, p sandbox.Executor) (through []string) {
	held, err := sandbox.IsolationOf(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("in force: %s", held)
	if len(held.Attempts) < 10 {
		t.Fatalf("only %d attempts", len(held.Attempts))
	}
	for _, a := range held.Attempts {
		t.Logf("%-28s %s", a.What, a.Result)
		if !a.Refused {
			through = append(through, a.What)
		}
	}
	return through
}

// TestChildIsRefused has a confined child open sockets, files and processes.
// A kernel without seccomp fails it: then nothing but namespaces holds a guest
// that broke out of the engine, and a network should know.
func TestChildIsRefused(t *testing.T) {
	cache := t.TempDir()
	p := newPool(t, sandbox.PoolConfig{CacheDir: cache})
	if through := allowedThrough(t, p); len(through) != 0 {
		t.Errorf("a child may %s", strings.Join(through, "; "))
	}
	held, err := sandbox.IsolationOf(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	// The confined child works, and its cache does, where it has one.
	if res := run(t, p, context.Background(), prepare(t, enginetest.Echo()), "hello", sandbox.Task{}); string(res.Output) != "hello" {
		t.Errorf("confined child: %s %q", res.Status, res.Output)
	}
	cached := 0
	filepath.WalkDir(cache, func(_ string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			cached++
		}
		return err
	})
	if landlock := slices.Contains(held.InForce, "landlock"); landlock != (cached > 0) {
		t.Errorf("landlock %t, files in the cache: %d", landlock, cached)
	}

	bare := newPool(t, sandbox.PoolConfig{})
	sandbox.SetBare(bare)
	// Of these, a kernel may refuse the last few by its own settings.
	through := allowedThrough(t, bare)
	for _, what := range []string{"socket, IPv4", "open for writing", "open for reading", "look for a file", "execute", "start a process", "signal the parent", "signal by descriptor"} {
		if !slices.Contains(through, what) {
			t.Errorf("an unconfined child was refused: %s; the probe cannot tell", what)
		}
	}
}

// TestChildNamespaces compares the namespaces that the pool reports with those
// that the kernel shows.
func TestChildNamespaces(t *testing.T) {
	p := newPool(t, sandbox.PoolConfig{})
	held, err := sandbox.IsolationOf(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	pids := children(t)
	if len(pids) != 1 {
		t.Fatalf("%d children", len(pids))
	}
	for kind, name := range map[string]string{"net": "network namespace", "ipc": "ipc namespace", "user": "user namespace"} {
		own, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			t.Logf("kernel shows no %s: %v", name, err)
			continue
		}
		its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pids[0], kind))
		if err != nil {
			t.Error(err)
		}
		if apart := own != its; apart != slices.Contains(held.InForce, name) {
			t.Errorf("%s: apart %t, report %s", name, apart, held)
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pids[0]))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch value = strings.TrimSpace(value); {
		case name == "NoNewPrivs" && value != "1", name == "Seccomp" && value != "2",
			name == "CapEff" && slices.Contains(held.InForce, "user namespace") && strings.Trim(value, "0") != "":
			t.Errorf("%s is %s", name, value)
		}
	}
}

// TestChildOverItsMemory gives the watchdog a margin that a running child
// exceeds.
func TestChildOverItsMemory(t *testing.T) {
	p := newPool(t, sandbox.PoolConfig{})
	sandbox.SetMargin(p, 0)
	spin := prepare(t, enginetest.Spin())
	task := sandbox.Task{Limits: proto.Limits{Fuel: proto.MaxFuel, Memory: 1 << 16, Wall: time.Hour}}
	if res := run(t, p, context.Background(), spin, "", task); res.Status != proto.StatusHostOOM || res.Status.Votable() {
		t.Errorf("ended %s", res.Status)
	}
	sandbox.SetMargin(p, 1<<30)
	if res := run(t, p, context.Background(), prepare(t, enginetest.Echo()), "again", sandbox.Task{}); string(res.Output) != "again" {
		t.Errorf("after the watchdog: %s %q", res.Status, res.Output)
	}
}

// cpuUsed is the processor time of a process.
func cpuUsed(t *testing.T, pid int) time.Duration {
	t.Helper()
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &at); err != nil {
		t.Error(err)
	}
	return time.Duration(at.Nano())
}

// TestCPUShare holds children to a share of a core, in one long task and in many
// short ones. The lowest of a few windows counts: on a busy machine a stop can
// come late, which shows in one window and is paid back in the next, while a
// child that is not throttled is above the limit in all of them.
func TestCPUShare(t *testing.T) {
	spin, echo := prepare(t, enginetest.Spin()), prepare(t, enginetest.Echo())
	for _, percent := range []int{10, 30, 50} {
		for name, load := range map[string]func(ctx context.Context, p sandbox.Executor){
			"one task": func(ctx context.Context, p sandbox.Executor) {
				if res := run(t, p, ctx, spin, "", sandbox.Task{Limits: generous}); res.Status != proto.StatusCancelled {
					t.Errorf("ended %s", res.Status)
				}
			},
			"short tasks": func(ctx context.Context, p sandbox.Executor) {
				for ctx.Err() == nil {
					run(t, p, ctx, echo, "x", sandbox.Task{})
				}
			},
		} {
			t.Run(fmt.Sprintf("%d percent, %s", percent, name), func(t *testing.T) {
				p := newPool(t, sandbox.PoolConfig{CPUPercent: percent})
				run(t, p, context.Background(), echo, "", sandbox.Task{})
				pids := children(t)
				if len(pids) != 1 {
					t.Fatalf("%d children", len(pids))
				}
				ctx, cancel := context.WithCancel(context.Background())
				got := math.Inf(1)
				measured := make(chan struct{})
				go func() {
					defer close(measured)
					defer cancel()
					time.Sleep(500 * time.Millisecond) // what was saved at rest is spent
					for range 4 {
						began, before := time.Now(), cpuUsed(t, pids[0])
						time.Sleep(1500 * time.Millisecond)
						used := cpuUsed(t, pids[0]) - before
						if got = min(got, 100*float64(used)/float64(time.Since(began))); got <= 1.1*float64(percent) {
							break
						}
					}
				}()
				load(ctx, p)
				<-measured
				t.Logf("%.1f %% of a core", got)
				if got > 1.1*float64(percent) || got == 0 {
					t.Errorf("used %.1f %% of a core, limit %d %%", got, percent)
				}
			})
		}
	}
}

// TestThrottledTaskEnds checks that neither the wall clock nor a cancel waits
// for a stopped child.
func TestThrottledTaskEnds(t *testing.T) {
	p := newPool(t, sandbox.PoolConfig{CPUPercent: 2})
	spin := prepare(t, enginetest.Spin())
	for range 2 {
		task := sandbox.Task{Limits: proto.Limits{Fuel: proto.MaxFuel, Wall: 200 * time.Millisecond}}
		if res := run(t, p, context.Background(), spin, "", task); res.Status != proto.StatusTimeout {
			t.Errorf("ended %s", res.Status)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		if res := run(t, p, ctx, spin, "", sandbox.Task{Limits: generous}); res.Status != proto.StatusCancelled {
			t.Errorf("ended %s", res.Status)
		}
		cancel()
	}
}
