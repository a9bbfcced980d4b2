package node

import (
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Store is something that a node keeps on disk.
type Store struct {
	Name  string
	Bytes uint64
	Limit uint64 // bytes; 0: it is bounded otherwise, see docs/limits.md
}

// storesFresh is for how long sizes of directories hold: a walk costs more than
// whoever asks for them should.
const storesFresh = 15 * time.Second

// storeSizes are the sizes of files and directories below the data directory.
type storeSizes struct {
	mu   sync.Mutex
	at   time.Time
	list []Store
}

// Stores tells what the node keeps on disk, by name: what is below the data
// directory, and of the state proof of unpaid work ("claims").
func (n *Node) Stores() []Store {
	s := &n.sizes
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.cfg.Dir != "" && runtime.GOOS != "js" && time.Since(s.at) > storesFresh {
		s.at, s.list = time.Now(), nil
		for _, name := range []string{"audit.log", "cache", "ledger", "state"} {
			if size, err := sizeBelow(filepath.Join(n.cfg.Dir, name)); err == nil {
				x := Store{Name: name, Bytes: size}
				if name == "cache" {
					x.Limit = n.cfg.MaxCache
				}
				s.list = append(s.list, x)
			}
		}
	}
	out := append(slices.Clone(s.list), Store{"claims", n.claims.kept(), n.cfg.MaxClaims})
	slices.SortFunc(out, func(a, b Store) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

// sizeBelow sums the files at and below path. Files that go away meanwhile do not
// count.
func sizeBelow(path string) (sum uint64, err error) {
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if p == path {
				return err
			}
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			sum += uint64(info.Size())
		}
		return nil
	})
	return sum, err
}
