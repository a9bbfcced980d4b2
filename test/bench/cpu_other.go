//go:build !linux

package main

import "time"

// timeOf is the time that f takes.
func timeOf(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}
