//go:build !js

package node

import (
	"fmt"
	"path/filepath"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/pebble"
)

// openKV opens dir/state, or memory when dir is empty. The store on disk is
// the ledger's, which survives a full disk without harm.
func openKV(dir string) (kv, error) {
	if dir == "" {
		return newMemKV(), nil
	}
	s, err := pebble.Open(filepath.Join(dir, "state"))
	if err != nil {
		return nil, fmt.Errorf("state store: %w", err)
	}
	return diskKV{s}, nil
}

type diskKV struct{ s *pebble.Store }

func (d diskKV) get(key string) ([]byte, error) {
	v, err := d.s.Get([]byte(key))
	if err == nil && v == nil {
		err = errNoKey
	}
	return v, err
}

func (d diskKV) put(key string, value []byte) error {
	if value == nil {
		value = []byte{} // nil deletes
	}
	return d.s.AppendLazily(ledger.Record{Key: []byte(key), Value: value})
}

func (d diskKV) commit(writes []write) error {
	batch := make([]ledger.Record, len(writes))
	for i, w := range writes {
		batch[i] = ledger.Record{Key: []byte(w.key), Value: w.value}
	}
	return d.s.Append(batch...)
}

func (d diskKV) scan(prefix string, fn func(string, []byte) error) error {
	type entry struct {
		key   string
		value []byte
	}
	var all []entry // fn may use the store, which a scan must not
	err := d.s.Scan([]byte(prefix), func(k, v []byte) error {
		all = append(all, entry{string(k), append([]byte{}, v...)})
		return nil
	})
	for _, e := range all {
		if err != nil {
			break
		}
		err = fn(e.key, e.value)
	}
	return err
}

func (d diskKV) close() error { return d.s.Close() }
