package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
)

// sandboxCost measures the pool: what a tiny task costs, what a module costs to
// start, what a bomb can do, and how well a CPU limit is kept.
func (b bench) sandboxCost(ctx context.Context) ([]row, error) {
	var rows []row
	for _, part := range []func(context.Context) ([]row, error){b.tinyTasks, b.moduleStart, b.bombs, b.pingsBeside, b.cpuLimit, b.workerCPULimit} {
		r, err := part(ctx)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

func (b bench) pool(cfg sandbox.PoolConfig) (sandbox.Executor, error) {
	cfg.Command = []string{b.bin, "sandbox-child"}
	return sandbox.NewPool(cfg)
}

// timed prepares raw before the clock runs.
func timed(ctx context.Context, ex sandbox.Executor, raw []byte, limits proto.Limits) (sandbox.Result, time.Duration, error) {
	m, err := sandbox.Prepare(raw, sandbox.Policy{})
	if err != nil {
		return sandbox.Result{}, 0, err
	}
	began := time.Now()
	res, err := ex.Run(ctx, m, nil, sandbox.Task{Limits: limits})
	return res, time.Since(began), err
}

func (b bench) tinyTasks(ctx context.Context) ([]row, error) {
	m, err := sandbox.Prepare(enginetest.Echo(), sandbox.Policy{})
	if err != nil {
		return nil, err
	}
	rate := func(ex sandbox.Executor) (perSecond float64, each []time.Duration, err error) {
		defer ex.Close()
		if _, err := ex.Run(ctx, m, nil, sandbox.Task{}); err != nil { // compiles
			return 0, nil, err
		}
		began := time.Now()
		for time.Since(began) < 2*time.Second {
			at := time.Now()
			res, err := ex.Run(ctx, m, []byte("x"), sandbox.Task{})
			if err != nil || res.Status != proto.StatusOK {
				return 0, nil, fmt.Errorf("tiny task: %s, %w", res.Status, err)
			}
			each = append(each, time.Since(at))
		}
		slices.Sort(each)
		return float64(len(each)) / time.Since(began).Seconds(), each, nil
	}
	ex, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		return nil, err
	}
	inside, _, err := rate(ex)
	if err != nil {
		return nil, err
	}
	if ex, err = b.pool(sandbox.PoolConfig{}); err != nil {
		return nil, err
	}
	perSecond, each, err := rate(ex)
	if err != nil {
		return nil, err
	}
	base := fmt.Sprintf("%.0f per s in process", inside)
	return []row{
		{"sandbox_tasks_per_s_child", perSecond, "per s", base, ">= 5000"},
		{"sandbox_fresh_instance_us", float64(each[len(each)/2].Nanoseconds()) / 1e3, "us, median", base, ""},
	}, nil
}

func (b bench) moduleStart(ctx context.Context) (rows []row, err error) {
	for _, size := range []struct {
		name  string
		bytes int
	}{{"48kb", 48 << 10}, {"2mb", 2 << 20}} {
		dir, err := os.MkdirTemp("", "edgenet-bench")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		var took [2]time.Duration
		for i := range took { // the second pool finds the first one's machine code
			ex, err := b.pool(sandbox.PoolConfig{CacheDir: dir})
			if err != nil {
				return nil, err
			}
			if _, _, err = timed(ctx, ex, enginetest.Echo(), proto.Limits{}); err == nil {
				_, took[i], err = timed(ctx, ex, enginetest.Sized(size.bytes), proto.Limits{})
			}
			ex.Close()
			if err != nil {
				return nil, err
			}
		}
		cold := fmt.Sprintf("%.4g ms cold", took[0].Seconds()*1e3)
		rows = append(rows,
			row{"sandbox_start_cold_" + size.name + "_ms", took[0].Seconds() * 1e3, "ms", "child is up", ""},
			row{"sandbox_start_cached_" + size.name + "_ms", took[1].Seconds() * 1e3, "ms", cold, ""})
	}
	return rows, nil
}

// bombs runs the corpus. Memory is read from /proc, hence on Linux only.
func (b bench) bombs(ctx context.Context) ([]row, error) {
	ex, err := b.pool(sandbox.PoolConfig{})
	if err != nil {
		return nil, err
	}
	defer ex.Close()
	if _, _, err := timed(ctx, ex, enginetest.Echo(), proto.Limits{}); err != nil {
		return nil, err
	}
	var longest time.Duration
	var slowest string
	var held, grown, idle float64
	for _, pid := range sandboxChildren() {
		idle = residentMB(pid)
	}
	n := 0
	for _, bomb := range enginetest.Bombs() {
		if bomb.Refused != "" {
			continue
		}
		raw := bomb.Module()
		debug.FreeOSMemory()
		before := residentMB("self")
		res, took, err := timed(ctx, ex, raw, bomb.Limits)
		if err != nil {
			return nil, fmt.Errorf("bomb %q: %w", bomb.Name, err)
		}
		if !slices.Contains(bomb.Status, res.Status) {
			return nil, fmt.Errorf("bomb %q ended %s", bomb.Name, res.Status)
		}
		if took > longest {
			longest, slowest = took, bomb.Name
		}
		debug.FreeOSMemory()
		grown = max(grown, residentMB("self")-before)
		for _, pid := range sandboxChildren() {
			held = max(held, residentMB(pid))
		}
		n++
	}
	rows := []row{{"sandbox_bomb_end_s", longest.Seconds(), "s, longest", fmt.Sprintf("%d bombs; %s", n, slowest), "< 12"}}
	if runtime.GOOS == "linux" {
		rows = append(rows,
			row{"sandbox_child_rss_after_bomb_mb", held, "MB, largest", "tiny task: " + fmt.Sprintf("%.3g MB", idle), "< the task's limit (64 to 256) + 64"},
			row{"sandbox_host_rss_growth_mb", grown, "MB, largest", "before the bomb", "0"})
	}
	return rows, nil
}

// pingsBeside sends single bytes over a libp2p stream while a task runs.
func (b bench) pingsBeside(ctx context.Context) ([]row, error) {
	echo, closeAll, err := rawStream(ctx)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	ex, err := b.pool(sandbox.PoolConfig{})
	if err != nil {
		return nil, err
	}
	defer ex.Close()
	p99 := func(d time.Duration) (float64, error) {
		var each []time.Duration
		for began := time.Now(); time.Since(began) < d; time.Sleep(5 * time.Millisecond) {
			at := time.Now()
			if err := echo([]byte{1}); err != nil {
				return 0, err
			}
			each = append(each, time.Since(at))
		}
		slices.Sort(each)
		return each[len(each)*99/100].Seconds() * 1e3, nil
	}
	idle, err := p99(2 * time.Second)
	if err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	busy, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _, err := timed(busy, ex, enginetest.Spin(), proto.Limits{Fuel: proto.MaxFuel, Wall: time.Minute})
		ended <- err
	}()
	loaded, err := p99(10 * time.Second)
	cancel()
	if err := <-ended; err != nil {
		return nil, err
	}
	return []row{{"sandbox_ping_p99_ms", loaded, "ms", fmt.Sprintf("%.3g ms idle", idle), "< 50"}}, err
}

