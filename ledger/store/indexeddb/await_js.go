package indexeddb

import (
	"context"
	"fmt"
	"syscall/js"
)

// listen returns what waits until target, a request or a transaction, ends.
// Nothing may block between the call that made target and listen, or the event
// would be missed.
func listen(target js.Value, good, bad string) func(context.Context) error {
	done := make(chan error, 1)
	watch(target, good, bad, func(err error) { done <- err })
	return func(ctx context.Context) error {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watch calls ended once, in the event that ends target. It must not block.
func watch(target js.Value, good, bad string, ended func(error)) {
	var onGood, onBad js.Func
	end := func(err error) any {
		target.Set("on"+good, js.Null())
		target.Set("on"+bad, js.Null())
		onGood.Release()
		onBad.Release()
		ended(err)
		return nil
	}
	onGood = js.FuncOf(func(js.Value, []js.Value) any { return end(nil) })
	onBad = js.FuncOf(func(_ js.Value, args []js.Value) any {
		args[0].Call("preventDefault")
		return end(domError(target.Get("error")))
	})
	target.Set("on"+good, onGood)
	target.Set("on"+bad, onBad)
}

// domError turns what a browser reports into an error of this package.
func domError(e js.Value) error {
	if !e.Truthy() {
		return fmt.Errorf("the transaction was aborted")
	}
	text := e.Get("message").String()
	switch name := e.Get("name").String(); name {
	case "QuotaExceededError":
		return fmt.Errorf("%w: %s", ErrQuota, text)
	case "SecurityError", "NotAllowedError":
		return fmt.Errorf("%w: %s", ErrBlocked, text)
	default:
		return fmt.Errorf("%s: %s", name, text)
	}
}

// guarded runs f and turns what JavaScript throws into an error.
func guarded(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			thrown, ok := r.(js.Error)
			if !ok {
				panic(r)
			}
			err = domError(thrown.Value)
		}
	}()
	return f()
}

func toJS(b []byte) js.Value {
	a := js.Global().Get("Uint8Array").New(len(b))
	js.CopyBytesToJS(a, b)
	return a
}

func toGo(a js.Value) []byte {
	b := make([]byte, a.Get("length").Int())
	js.CopyBytesToGo(b, a)
	return b
}
