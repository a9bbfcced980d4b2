//go:build unix

package jsengine_test

import (
	"slices"

	"edgenet.dev/sandbox/enginetest/internal/wasm"
)

// A writer for the modules of these tests.

var (
	uleb = wasm.U
	name = wasm.Name
)

func list(items ...[]byte) []byte {
	return wasm.Vec(len(items), func(i int) []byte { return items[i] })
}

func i32const(v uint32) []byte { return wasm.I32Const(int32(v)) }
func i64const(v uint64) []byte { return wasm.I64Const(int64(v)) }
func get(i uint32) []byte      { return wasm.Get(i) }
func set(i uint32) []byte      { return wasm.Set(i) }
func call(i uint32) []byte     { return wasm.Call(i) }

// store32 writes the i32 that code leaves.
func store32(at uint32, code []byte) []byte {
	return slices.Concat(i32const(at), code, []byte{0x36, 0, 0})
}

// packed is the answer of a reactor's execute.
func packed(at, size uint32) []byte { return i64const(uint64(at)<<32 | uint64(size)) }

var (
	loopOp      = []byte{0x03, 0x40}
	endOp       = []byte{0x0b}
	unreachable = []byte{0x00}
)

type imported struct{ module, name, sig string }

type function struct {
	sig    string // "iI:i"
	locals []byte // one type each
	code   []byte
	export string
}

// module assembles one page of memory, exported, with data at 0.
func module(imports []imported, funcs []function, data []byte) []byte {
	var types, ims, decls, bodies [][]byte
	typeOf := func(sig string) []byte {
		t, results := []byte{0x60}, false
		var in, out []byte
		for _, c := range sig {
			v := map[rune]byte{'i': 0x7f, 'I': 0x7e, 'f': 0x7d, 'F': 0x7c, 'v': 0x7b}[c]
			switch {
			case c == ':':
				results = true
			case results:
				out = append(out, v)
			default:
				in = append(in, v)
			}
		}
		t = slices.Concat(t, uleb(uint64(len(in))), in, uleb(uint64(len(out))), out)
		for i, have := range types {
			if slices.Equal(have, t) {
				return uleb(uint64(i))
			}
		}
		types = append(types, t)
		return uleb(uint64(len(types) - 1))
	}
	exports := [][]byte{append(name("memory"), 2, 0)}
	for _, im := range imports {
		ims = append(ims, slices.Concat(name(im.module), name(im.name), []byte{0}, typeOf(im.sig)))
	}
	for i, f := range funcs {
		decls = append(decls, typeOf(f.sig))
		var locals [][]byte
		for _, t := range f.locals {
			locals = append(locals, []byte{1, t})
		}
		body := slices.Concat(list(locals...), f.code, endOp)
		bodies = append(bodies, append(uleb(uint64(len(body))), body...))
		if f.export != "" {
			exports = append(exports, slices.Concat(name(f.export), []byte{0}, uleb(uint64(len(imports)+i))))
		}
	}
	out := []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range []struct {
		id   byte
		body []byte
	}{
		{1, list(types...)},
		{2, list(ims...)},
		{3, list(decls...)},
		{5, []byte{1, 0, 1}},
		{7, list(exports...)},
		{10, list(bodies...)},
		{11, list(slices.Concat([]byte{0}, i32const(0), endOp, uleb(uint64(len(data))), data))},
	} {
		out = append(out, wasm.Section(s.id, s.body)...)
	}
	return out
}

// reactor wraps the code of execute, which has the given locals behind its two
// parameters.
func reactor(imports []imported, data, locals, execute []byte, more ...function) []byte {
	return module(imports, append([]function{
		{sig: "i:i", code: i32const(1024), export: "edgenet_alloc"},
		{sig: "ii:I", locals: locals, code: execute, export: "execute"},
	}, more...), data)
}
