package sandbox_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
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
