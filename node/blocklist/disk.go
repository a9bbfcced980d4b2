//go:build !js

package blocklist

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/node/durable"
)

// Name is the file's in a data directory.
const Name = "blocked"

// maxFile bounds the file in bytes: more than a full list has.
const maxFile = 8 << 20

// Stamp tells one state of a file on disk from another. The zero one is of a
// file that is not there.
type Stamp struct {
	at   time.Time
	size int64
}

// Stat stamps the file as it is now.
func Stat(path string) (Stamp, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Stamp{}, nil
	}
	if err != nil {
		return Stamp{}, err
	}
	return Stamp{info.ModTime(), info.Size()}, nil
}

// Load reads the file of the node self; one that is not there is empty. A bad
// line is a *LineError.
func Load(path string, self peer.ID) (*File, error) {
	in, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return new(File), nil
	}
	if err != nil {
		return nil, err
	}
	defer in.Close()
	raw, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxFile {
		return nil, fmt.Errorf("%s has more than %d MiB", path, maxFile>>20)
	}
	f, err := Parse(raw, self)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// Save writes the file in place of what is there, or of what a link there leads
// to; a crash leaves either.
func (f *File) Save(path string) error {
	if to, err := filepath.EvalSymlinks(path); err == nil {
		path = to
	}
	return durable.Replace(path, f.Bytes(), 0o600, nil)
}
