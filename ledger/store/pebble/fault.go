//go:build !js

package pebble

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// faults is pebble's logger. It is silent, and where pebble would end the
// process it remembers the fault instead, so that the daemon can say what to
// do.
type faults struct {
	first atomic.Pointer[error]
}

func (f *faults) Infof(string, ...any)  {}
func (f *faults) Errorf(string, ...any) {}

func (f *faults) Fatalf(format string, args ...any) { f.fail(fmt.Errorf(format, args...)) }

// fail remembers the first fault and returns it.
func (f *faults) fail(err error) error {
	err = fmt.Errorf("ledger store: a write failed, free disk space or check the disk and start again: %w", err)
	f.first.CompareAndSwap(nil, &err)
	return f.err()
}

func (f *faults) err() error {
	if p := f.first.Load(); p != nil {
		return *p
	}
	return nil
}

// guard turns a panic of pebble into an error.
func (f *faults) guard(err *error) {
	if r := recover(); r != nil {
		*err = f.fail(fmt.Errorf("%v", r))
	}
}

// diskFS stops the disk at its first fault, as a crash would. When pebble
// cannot rotate its log it panics with its locks in a state in which the
// runtime ends the process. So faults of the log and of directories are
// remembered here, Append reports them, and pebble is told that all went well:
// the store answers nothing any more, so nobody sees the difference. After a
// fault no log grows, no file goes away, and every other change fails, so that
// what pebble still does in the background neither builds on what is not there
// nor drops what is.
type diskFS struct {
	vfs.FS
	f *faults
}

func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

// file wraps what a call that makes or opens a file to write gave.
func (fs diskFS) file(name string, open func() (vfs.File, error)) (vfs.File, error) {
	fault := fs.f.err()
	if !isLog(name) {
		if fault != nil {
			return nil, fault
		}
		file, err := open()
		if err != nil {
			return nil, err
		}
		return dataFile{file, fs.f}, nil
	}
	if fault == nil {
		file, err := open()
		if err == nil {
			return logFile{file, fs.f}, nil
		}
		fs.f.fail(err)
	}
	return logFile{vfs.NewMemFile(nil), fs.f}, nil
}

func (fs diskFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.file(name, func() (vfs.File, error) { return fs.FS.Create(name, c) })
}

func (fs diskFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.file(to, func() (vfs.File, error) { return fs.FS.ReuseForWrite(from, to, c) })
}

func (fs diskFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return fs.file(name, func() (vfs.File, error) { return fs.FS.OpenReadWrite(name, c, o...) })
}

func (fs diskFS) OpenDir(name string) (vfs.File, error) {
	dir, err := fs.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return logFile{dir, fs.f}, nil
}

func (fs diskFS) Link(from, to string) error {
	if err := fs.f.err(); err != nil {
		return err
	}
	return fs.FS.Link(from, to)
}

func (fs diskFS) Rename(from, to string) error {
	if err := fs.f.err(); err != nil {
		return err
	}
	return fs.FS.Rename(from, to)
}

func (fs diskFS) Remove(name string) error {
	if fs.f.err() != nil {
		return nil
	}
	return fs.FS.Remove(name)
}

func (fs diskFS) RemoveAll(name string) error {
	if fs.f.err() != nil {
		return nil
	}
	return fs.FS.RemoveAll(name)
}

// Unwrap lets pebble find the file system below.
func (fs diskFS) Unwrap() vfs.FS { return fs.FS }

// dataFile is a table, manifest or option file: nothing more is written to it
// after a fault.
type dataFile struct {
	vfs.File
	f *faults
}

func (d dataFile) Write(p []byte) (int, error) {
	if err := d.f.err(); err != nil {
		return 0, err
	}
	return d.File.Write(p)
}

func (d dataFile) WriteAt(p []byte, at int64) (int, error) {
	if err := d.f.err(); err != nil {
		return 0, err
	}
	return d.File.WriteAt(p, at)
}

func (d dataFile) Sync() error {
	if err := d.f.err(); err != nil {
		return err
	}
	return d.File.Sync()
}

func (d dataFile) SyncData() error {
	if err := d.f.err(); err != nil {
		return err
	}
	return d.File.SyncData()
}

// logFile is a write-ahead log or a directory.
type logFile struct {
	vfs.File
	f *faults
}

// try runs a step unless there was a fault, and remembers its own.
func (l logFile) try(step func() error) error {
	if l.f.err() == nil {
		if err := step(); err != nil {
			l.f.fail(err)
		}
	}
	return nil
}

func (l logFile) Write(p []byte) (int, error) {
	return len(p), l.try(func() error { _, err := l.File.Write(p); return err })
}

func (l logFile) WriteAt(p []byte, at int64) (int, error) {
	return len(p), l.try(func() error { _, err := l.File.WriteAt(p, at); return err })
}

func (l logFile) Preallocate(offset, length int64) error {
	return l.try(func() error { return l.File.Preallocate(offset, length) })
}

func (l logFile) Sync() error     { return l.try(l.File.Sync) }
func (l logFile) SyncData() error { return l.try(l.File.SyncData) }

func (l logFile) SyncTo(length int64) (full bool, err error) {
	return full, l.try(func() (err error) { full, err = l.File.SyncTo(length); return err })
}

func (l logFile) Close() error {
	if err := l.File.Close(); err != nil {
		l.f.fail(err)
	}
	return nil
}
