//go:build !js

package api

import (
	"context"
	"errors"
	"syscall"

	"connectrpc.com/connect"

	"edgenet.dev/proto"
)

// CodeHeader carries the name of the proto.Code beside a Connect error, whose
// own codes are coarser.
const CodeHeader = "Edgenet-Code"

// FullHeader is set beside an error that came from a full disk.
const FullHeader = "Edgenet-Disk-Full"

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

var connectCodes = map[proto.Code]connect.Code{
	proto.CodeMalformed:    connect.CodeInvalidArgument,
	proto.CodeBadSignature: connect.CodeInvalidArgument,
	proto.CodeWrongNetwork: connect.CodeInvalidArgument,
	proto.CodeTooLarge:     connect.CodeInvalidArgument,
	proto.CodeUnknownKind:  connect.CodeInvalidArgument,
	proto.CodeModule:       connect.CodeInvalidArgument,
	proto.CodeLimits:       connect.CodeInvalidArgument,
	proto.CodeType:         connect.CodeInvalidArgument,
	proto.CodePrice:        connect.CodeInvalidArgument,
	proto.CodeInputHash:    connect.CodeInvalidArgument,
	proto.CodeBadReceipt:   connect.CodeInvalidArgument,
	proto.CodeNotFound:     connect.CodeNotFound,
	proto.CodeDuplicate:    connect.CodeAlreadyExists,
	proto.CodeBusy:         connect.CodeResourceExhausted,
	proto.CodeRateLimited:  connect.CodeResourceExhausted,
	proto.CodeCancelled:    connect.CodeCanceled,
	proto.CodeTimeout:      connect.CodeDeadlineExceeded,
	proto.CodeQueueTimeout: connect.CodeDeadlineExceeded,
	proto.CodeRunTimeout:   connect.CodeDeadlineExceeded,
	proto.CodeExpired:      connect.CodeDeadlineExceeded,
	proto.CodeShutdown:     connect.CodeUnavailable,
	proto.CodeWorkerGone:   connect.CodeUnavailable,
	proto.CodeNoWorkers:    connect.CodeUnavailable,
	proto.CodeNoQuorum:     connect.CodeAborted,
	proto.CodeConflict:     connect.CodeAborted,
	proto.CodeInsufficient: connect.CodeFailedPrecondition,
	proto.CodeBudget:       connect.CodeFailedPrecondition,
	proto.CodePaused:       connect.CodeFailedPrecondition,
	proto.CodeBlocked:      connect.CodePermissionDenied,
	proto.CodeInvalidEvent: connect.CodeFailedPrecondition,
	proto.CodeNotFinal:     connect.CodeFailedPrecondition,
	proto.CodeNotWitness:   connect.CodeFailedPrecondition,
}

// failure turns an error of the node into one a client can test: the nearest
// Connect code, the reason as text and the exact code as metadata.
func failure(err error) error {
	if err == nil {
		return nil
	}
	var already *connect.Error
	if errors.As(err, &already) {
		return err
	}
	code := connect.CodeInternal
	switch c := proto.CodeOf(err); {
	case c == proto.CodeInternal && errors.Is(err, context.Canceled):
		code = connect.CodeCanceled
	case c == proto.CodeInternal && errors.Is(err, context.DeadlineExceeded):
		code = connect.CodeDeadlineExceeded
	default:
		if known, ok := connectCodes[c]; ok {
			code = known
		}
	}
	if isFull(err) {
		code = connect.CodeResourceExhausted
	}
	out := connect.NewError(code, err)
	if isFull(err) {
		out.Meta().Set(FullHeader, "1")
	}
	out.Meta().Set(CodeHeader, proto.CodeOf(err).String())
	return out
}
