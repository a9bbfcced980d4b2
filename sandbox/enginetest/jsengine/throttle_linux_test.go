package jsengine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest/jsengine"
)

// threadTicks is the processor time of each thread of a process, in
// hundredths of a second.
func threadTicks(t *testing.T, pid int) map[string]float64 {
	t.Helper()
	files, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
	if err != nil || files == nil {
		t.Fatalf("threads of %d: %v", pid, err)
	}
	ticks := map[string]float64{}
	for _, f := range files {
		b, _ := os.ReadFile(f) // the thread may be gone
		_, rest, _ := strings.Cut(string(b), ") ")
		var user, system float64
		if fields := strings.Fields(rest); len(fields) > 12 {
			if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
				t.Fatal(err)
			}
		}
		ticks[f] = user + system
	}
	return ticks
}

// TestThrottleHoldsInsideATask measures what the thread of a throttled Worker
// uses within one endless task, beside a Worker without a limit: the quotient
// is the share, whatever else the machine does. Bounds are wide, because both
// are measured while others run; a throttle that is off shows as 1.
func TestThrottleHoldsInsideATask(t *testing.T) {
	spin := prepare(t, endless())
	run := func(cpu int) (pid int) {
		e := node(t, jsengine.Options{Sliced: true, CPU: cpu})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		t.Cleanup(func() { cancel(); <-ended })
		go func() {
			defer close(ended)
			if _, err := e.Run(ctx, spin, nil, sandbox.Task{Limits: proto.Limits{Fuel: proto.MaxFuel, Wall: time.Minute}}); err != nil {
				t.Error(err)
			}
		}()
		return e.PID()
	}
	for _, cpu := range []int{10, 30, 50} {
		t.Run(strconv.Itoa(cpu), func(t *testing.T) {
			control, limited := run(100), run(cpu)
			time.Sleep(time.Second) // compiled, and out of its first burst
			before := [2]map[string]float64{threadTicks(t, control), threadTicks(t, limited)}
			var used [2]float64 // of the busiest thread
			for range 40 {      // until the control has had two seconds of it
				time.Sleep(500 * time.Millisecond)
				for i, pid := range []int{control, limited} {
					for f, n := range threadTicks(t, pid) {
						used[i] = max(used[i], n-before[i][f])
					}
				}
				if used[0] >= 200 {
					break
				}
			}
			if used[0] == 0 {
				t.Fatal("the Worker without a limit did nothing")
			}
			share := 100 * used[1] / used[0]
			t.Logf("limit %d %%: %.1f %% of what the other got (%.0f and %.0f ms)", cpu, share, used[1]*10, used[0]*10)
			if limit := float64(cpu); share > limit*1.6 || share < limit/3 {
				t.Errorf("limit %d %%, used %.1f %%", cpu, share)
			}
		})
	}
}
