//go:build !js

package datadir_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"edgenet.dev/node/datadir"
)

func TestLock(t *testing.T) {
	dir := t.TempDir()
	lock, err := datadir.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	var held *datadir.InUseError
	if _, err := datadir.Lock(dir); !errors.As(err, &held) || held.Owner != strconv.Itoa(os.Getpid()) {
		t.Errorf("a held directory: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if lock, err = datadir.Lock(dir); err != nil {
		t.Fatalf("after it was given back: %v", err)
	}
	lock.Close()
}

func TestWriteNewKeepsWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "file")
	if err := datadir.WriteNew(path, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := datadir.WriteNew(path, []byte("second"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "first" {
		t.Errorf("holds %q, %v", b, err)
	}
}

// Whenever a process ends, the file is there with all that it says, or it is not.
func TestWriteNewIsWholeOrAbsent(t *testing.T) {
	dir := t.TempDir()
	path, data := filepath.Join(dir, "file"), make([]byte, 64<<20)
	done := make(chan error, 1)
	go func() { done <- datadir.WriteNew(path, data, 0o600) }()
	for written := false; !written; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			written = true
		default:
		}
		if info, err := os.Lstat(path); err == nil && info.Size() != int64(len(data)) {
			t.Fatalf("%d of %d bytes are there", info.Size(), len(data))
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestNetworkOfDirectory(t *testing.T) {
	dir := t.TempDir()
	if _, err := datadir.Network(dir); !errors.Is(err, datadir.ErrNoNetwork) {
		t.Errorf("an empty directory: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, datadir.Genesis), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := datadir.Network(dir); !errors.Is(err, datadir.ErrGenesis) {
		t.Errorf("a damaged genesis: %v", err)
	}
}
