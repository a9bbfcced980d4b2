//go:build unix

package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"edgenet.dev/node/durable"
)

func TestWriteNewKeepsWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "file")
	if err := durable.WriteNew(path, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteNew(path, []byte("second"), 0o600); !errors.Is(err, fs.ErrExist) {
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
	go func() { done <- durable.WriteNew(path, data, 0o600) }()
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

// What others may read is for the umask to say, and for whoever changed the mode.
func TestModes(t *testing.T) {
	mode := func(path string) fs.FileMode {
		t.Helper()
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	dir := t.TempDir()
	defer syscall.Umask(syscall.Umask(0o027))
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	if err := durable.WriteNew(first, nil, 0o666); err != nil || mode(first) != 0o640 {
		t.Errorf("a new file: %v, %v", err, mode(first))
	}
	if err := durable.Replace(second, []byte("old"), 0o666, nil); err != nil || mode(second) != 0o640 {
		t.Errorf("a file where none was: %v, %v", err, mode(second))
	}
	if err := os.Chmod(second, 0o604); err != nil {
		t.Fatal(err)
	}
	if err := durable.Replace(second, []byte("new"), 0o600, nil); err != nil || mode(second) != 0o604 {
		t.Errorf("in place of another one: %v, %v", err, mode(second))
	}
}

// What is refused takes no place and leaves nothing.
func TestReplaceIsChecked(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "deep", "file")
	refused := errors.New("refused")
	check := func(name string) error {
		if b, err := os.ReadFile(name); err != nil || strings.Contains(string(b), "bad") {
			return errors.Join(refused, err)
		}
		return nil
	}
	if err := durable.Replace(path, []byte("good"), 0o600, check); err != nil {
		t.Fatal(err)
	}
	if err := durable.Replace(path, []byte("bad"), 0o600, check); !errors.Is(err, refused) {
		t.Error(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "good" {
		t.Errorf("%q, %v", b, err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
