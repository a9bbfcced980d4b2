//go:build !js

// Package pebble is a ledger.Store on disk.
package pebble

import (
	"errors"
	"fmt"
	"sync/atomic"

	"edgenet.dev/ledger"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Store is a ledger.Store in a directory. One process at a time can open it.
type Store struct {
	db     *pebble.DB
	fs     vfs.FS
	cache  *pebble.Cache
	log    *faults
	closed atomic.Bool
}

var errClosed = errors.New("ledger store: closed")

// Open opens or makes the store in directory dir.
func Open(dir string) (*Store, error) { return OpenFS(dir, vfs.Default) }

// OpenFS is Open on another file system.
func OpenFS(dir string, fs vfs.FS) (s *Store, err error) {
	log := new(faults)
	// A ledger is small and read from memory: small buffers keep an idle
	// daemon small.
	cache := pebble.NewCache(4 << 20)
	defer func() {
		if err != nil {
			cache.Unref()
		}
	}()
	defer log.guard(&err)
	db, err := pebble.Open(dir, &pebble.Options{
		FS: diskFS{fs, log}, Cache: cache, MemTableSize: 4 << 20, MaxOpenFiles: 256, Logger: log,
		FormatMajorVersion: pebble.FormatNewest,
		// A flush that fails would be tried again for ever while writers wait.
		EventListener: &pebble.EventListener{BackgroundError: func(err error) { log.fail(err) }},
	})
	if err != nil {
		return nil, fmt.Errorf("ledger store %s: %w", dir, err)
	}
	return &Store{db: db, fs: fs, cache: cache, log: log}, nil
}

func (s *Store) ready() error {
	if s.closed.Load() {
		return errClosed
	}
	return s.log.err()
}

// Append implements ledger.Store. After a failed write the store refuses
// everything until it is opened again: pebble cannot tell then what reached
// the disk, and a vote must not be given on a guess.
func (s *Store) Append(batch ...ledger.Record) error { return s.write(batch, pebble.Sync) }

// AppendLazily is Append without waiting for the disk: the batch is durable
// with the next Append, and a crash before that may lose it as a whole. It
// serves stores of other things than ledgers.
func (s *Store) AppendLazily(batch ...ledger.Record) error { return s.write(batch, pebble.NoSync) }

func (s *Store) write(batch []ledger.Record, how *pebble.WriteOptions) (err error) {
	if err := s.ready(); err != nil {
		return err
	}
	b := s.db.NewBatch()
	defer b.Close()
	for _, r := range batch {
		if len(r.Key) == 0 {
			return errors.New("ledger store: empty key")
		}
		if r.Value == nil {
			err = b.Delete(r.Key, nil)
		} else {
			err = b.Set(r.Key, r.Value, nil)
		}
		if err != nil {
			return fmt.Errorf("ledger store: %w", err)
		}
	}
	return s.commit(b, how)
}

// commit writes a batch, with log's guard around it.
func (s *Store) commit(b *pebble.Batch, how *pebble.WriteOptions) (err error) {
	defer s.log.guard(&err)
	if err := b.Commit(how); err != nil {
		return s.log.fail(err)
	}
	return s.log.err()
}

// Get implements ledger.Store.
func (s *Store) Get(key []byte) (value []byte, err error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	defer s.log.guard(&err)
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ledger store: %w", err)
	}
	defer closer.Close()
	return append([]byte{}, v...), nil
}

// Scan implements ledger.Store.
func (s *Store) Scan(prefix []byte, fn func(key, value []byte) error) (err error) {
	if err := s.ready(); err != nil {
		return err
	}
	var bounds pebble.IterOptions
	if len(prefix) > 0 { // an empty bound is not the same as none
		bounds.LowerBound, bounds.UpperBound = prefix, after(prefix)
	}
	it, err := s.db.NewIter(&bounds)
	if err != nil {
		return fmt.Errorf("ledger store: %w", err)
	}
	defer func() {
		if cerr := it.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("ledger store: %w", cerr)
		}
	}()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("ledger store: %w", err)
		}
		if err := fn(it.Key(), v); err != nil {
			return err
		}
	}
	return nil
}

// after is the first key behind all keys with the prefix; nil is the end.
func after(prefix []byte) []byte {
	end := append([]byte{}, prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// Close implements ledger.Store.
func (s *Store) Close() (err error) {
	if s.closed.Swap(true) {
		return nil
	}
	defer s.log.guard(&err)
	defer s.cache.Unref()
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("ledger store: %w", err)
	}
	return s.log.err()
}

var _ ledger.Store = (*Store)(nil)
