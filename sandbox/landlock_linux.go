package sandbox

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// accessOfABI are the file system rights that each version of Landlock adds.
// All that the kernel knows are taken away.
var accessOfABI = []struct {
	abi    uintptr
	access uint64
}{
	{1, 1<<13 - 1},
	{2, unix.LANDLOCK_ACCESS_FS_REFER},
	{3, unix.LANDLOCK_ACCESS_FS_TRUNCATE},
	{5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV},
}

// cacheAccess is what the compilation cache needs beneath its directory. wazero
// writes a temporary file there and renames it.
const cacheAccess = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
	unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_TRUNCATE

// landlock takes the file system away from every thread of this process, but
// for the directory of compiled code, and TCP where the kernel can.
func landlock(cacheDir string) error {
	abi, _, e := syscall.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if e != 0 {
		return fmt.Errorf("not in this kernel: %w", e)
	}
	var set unix.LandlockRulesetAttr
	for _, a := range accessOfABI {
		if abi >= a.abi {
			set.Handled_access_fs |= a.access
		}
	}
	size := unsafe.Sizeof(set.Handled_access_fs)
	if abi >= 4 {
		set.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
		size += unsafe.Sizeof(set.Handled_access_net)
	}
	fd, _, e := syscall.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&set)), size, 0)
	if e != 0 {
		return fmt.Errorf("rule set: %w", e)
	}
	defer unix.Close(int(fd))
	if cacheDir != "" {
		dir, err := unix.Open(cacheDir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("cache directory: %w", err)
		}
		defer unix.Close(dir)
		rule := unix.LandlockPathBeneathAttr{Allowed_access: cacheAccess & set.Handled_access_fs, Parent_fd: int32(dir)}
		if _, _, e := syscall.RawSyscall6(unix.SYS_LANDLOCK_ADD_RULE, fd, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); e != 0 {
			return fmt.Errorf("cache directory: %w", e)
		}
	}
	// A Landlock domain belongs to a thread, so each thread enters it.
	if _, _, e := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); e != 0 {
		if errors.Is(e, syscall.ENOTSUP) {
			return errors.New("needs a build with CGO_ENABLED=0")
		}
		return fmt.Errorf("no_new_privs: %w", e)
	}
	if _, _, e := syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); e != 0 {
		return fmt.Errorf("enter: %w", e)
	}
	return nil
}
