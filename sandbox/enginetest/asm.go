package enginetest

import (
	"bytes"
	"slices"

	"edgenet.dev/sandbox/enginetest/internal/wasm"
)

// A small assembler for the vectors: readable enough to check by eye, and free
// of tools that a test machine may lack.

const (
	i32  = 0x7f
	i64  = 0x7e
	f32  = 0x7d
	f64  = 0x7c
	v128 = 0x7b
)

type fn struct {
	typ    int    // index into Asm.types
	locals []byte // one type each
	code   []byte // without the final end
	export string
	decl   []byte // stands for the declaration of locals, if given
}

// Asm builds a module with one memory, exported.
type asm struct {
	types   [][2][]byte
	imports []imp
	funcs   []fn
	table   []int // functions of table 0
	passive int   // element segments of 60,000 functions each, of no table
	pages   uint32
	maxPage uint32 // 0: none
	data    map[uint32]string
	start   int    // function index; 0: none (function 0 cannot be the start here)
	globals int    // mutable i32 globals, zero
	more    []byte // types of mutable globals behind those, zero
}

type imp struct {
	module, name string
	typ          int
}

// Short names of what every module here is full of.
var (
	uleb = wasm.U
	sleb = wasm.S
	str  = wasm.Name
	vec  = wasm.Vec
	i32c = wasm.I32Const
	i64c = wasm.I64Const
	get  = wasm.Get[byte]
	set  = wasm.Set[byte]
	call = wasm.Call[byte]
)

func cat(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// op is an opcode with immediates that are written as they are.
func op(b ...byte) []byte { return b }

func tee(i byte) []byte        { return []byte{0x22, i} }
func br(l byte) []byte         { return []byte{0x0c, l} }
func brIf(l byte) []byte       { return []byte{0x0d, l} }
func block(b ...[]byte) []byte { return cat([]byte{0x02, 0x40}, cat(b...), []byte{0x0b}) }
func loop(b ...[]byte) []byte  { return cat([]byte{0x03, 0x40}, cat(b...), []byte{0x0b}) }

// zero is the constant 0 of each type.
var zero = map[byte][]byte{
	i32: {0x41, 0}, i64: {0x42, 0}, f32: {0x43, 0, 0, 0, 0}, f64: {0x44, 0, 0, 0, 0, 0, 0, 0, 0},
	v128: append([]byte{0xfd, 12}, make([]byte, 16)...),
}

func (a *asm) bytes() []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, b []byte) { out = append(out, wasm.Section(id, b)...) }
	section(1, vec(len(a.types), func(i int) []byte {
		return cat([]byte{0x60}, uleb(uint64(len(a.types[i][0]))), a.types[i][0], uleb(uint64(len(a.types[i][1]))), a.types[i][1])
	}))
	if len(a.imports) > 0 {
		section(2, vec(len(a.imports), func(i int) []byte {
			return cat(str(a.imports[i].module), str(a.imports[i].name), []byte{0}, uleb(uint64(a.imports[i].typ)))
		}))
	}
	section(3, vec(len(a.funcs), func(i int) []byte { return uleb(uint64(a.funcs[i].typ)) }))
	if len(a.table) > 0 {
		section(4, cat([]byte{1, 0x70, 0}, uleb(uint64(len(a.table)))))
	}
	if a.maxPage > 0 {
		section(5, cat([]byte{1, 1}, uleb(uint64(a.pages)), uleb(uint64(a.maxPage))))
	} else {
		section(5, cat([]byte{1, 0}, uleb(uint64(a.pages))))
	}
	if all := append(bytes.Repeat([]byte{i32}, a.globals), a.more...); len(all) > 0 {
		section(6, vec(len(all), func(i int) []byte { return cat([]byte{all[i], 1}, zero[all[i]], []byte{0x0b}) }))
	}
	exports := [][]byte{cat(str("memory"), []byte{2, 0})}
	for i, f := range a.funcs {
		if f.export != "" {
			exports = append(exports, cat(str(f.export), []byte{0}, uleb(uint64(len(a.imports)+i))))
		}
	}
	section(7, vec(len(exports), func(i int) []byte { return exports[i] }))
	if a.start > 0 {
		section(8, uleb(uint64(a.start)))
	}
	var elems [][]byte
	if len(a.table) > 0 {
		elems = append(elems, cat([]byte{0, 0x41, 0, 0x0b}, vec(len(a.table), func(i int) []byte { return uleb(uint64(a.table[i])) })))
	}
	for range a.passive {
		elems = append(elems, cat([]byte{1, 0}, uleb(60_000), make([]byte, 60_000)))
	}
	if len(elems) > 0 {
		section(9, vec(len(elems), func(i int) []byte { return elems[i] }))
	}
	section(10, vec(len(a.funcs), func(i int) []byte {
		f := a.funcs[i]
		decl := f.decl
		if decl == nil {
			decl = vec(len(f.locals), func(j int) []byte { return []byte{1, f.locals[j]} })
		}
		b := cat(decl, f.code, []byte{0x0b})
		return cat(uleb(uint64(len(b))), b)
	}))
	if len(a.data) > 0 {
		offsets := []uint32{}
		for o := range a.data {
			offsets = append(offsets, o)
		}
		slices.Sort(offsets)
		section(11, vec(len(offsets), func(i int) []byte {
			return cat([]byte{0}, i32c(int32(offsets[i])), []byte{0x0b}, str(a.data[offsets[i]]))
		}))
	}
	return out
}
