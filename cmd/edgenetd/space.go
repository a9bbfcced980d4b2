package main

import (
	"context"
	"errors"
	"syscall"
	"time"
)

const spaceEvery = 2 * time.Second

// checkSpace refuses a data directory with less than least bytes of room. The
// stores preallocate their logs and cannot recover from a write that fails
// halfway, so the daemon stops while there is still room to close them.
func checkSpace(dir string, least uint64) error {
	free, err := freeSpace(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return failf(exitStorage, "the disk of %s cannot be looked at: %w", dir, err)
	}
	if free < least {
		return failf(exitStorage, "the disk of %s has %s left (%w), a daemon needs %s", dir, bytesText(free), syscall.ENOSPC, bytesText(least))
	}
	return nil
}

// watchSpace returns an error once the disk is nearly full, nil when ctx ends.
func watchSpace(ctx context.Context, dir string, least uint64) error {
	tick := time.NewTicker(spaceEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := checkSpace(dir, least); err != nil {
				return err
			}
		}
	}
}
