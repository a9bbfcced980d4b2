//go:build unix

package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
)

func testLog(t *testing.T, values map[string]any) *daemonLog {
	t.Helper()
	cfg, err := loadConfig(filepath.Join(t.TempDir(), configName), nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range values {
		if lookup(k) == nil {
			t.Fatalf("there is no key %s", k)
		}
		if err := cfg.values.Set(k, v); err != nil {
			t.Fatal(err)
		}
	}
	l, err := openLog(cfg, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

// A log is moved aside at its size, and only so many such files stay.
func TestLogIsRotatedBySize(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "d.log")
	l := testLog(t, map[string]any{"log.file": name, "log.max-size": 1, "log.keep": 2})
	filler := zap.String("filler", strings.Repeat("x", 64<<10))
	files := func() (names []string) {
		names, err := filepath.Glob(filepath.Join(dir, "*.log"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	for i := range 80 { // 5 MiB
		l.Info("line", zap.Int("n", i), filler)
		if i%16 == 15 {
			time.Sleep(2 * time.Millisecond) // names of moved files differ by milliseconds
		}
	}
	for deadline := time.Now().Add(time.Minute); len(files()) != 3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("files are %q, want the log and two before it", files())
		}
	}
	for _, f := range files() {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 1<<20 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has %d bytes and mode %v", f, info.Size(), info.Mode())
		}
	}
	b, err := os.ReadFile(name)
	if err != nil || !strings.Contains(string(b), `"n":79,`) {
		t.Errorf("the last line is not in the log (%v)", err)
	}

	never := filepath.Join(dir, "never")
	l = testLog(t, map[string]any{"log.file": never, "log.max-size": 0})
	for range 20 {
		l.Info("line", filler)
	}
	if info, err := os.Stat(never); err != nil || info.Size() < 20*64<<10 {
		t.Errorf("with 0 the log was rotated: %v %v", info, err)
	}
}

// Whoever moves the file away and sends SIGHUP finds the next lines in a new
// file of that name.
func TestLogIsReopenedOnHangup(t *testing.T) {
	keep := make(chan os.Signal, 1)
	signal.Notify(keep, syscall.SIGHUP) // the signal must not end this process
	defer signal.Stop(keep)
	name := filepath.Join(t.TempDir(), "d.log")
	l := testLog(t, map[string]any{"log.file": name})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.reopen(ctx, func() {}) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	l.Info("before")
	if err := os.Rename(name, name+".1"); err != nil {
		t.Fatal(err)
	}
	l.Info("still the old file")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(name); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no new file")
		}
	}
	l.Info("after")
	old, _ := os.ReadFile(name + ".1")
	now, _ := os.ReadFile(name)
	if !strings.Contains(string(old), "still the old file") || !strings.Contains(string(now), "after") {
		t.Errorf("old file %q, new file %q", old, now)
	}
}
