// Command wasm is the node in a browser's Worker: the same package node as in a
// daemon, with IndexedDB for a disk and the page's task Workers for a sandbox.
//
// It expects an object edgenetHost, offers an object edgenetNode and calls
// edgenetHost.ready(). docs/browser.md describes both. Amounts cross the border
// as decimal strings of microcredits, fuel as a decimal string; errors are
// JavaScript Errors with a property code.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"syscall/js"
)

func main() {
	t := &tab{host: js.Global().Get("edgenetHost")}
	node := js.Global().Get("Object").New()
	// These functions live as long as the Worker.
	for name, f := range map[string]func(args []js.Value) any{
		"start":      t.start,
		"submit":     t.submit,
		"quote":      t.quote,
		"stats":      t.stats,
		"pause":      t.pause,
		"resume":     t.resume,
		"limits":     t.limits,
		"relays":     t.relays,
		"disconnect": t.disconnect,
		"memory":     t.memory,
	} {
		node.Set(name, js.FuncOf(func(_ js.Value, args []js.Value) any { return t.guard(name, f, args) }))
	}
	js.Global().Set("edgenetNode", node)
	if t.host.Type() != js.TypeObject {
		panic("edgenetHost is not set")
	}
	t.call("ready")
	select {}
}

// guard keeps a fault in one call from ending the node: the caller and the
// page hear of it.
func (t *tab) guard(name string, f func([]js.Value) any, args []js.Value) (result any) {
	defer func() {
		if r := recover(); r != nil {
			result = rejected(t.fault(name, r))
		}
	}()
	return f(args)
}

// promise runs f on a goroutine of its own and returns a promise of what it
// returns, because whoever calls from JavaScript must not be blocked. Whatever
// f needs of arguments is copied before.
func (t *tab) promise(name string, f func() (any, error)) js.Value {
	executor := js.FuncOf(func(_ js.Value, args []js.Value) any {
		resolve, reject := args[0], args[1]
		go func() { // ends with f
			defer func() {
				if r := recover(); r != nil {
					reject.Invoke(errorValue(t.fault(name, r)))
				}
			}()
			v, err := f()
			if err != nil {
				reject.Invoke(errorValue(err))
				return
			}
			resolve.Invoke(v)
		}()
		return nil
	})
	defer executor.Release() // the constructor has called it
	return js.Global().Get("Promise").New(executor)
}

// fault reports a recovered panic.
func (t *tab) fault(where string, r any) error {
	err := &codeError{code: "INTERNAL", text: fmt.Sprintf("%s: %v", where, r)}
	js.Global().Get("console").Call("error", err.text+"\n"+string(debug.Stack()))
	t.failed(err)
	return err
}

// call calls a method of the host that answers nothing. Hosts may lack it.
func (t *tab) call(method string, args ...any) {
	if t.host.Get(method).Type() != js.TypeFunction {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			js.Global().Get("console").Call("error", fmt.Sprintf("edgenetHost.%s: %v", method, r))
		}
	}()
	t.host.Call(method, args...)
}

// event tells the page that something happened.
func (t *tab) event(kind string, fields map[string]any) {
	text, err := json.Marshal(fields)
	if err != nil {
		return // maps of strings and numbers always marshal
	}
	t.call("event", kind, string(text))
}

func (t *tab) failed(err error) {
	code, text := codeOf(err), err.Error()
	t.event("error", map[string]any{"code": code, "message": text})
}

// await waits for a promise of the host.
func await(ctx context.Context, p js.Value) (js.Value, error) {
	type settled struct {
		v   js.Value
		err error
	}
	done := make(chan settled, 1)
	var fulfilled, refused js.Func
	end := func(s settled) any {
		fulfilled.Release()
		refused.Release()
		done <- s
		return nil
	}
	fulfilled = js.FuncOf(func(_ js.Value, args []js.Value) any { return end(settled{v: args[0]}) })
	refused = js.FuncOf(func(_ js.Value, args []js.Value) any { return end(settled{err: js.Error{Value: args[0]}}) })
	js.Global().Get("Promise").Call("resolve", p).Call("then", fulfilled, refused)
	select {
	case s := <-done:
		return s.v, s.err
	case <-ctx.Done():
		return js.Undefined(), ctx.Err()
	}
}
