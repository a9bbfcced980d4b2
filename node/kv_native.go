//go:build !js

package node

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
)

// openKV opens dir/state, or memory when dir is empty.
func openKV(dir string) (kv, error) {
	if dir == "" {
		return newMemKV(), nil
	}
	// Small buffers: an idle daemon should cost little memory, and blobs pass
	// through once.
	cache := pebble.NewCache(4 << 20)
	defer cache.Unref()
	db, err := pebble.Open(filepath.Join(dir, "state"), &pebble.Options{
		Cache:        cache,
		MemTableSize: 2 << 20,
		Logger:       quiet{},
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", filepath.Join(dir, "state"), err)
	}
	return &pebbleKV{db}, nil
}

type pebbleKV struct{ db *pebble.DB }

func (s *pebbleKV) get(key string) ([]byte, error) {
	v, c, err := s.db.Get([]byte(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, errNoKey
	}
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return append([]byte{}, v...), nil
}

func (s *pebbleKV) put(key string, value []byte) error {
	return s.db.Set([]byte(key), value, pebble.NoSync)
}

func (s *pebbleKV) commit(writes []write) error {
	b := s.db.NewBatch()
	defer b.Close()
	for _, w := range writes {
		var err error
		if w.value == nil {
			err = b.Delete([]byte(w.key), nil)
		} else {
			err = b.Set([]byte(w.key), w.value, nil)
		}
		if err != nil {
			return err
		}
	}
	return b.Commit(pebble.Sync)
}

func (s *pebbleKV) scan(prefix string, fn func(string, []byte) error) error {
	upper := []byte(prefix)
	upper[len(upper)-1]++
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte(prefix), UpperBound: upper})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		if err := fn(string(it.Key()), append([]byte{}, it.Value()...)); err != nil {
			return errors.Join(err, it.Close())
		}
	}
	return it.Close()
}

func (s *pebbleKV) close() error { return s.db.Close() }

// quiet drops pebble's chatter; its errors come back from calls.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf("state store: "+format, args...))
}
