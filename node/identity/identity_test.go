package identity_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"

	"edgenet.dev/node/identity"
)

func create(t *testing.T, dir string) crypto.PrivKey {
	t.Helper()
	key, err := identity.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestCreateThenLoadIsTheSameKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "node")
	key := create(t, dir)
	got, err := identity.Load(dir)
	if err != nil || !got.Equals(key) {
		t.Fatalf("Load = %v, equal %v", err, err == nil && got.Equals(key))
	}
	for name, want := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, identity.File): 0o600} {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v (%v)", name, info.Mode().Perm(), want, err)
		}
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("directory holds %d entries, want the key alone", len(entries))
	}
}

func TestCreateKeepsAnExistingKey(t *testing.T) {
	dir := t.TempDir()
	key := create(t, dir)
	if _, err := identity.Create(dir); !errors.Is(err, identity.ErrExists) {
		t.Fatalf("second Create = %v, want ErrExists", err)
	}
	if got, _ := identity.Load(dir); !got.Equals(key) {
		t.Fatal("the first key is gone")
	}
}

func TestLoadRefuses(t *testing.T) {
	if _, err := identity.Load(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing key: %v, want fs.ErrNotExist", err)
	}
	for name, content := range map[string]string{
		"empty": "", "short": "AAAA\n", "not base64": "!!!!\n", "too long": strings.Repeat("A", 5000),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, identity.File), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := identity.Load(dir); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
	for _, mode := range []fs.FileMode{0o777, 0o702, 0o777 | fs.ModeSticky} {
		dir := t.TempDir()
		create(t, dir)
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := identity.Load(dir); !errors.Is(err, identity.ErrOpenDir) {
			t.Errorf("directory of mode %v: %v, want ErrOpenDir", mode, err)
		}
		if _, err := identity.Create(dir); !errors.Is(err, identity.ErrOpenDir) {
			t.Errorf("create in a directory of mode %v: %v, want ErrOpenDir", mode, err)
		}
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o660} {
		dir := t.TempDir()
		create(t, dir)
		if err := os.Chmod(filepath.Join(dir, identity.File), mode); err != nil {
			t.Fatal(err)
		}
		if _, err := identity.Load(dir); !errors.Is(err, identity.ErrMode) {
			t.Errorf("mode %v: %v, want ErrMode", mode, err)
		}
	}
}

func TestExportImport(t *testing.T) {
	from := t.TempDir()
	key := create(t, from)
	out, err := identity.Export(key, "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := key.Raw()
	if bytes.Contains(out, raw[:32]) {
		t.Fatal("the export shows the key")
	}

	to := t.TempDir()
	if _, err := identity.Import(to, out, "wrong horse"); !errors.Is(err, identity.ErrPassphrase) {
		t.Fatalf("wrong passphrase: %v", err)
	}
	if entries, _ := os.ReadDir(to); len(entries) != 0 {
		t.Fatal("a refused import left something behind")
	}
	got, err := identity.Import(to, out, "correct horse")
	if err != nil || !got.Equals(key) {
		t.Fatalf("Import = %v", err)
	}
	if loaded, err := identity.Load(to); err != nil || !loaded.Equals(key) {
		t.Fatalf("Load after Import = %v", err)
	}
	if _, err := identity.Import(to, out, "correct horse"); err != nil {
		t.Errorf("importing the same key again: %v", err)
	}

	other := t.TempDir()
	mine := create(t, other)
	if _, err := identity.Import(other, out, "correct horse"); !errors.Is(err, identity.ErrExists) {
		t.Errorf("import over another key: %v, want ErrExists", err)
	}
	if kept, _ := identity.Load(other); !kept.Equals(mine) {
		t.Error("import replaced another key")
	}
}

func TestImportRefusesWhatIsNoExport(t *testing.T) {
	key := create(t, t.TempDir())
	good, err := identity.Export(key, "p")
	if err != nil {
		t.Fatal(err)
	}
	cut := good[:len(good)/2]
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	for name, in := range map[string][]byte{
		"nothing": nil, "text": []byte("hello\n"), "huge": bytes.Repeat([]byte("a"), identity.MaxExport+1),
		"cut": cut, "flipped": flipped,
	} {
		dir := t.TempDir()
		if _, err := identity.Import(dir, in, "p"); err == nil {
			t.Errorf("%s: imported", name)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 0 {
			t.Errorf("%s: left %d entries", name, len(entries))
		}
	}
	if _, err := identity.Export(key, ""); err == nil {
		t.Error("exported under an empty passphrase")
	}
}
