package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// goReserve is the address space that the Go runtime and compiled code take
// besides guest memory.
const goReserve = 2 << 30

// confine closes what this process should not have and lowers its limits: no
// core files, few descriptors, and an address space that holds one guest of the
// given memory ceiling.
func confine(memory uint64) error {
	closeInherited()
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

// closeInherited closes the descriptors that whoever started the daemon left
// open to it and so to this child, such as the listening sockets of a service
// manager. Go's runtime keeps its poller, and the files in which it reads how
// many processors its control group has.
func closeInherited() {
	const dir = "/proc/self/fd"
	open, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range open {
		fd, err := strconv.Atoi(e.Name())
		to, _ := os.Readlink(dir + "/" + e.Name())
		if err == nil && fd > 2 && !strings.HasPrefix(to, "anon_inode:[event") && !strings.HasPrefix(to, "/sys/fs/cgroup/") {
			unix.Close(fd)
		}
	}
}

// hideFiles takes the file system away and returns the cache directory that the
// child may go on using. Where Landlock is missing, the filter of system calls
// refuses to open anything, so that there is no cache either.
func hideFiles(held *Isolation, cacheDir string) string {
	err := landlock(cacheDir)
	if err == nil {
		held.InForce = append(held.InForce, "landlock")
		return cacheDir
	}
	held.Missing = append(held.Missing, "landlock: "+reason(err))
	if !haveFilter {
		return cacheDir
	}
	if cacheDir != "" {
		held.Missing = append(held.Missing, "compilation cache: off without landlock")
	}
	return ""
}

// dropCalls takes away every system call that a running guest does not need.
func dropCalls(held *Isolation, withCache bool) {
	if err := seccomp(withCache); err != nil {
		held.Missing = append(held.Missing, "seccomp: "+reason(err))
		return
	}
	held.InForce = append(held.InForce, "no_new_privs", "seccomp")
}

// separation is a set of namespaces that a child starts in.
type separation struct {
	flags uintptr
	names []string
}

// separations are tried in order. The user namespace maps no user, so that the
// child has no capability in it; without one only root may have the others.
var separations = []separation{
	{syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC, []string{"user namespace", "network namespace", "ipc namespace"}},
	{syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC, []string{"network namespace", "ipc namespace"}},
	{},
}

// isolate makes cmd its own process group that dies with this process, in
// namespaces of its own.
func isolate(cmd *exec.Cmd, s separation) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: s.flags}
}

// attempts tries what a guest must not do. Each call is such that it changes
// nothing where it is let through: it then succeeds or fails for another reason
// than EPERM and EACCES.
func attempts() []Attempt {
	var paths []*byte
	path := func(p string) uintptr {
		b, _ := syscall.BytePtrFromString(p)
		paths = append(paths, b)
		return uintptr(unsafe.Pointer(b))
	}
	at := unix.AT_FDCWD
	open := func(p string, flags uintptr) syscall.Errno {
		fd, _, e := syscall.RawSyscall6(unix.SYS_OPENAT, uintptr(at), path(p), flags|unix.O_CLOEXEC, 0, 0, 0)
		if e == 0 {
			unix.Close(int(fd))
		}
		return e
	}
	look := func(p string) syscall.Errno {
		var stat unix.Statx_t
		_, _, e := syscall.RawSyscall6(unix.SYS_STATX, uintptr(at), path(p), 0, unix.STATX_BASIC_STATS, uintptr(unsafe.Pointer(&stat)), 0)
		return e
	}
	socket := func(family, kind uintptr) syscall.Errno {
		fd, _, e := syscall.RawSyscall(unix.SYS_SOCKET, family, kind|unix.SOCK_CLOEXEC, 0)
		if e == 0 {
			unix.Close(int(fd))
		}
		return e
	}
	raw := func(nr, a, b, c uintptr) syscall.Errno {
		_, _, e := syscall.RawSyscall6(nr, a, b, c, 0, 0, 0)
		return e
	}
	var as []Attempt
	for _, a := range []struct {
		what string
		e    syscall.Errno
	}{
		{"socket, IPv4", socket(unix.AF_INET, unix.SOCK_STREAM)},
		{"socket, IPv6", socket(unix.AF_INET6, unix.SOCK_DGRAM)},
		{"socket, unix", socket(unix.AF_UNIX, unix.SOCK_STREAM)},
		{"open for writing", open("/dev/null", unix.O_WRONLY)},
		{"open for reading", open("/dev/null", unix.O_RDONLY)},
		{"list a directory", open("/", unix.O_RDONLY|unix.O_DIRECTORY)},
		{"look for a file", look("/")},
		{"read own memory as a file", open("/proc/self/mem", unix.O_RDWR)},
		{"execute", raw(unix.SYS_EXECVE, path("/nonexistent"), 0, 0)},
		{"start a process", raw(unix.SYS_CLONE, unix.CLONE_SIGHAND, 0, 0)}, // invalid without CLONE_VM
		{"trace", raw(unix.SYS_PTRACE, unix.PTRACE_CONT, 1<<30, 0)},        // no such process
		{"signal the parent", raw(unix.SYS_KILL, uintptr(os.Getppid()), 0, 0)},
		{"signal by descriptor", raw(unix.SYS_FCNTL, 1, unix.F_SETSIG, 0)},       // 0 is the default
		{"name a receiver of signals", raw(unix.SYS_FCNTL, 1, unix.F_SETOWN, 0)}, // nobody
		{"new namespaces", raw(unix.SYS_UNSHARE, 0, 0, 0)},
		{"io_uring", raw(unix.SYS_IO_URING_SETUP, 0, 0, 0)},
		{"control a device", raw(unix.SYS_IOCTL, ^uintptr(0), 0, 0)}, // no such descriptor
		{"anonymous file", raw(unix.SYS_MEMFD_CREATE, 0, 0, 0)},
		{"kernel keys", raw(unix.SYS_KEYCTL, ^uintptr(0), 0, 0)},
		{"raise a limit", raw(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_CORE, 0)},
	} {
		result := "let through"
		if a.e != 0 {
			result = unix.ErrnoName(a.e)
		}
		as = append(as, Attempt{a.what, a.e == syscall.EPERM || a.e == syscall.EACCES, result})
	}
	runtime.KeepAlive(paths)
	return as
}

// canStop reports whether a child can be made to stand still.
const canStop = true

func killGroup(pid int) { syscall.Kill(-pid, syscall.SIGKILL) }
func stopGroup(pid int) { syscall.Kill(-pid, syscall.SIGSTOP) }
func contGroup(pid int) { syscall.Kill(-pid, syscall.SIGCONT) }

// cpuTime reads the process's CPU clock, which counts nanoseconds. Its number
// is made as clock_getcpuclockid(3) makes it.
func cpuTime(pid int) (time.Duration, bool) {
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &t); err != nil {
		return 0, false
	}
	return time.Duration(t.Nano()), true
}

func rss(pid int) (uint64, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, false
	}
	var size, resident uint64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		return 0, false
	}
	return resident * uint64(os.Getpagesize()), true
}
