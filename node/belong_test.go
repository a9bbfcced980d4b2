//go:build !js

package node_test

import (
	"errors"
	"path/filepath"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/pebble"
	"edgenet.dev/node"
)

// A state directory from before it named its network is taken over by the
// network of the ledger beside it, and by nobody else.
func TestStateOfOneNetworkOnly(t *testing.T) {
	a, b := newLab(t, 1), newLab(t, 1)
	b.keys = a.keys
	open := func(l *lab, dir, store string) error {
		s, err := pebble.Open(filepath.Join(dir, store))
		if err != nil {
			t.Fatal(err)
		}
		n, err := node.New(node.Config{Network: l.net, Key: l.keys[0], Dir: dir, Store: s})
		if err != nil {
			return errors.Join(err, s.Close())
		}
		return n.Close()
	}
	edit := func(dir string, records ...ledger.Record) {
		s, err := pebble.Open(filepath.Join(dir, "state"))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Append(records...), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(err error, store string, known bool) {
		t.Helper()
		var other *node.OtherNetworkError
		if !errors.As(err, &other) || other.Store != store || other.Of.Defined() != known {
			t.Fatalf("%v, want a refusal of the %s", err, store)
		}
	}
	old := ledger.Record{Key: []byte("blob/1"), Value: []byte("of an earlier version")}
	mark := []byte("network")

	dir := t.TempDir()
	if err := open(a, dir, "ledger"); err != nil {
		t.Fatal(err)
	}
	refused(open(b, dir, "ledger"), "ledger", true)
	refused(open(b, dir, "fresh"), "state", true)

	edit(dir, old, ledger.Record{Key: mark}) // a directory of an earlier version
	refused(open(b, dir, "fresher"), "state", false)
	refused(open(a, dir, "freshest"), "state", false)
	if err := open(a, dir, "ledger"); err != nil { // takes it over
		t.Fatal(err)
	}
	refused(open(b, dir, "fresh"), "state", true)
}
