//go:build unix && !linux

package sandbox

import (
	"os/exec"
	"syscall"
	"time"
)

// confine disables core files; address-space limits are not dependable here.
func confine(uint64) error {
	return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}

// isolate makes cmd its own process group.
func isolate(cmd *exec.Cmd, _ separation) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// canStop reports whether a child can be made to stand still.
const canStop = true

func killGroup(pid int) { syscall.Kill(-pid, syscall.SIGKILL) }
func stopGroup(pid int) { syscall.Kill(-pid, syscall.SIGSTOP) }
func contGroup(pid int) { syscall.Kill(-pid, syscall.SIGCONT) }

// cpuTime is not known here; wall time bounds compiling instead.
func cpuTime(int) (time.Duration, bool) { return 0, false }

// rss is not known here; the limit of address space, if any, bounds memory.
func rss(int) (uint64, bool) { return 0, false }
