package webtransport

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall/js"

	"github.com/libp2p/go-libp2p/core/network"
)

// A js.Func lives in a table until it is released, so a pair per await would
// leak or cost a table entry each time. Waiters are pairs that serve one
// promise after the other; idleWaiters of them are kept.
const idleWaiters = 64

type waiter struct {
	fulfilled, rejected js.Func
	done                func(js.Value, error)
}

var waiters struct {
	mu   sync.Mutex
	idle []*waiter
	live int // pairs that exist
}

// Funcs returns how many js.Func this package holds. It is flat while no more
// promises are waited for at a time than before; tests look for leaks with it.
func Funcs() int {
	waiters.mu.Lock()
	defer waiters.mu.Unlock()
	return 2*waiters.live + sockets.live
}

// Waiting returns how many promises are waited for.
func Waiting() int {
	waiters.mu.Lock()
	defer waiters.mu.Unlock()
	return waiters.live - len(waiters.idle)
}

func takeWaiter() *waiter {
	waiters.mu.Lock()
	defer waiters.mu.Unlock()
	if n := len(waiters.idle); n > 0 {
		w := waiters.idle[n-1]
		waiters.idle = waiters.idle[:n-1]
		return w
	}
	waiters.live++
	w := &waiter{}
	w.fulfilled = js.FuncOf(func(_ js.Value, args []js.Value) any {
		v := js.Undefined()
		if len(args) > 0 {
			v = args[0]
		}
		w.finish(v, nil)
		return nil
	})
	w.rejected = js.FuncOf(func(_ js.Value, args []js.Value) any {
		v := js.Undefined()
		if len(args) > 0 {
			v = args[0]
		}
		w.finish(js.Undefined(), fromJS(v))
		return nil
	})
	return w
}

func (w *waiter) finish(v js.Value, err error) {
	done := w.done
	w.done = nil
	waiters.mu.Lock()
	if len(waiters.idle) < idleWaiters {
		waiters.idle = append(waiters.idle, w)
	} else {
		waiters.live--
		w.fulfilled.Release()
		w.rejected.Release()
	}
	waiters.mu.Unlock()
	done(v, err)
}

// then calls done once when the promise is settled. done runs on the event
// loop and must not wait for another promise.
func then(promise js.Value, done func(js.Value, error)) {
	w := takeWaiter()
	w.done = done
	promise.Call("then", w.fulfilled, w.rejected)
}

// ignored handles rejections that nobody waits for, which would otherwise be
// reported as unhandled.
var ignored = sync.OnceValue(func() js.Func { return js.FuncOf(func(js.Value, []js.Value) any { return nil }) })

func ignore(promise js.Value) { promise.Call("catch", ignored()) }

// errStopped is await's answer when stop is closed first.
var errStopped = errors.New("stopped")

// await waits for a promise, ctx or stop, which may be nil. When the promise is
// not first, late is given the value that still comes, so that it can be
// closed; late may be nil.
func await(ctx context.Context, stop <-chan struct{}, promise js.Value, late func(js.Value)) (js.Value, error) {
	var mu sync.Mutex
	var value js.Value
	var err error
	var settled, left bool
	finished := make(chan struct{})
	then(promise, func(v js.Value, e error) {
		mu.Lock()
		value, err, settled = v, e, true
		gone := left
		mu.Unlock()
		close(finished)
		if gone && e == nil && late != nil {
			late(v)
		}
	})
	why := errStopped
	select {
	case <-finished:
	case <-stop:
	case <-ctx.Done():
		why = ctx.Err()
	}
	mu.Lock()
	defer mu.Unlock()
	if !settled {
		left = true
		return js.Undefined(), why
	}
	return value, err
}

// call is v.Call, but what JavaScript throws is an error.
func call(v js.Value, method string, args ...any) (result js.Value, err error) {
	defer catch(&err)
	return v.Call(method, args...), nil
}

// construct is v.New, but what JavaScript throws is an error.
func construct(v js.Value, args ...any) (result js.Value, err error) {
	defer catch(&err)
	return v.New(args...), nil
}

func catch(err *error) {
	switch r := recover().(type) {
	case nil:
	case js.Error:
		*err = fromJS(r.Value)
	case *js.ValueError:
		*err = r
	default:
		panic(r)
	}
}

// jsError is what a browser threw or rejected with, without holding on to its
// object.
type jsError struct {
	name, message string
	source        string // of a WebTransportError: "stream" or "session"
	code          network.StreamErrorCode
}

func (e *jsError) Error() string {
	if e.message == "" {
		return e.name
	}
	return e.name + ": " + e.message
}

func fromJS(v js.Value) error {
	if v.Type() != js.TypeObject {
		if v.IsUndefined() || v.IsNull() {
			return errors.New("rejected without a reason")
		}
		return errors.New(v.String())
	}
	e := &jsError{name: text(v, "name"), message: text(v, "message"), source: text(v, "source")}
	if e.name == "" {
		e.name = "error"
	}
	if c := v.Get("streamErrorCode"); c.Type() == js.TypeNumber {
		e.code = network.StreamErrorCode(uint32(c.Float()))
	}
	return e
}

func text(v js.Value, name string) string {
	if t := v.Get(name); t.Type() == js.TypeString {
		return t.String()
	}
	return ""
}

// streamError says what a failed half of a stream means in libp2p's words: the
// whole connection is gone, or else the peer reset or stopped the stream.
// Chromium says the latter by a WebTransportError with a code, or by a plain
// NetworkError when it had a reset before.
func streamError(err error) error {
	var e *jsError
	if errors.As(err, &e) && e.source == "session" {
		return &network.ConnError{Remote: true, TransportError: fmt.Errorf("webtransport: %w", err)}
	}
	reset := &network.StreamError{Remote: true, TransportError: err}
	if e != nil {
		reset.ErrorCode = e.code
	}
	return reset
}
