package node

import (
	"errors"
	"sort"
	"strings"
	"sync"

	"edgenet.dev/ledger"
)

// kv is the node's own durable state beside the ledger: jobs, holds, blobs,
// receipts, vouchers. Keys are "<table>/<key>".
//
// put is ordered before any later commit: when a commit returned, everything
// put or committed before it is on disk.
type kv interface {
	get(key string) ([]byte, error) // errNoKey
	put(key string, value []byte) error
	commit(writes []write) error // durable and atomic
	lazily(writes []write) error // atomic, and otherwise as put
	scan(prefix string, fn func(key string, value []byte) error) error
	empty() (bool, error)
	close() error
}

// write sets key, or deletes it when value is nil.
type write struct {
	key   string
	value []byte
}

var errNoKey = errors.New("no such key")

// memKV serves nodes without a data directory.
type memKV struct {
	mu sync.RWMutex
	m  map[string][]byte
}

func newMemKV() *memKV { return &memKV{m: map[string][]byte{}} }

func (s *memKV) get(key string) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, ok := s.m[key]
	if !ok {
		return nil, errNoKey
	}
	return v, nil
}

func (s *memKV) put(key string, value []byte) error {
	return s.commit([]write{{key, value}})
}

func (s *memKV) commit(writes []write) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range writes {
		if w.value == nil {
			delete(s.m, w.key)
		} else {
			s.m[w.key] = append([]byte(nil), w.value...)
		}
	}
	return nil
}

func (s *memKV) lazily(writes []write) error { return s.commit(writes) }

func (s *memKV) scan(prefix string, fn func(string, []byte) error) error {
	s.mu.RLock()
	var keys []string
	for k := range s.m {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	s.mu.RUnlock()
	sort.Strings(keys)
	for _, k := range keys {
		v, err := s.get(k)
		if err != nil {
			continue
		}
		if err := fn(k, v); err != nil {
			return err
		}
	}
	return nil
}

func (s *memKV) empty() (bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.m) == 0, nil
}

func (s *memKV) close() error { return nil }

// diskKV keeps what a ledger's store keeps, in a store of its own, because one
// that holds a ledger survives a full disk without harm.
type diskKV struct{ s lazyStore }

// lazyStore is a ledger.Store with batches that are durable with the next one.
type lazyStore interface {
	ledger.Store
	AppendLazily(batch ...ledger.Record) error
}

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

func (d diskKV) commit(writes []write) error { return d.s.Append(batchOf(writes)...) }

func (d diskKV) lazily(writes []write) error { return d.s.AppendLazily(batchOf(writes)...) }

func batchOf(writes []write) []ledger.Record {
	batch := make([]ledger.Record, len(writes))
	for i, w := range writes {
		batch[i] = ledger.Record{Key: []byte(w.key), Value: w.value}
	}
	return batch
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

func (d diskKV) empty() (bool, error) {
	found := errors.New("found")
	err := d.s.Scan(nil, func(_, _ []byte) error { return found })
	if errors.Is(err, found) {
		return false, nil
	}
	return err == nil, err
}

func (d diskKV) close() error { return d.s.Close() }
