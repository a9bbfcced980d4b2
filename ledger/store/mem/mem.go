// Package mem is a ledger.Store that lives as long as its process.
package mem

import (
	"errors"
	"slices"
	"strings"
	"sync"

	"edgenet.dev/ledger"
)

// Store is a ledger.Store in memory. The zero value is empty and ready.
type Store struct {
	mu     sync.Mutex
	values map[string][]byte
	keys   []string // sorted; lacks fresh ones, may name deleted ones
	fresh  []string // written since keys was sorted
	gone   bool     // keys names deleted ones
	closed bool
}

// sorted brings keys up to date: a batch of any size costs one merge at the
// next Scan.
func (s *Store) sorted() []string {
	if s.gone {
		s.keys = slices.DeleteFunc(s.keys, func(k string) bool { _, ok := s.values[k]; return !ok })
		s.fresh = slices.DeleteFunc(s.fresh, func(k string) bool { _, ok := s.values[k]; return !ok })
		s.gone = false
	}
	if len(s.fresh) > 0 {
		s.keys = append(s.keys, s.fresh...)
		slices.Sort(s.keys)
		s.keys = slices.Compact(s.keys)
		s.fresh = nil
	}
	return s.keys
}

var errClosed = errors.New("mem: the store is closed")

// New returns an empty store.
func New() *Store { return new(Store) }

// Append implements ledger.Store.
func (s *Store) Append(batch ...ledger.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	for _, r := range batch {
		if len(r.Key) == 0 {
			return errors.New("mem: empty key")
		}
	}
	if s.values == nil {
		s.values = map[string][]byte{}
	}
	for _, r := range batch {
		k := string(r.Key)
		_, known := s.values[k]
		switch {
		case r.Value == nil && known:
			delete(s.values, k)
			s.gone = true
		case r.Value == nil:
		default:
			if !known {
				s.fresh = append(s.fresh, k)
			}
			s.values[k] = append([]byte{}, r.Value...)
		}
	}
	return nil
}

// Get implements ledger.Store.
func (s *Store) Get(key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	v, ok := s.values[string(key)]
	if !ok {
		return nil, nil
	}
	return append([]byte{}, v...), nil
}

// Scan implements ledger.Store.
func (s *Store) Scan(prefix []byte, fn func(key, value []byte) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	keys := s.sorted()
	i, _ := slices.BinarySearch(keys, string(prefix))
	for ; i < len(keys) && strings.HasPrefix(keys[i], string(prefix)); i++ {
		if err := fn([]byte(keys[i]), s.values[keys[i]]); err != nil {
			return err
		}
	}
	return nil
}

// Close implements ledger.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.values, s.keys, s.fresh = nil, nil, nil
	return nil
}

// Clone copies the store as a crash at this moment would leave it.
func (s *Store) Clone() *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := New()
	c.values = make(map[string][]byte, len(s.values))
	for k, v := range s.values {
		c.values[k] = v // values are never changed in place
	}
	c.keys = slices.Clone(s.sorted())
	return c
}

var _ ledger.Store = (*Store)(nil)
