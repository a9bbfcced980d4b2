//go:build !unix && !js

package sandbox

import (
	"os"
	"os/exec"
	"time"
)

func confine(uint64) error { return nil }

func isolate(*exec.Cmd, separation) {}

func killGroup(pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		p.Kill()
	}
}

// canStop reports whether a child can be made to stand still.
const canStop = false

// Without job control a CPU share below 100 % has no effect.
func stopGroup(int) {}
func contGroup(int) {}

// cpuTime is not known here; wall time bounds compiling instead.
func cpuTime(int) (time.Duration, bool) { return 0, false }

// rss is not known here; the limit of address space, if any, bounds memory.
func rss(int) (uint64, bool) { return 0, false }
