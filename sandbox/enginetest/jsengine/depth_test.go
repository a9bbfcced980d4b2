//go:build unix

package jsengine_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest/jsengine"
	"edgenet.dev/sandbox/instrument"
)

// recursions call themselves for ever, with frames of every shape: the meter
// must stop all of them before an engine's own stack ends.
func recursions() map[string][]byte {
	const self = 2
	all := map[string][]byte{}
	add := func(name string, f function) {
		args := bytes.Repeat(i32const(0), len(f.sig)-1)
		all[name] = reactor(nil, nil, nil, slices.Concat(args, call(self), packed(0, 0)), f)
	}
	add("nothing", function{sig: ":", code: call(self)})
	add("not a tail call", function{sig: ":", code: slices.Concat(call(self), i32const(0), i32const(1), []byte{0x36, 0, 0})})
	params := []byte{}
	for i := range uint32(60) {
		params = append(params, get(i)...)
	}
	add("parameters", function{sig: string(bytes.Repeat([]byte{'i'}, 60)) + ":", code: append(params, call(self)...)})
	for t, name := range map[byte]string{instrument.I64: "i64", instrument.F64: "f64", instrument.V128: "v128"} {
		for _, n := range []int{1, 20, 900} {
			locals := bytes.Repeat([]byte{t}, n)
			var before, after []byte
			for i := range uint32(n) {
				before = slices.Concat(before, i32const(16*i), loads[t], []byte{0}, set(i))
				after = slices.Concat(after, i32const(16*i), get(i), stores[t], []byte{0})
			}
			add(fmt.Sprint(n, " locals ", name), function{sig: ":", locals: locals, code: slices.Concat(before, call(self), after)})
		}
		// operands below the call: addresses and values to store after it
		for _, n := range []int{10, 400} {
			var before, after []byte
			for range n {
				before = slices.Concat(before, i32const(0), i32const(0), loads[t], []byte{0})
				after = slices.Concat(after, stores[t], []byte{0})
			}
			add(fmt.Sprint(n, " operands ", name), function{sig: ":", code: slices.Concat(before, call(self), after)})
		}
	}
	return all
}

func TestDepthNode(t *testing.T)     { depth(t, jsengine.NewNode) }
func TestDepthChromium(t *testing.T) { depth(t, jsengine.NewChromium) }

func depth(t *testing.T, engine func(string, jsengine.Options) (*jsengine.Engine, error)) {
	engines := map[string]*jsengine.Engine{}
	for _, name := range []string{"baseline", "optimised", "short slices"} {
		engines[name] = start(t, engine, forms[name])
	}
	native, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer native.Close()
	for shape, raw := range recursions() {
		m := prepare(t, raw)
		task := sandbox.Task{Limits: proto.Limits{Fuel: 100_000_000}}
		want := run(t, native, m, nil, task)
		for name, e := range engines {
			res := run(t, e, m, nil, task)
			if res.Status != proto.StatusStackLimit || res.Fuel != want.Fuel || res.Fuel > 1_000_000 {
				t.Errorf("%s, %s: %s", shape, name, show(res))
			}
		}
	}
}
