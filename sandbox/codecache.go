//go:build !js

package sandbox

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Compiled code is kept on disk between runs. Whoever sends modules makes it grow,
// so what was not used for longest goes once it is above its size.

const trimEvery = 30 * time.Second

// trimmer looks after the cache until ctx ends.
func (p *pool) trimmer(ctx context.Context) {
	defer p.wg.Done()
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		if err := trimCache(p.cfg.CacheDir, p.cfg.CacheSize); err != nil {
			p.cfg.Log("compilation cache: %v", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// trimCache deletes the files below dir that were not used for longest until limit
// bytes are left. A child that has one open reads it to its end.
func trimCache(dir string, limit uint64) error {
	type file struct {
		path string
		size uint64
		used time.Time
	}
	var files []file
	var sum uint64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if path == dir {
				return err
			}
			return nil // gone meanwhile
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			files = append(files, file{path, uint64(info.Size()), lastUsed(info)})
			sum += uint64(info.Size())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("size of %s: %w", dir, err)
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.path, b.path)) })
	for _, f := range files {
		if sum <= limit {
			break
		}
		if err := os.Remove(f.path); err != nil && !os.IsNotExist(err) {
			return err
		}
		sum -= f.size
	}
	return nil
}
