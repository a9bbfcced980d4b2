package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
	"edgenet.dev/sandbox/enginetest/jsengine"
)

// workerCPULimit measures the throttle of the browser's task Worker, in Node,
// where the kernel tells what its thread used. Without Node there is no row.
func (b bench) workerCPULimit(ctx context.Context) ([]row, error) {
	if _, err := exec.LookPath("npm"); err != nil || runtime.GOOS != "linux" {
		fmt.Fprintln(os.Stderr, "  Node is not installed: nothing about the task Worker")
		return nil, nil
	}
	dir, err := os.MkdirTemp("", "edgenet-bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	for _, args := range [][]string{{"ci", "--no-audit", "--no-fund"}, {"run", "--silent", "build", "--", dir}} {
		npm := exec.CommandContext(ctx, "npm", args...)
		npm.Dir = "browser/ts"
		if out, err := npm.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("npm %s: %w\n%s", args[0], err, out)
		}
	}
	m, err := sandbox.Prepare(enginetest.Spin(), sandbox.Policy{})
	if err != nil {
		return nil, err
	}
	// spinning starts a Worker with an endless task.
	spinning := func(ctx context.Context, percent int) (e *jsengine.Engine, ended chan error, err error) {
		if e, err = jsengine.NewNode(dir, jsengine.Options{Sliced: true, CPU: percent}); err != nil {
			return nil, nil, err
		}
		ended = make(chan error, 1)
		go func() {
			_, err := e.Run(ctx, m, nil, sandbox.Task{Limits: proto.Limits{Fuel: proto.MaxFuel, Wall: time.Minute}})
			ended <- err
		}()
		return e, ended, nil
	}
	// A Worker cannot read its processor time, so it counts time on the clock.
	// What it gets is compared with a Worker that has no limit, at the same
	// time: the rest of the machine's work takes from both.
	return cpuRow(ctx, "worker_cpu_limit_error_pct", func(ctx context.Context, percent int) (float64, error) {
		busy, cancel := context.WithCancel(ctx)
		defer cancel()
		var used [2]float64
		var engines [2]*jsengine.Engine
		var ends [2]chan error
		for i, p := range []int{100, percent} {
			if engines[i], ends[i], err = spinning(busy, p); err != nil {
				return 0, err
			}
			defer engines[i].Close()
		}
		time.Sleep(time.Second)
		var before [2]map[string]float64
		for i, e := range engines {
			before[i] = threadSeconds(e.PID())
		}
		time.Sleep(4 * time.Second)
		for i, e := range engines {
			for thread, s := range threadSeconds(e.PID()) {
				used[i] = max(used[i], s-before[i][thread])
			}
		}
		cancel()
		return 100 * used[1] / used[0], errors.Join(<-ends[0], <-ends[1])
	})
}

// threadSeconds is the processor time of each thread of a process.
func threadSeconds(pid int) map[string]float64 {
	files, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/schedstat")
	seconds := map[string]float64{}
	for _, f := range files {
		b, _ := os.ReadFile(f) // the thread may be gone
		var ns float64
		_, _ = fmt.Sscan(string(b), &ns)
		seconds[f] = ns / 1e9
	}
	return seconds
}