// cpuLimit compares what a child used in three seconds with its limit.
func (b bench) cpuLimit(ctx context.Context) ([]row, error) {
	if runtime.GOOS != "linux" {
		return nil, nil
	}
	return cpuRow(ctx, "cpu_limit_error_pct", b.cpuUsed)
}

// cpuRow tells how far from three limits the share of a core is that used
// measures, in percent.
func cpuRow(ctx context.Context, name string, used func(ctx context.Context, percent int) (float64, error)) ([]row, error) {
	worst := 0.0
	var seen []string
	for _, percent := range []int{10, 30, 50} {
		got, err := used(ctx, percent)
		if err != nil {
			return nil, err
		}
		seen = append(seen, fmt.Sprintf("%d: %.3g %%", percent, got))
		worst = max(worst, math.Abs(got-float64(percent))/float64(percent)*100)
	}
	return []row{{name, worst, "% of the limit", strings.Join(seen, ", "), "<= 10"}}, nil
}

func (b bench) cpuUsed(ctx context.Context, percent int) (float64, error) {
	ex, err := b.pool(sandbox.PoolConfig{CPUPercent: percent})
	if err != nil {
		return 0, err
	}
	defer ex.Close()
	if _, _, err := timed(ctx, ex, enginetest.Echo(), proto.Limits{}); err != nil {
		return 0, err
	}
	pids := sandboxChildren()
	if len(pids) != 1 {
		return 0, fmt.Errorf("%d children", len(pids))
	}
	busy, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, _, err := timed(busy, ex, enginetest.Spin(), proto.Limits{Fuel: proto.MaxFuel, Wall: time.Minute})
		ended <- err
	}()
	time.Sleep(500 * time.Millisecond)
	began, before := time.Now(), childSeconds(pids[0])
	time.Sleep(3 * time.Second)
	used, passed := childSeconds(pids[0])-before, time.Since(began).Seconds()
	cancel()
	return 100 * used / passed, <-ended
}

// sandboxChildren are the pids of this process's sandbox children.
func sandboxChildren() (pids []string) {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, l := range lists {
		b, _ := os.ReadFile(l) // the thread may be gone
		for _, pid := range strings.Fields(string(b)) {
			if argv, _ := os.ReadFile("/proc/" + pid + "/cmdline"); strings.Contains(string(argv), "sandbox-child") {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func residentMB(pid string) float64 {
	b, _ := os.ReadFile("/proc/" + pid + "/statm")
	var size, pages float64
	_, _ = fmt.Sscan(string(b), &size, &pages) // zero where there is no /proc
	return pages * float64(os.Getpagesize()) / (1 << 20)
}

// childSeconds is processor time, which /proc counts in hundredths.
func childSeconds(pid string) float64 {
	b, _ := os.ReadFile("/proc/" + pid + "/stat")
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	var user, system float64
	_, _ = fmt.Sscan(f[11]+" "+f[12], &user, &system)
	return (user + system) / 100
}
