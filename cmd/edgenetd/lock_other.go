//go:build !unix

package main

import (
	"errors"
	"os"
)

// lockDir takes the data directory for this process. Without advisory locks
// the file itself is the lock: on systems that refuse to remove an open file,
// a lock that can be removed was left by a process that died.
func lockDir(dir string) (*os.File, error) {
	if err := os.Remove(lockPath(dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errLocked
	}
	return os.OpenFile(lockPath(dir), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

func ignoreFileSizeSignal() {}

func ignoreHangup() {}
