// Package storetest is the conformance suite of ledger.Store: every back end
// runs it.
package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"edgenet.dev/ledger"
	"pgregory.net/rapid"
)

// Backend opens a new, empty store for a test.
type Backend struct {
	New func(tb testing.TB) ledger.Store
	// Reopen closes s and opens it again; nil when the back end keeps nothing.
	Reopen func(tb testing.TB, s ledger.Store) ledger.Store
}

// Run runs the suite.
func Run(t *testing.T, b Backend) {
	t.Run("Contract", func(t *testing.T) { contract(t, b) })
	t.Run("Model", func(t *testing.T) { model(t, b) })
}

func contract(t *testing.T, b Backend) {
	s := b.New(t)
	key, value := []byte("k"), []byte("v")
	if v, err := s.Get(key); v != nil || err != nil {
		t.Fatalf("absent key: %q, %v", v, err)
	}
	if err := s.Append(); err != nil {
		t.Fatalf("empty batch: %v", err)
	}
	check(t, s.Append(ledger.Record{Key: key, Value: value}, ledger.Record{Key: []byte("empty"), Value: []byte{}}))
	value[0] = 'x' // the store must not hold on to the caller's memory
	key[0] = 'x'
	v, err := s.Get([]byte("k"))
	check(t, err)
	if string(v) != "v" {
		t.Fatalf("got %q, want v", v)
	}
	v[0] = 'y'
	if v, _ := s.Get([]byte("k")); string(v) != "v" {
		t.Fatal("a value that Get returned can be changed from outside")
	}
	if v, err := s.Get([]byte("empty")); v == nil || len(v) != 0 || err != nil {
		t.Fatalf("empty value: %v, %v", v, err)
	}
	check(t, s.Append(ledger.Record{Key: []byte("k"), Value: []byte("1")}, ledger.Record{Key: []byte("k")},
		ledger.Record{Key: []byte("j"), Value: []byte("1")}, ledger.Record{Key: []byte("j"), Value: []byte("2")}))
	if v, _ := s.Get([]byte("k")); v != nil {
		t.Fatal("a later record of a batch does not win")
	}
	if v, _ := s.Get([]byte("j")); string(v) != "2" {
		t.Fatal("a later record of a batch does not win")
	}
	if err := s.Append(ledger.Record{Key: []byte("good"), Value: []byte("1")}, ledger.Record{Value: []byte("1")}); err == nil {
		t.Fatal("an empty key is accepted")
	}
	if v, _ := s.Get([]byte("good")); v != nil {
		t.Fatal("a refused batch left a record behind")
	}

	for _, k := range []string{"a\xff\xff", "a", "a\x00", "b", "a\xff", "ab"} {
		check(t, s.Append(ledger.Record{Key: []byte(k), Value: []byte("v" + k)}))
	}
	var got []string
	check(t, s.Scan([]byte("a"), func(k, v []byte) error {
		if string(v) != "v"+string(k) {
			t.Fatalf("%q has %q", k, v)
		}
		got = append(got, string(k))
		return nil
	}))
	if want := []string{"a", "a\x00", "ab", "a\xff", "a\xff\xff"}; !slices.Equal(got, want) {
		t.Fatalf("scan gives %q, want %q", got, want)
	}
	stop := errors.New("stop")
	n := 0
	if err := s.Scan(nil, func(_, _ []byte) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		t.Fatalf("scan after an error: %d calls, %v", n, err)
	}
	if b.Reopen != nil {
		s = b.Reopen(t, s)
		if v, _ := s.Get([]byte("j")); string(v) != "2" {
			t.Fatal("a record is lost on reopening")
		}
		if v, _ := s.Get([]byte("k")); v != nil {
			t.Fatal("a deleted record is back after reopening")
		}
	}
	check(t, s.Close())
	check(t, s.Close())
	if _, err := s.Get([]byte("j")); err == nil {
		t.Fatal("a closed store answers Get")
	}
	if err := s.Append(ledger.Record{Key: []byte("j"), Value: []byte("3")}); err == nil {
		t.Fatal("a closed store accepts a batch")
	}
	if err := s.Scan(nil, func(_, _ []byte) error { return nil }); err == nil {
		t.Fatal("a closed store answers Scan")
	}
}

// model compares random batches with a map.
func model(t *testing.T, b Backend) {
	s := b.New(t)
	defer func() { check(t, s.Close()) }()
	ref := map[string]string{}
	round := 0
	rapid.Check(t, func(r *rapid.T) {
		round++
		for range rapid.IntRange(1, 8).Draw(r, "batches") {
			var batch []ledger.Record
			for range rapid.IntRange(0, 6).Draw(r, "records") {
				k := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'a', 0xff}), 1, 3).Draw(r, "key")
				if rapid.Bool().Draw(r, "delete") {
					batch = append(batch, ledger.Record{Key: k})
					delete(ref, string(k))
				} else {
					v := fmt.Appendf(nil, "%d", rapid.Int().Draw(r, "value"))
					batch = append(batch, ledger.Record{Key: k, Value: v})
					ref[string(k)] = string(v)
				}
			}
			check(t, s.Append(batch...))
		}
		if b.Reopen != nil && round%25 == 0 {
			s = b.Reopen(t, s)
		}
		prefix := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'a', 0xff}), 0, 2).Draw(r, "prefix")
		seen := 0
		var last []byte
		check(t, s.Scan(prefix, func(k, v []byte) error {
			if !bytes.HasPrefix(k, prefix) || ref[string(k)] != string(v) || (seen > 0 && bytes.Compare(last, k) >= 0) {
				r.Fatalf("scan %q gives %q = %q after %q, want %q", prefix, k, v, last, ref[string(k)])
			}
			last = bytes.Clone(k)
			seen++
			return nil
		}))
		want := 0
		for k, v := range ref {
			if got, err := s.Get([]byte(k)); err != nil || string(got) != v {
				r.Fatalf("get %q: %q, %v, want %q", k, got, err, v)
			}
			if bytes.HasPrefix([]byte(k), prefix) {
				want++
			}
		}
		if seen != want {
			r.Fatalf("scan %q gives %d keys, want %d", prefix, seen, want)
		}
	})
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
