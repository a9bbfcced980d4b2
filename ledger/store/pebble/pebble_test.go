//go:build !js

package pebble_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/pebble"
	"edgenet.dev/ledger/store/storetest"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func TestStore(t *testing.T) {
	dirs := map[ledger.Store]string{}
	open := func(tb testing.TB, dir string) ledger.Store {
		s, err := pebble.Open(dir)
		if err != nil {
			tb.Fatal(err)
		}
		dirs[s] = dir
		return s
	}
	storetest.Run(t, storetest.Backend{
		New: func(tb testing.TB) ledger.Store { return open(tb, filepath.Join(t.TempDir(), "s")) },
		Reopen: func(tb testing.TB, s ledger.Store) ledger.Store {
			if err := s.Close(); err != nil {
				tb.Fatal(err)
			}
			return open(tb, dirs[s])
		},
	})
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	s, err := pebble.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := pebble.Open(dir); err == nil {
		second.Close()
		t.Fatal("a store is opened twice")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A batch of two keys per number: both or none must be there, always.
func batchOf(i int) []ledger.Record {
	k := fmt.Sprintf("%06d", i)
	return []ledger.Record{{Key: []byte("a" + k), Value: []byte(strings.Repeat(k, 50))}, {Key: []byte("b" + k), Value: []byte(k)}}
}

func has(t *testing.T, s ledger.Store, i int) (first, second bool) {
	t.Helper()
	b := batchOf(i)
	x, err := s.Get(b[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	y, err := s.Get(b[1].Key)
	if err != nil {
		t.Fatal(err)
	}
	return string(x) == string(b[0].Value), string(y) == string(b[1].Value)
}

// At every write operation of the file system the machine crashes and loses a
// random part of what was not synced. Whatever Append had acknowledged is
// there, batches are whole, and they survive in order.
func TestCrashAtEveryWrite(t *testing.T) {
	disk := vfs.NewCrashableMem()
	type crash struct {
		disk  *vfs.MemFS
		acked int
	}
	var mu sync.Mutex
	var crashes []crash
	acked, ops := 0, uint64(0)
	fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		ops++
		crashes = append(crashes, crash{disk.CrashClone(vfs.CrashCloneCfg{
			UnsyncedDataPercent: int(ops*37) % 101, RNG: rand.New(rand.NewPCG(ops, 1)),
		}), acked})
		return nil
	}))
	s, err := pebble.OpenFS("db", fs)
	if err != nil {
		t.Fatal(err)
	}
	const batches = 60
	for i := range batches {
		if err := s.Append(batchOf(i)...); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		acked = i + 1
		mu.Unlock()
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(crashes) < 2*batches {
		t.Fatalf("%d crash points for %d batches", len(crashes), batches)
	}
	for n, c := range crashes {
		s, err := pebble.OpenFS("db", c.disk)
		if err != nil {
			t.Fatalf("crash %d: %v", n, err)
		}
		gone := false
		for i := range batches {
			first, second := has(t, s, i)
			if first != second {
				t.Fatalf("crash %d: half of batch %d survived", n, i)
			}
			if i < c.acked && !first {
				t.Fatalf("crash %d: acknowledged batch %d of %d is lost", n, i, c.acked)
			}
			if gone && first {
				t.Fatalf("crash %d: batch %d is there and an earlier one is not", n, i)
			}
			gone = gone || !first
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The disk fills up at some write: Append returns an error instead of ending
// the process, nothing is answered from a store in doubt, and after the disk
// has room again everything acknowledged is there.
func TestDiskFull(t *testing.T) {
	for at := range 12 {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			disk := vfs.NewCrashableMem()
			var mu sync.Mutex
			full, left := false, at
			fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
				mu.Lock()
				defer mu.Unlock()
				if !full || op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
					return nil
				}
				if left--; left >= 0 {
					return nil
				}
				return syscall.ENOSPC
			}))
			s, err := pebble.OpenFS("db", fs)
			if err != nil {
				t.Fatal(err)
			}
			acked := 0
			for i := range 40 {
				if i == 5 {
					mu.Lock()
					full = true
					mu.Unlock()
				}
				if err = s.Append(batchOf(i)...); err != nil {
					break
				}
				acked = i + 1
			}
			if err == nil || !strings.Contains(err.Error(), "disk") || acked < 5 {
				t.Fatalf("after %d batches: %v", acked, err)
			}
			if _, err := s.Get([]byte("a")); err == nil {
				t.Fatal("a store in doubt answers")
			}
			if err := s.Append(batchOf(99)...); err == nil {
				t.Fatal("a store in doubt accepts a batch")
			}
			s.Close()
			after := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(uint64(at), 2))})
			if s, err = pebble.OpenFS("db", after); err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for i := range acked {
				if a, b := has(t, s, i); !a || !b {
					t.Fatalf("acknowledged batch %d of %d is lost", i, acked)
				}
			}
			if a, b := has(t, s, acked); a != b {
				t.Fatal("half of the failed batch is there")
			}
		})
	}
}

// Something beside the log's own writes fails, when the log is rotated and
// memory written out: an error, not the end of the process and not a stall,
// and what was acknowledged stays.
func TestFaultsBesideTheLog(t *testing.T) {
	for name, hit := range map[string]func(errorfs.Op) bool{
		"no new files":  func(op errorfs.Op) bool { return op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpReuseForWrite },
		"no new log":    func(op errorfs.Op) bool { return op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".log") },
		"no new tables": func(op errorfs.Op) bool { return op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") },
		"tables do not sync": func(op errorfs.Op) bool {
			return op.Kind >= errorfs.OpFileSync && op.Kind <= errorfs.OpFileSyncTo && strings.HasSuffix(op.Path, ".sst")
		},
		"the manifest is not written": func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpFileWrite && strings.Contains(op.Path, "MANIFEST")
		},
		"the manifest does not sync": func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpFileSync && strings.Contains(op.Path, "MANIFEST")
		},
		"the directory does not sync": func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileSync && op.Path == "db" },
	} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewCrashableMem()
			var full atomic.Bool
			fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if full.Load() && hit(op) {
					return syscall.ENOSPC
				}
				return nil
			}))
			s, err := pebble.OpenFS("db", fs)
			if err != nil {
				t.Fatal(err)
			}
			full.Store(true)
			value := make([]byte, 64<<10)
			acked := 0
			for i := range 400 { // 25 MiB, several times what is kept in memory
				if err = s.Append(ledger.Record{Key: fmt.Appendf(nil, "%04d", i), Value: value}); err != nil {
					break
				}
				acked = i + 1
			}
			if err == nil || !strings.Contains(err.Error(), "disk") || acked == 0 {
				t.Fatalf("after %d batches: %v", acked, err)
			}
			s.Close()
			if s, err = pebble.OpenFS("db", disk.CrashClone(vfs.CrashCloneCfg{})); err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for i := range acked {
				if v, err := s.Get(fmt.Appendf(nil, "%04d", i)); err != nil || len(v) != len(value) {
					t.Fatalf("batch %d of %d is lost: %v", i, acked, err)
				}
			}
		})
	}
}
