package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"connectrpc.com/connect"

	"edgenet.dev/node/api"
	"edgenet.dev/node/identity"
	"edgenet.dev/proto"
)

// Exit codes. They are part of the command line's contract: scripts test
// them, so numbers never change meaning.
const (
	exitOK           = 0
	exitFailure      = 1
	exitUsage        = 2
	exitNoDaemon     = 3
	exitTask         = 4
	exitRefused      = 5
	exitBusy         = 6
	exitPassphrase   = 7
	exitStorage      = 8
	exitNotFound     = 9
	exitInsufficient = 10
	exitWaiting      = 11
	exitInterrupted  = 130
)

const exitCodesHelp = `Exit codes of every command:

    0  it worked
    1  it failed for a reason that has no code of its own
    2  usage: unknown command, flag or argument, or a value that cannot be read
    3  no daemon answers in the data directory
    4  a task failed, was cancelled, or its result was not verified as asked;
       a devnet did not agree
    5  input refused: genesis, module, configuration, task input, receipt,
       transfer or backup
    6  busy: the data directory, socket or port belongs to another process
    7  wrong passphrase
    8  storage: the disk is full or cannot be written
    9  nothing is there under that name: job, peer, file or identity
   10  the balance or the budget does not cover it
   11  not final: too few witnesses answered in time; the message says whether
       anything was signed
  130  interrupted by Ctrl-C or a termination signal
`

// exitError is an error whose exit code is known where it arises.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// failf makes an error of one sentence that ends the process with code.
func failf(code int, format string, args ...any) error {
	return &exitError{code, fmt.Errorf(format, args...)}
}

// exitCode finds the code for err. What the operating system says is
// recognised wherever it is wrapped, so that a full disk looks the same from
// every command.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if isDiskError(err) {
		return exitStorage
	}
	var known *exitError
	if errors.As(err, &known) {
		return known.code
	}
	switch {
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, identity.ErrPassphrase):
		return exitPassphrase
	case errors.Is(err, identity.ErrOpenDir), errors.Is(err, identity.ErrMode):
		return exitRefused
	case errors.Is(err, api.ErrInUse), errors.Is(err, syscall.EADDRINUSE):
		return exitBusy
	case errors.Is(err, fs.ErrNotExist):
		return exitNotFound
	case errors.Is(err, fs.ErrPermission):
		return exitStorage
	}
	return exitFailure
}

func isDiskError(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		errors.Is(err, syscall.EFBIG) || errors.Is(err, syscall.EROFS)
}

// sentence is err for people: one line, with what to do where the cause is
// known and the message does not say so itself.
func sentence(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if err == context.Canceled {
		text = "interrupted"
	}
	if isDiskError(err) {
		text += "; nothing was lost: free some space (or choose another --dir) and run the command again"
	}
	return harmless(text) // a worker's reason may be in it
}

// remote gives an error of the local API its exit code.
func remote(err error) error {
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return err
	}
	text := errors.New(ce.Message())
	if ce.Meta().Get(api.FullHeader) != "" {
		return failf(exitStorage, "the daemon's disk is full (%w); free some space and try again", text)
	}
	switch ce.Meta().Get(api.CodeHeader) {
	case proto.CodeInsufficient.String(), proto.CodeBudget.String():
		return &exitError{exitInsufficient, text}
	case proto.CodeNotFound.String():
		return &exitError{exitNotFound, text}
	case proto.CodeTimeout.String():
		return &exitError{exitWaiting, text}
	}
	switch ce.Code() {
	case connect.CodeCanceled:
		return &exitError{exitInterrupted, errors.New("interrupted")}
	case connect.CodeInvalidArgument, connect.CodeResourceExhausted, connect.CodePermissionDenied:
		return &exitError{exitRefused, text}
	case connect.CodeNotFound:
		return &exitError{exitNotFound, text}
	case connect.CodeUnavailable, connect.CodeUnknown:
		return failf(exitNoDaemon, "the daemon went away before it answered (%v); see its log, start it with 'edgenetd run' and try again", text)
	}
	return &exitError{exitFailure, text}
}
