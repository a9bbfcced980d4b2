// Package indexeddb is a ledger.Store in a browser's IndexedDB. One database
// holds the object stores of one node; keys are bytes and so is their order.
package indexeddb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall/js"

	"edgenet.dev/ledger"
)

// Space is an object store of the database.
type Space string

// Ledger is for the ledger, State for whatever else the node keeps.
const (
	Ledger Space = "ledger"
	State  Space = "state"
)

// version of the database's layout: the object stores above, without indexes.
const version = 1

// scanBatch is how many records of a scan are in memory at once.
const scanBatch = 64

// ErrClosed is returned by everything but Close after Close.
var ErrClosed = errors.New("indexeddb: the store is closed")

// ErrQuota means that the origin's storage is full.
var ErrQuota = errors.New("indexeddb: the browser's storage quota is used up")

// ErrBlocked means that the browser does not let this page store anything.
var ErrBlocked = errors.New("indexeddb: the browser does not allow storage here")

// Store is one object store of a database. It may be used by many goroutines
// but by one Store at a time: the tabs of an origin have to agree who.
type Store struct {
	space  Space
	db     js.Value
	events []js.Func // of db

	mu     sync.RWMutex // a scan spans transactions, so it excludes writers
	state  sync.Mutex   // guards failed
	failed error
}

var _ ledger.Store = (*Store)(nil)

