package proto

import (
	"errors"
	"fmt"
)

// Code is a wire error code. Numbers are append-only: a code is never reused.
type Code uint32

// Codes of refusals, failures and rejections.
const (
	CodeOK Code = iota
	CodeMalformed
	CodeBadSignature
	CodeWrongNetwork
	CodeTooLarge
	CodeUnknownKind
	CodeNotFound
	CodeBusy      // no free slot
	CodePaused    // the worker does not want work now
	CodeExpired   // deadline or lease passed
	CodeNoLane    // no certified lane, or its cap is used up
	CodePrice     // price below what the worker asked
	CodeModule    // module refused by the sandbox check
	CodeFetch     // module or input could not be fetched
	CodeInputHash // input does not match its commitment
	CodeLimits    // limits above what the worker grants
	CodeType      // task type not offered
	CodeCancelled
	CodeTimeout      // total deadline of a job
	CodeWorkerGone   // stream lost
	CodeNoQuorum     // replicas never agreed
	CodeNoWorkers    // nobody claimed before the deadline
	CodeBudget       // max credits or balance does not cover another replica
	CodeLocalFailure // sandbox ended with a status that cannot vote
	CodeNoCommit     // own commitment missing from a reveal
	CodeBadReceipt   // receipt does not match assignment, output or commitment
	CodeMinority     // outvoted
	CodeInsufficient // account balance
	CodeNotWitness
	CodeConflict     // another body is known for the slot
	CodeMissing      // attachments missing
	CodeInvalidEvent // a ledger rule refused the event
	CodeNotFinal     // the source is not certified
	CodeTaskFailed   // agreed result is a trap, out-of-fuel or non-zero exit
	CodeRateLimited
	CodeDuplicate
	CodeShutdown
	CodeInternal
	CodeQueueTimeout // not started in the time for that
	CodeRunTimeout   // a try ran for its whole limit
	CodeBlocked      // an operator blocks the peer, the submitter or the module
)

var codeNames = [...]string{
	"OK", "MALFORMED", "BAD_SIGNATURE", "WRONG_NETWORK", "TOO_LARGE", "UNKNOWN_KIND", "NOT_FOUND", "BUSY", "PAUSED",
	"EXPIRED", "NO_LANE", "PRICE", "MODULE", "FETCH", "INPUT_HASH", "LIMITS", "TYPE", "CANCELLED", "TIMEOUT",
	"WORKER_GONE", "NO_QUORUM", "NO_WORKERS", "BUDGET", "LOCAL_FAILURE", "NO_COMMIT", "BAD_RECEIPT", "MINORITY",
	"INSUFFICIENT_BALANCE", "NOT_WITNESS", "CONFLICT", "MISSING", "INVALID_EVENT", "NOT_FINAL", "TASK_FAILED",
	"RATE_LIMITED", "DUPLICATE", "SHUTDOWN", "INTERNAL", "QUEUE_TIMEOUT", "RUN_TIMEOUT", "BLOCKED",
}

func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("CODE_%d", uint32(c))
}

// Error is an error that carries a wire code. Two Errors with one code are
// errors.Is-equal, so callers test against a bare Code through errors.Is or
// CodeOf.
type Error struct {
	Code   Code
	Reason string
}

func (e *Error) Error() string {
	if e.Reason == "" {
		return e.Code.String()
	}
	return e.Reason
}

// Is reports equality by code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && (t.Reason == "" || t.Reason == e.Reason)
}

// Errorf makes an *Error with a formatted reason.
func (c Code) Errorf(format string, args ...any) error {
	return &Error{Code: c, Reason: fmt.Sprintf(format, args...)}
}

// Err is the bare error of the code, for errors.Is.
func (c Code) Err() error { return &Error{Code: c} }

// CodeOf finds the code an error carries: CodeOK for nil, CodeInternal when
// it carries none.
func CodeOf(err error) Code {
	if err == nil {
		return CodeOK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}
