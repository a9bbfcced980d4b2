//go:build !js

package datadir_test

import (
	"errors"
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
