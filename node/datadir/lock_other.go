//go:build !unix && !js

package datadir

import (
	"errors"
	"os"
)

// lockFile makes the file at path. Without advisory locks the file itself is
// the lock: on systems that refuse to remove an open file, one that can be
// removed was left by a process that died.
func lockFile(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errHeld
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}
