package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// untilSignal ends a context at the first Ctrl-C or termination signal, upon
// which a command comes to its end in order. The second one ends the process at
// once: whoever sends it does not want to wait, and nothing on disk depends on
// an orderly end.
func untilSignal(errw io.Writer) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	over := make(chan struct{})
	go func() {
		for range 2 {
			select {
			case <-ch:
			case <-over:
				return
			}
			if ctx.Err() != nil {
				fmt.Fprintln(errw, "edgenetd: a second signal ended it at once")
				os.Exit(exitInterrupted)
			}
			cancel()
		}
	}()
	return ctx, func() {
		signal.Stop(ch)
		close(over)
		cancel()
	}
}

// errInterrupted is what waiting for a person or a pipe ends with at a signal.
var errInterrupted = failf(exitInterrupted, "interrupted; nothing was done")

// orSignal returns what f does, or errInterrupted at the first signal. f is left
// behind then: nothing wakes a read of a terminal or a pipe, and the process
// ends with it.
func orSignal[T any](a *app, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-a.stopped:
		var none T
		return none, errInterrupted
	}
}
