//go:build !js

package pebble

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// backupBatch is how many bytes of records a backup writes at once.
const backupBatch = 1 << 20

// Backup writes a copy of the store into the new directory dir, while the store
// is in use: the copy is the store as it was at one moment during the call, and
// everything that Append had acknowledged before the call is in it. Open opens
// it like any store. When Backup returns nil the copy survives a crash; when it
// returns an error, or the machine crashes, there is nothing at dir, and at
// most dir with ".part" behind its name, which the next Backup replaces. A
// target that fails does this store no harm. A copy of a witness's store must
// never vote: see docs/ledger.md.
func (s *Store) Backup(dir string) (err error) {
	if err := s.ready(); err != nil {
		return err
	}
	switch _, err := s.fs.Stat(dir); {
	case err == nil:
		return fmt.Errorf("backup %s: it exists; choose another directory", dir)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("backup: %w", err)
	}
	part := dir + ".part"
	if err := s.fs.RemoveAll(part); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.fs.RemoveAll(part))
		}
	}()
	if err := s.copyTo(part); err != nil {
		return fmt.Errorf("backup %s: %w", dir, err)
	}
	if err := s.fs.Rename(part, dir); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return syncDir(s.fs, s.fs.PathDir(dir))
}

func syncDir(disk vfs.FS, dir string) error {
	d, err := disk.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// copyTo writes a snapshot of all records into another store.
func (s *Store) copyTo(dir string) (err error) {
	to, err := OpenFS(dir, s.fs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	defer s.log.guard(&err)
	snap := s.db.NewSnapshot()
	defer func() { err = errors.Join(err, snap.Close()) }()
	it, err := snap.NewIter(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	b := to.db.NewBatch()
	defer func() { _ = b.Close() }()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := b.Set(it.Key(), v, nil); err != nil {
			return err
		}
		if b.Len() < backupBatch {
			continue
		}
		if err := to.commit(b, pebble.NoSync); err != nil {
			return err
		}
		b.Reset()
	}
	if err := it.Error(); err != nil {
		return err
	}
	return to.commit(b, pebble.Sync)
}
