package main

import (
	"errors"
	"io"

	"edgenet.dev/node/datadir"
)

// takeDir takes the data directory for a daemon, or says who has it.
func takeDir(dir string) (io.Closer, error) {
	lock, err := datadir.Lock(dir)
	var held *datadir.InUseError
	if errors.As(err, &held) {
		return nil, failf(exitBusy, "%s is in use by the daemon with process id %s; stop it with 'edgenetd stop --dir %s', or choose another --dir", dir, held.Owner, dir)
	}
	return lock, err
}
