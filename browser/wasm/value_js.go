package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"syscall/js"

	"edgenet.dev/ledger/store/indexeddb"
	"edgenet.dev/node"
	"edgenet.dev/proto"
)

// codeError is an error with a code that the network does not know.
type codeError struct{ code, text string }

func (e *codeError) Error() string { return e.text }

func badConfig(format string, args ...any) error {
	return &codeError{"BAD_CONFIG", fmt.Sprintf(format, args...)}
}

// codeOf names an error for JavaScript.
func codeOf(err error) string {
	var own *codeError
	switch {
	case errors.As(err, &own):
		return own.code
	case errors.Is(err, indexeddb.ErrBlocked):
		return "STORAGE_BLOCKED"
	case errors.Is(err, indexeddb.ErrQuota):
		return "QUOTA"
	case errors.Is(err, node.ErrClosed):
		return proto.CodeShutdown.String()
	case errors.Is(err, context.DeadlineExceeded):
		return proto.CodeTimeout.String()
	}
	return proto.CodeOf(err).String()
}

func errorValue(err error) js.Value {
	e := js.Global().Get("Error").New(err.Error())
	e.Set("code", codeOf(err))
	return e
}

func rejected(err error) js.Value {
	return js.Global().Get("Promise").Call("reject", errorValue(err))
}

// object reads the fields of a JavaScript object and remembers what is wrong
// with the first that is not as it should be.
type object struct {
	v   js.Value
	err error
}

func objectOf(args []js.Value, i int) *object {
	if i >= len(args) || args[i].Type() != js.TypeObject {
		return &object{v: js.Global().Get("Object").New(), err: badConfig("argument %d is no object", i)}
	}
	return &object{v: args[i]}
}

func (o *object) has(name string) bool {
	t := o.v.Get(name).Type()
	return t != js.TypeUndefined && t != js.TypeNull
}

func (o *object) wrong(name, want string) {
	if o.err == nil {
		o.err = badConfig("%s: want %s", name, want)
	}
}

func (o *object) text(name string) string {
	if !o.has(name) {
		return ""
	}
	v := o.v.Get(name)
	if v.Type() != js.TypeString {
		o.wrong(name, "a string")
		return ""
	}
	return v.String()
}

func (o *object) flag(name string) bool { return o.v.Get(name).Truthy() }

// number reads a whole number from 0 to most; 0 when it is absent.
func (o *object) number(name string, most float64) uint64 {
	if !o.has(name) {
		return 0
	}
	v := o.v.Get(name)
	if v.Type() != js.TypeNumber || !(v.Float() >= 0 && v.Float() <= most) {
		o.wrong(name, fmt.Sprintf("a number from 0 to %.0f", most))
		return 0
	}
	return uint64(v.Float())
}

// amount reads a decimal string; 0 when it is absent.
func (o *object) amount(name string) uint64 {
	if !o.has(name) {
		return 0
	}
	n, err := strconv.ParseUint(o.text(name), 10, 64)
	if err != nil {
		o.wrong(name, "a decimal number in a string")
	}
	return n
}

func (o *object) bytes(name string) []byte {
	if !o.has(name) {
		return nil
	}
	v := o.v.Get(name)
	if !v.InstanceOf(js.Global().Get("Uint8Array")) {
		o.wrong(name, "a Uint8Array")
		return nil
	}
	b := make([]byte, v.Length())
	js.CopyBytesToGo(b, v)
	return b
}

func (o *object) list(name string) []js.Value {
	if !o.has(name) {
		return nil
	}
	v := o.v.Get(name)
	if !v.InstanceOf(js.Global().Get("Array")) {
		o.wrong(name, "an array")
		return nil
	}
	out := make([]js.Value, v.Length())
	for i := range out {
		out[i] = v.Index(i)
	}
	return out
}

func (o *object) texts(name string) []string {
	out, err := textsOf(o.list(name))
	if err != nil {
		o.wrong(name, "strings")
	}
	return out
}

func textsOf(list []js.Value) ([]string, error) {
	out := make([]string, len(list))
	for i, v := range list {
		if v.Type() != js.TypeString {
			return nil, badConfig("number %d is no string", i)
		}
		out[i] = v.String()
	}
	return out, nil
}

func uint8Array(b []byte) js.Value {
	a := js.Global().Get("Uint8Array").New(len(b))
	js.CopyBytesToJS(a, b)
	return a
}

func decimal[T ~uint64](n T) string { return strconv.FormatUint(uint64(n), 10) }
