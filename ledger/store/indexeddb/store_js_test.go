package indexeddb_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall/js"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/indexeddb"
	"edgenet.dev/ledger/store/storetest"
)

var names atomic.Int64

// database names one that does not exist and is deleted after the test.
func database(tb testing.TB) string {
	name := fmt.Sprintf("edgenet-test-%d", names.Add(1))
	tb.Cleanup(func() {
		if err := indexeddb.Delete(context.Background(), name); err != nil {
			tb.Error(err)
		}
	})
	return name
}

func open(tb testing.TB, name string, space indexeddb.Space) *indexeddb.Store {
	tb.Helper()
	s, err := indexeddb.Open(context.Background(), name, space)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	dbs := map[ledger.Store]string{}
	storetest.Run(t, storetest.Backend{
		New: func(tb testing.TB) ledger.Store {
			name := database(tb)
			s := open(tb, name, indexeddb.Ledger)
			dbs[s] = name
			return s
		},
		Reopen: func(tb testing.TB, s ledger.Store) ledger.Store {
			if err := s.Close(); err != nil {
				tb.Fatal(err)
			}
			again := open(tb, dbs[s], indexeddb.Ledger)
			dbs[again] = dbs[s]
			return again
		},
	})
}

// The spaces of a database are two stores.
func TestSpaces(t *testing.T) {
	name := database(t)
	a, b := open(t, name, indexeddb.Ledger), open(t, name, indexeddb.State)
	defer a.Close()
	defer b.Close()
	if err := a.Append(ledger.Record{Key: []byte("k"), Value: []byte("ledger")}); err != nil {
		t.Fatal(err)
	}
	if v, err := b.Get([]byte("k")); v != nil || err != nil {
		t.Errorf("the other space has %q, %v", v, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Append(ledger.Record{Key: []byte("k"), Value: []byte("state")}); err != nil {
		t.Errorf("closing one space closed the other: %v", err)
	}
}

// A scan longer than one page stays complete and ordered.
func TestLongScan(t *testing.T) {
	s := open(t, database(t), indexeddb.State)
	defer s.Close()
	var batch []ledger.Record
	var want []string
	for i := range 1000 {
		k := fmt.Sprintf("p/%05d", i)
		want = append(want, k)
		batch = append(batch, ledger.Record{Key: []byte(k), Value: []byte(k)})
	}
	batch = append(batch, ledger.Record{Key: []byte("p."), Value: []byte{}}, ledger.Record{Key: []byte("p0"), Value: []byte{}})
	if err := s.Append(batch...); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := s.Scan([]byte("p/"), func(k, v []byte) error {
		if string(k) != string(v) {
			t.Errorf("%q has %q", k, v)
		}
		got = append(got, string(k))
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("scan gives %d keys, %v", len(got), err)
	}
}

// A lazy batch is seen at once and before any later one, and survives.
func TestAppendLazily(t *testing.T) {
	name := database(t)
	s := open(t, name, indexeddb.State)
	for i := range 100 {
		if err := s.AppendLazily(ledger.Record{Key: []byte("k"), Value: fmt.Appendf(nil, "%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if v, err := s.Get([]byte("k")); string(v) != "99" || err != nil {
		t.Fatalf("reads %q, %v", v, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, name, indexeddb.State)
	defer s.Close()
	if v, err := s.Get([]byte("k")); string(v) != "99" || err != nil {
		t.Errorf("after reopening %q, %v", v, err)
	}
}

// A database that is deleted under a store is an error, not a hang.
func TestDeletedDatabase(t *testing.T) {
	name := fmt.Sprintf("edgenet-test-%d", names.Add(1))
	s := open(t, name, indexeddb.Ledger)
	if err := indexeddb.Delete(context.Background(), name); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(ledger.Record{Key: []byte("k"), Value: []byte("v")}); err == nil {
		t.Error("a store without a database takes a batch")
	}
	if _, err := s.Get([]byte("k")); err == nil {
		t.Error("a store without a database answers")
	}
	if err := s.Close(); err == nil {
		t.Error("Close does not tell of the failure")
	}
}

// hook replaces a property of a global constructor's prototype for the test.
func hook(t *testing.T, class, method string, f func(this js.Value, args []js.Value, old js.Value) any) {
	proto := js.Global().Get(class).Get("prototype")
	old := proto.Get(method)
	fn := js.FuncOf(func(this js.Value, args []js.Value) any { return f(this, args, old) })
	proto.Set(method, fn)
	t.Cleanup(func() {
		proto.Set(method, old)
		fn.Release()
	})
}

// When the browser aborts a transaction, none of its records is there and the
// error says why.
func TestAbort(t *testing.T) {
	s := open(t, database(t), indexeddb.Ledger)
	defer s.Close()
	if err := s.Append(ledger.Record{Key: []byte("a"), Value: []byte("old")}); err != nil {
		t.Fatal(err)
	}
	t.Run("hooked", func(t *testing.T) {
		hook(t, "IDBTransaction", "commit", func(this js.Value, _ []js.Value, _ js.Value) any { return this.Call("abort") })
		if err := s.Append(ledger.Record{Key: []byte("a"), Value: []byte("new")}, ledger.Record{Key: []byte("b"), Value: []byte("new")}); err == nil {
			t.Error("an aborted batch is reported as written")
		}
	})
	if v, err := s.Get([]byte("a")); string(v) != "old" || err != nil {
		t.Errorf("a is %q, %v", v, err)
	}
	if v, err := s.Get([]byte("b")); v != nil || err != nil {
		t.Errorf("b is %q, %v", v, err)
	}
	t.Run("lazy", func(t *testing.T) {
		hook(t, "IDBTransaction", "commit", func(this js.Value, _ []js.Value, old js.Value) any { return this.Call("abort") })
		if err := s.AppendLazily(ledger.Record{Key: []byte("c"), Value: []byte("new")}); err != nil {
			t.Errorf("a lazy batch waits for its end: %v", err)
		}
	})
	if err := s.Append(ledger.Record{Key: []byte("d"), Value: []byte("new")}); err == nil {
		t.Error("a batch after a lost lazy one is reported as durable")
	}
}

// A full quota is told apart.
func TestQuota(t *testing.T) {
	s := open(t, database(t), indexeddb.Ledger)
	defer s.Close()
	// The second put fails, the first one must not stay.
	store := js.Global().Get("IDBObjectStore").Get("prototype")
	old := store.Get("put")
	store.Set("put", js.Global().Get("Function").New("old", `let n = 0;
		return function (v, k) {
			if (++n === 2) throw new DOMException("no room", "QuotaExceededError");
			return old.call(this, v, k);
		}`).Invoke(old))
	err := s.Append(ledger.Record{Key: []byte("a"), Value: []byte("v")}, ledger.Record{Key: []byte("b"), Value: []byte("v")})
	store.Set("put", old)
	if !errors.Is(err, indexeddb.ErrQuota) {
		t.Errorf("a full disk is %v", err)
	}
	if v, err := s.Get([]byte("a")); v != nil || err != nil {
		t.Errorf("half of a batch is there: %q, %v", v, err)
	}
	if err := s.Append(ledger.Record{Key: []byte("a"), Value: []byte("v")}); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// Without IndexedDB there is an error to act on.
func TestBlocked(t *testing.T) {
	old := js.Global().Get("indexedDB")
	define := js.Global().Get("Object").Get("defineProperty")
	define.Invoke(js.Global(), "indexedDB", map[string]any{"value": js.Undefined(), "configurable": true})
	defer define.Invoke(js.Global(), "indexedDB", map[string]any{"value": old, "configurable": true})
	if _, err := indexeddb.Open(context.Background(), "x", indexeddb.Ledger); !errors.Is(err, indexeddb.ErrBlocked) {
		t.Errorf("blocked storage is %v", err)
	}
}
