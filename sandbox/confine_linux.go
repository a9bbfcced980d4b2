package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// goReserve is the address space that the Go runtime and compiled code take
// besides guest memory.
const goReserve = 2 << 30

// confine lowers this process's limits: no core files, few descriptors, and an
// address space that holds one guest of the given memory ceiling.
func confine(memory uint64) error {
	space := goReserve + memory
	// What is mapped already stays mapped (a race-detector build starts with
	// terabytes), so the limit counts from there.
	var pages uint64
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		fmt.Sscan(string(b), &pages)
	}
	space = max(space, pages*uint64(os.Getpagesize())+goReserve/2+memory)
	for _, l := range []struct {
		what  int
		value uint64
	}{{syscall.RLIMIT_CORE, 0}, {syscall.RLIMIT_NOFILE, 64}, {syscall.RLIMIT_AS, space}} {
		if err := syscall.Setrlimit(l.what, &syscall.Rlimit{Cur: l.value, Max: l.value}); err != nil {
			return fmt.Errorf("resource limit %d: %w", l.what, err)
		}
	}
	return nil
}

// isolate makes cmd its own process group that dies with this process.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func killGroup(pid int) { syscall.Kill(-pid, syscall.SIGKILL) }
func stopGroup(pid int) { syscall.Kill(-pid, syscall.SIGSTOP) }
func contGroup(pid int) { syscall.Kill(-pid, syscall.SIGCONT) }

// cpuTime reads user and system time, which Linux counts in hundredths of a
// second on every architecture Go supports.
func cpuTime(pid int) (time.Duration, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	// The second field is a name in parentheses that may hold spaces.
	_, rest, ok := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, false
	}
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0, false
	}
	return time.Duration(user+system) * 10 * time.Millisecond, true
}
