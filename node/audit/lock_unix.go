//go:build unix

package audit

import (
	"os"
	"syscall"
)

// lockFile waits until no other process appends; closing f ends the lock.
func lockFile(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX) }
