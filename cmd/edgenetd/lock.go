package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// errLocked: another process holds the data directory.
var errLocked = errors.New("locked")

func lockPath(dir string) string { return filepath.Join(dir, "lock") }

// takeDir locks dir for a daemon and leaves its process id in the lock file,
// for the message that the next one prints.
func takeDir(dir string) (*os.File, error) {
	f, err := lockDir(dir)
	if errors.Is(err, errLocked) {
		return nil, failf(exitBusy, "%s is in use by the daemon with process id %s; stop it with 'edgenetd stop --dir %s', or choose another --dir", dir, lockOwner(dir), dir)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(fmt.Sprintf("%d\n", os.Getpid())), 0)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
	}
	return f, nil
}
