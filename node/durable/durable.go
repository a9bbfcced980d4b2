// Package durable writes small files that are there whole or not at all,
// whenever the process or the machine ends.
package durable

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteNew writes a file that must not exist yet (fs.ErrExist), and makes its
// directory when that is missing. The umask takes from mode.
func WriteNew(path string, data []byte, mode fs.FileMode) error {
	if exists(path) {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	return write(path, data, mode, nil, func(name string) error {
		err := os.Link(name, path)
		if err == nil || errors.Is(err, fs.ErrExist) {
			return err
		}
		return os.Rename(name, path) // some file systems have no hard links
	})
}

// Replace writes a file in place of what is there, whose mode it keeps; a new
// one gets mode. check may refuse what was written, under another name, before it
// takes the place; nil takes all.
func Replace(path string, data []byte, mode fs.FileMode, check func(name string) error) error {
	return write(path, data, mode, check, func(name string) error {
		if info, err := os.Stat(path); err == nil {
			if err := os.Chmod(name, info.Mode().Perm()); err != nil {
				return err
			}
		}
		return os.Rename(name, path)
	})
}

// write writes data under a name of its own beside path, syncs it, and has place
// give it its name.
func write(path string, data []byte, mode fs.FileMode, check, place func(name string) error) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// Not CreateTemp and Chmod, which would not heed the umask.
	f, err := os.OpenFile(filepath.Join(dir, ".new-"+rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it was renamed
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil && check != nil {
		err = check(f.Name())
	}
	if err != nil {
		return err
	}
	if err := place(f.Name()); err != nil {
		return err
	}
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync() // not every file system can; the file itself is synced
		d.Close()
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