// Open opens a space of a database and creates the database when there is
// none. Blocked storage is ErrBlocked.
func Open(ctx context.Context, database string, space Space) (*Store, error) {
	factory := js.Global().Get("indexedDB")
	if !factory.Truthy() {
		return nil, ErrBlocked
	}
	var db js.Value
	err := guarded(func() error {
		req := factory.Call("open", database, version)
		upgrade := js.FuncOf(func(js.Value, []js.Value) any {
			for _, s := range []Space{Ledger, State} {
				req.Get("result").Call("createObjectStore", string(s))
			}
			return nil
		})
		defer upgrade.Release()
		req.Set("onupgradeneeded", upgrade)
		if err := listen(req, "success", "error")(ctx); err != nil {
			return err
		}
		db = req.Get("result")
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("indexeddb: open %s: %w", database, err)
	}
	s := &Store{space: space, db: db}
	s.on("close", func() { s.fail(errors.New("indexeddb: the browser closed the database")) })
	// Somebody wants to delete the database or use a newer layout.
	s.on("versionchange", func() {
		s.fail(errors.New("indexeddb: the database was taken over"))
		db.Call("close")
	})
	return s, nil
}

func (s *Store) on(event string, act func()) {
	f := js.FuncOf(func(js.Value, []js.Value) any {
		act()
		return nil
	})
	s.events = append(s.events, f)
	s.db.Set("on"+event, f)
}

// fail makes every later call answer err; the first one counts.
func (s *Store) fail(err error) {
	s.state.Lock()
	defer s.state.Unlock()
	if s.failed == nil {
		s.failed = err
	}
}

func (s *Store) usable() error {
	s.state.Lock()
	defer s.state.Unlock()
	return s.failed
}

// Append implements ledger.Store. A browser that crashes right after keeps
// the batch: it is written with strict durability.
func (s *Store) Append(batch ...ledger.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := make(chan error, 1)
	if err := s.write("strict", batch, func(err error) { done <- err }); err != nil {
		return fmt.Errorf("indexeddb: write: %w", err)
	}
	if err := <-done; err != nil {
		return fmt.Errorf("indexeddb: write: %w", err)
	}
	return s.usable() // a lazy batch before this one may have failed
}

// AppendLazily is Append without waiting: the batch can be read at once, it is
// durable with the next Append, and when it cannot be written everything after
// it fails. It serves stores of other things than ledgers.
func (s *Store) AppendLazily(batch ...ledger.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.write("relaxed", batch, func(err error) {
		if err != nil {
			s.fail(fmt.Errorf("indexeddb: an earlier write: %w", err))
		}
	})
	if err != nil {
		return fmt.Errorf("indexeddb: write: %w", err)
	}
	return nil
}

// write starts one transaction; ended is called when it ends, and must not
// block. Transactions that write to one object store take effect in the order
// in which they are created.
func (s *Store) write(durability string, batch []ledger.Record, ended func(error)) error {
	if err := s.usable(); err != nil {
		return err
	}
	for _, r := range batch {
		if len(r.Key) == 0 {
			return errors.New("empty key")
		}
	}
	if len(batch) == 0 {
		ended(nil)
		return nil
	}
	var tx js.Value
	err := guarded(func() error {
		tx = s.db.Call("transaction", string(s.space), "readwrite", map[string]any{"durability": durability})
		store := tx.Call("objectStore", string(s.space))
		for _, r := range batch {
			if r.Value == nil {
				store.Call("delete", toJS(r.Key))
			} else {
				store.Call("put", toJS(r.Value), toJS(r.Key))
			}
		}
		tx.Call("commit")
		return nil
	})
	if err != nil {
		if tx.Truthy() { // or what was put before the fault would be committed
			_ = guarded(func() error { tx.Call("abort"); return nil })
		}
		return err
	}
	watch(tx, "complete", "abort", ended)
	return nil
}

// Get implements ledger.Store.
func (s *Store) Get(key []byte) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(); err != nil {
		return nil, err
	}
	var value []byte
	err := guarded(func() error {
		req := s.read().Call("get", toJS(key))
		if err := listen(req, "success", "error")(context.Background()); err != nil {
			return err
		}
		if v := req.Get("result"); !v.IsUndefined() {
			value = toGo(v)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("indexeddb: read: %w", err)
	}
	return value, nil
}

// Scan implements ledger.Store.
func (s *Store) Scan(prefix []byte, fn func(key, value []byte) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	from, open := prefix, false
	for {
		if err := s.usable(); err != nil {
			return err
		}
		var keys, values [][]byte
		err := guarded(func() error {
			return s.page(span(from, open, above(prefix)), &keys, &values)
		})
		if err != nil {
			return fmt.Errorf("indexeddb: scan: %w", err)
		}
		for i := range keys {
			if err := fn(keys[i], values[i]); err != nil {
				return err
			}
		}
		if len(keys) < scanBatch {
			return nil
		}
		from, open = keys[len(keys)-1], true
	}
}

// page reads the first records of a range.
func (s *Store) page(keyRange js.Value, keys, values *[][]byte) error {
	store := s.read()
	k := store.Call("getAllKeys", keyRange, scanBatch)
	v := store.Call("getAll", keyRange, scanBatch)
	if err := listen(store.Get("transaction"), "complete", "abort")(context.Background()); err != nil {
		return err
	}
	for i := range k.Get("result").Length() {
		*keys = append(*keys, toGo(js.Global().Get("Uint8Array").New(k.Get("result").Index(i))))
		*values = append(*values, toGo(v.Get("result").Index(i)))
	}
	return nil
}

func (s *Store) read() js.Value {
	return s.db.Call("transaction", string(s.space), "readonly").Call("objectStore", string(s.space))
}

// Close implements ledger.Store. What was written reaches the disk.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(s.usable(), ErrClosed) {
		return nil
	}
	s.state.Lock()
	failed := s.failed
	s.failed = ErrClosed
	s.state.Unlock()
	for _, event := range []string{"close", "versionchange"} {
		s.db.Set("on"+event, js.Null())
	}
	s.db.Call("close")
	for _, f := range s.events {
		f.Release()
	}
	return failed
}

// Delete removes a database with everything in it. Open stores of it fail.
func Delete(ctx context.Context, database string) error {
	factory := js.Global().Get("indexedDB")
	if !factory.Truthy() {
		return ErrBlocked
	}
	return guarded(func() error {
		return listen(factory.Call("deleteDatabase", database), "success", "error")(ctx)
	})
}

// above is the first key after all keys with the prefix, nil when there is none.
func above(prefix []byte) []byte {
	end := bytes.TrimRight(prefix, "\xff")
	if len(end) == 0 {
		return nil
	}
	end = bytes.Clone(end)
	end[len(end)-1]++
	return end
}

// span is the range of keys from one to another, which is not in it.
func span(from []byte, open bool, to []byte) js.Value {
	r := js.Global().Get("IDBKeyRange")
	if to == nil {
		return r.Call("lowerBound", toJS(from), open)
	}
	return r.Call("bound", toJS(from), toJS(to), open, true)
}
