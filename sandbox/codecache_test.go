//go:build !js

package sandbox

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Compiled code is kept up to a size; what was not used for longest goes first.
func TestCompiledCodeIsBounded(t *testing.T) {
	dir := t.TempDir()
	name := func(n string) string { return filepath.Join(dir, "version", n) }
	if err := os.Mkdir(filepath.Join(dir, "version"), 0o700); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-100 * time.Hour)
	for i, n := range []string{"d", "a", "c", "b"} { // written in this order
		if err := os.WriteFile(name(n), make([]byte, 1000), 0o600); err != nil {
			t.Fatal(err)
		}
		at := old.Add(time.Duration(i) * time.Hour)
		if err := os.Chtimes(name(n), at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := trimCache(dir, 4000); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"a", "b", "c", "d"} {
		if _, err := os.Stat(name(n)); err != nil {
			t.Fatal(err)
		}
	}
	// The pool does it by itself.
	p, err := NewPool(PoolConfig{CacheDir: dir, CacheSize: 2500})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	left := func() (names string) {
		entries, err := os.ReadDir(filepath.Join(dir, "version"))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names += e.Name()
		}
		return names
	}
	for hang := time.Now().Add(time.Minute); left() != "bc"; time.Sleep(time.Millisecond) {
		if time.Now().After(hang) {
			t.Fatalf("left are %q", left())
		}
	}
}
