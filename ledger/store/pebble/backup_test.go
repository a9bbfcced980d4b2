//go:build !js

package pebble_test

import (
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/pebble"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// A backup is one moment of a store that is written to meanwhile, it is durable
// when Backup returns, and the store goes on.
func TestBackupWhileRunning(t *testing.T) {
	disk := vfs.NewCrashableMem()
	s, err := pebble.OpenFS("db", disk)
	if err != nil {
		t.Fatal(err)
	}
	const before = 3000 // a few megabytes: several batches of the copy
	for i := range before {
		b := batchOf(i)
		b[0].Value = []byte(strings.Repeat(string(b[0].Value), 8))
		if err := s.AppendLazily(b...); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	var stop atomic.Bool
	started := make(chan struct{})
	wg.Add(1)
	go func() {
		defer wg.Done()
		for i := before; !stop.Load(); i++ {
			if err := s.Append(batchOf(i)...); err != nil {
				t.Error(err)
				return
			}
			if i == before {
				close(started)
			}
		}
	}()
	<-started
	err = s.Backup("copy")
	stop.Store(true)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	after := disk.CrashClone(vfs.CrashCloneCfg{}) // nothing that was not synced
	c, err := pebble.OpenFS("copy", after)
	if err != nil {
		t.Fatal(err)
	}
	gone := false
	n := 0
	for i := range before + 10_000 {
		b := batchOf(i)
		first, err := c.Get(b[0].Key)
		if err != nil {
			t.Fatal(err)
		}
		second, err := c.Get(b[1].Key)
		switch {
		case err != nil:
			t.Fatal(err)
		case (first == nil) != (second == nil):
			t.Fatalf("half of batch %d is in the copy", i)
		case first != nil && gone:
			t.Fatalf("batch %d is in the copy and an earlier one is not", i)
		case first == nil && i <= before:
			t.Fatalf("batch %d, acknowledged before the backup, is not in the copy", i)
		}
		if gone = first == nil; !gone {
			n++
		}
	}
	t.Logf("%d batches", n)
	for _, x := range []*pebble.Store{c, s} {
		if err := x.Append(batchOf(0)...); err != nil { // both go on, apart
			t.Fatal(err)
		}
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Backup("late"); err == nil {
		t.Error("a closed store makes a backup")
	}
}

// A backup never replaces anything, and one that fails leaves nothing behind
// and does not harm the store: not when the target's disk is full at any write.
func TestBackupThatFails(t *testing.T) {
	disk := vfs.NewCrashableMem()
	var left atomic.Int64
	left.Store(-1)
	var full atomic.Bool
	s, err := pebble.OpenFS("db", errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.HasPrefix(op.Path, "copy") && full.Load() && left.Add(-1) < 0 {
			return syscall.ENOSPC
		}
		return nil
	})))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range 50 {
		if err := s.Append(batchOf(i)...); err != nil {
			t.Fatal(err)
		}
	}
	if err := disk.MkdirAll("taken", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup("taken"); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Fatalf("a backup over something: %v", err)
	}
	failed := 0
	for n := int64(0); ; n += 3 {
		full.Store(true)
		left.Store(n)
		err := s.Backup("copy")
		full.Store(false)
		if err == nil {
			break
		}
		failed++
		if _, err := disk.Stat("copy"); err == nil {
			// Only the last step, syncing the directory above, comes later.
			if err := disk.RemoveAll("copy"); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Append(batchOf(int(100 + n))...); err != nil {
			t.Fatalf("a failed backup harms the store: %v", err)
		}
	}
	if failed < 5 {
		t.Fatalf("%d backups failed, the disk was never full", failed)
	}
	c, err := pebble.OpenFS("copy", disk)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 50 {
		if a, b := has(t, c, i); !a || !b {
			t.Fatalf("batch %d is not in the copy", i)
		}
	}
}

// At every write of a backup the machine crashes: there is no copy, or a whole
// one.
func TestCrashDuringBackup(t *testing.T) {
	disk := vfs.NewCrashableMem()
	var mu sync.Mutex
	var crashes []*vfs.MemFS
	armed := false
	ops := uint64(0)
	s, err := pebble.OpenFS("db", errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if armed && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			ops++
			crashes = append(crashes, disk.CrashClone(vfs.CrashCloneCfg{
				UnsyncedDataPercent: int(ops*37) % 101, RNG: rand.New(rand.NewPCG(ops, 1)),
			}))
		}
		return nil
	})))
	if err != nil {
		t.Fatal(err)
	}
	var batch []ledger.Record
	for i := range 50 {
		batch = append(batch, batchOf(i)...)
	}
	if err := s.Append(batch...); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	armed = true
	mu.Unlock()
	if err := s.Backup("copy"); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	armed = false
	mu.Unlock()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole := 0
	for n, fs := range crashes {
		if _, err := fs.Stat("copy"); err != nil {
			continue
		}
		whole++
		c, err := pebble.OpenFS("copy", fs)
		if err != nil {
			t.Fatalf("crash %d: %v", n, err)
		}
		for i := range 50 {
			if a, b := has(t, c, i); !a || !b {
				t.Fatalf("crash %d: batch %d is not in the copy", n, i)
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d crashes, %d with a copy", len(crashes), whole)
}
