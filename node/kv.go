package node

import (
	"errors"
	"sort"
	"strings"
	"sync"
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
	scan(prefix string, fn func(key string, value []byte) error) error
	close() error
}

// write sets key, or deletes it when value is nil.
type write struct {
	key   string
	value []byte
}

var errNoKey = errors.New("no such key")

// memKV serves nodes without a data directory, and tabs.
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

func (s *memKV) close() error { return nil }
