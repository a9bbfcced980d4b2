//go:build amd64 || arm64

package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// allowed are the system calls that Go's runtime, libc's threads in a cgo build
// and the frames on stdin and stdout need. Everything else fails with EPERM.
var allowed = []uint32{
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_CLOSE, unix.SYS_FSTAT,
	unix.SYS_MMAP, unix.SYS_MPROTECT, unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_MREMAP, unix.SYS_MINCORE, unix.SYS_BRK,
	unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP,
	unix.SYS_CLOCK_GETTIME, unix.SYS_GETTIMEOFDAY, unix.SYS_RESTART_SYSCALL, unix.SYS_GETRANDOM,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK,
	unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_GETRUSAGE,
	unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2, unix.SYS_PIPE2,
	unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_SET_TID_ADDRESS, unix.SYS_MEMBARRIER,
}

// cacheCalls are what wazero's compilation cache needs besides. They are
// allowed only where Landlock bounds the paths.
var cacheCalls = []uint32{
	unix.SYS_OPENAT, unix.SYS_LSEEK, unix.SYS_PREAD64, unix.SYS_FSYNC, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2,
}

// fcntls are what Go asks of a descriptor. The others can name a process that
// the kernel then sends a signal of one's choice.
var fcntls = []uint32{unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_SETFL, unix.F_DUPFD_CLOEXEC}

// prSetVMA is the one prctl that Go's runtime uses: it names mappings.
const prSetVMA = 0x53564d41

// Offsets in struct seccomp_data; both architectures are little-endian.
const (
	dataNr   = 0
	dataArch = 4
	dataArg0 = 16
	dataArg1 = 24
)

// filter builds the program. A call from a foreign architecture's table kills
// the process, for its numbers mean other things.
func filter(withCache bool) []unix.SockFilter {
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	ret := func(v uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: v} }
	// only runs the next n instructions if the loaded word is k.
	only := func(k uint32, n uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: n}
	}
	deny := func(e syscall.Errno) unix.SockFilter { return ret(unix.SECCOMP_RET_ERRNO | uint32(e)) }
	allow := ret(unix.SECCOMP_RET_ALLOW)
	self := uint32(os.Getpid())

	p := []unix.SockFilter{
		load(dataArch),
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: auditArch, Jt: 1},
		ret(unix.SECCOMP_RET_KILL_PROCESS),
		load(dataNr),
	}
	calls := append(append([]uint32{}, allowed...), ownCalls...)
	if withCache {
		calls = append(calls, cacheCalls...)
	}
	for _, nr := range calls {
		p = append(p, only(nr, 1), allow)
	}
	p = append(p, only(unix.SYS_FCNTL, uint8(2*len(fcntls)+2)), load(dataArg1))
	for _, cmd := range fcntls {
		p = append(p, only(cmd, 1), allow)
	}
	p = append(p, deny(syscall.EPERM))
	return append(p,
		// Threads, but no processes.
		only(unix.SYS_CLONE, 4), load(dataArg0),
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.CLONE_THREAD, Jf: 1}, allow, deny(syscall.EPERM),
		// Its flags are in memory, where a filter cannot look; libc then takes clone.
		only(unix.SYS_CLONE3, 1), deny(syscall.ENOSYS),
		// Signals within this process, which Go's scheduler and its crash use.
		only(unix.SYS_TGKILL, 4), load(dataArg0), only(self, 1), allow, deny(syscall.EPERM),
		only(unix.SYS_KILL, 4), load(dataArg0), only(self, 1), allow, deny(syscall.EPERM),
		only(unix.SYS_PRCTL, 4), load(dataArg0), only(prSetVMA, 1), allow, deny(syscall.EPERM),
		deny(syscall.EPERM),
	)
}

// seccomp installs the filter on all threads, present and future.
func seccomp(withCache bool) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	code := filter(withCache)
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	tid, _, e := syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(code)
	switch {
	case e != 0:
		return fmt.Errorf("install: %w", e)
	case tid != 0:
		return fmt.Errorf("install: thread %d has a filter of its own", tid)
	}
	return nil
}
