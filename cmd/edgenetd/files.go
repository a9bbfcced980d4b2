package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"edgenet.dev/node/datadir"
	"edgenet.dev/node/durable"
	"edgenet.dev/proto"
)

const genesisName = datadir.Genesis

// readFile reads at most limit bytes of a file, or of standard input for "-".
func (a *app) readFile(path, what string, limit int64) ([]byte, error) {
	if path != "-" {
		if err := mustExist(path, what); err != nil {
			return nil, err
		}
	}
	b, err := orSignal(a, func() ([]byte, error) {
		r := a.in
		if path != "-" {
			f, err := os.Open(path) // blocks while a named pipe has no writer
			if err != nil {
				return nil, failf(exitRefused, "%s %s cannot be read: %v; check its permissions", what, path, err)
			}
			defer f.Close()
			r = f
		}
		b, err := io.ReadAll(io.LimitReader(r, limit+1))
		if err != nil {
			return nil, failf(exitRefused, "%s %s cannot be read: %v", what, path, err)
		}
		return b, nil
	})
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, failf(exitRefused, "%s %s is larger than the limit of %s", what, path, bytesText(uint64(limit)))
	}
	return b, nil
}

func mustExist(path, what string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return failf(exitNotFound, "%s %s does not exist; check the path", what, path)
	case err != nil:
		return failf(exitRefused, "%s %s cannot be read: %v", what, path, err)
	case info.IsDir():
		return failf(exitRefused, "%s %s is a directory; name a file", what, path)
	}
	return nil
}

// readGenesis reads a network from a genesis.pb.
func (a *app) readGenesis(path string) (*proto.Network, error) {
	raw, err := a.readFile(path, "genesis", proto.MaxGenesis)
	if err != nil {
		return nil, err
	}
	n, err := proto.ParseGenesis(raw)
	if err != nil {
		return nil, failf(exitRefused, "genesis %s is malformed (%v); get the genesis.pb of the network again from whoever runs it", path, err)
	}
	return n, nil
}

// network is the network that dir belongs to.
func (a *app) network(dir string) (*proto.Network, error) {
	path := filepath.Join(dir, genesisName)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, failf(exitNotFound, "%s has no %s, so it belongs to no network; run 'edgenetd init --dir %s' first", dir, genesisName, dir)
	}
	return a.readGenesis(path)
}

// saveNew writes path unless it exists, with a sentence for either failure.
func saveNew(path string, data []byte, mode fs.FileMode) error {
	if err := durable.WriteNew(path, data, mode); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return failf(exitRefused, "%s exists already and was left alone; choose another name or move it away first", path)
		}
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
