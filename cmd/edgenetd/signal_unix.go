//go:build unix

package main

import (
	"os/signal"
	"syscall"
)

// ignoreFileSizeSignal makes a file size limit an error of the write that met
// it, as a full disk is, where Go's default is to end the process.
func ignoreFileSizeSignal() { signal.Ignore(syscall.SIGXFSZ) }

// ignoreHangup keeps a daemon alive when the terminal it was started from is
// closed, and when whoever read its output is gone.
func ignoreHangup() { signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE) }
