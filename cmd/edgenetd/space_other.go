//go:build !linux && !darwin && !freebsd

package main

import "errors"

// freeSpace is not known here; a full disk shows when a write fails.
func freeSpace(string) (uint64, error) { return 0, errors.ErrUnsupported }
