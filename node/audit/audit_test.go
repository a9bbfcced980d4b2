package audit_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"edgenet.dev/node/audit"
)

var day = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func fill(t *testing.T, dir string) *audit.Log {
	t.Helper()
	l := audit.Open(dir)
	for _, act := range []string{audit.KeyCreate, audit.Backup, audit.Restore, audit.Rotate} {
		if err := l.Add(day, act, "name", "va\nlue"); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func TestEveryChangeIsFound(t *testing.T) {
	dir := t.TempDir()
	l := fill(t, dir)
	entries, last, err := l.Verify()
	if err != nil || len(entries) != 4 || last == "" || entries[1].Act != audit.Backup || entries[1].Data["name"] != "va\nlue" || !entries[1].Time.Equal(day) {
		t.Fatalf("%v %q %v", entries, last, err)
	}
	path := filepath.Join(dir, audit.File)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(good), "\n")[:4]
	broken := map[string]string{
		"first removed":    strings.Join(lines[1:], ""),
		"middle removed":   lines[0] + lines[2] + lines[3],
		"two swapped":      lines[0] + lines[2] + lines[1] + lines[3],
		"one repeated":     lines[0] + lines[1] + lines[1] + lines[2] + lines[3],
		"garbage between":  lines[0] + "garbage\n" + lines[1] + lines[2] + lines[3],
		"garbage in place": lines[0] + "garbage\n" + lines[2] + lines[3],
		"empty line":       lines[0] + "\n" + lines[1] + lines[2] + lines[3],
	}
	for i := range good[:len(good)-len(lines[3])-1] { // a change of the last line, or of where it begins, shows in its hash only
		b := bytes.Clone(good)
		b[i] ^= 1
		broken["bit at "+string(rune('0'+i%10))+strings.Repeat(".", i/10)] = string(b)
	}
	for name, text := range broken {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.Verify(); !errors.Is(err, audit.ErrBroken) {
			t.Errorf("%s: %v, want ErrBroken", name, err)
		}
	}
	tail := bytes.Replace(good, []byte(audit.Rotate), []byte("key.rotatf"), 1)
	if err := os.WriteFile(path, tail, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, other, err := l.Verify(); err != nil || other == last {
		t.Errorf("a changed last line has the same hash (%v)", err)
	}
}

// A line that a crash cut short breaks nothing: the next one follows it.
func TestCutShort(t *testing.T) {
	dir := t.TempDir()
	l := fill(t, dir)
	path := filepath.Join(dir, audit.File)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 2, 20, 100} {
		if err := os.WriteFile(path, good[:len(good)-n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.Verify(); err != nil {
			t.Errorf("%d bytes short: %v", n, err)
		}
		if err := l.Add(day, audit.Start); err != nil {
			t.Fatal(err)
		}
		entries, _, err := l.Verify()
		want := audit.ShortWrite
		if n == 1 {
			want = audit.Rotate // all of it was there but its end
		}
		if err != nil || len(entries) != 5 || entries[3].Act != want || entries[4].Act != audit.Start {
			t.Errorf("%d bytes short: %v %v", n, entries, err)
		}
	}
}

func TestManyAppendAtOnce(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 10 {
				if err := audit.Open(dir).Add(day, audit.Backup); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if entries, _, err := audit.Open(dir).Verify(); err != nil || len(entries) != 80 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	info, err := os.Stat(filepath.Join(dir, audit.File))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

func TestNothingAndNobody(t *testing.T) {
	if entries, last, err := audit.Open(t.TempDir()).Verify(); err != nil || len(entries) != 0 || last != "" {
		t.Errorf("%v %q %v", entries, last, err)
	}
	var none *audit.Log
	if err := none.Add(day, audit.Start); err != nil {
		t.Error(err)
	}
	if err := audit.Open(t.TempDir()).Add(day, audit.Start, "x", strings.Repeat("x", 70<<10)); err == nil {
		t.Error("a line without bound was taken")
	}
}
