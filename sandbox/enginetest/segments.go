package enginetest

import (
	"math/rand/v2"
	"slices"

	"edgenet.dev/sandbox/enginetest/internal/wasm"
)

// Segments makes a module from a seed of what Random leaves out: several
// tables, data and element segments of every kind, some out of bounds, and the
// instructions that read, move, grow and drop them, at indices that are mostly
// inside; exported globals and tables; an allocator that is an import. It may
// be refused. Its output is the first page of memory, where execute notes every
// result.
func Segments(seed uint64) []byte {
	g := &segments{r: rand.New(rand.NewPCG(seed, 0x5e9))}
	for range 1 + g.r.IntN(3) {
		g.tables = append(g.tables, uint32(g.r.IntN(12)))
	}
	return g.module()
}

type segments struct {
	r      *rand.Rand
	tables []uint32 // minimum sizes
	elems  []uint32 // what is left of each segment: 0 once it is used or dropped
	datas  []uint32
	active []bool // data segments that are written at the start
	at     int32  // where the next result is noted
}

const segmentPages = 2

// rarely is true where a module should go wrong, for one of its statements or
// so.
func (g *segments) rarely() bool { return g.r.IntN(60) == 0 }

// spans are the starts of equally long ranges inside spaces of the given sizes,
// and the length: the operands of copying instructions.
func (g *segments) spans(sizes ...uint32) (b []byte) {
	n := g.r.Uint32N(min(slices.Min(sizes), 40) + 1)
	for _, size := range sizes {
		at := g.r.Uint32N(size - n + 1)
		switch {
		case g.rarely():
			at = size - n + 1
		case g.rarely():
			at = g.r.Uint32()
		}
		b = append(b, i32c(int32(at))...)
	}
	if g.rarely() {
		n = g.r.Uint32()
	}
	return append(b, i32c(int32(n))...)
}

// inside is an index below n, mostly.
func (g *segments) inside(n uint32) []byte {
	if n == 0 || g.rarely() {
		return i32c(int32(n))
	}
	return i32c(int32(g.r.Uint32N(n)))
}

func (g *segments) table() (index byte, size uint32) {
	i := g.r.IntN(len(g.tables))
	return byte(i), g.tables[i]
}

// offset of an active segment of n items in a space of size; one that is
// outside is refused.
func (g *segments) offset(size, n uint32) []byte {
	if g.r.IntN(400) == 0 {
		return i32c(int32(size) - int32(n) + 1)
	}
	return i32c(int32(g.r.Uint32N(size - n + 1)))
}

func (g *segments) module() []byte {
	types := [][2][]byte{{{i32}, {i32}}, {{i32, i32}, {i64}}, {nil, {i32}}, {{i32, i32, i32, i32}, {i32}}}
	const funcs = 3 // of type 2, behind the allocator and execute
	importAlloc := g.r.IntN(8) == 0
	first := byte(2) // of those
	ref := func() byte { return byte(g.r.IntN(int(first) + funcs)) }
	null := func() bool { return g.r.IntN(4) == 0 }
	item := func() []byte {
		if null() {
			return op(0xd0, 0x70, 0x0b)
		}
		return op(0xd2, ref(), 0x0b)
	}
	var elems [][]byte
	for range g.r.IntN(5) {
		n := g.r.IntN(4)
		t, size := g.table()
		flags := byte(g.r.IntN(8))
		if flags&3 == 0 {
			size = g.tables[0]
		}
		if flags&1 == 0 {
			n = min(n, int(size))
		}
		left := uint32(0)
		if flags&3 == 1 { // passive
			left = uint32(n)
		}
		g.elems = append(g.elems, left)
		b := op(flags)
		if flags&1 == 0 {
			if flags&2 != 0 {
				b = append(b, t)
			}
			b = cat(b, g.offset(size, uint32(n)), op(0x0b))
		}
		if flags&3 != 0 {
			b = append(b, 0x70*(flags>>2))
		}
		elems = append(elems, cat(b, vec(n, func(int) []byte {
			if flags&4 != 0 {
				return item()
			}
			return op(ref())
		})))
	}
	// every function is declared, for ref.func
	elems = append(elems, cat(op(3, 0), vec(int(first)+funcs, func(i int) []byte { return op(byte(i)) })))
	g.elems = append(g.elems, 0)
	var datas [][]byte
	for range 1 + g.r.IntN(4) {
		n := g.r.IntN(40)
		text := make([]byte, n)
		for i := range text {
			text[i] = byte(g.r.Uint32())
		}
		b, left := op(1), uint32(n)
		if g.r.IntN(3) == 0 {
			left = 0
			b = cat(op(0), g.offset(segmentPages<<16, uint32(n)), op(0x0b))
		}
		g.datas, g.active = append(g.datas, left), append(g.active, b[0] == 0)
		datas = append(datas, cat(b, str(string(text))))
	}

	var code []byte
	for range 4 + g.r.IntN(25) {
		code = append(code, g.statement(ref, null)...)
	}
	code = cat(code, pack(i32c(0), i32c(1<<16)))
	sized := func(b ...[]byte) []byte {
		all := cat(cat(b...), op(0x0b))
		return cat(uleb(uint64(len(all))), all)
	}
	bodies := [][]byte{}
	imports := [][]byte{cat(str("wasi_snapshot_preview1"), str("fd_close"), op(0, 0))}
	alloc, decls := byte(0), []byte{1, 2, 2, 2}
	if !importAlloc {
		imports = nil
		decls = append([]byte{0}, decls...)
		bodies = append(bodies, sized(op(0), i32c(1024)))
	}
	execute := byte(1)
	bodies = append(bodies, sized(op(1, 1, i32), code))
	for i := range funcs {
		bodies = append(bodies, sized(op(0), i32c(int32(1000+i))))
	}
	globals := [][]byte{cat(op(0x70, 1), item()), cat(op(i32, 0), i32c(77), op(0x0b)), cat(op(i32, 1), i32c(5), op(0x0b))}
	exports := [][]byte{
		cat(str("memory"), op(2, 0)), cat(str("edgenet_alloc"), op(0, alloc)), cat(str("execute"), op(0, execute)),
		cat(str("g"), op(3, 1)), cat(str("t"), op(1, 0)),
	}
	list := func(items [][]byte) []byte { return vec(len(items), func(i int) []byte { return items[i] }) }
	out := []byte("\x00asm\x01\x00\x00\x00")
	put := func(id byte, b []byte) { out = append(out, wasm.Section(id, b)...) }
	put(1, vec(len(types), func(i int) []byte {
		return cat(op(0x60), uleb(uint64(len(types[i][0]))), types[i][0], uleb(uint64(len(types[i][1]))), types[i][1])
	}))
	if len(imports) > 0 {
		put(2, list(imports))
	}
	put(3, vec(len(decls), func(i int) []byte { return op(decls[i]) }))
	put(4, vec(len(g.tables), func(i int) []byte {
		if g.r.IntN(2) == 0 {
			return cat(op(0x70, 1), uleb(uint64(g.tables[i])), uleb(uint64(g.tables[i])+uint64(g.r.IntN(4))))
		}
		return cat(op(0x70, 0), uleb(uint64(g.tables[i])))
	}))
	put(5, op(1, 0, segmentPages))
	put(6, list(globals))
	put(7, list(exports))
	put(9, list(elems))
	put(12, uleb(uint64(len(datas))))
	put(10, list(bodies))
	put(11, list(datas))
	return out
}

// note stores the i32 that code leaves.
func (g *segments) note(code ...[]byte) []byte {
	g.at += 4
	return cat(i32c(g.at), cat(code...), op(0x36, 2, 0))
}

func (g *segments) statement(ref func() byte, null func() bool) []byte {
	t, size := g.table()
	value := func() []byte {
		switch {
		case null():
			return op(0xd0, 0x70)
		case g.r.IntN(3) == 0:
			return op(0x23, 0)
		}
		return op(0xd2, ref())
	}
	elem, data := g.r.IntN(len(g.elems)), g.r.IntN(len(g.datas))
	const memory = segmentPages << 16
	switch g.r.IntN(16) {
	case 0, 1:
		return cat(g.spans(size, g.elems[elem]), op(0xfc, 12, byte(elem), t))
	case 2:
		if g.r.IntN(2) == 0 {
			g.elems[elem] = 0
			return op(0xfc, 13, byte(elem))
		}
		g.datas[data] = 0
		return op(0xfc, 9, byte(data))
	case 3:
		u, other := g.table()
		return cat(g.spans(size, other), op(0xfc, 14, t, u))
	case 4:
		n := i32c(int32(g.r.IntN(5)))
		if g.rarely() {
			n = i32c(int32(g.r.Uint32()))
		}
		return g.note(value(), n, op(0xfc, 15, t))
	case 5:
		return g.note(op(0xfc, 16, t))
	case 6:
		at, n := g.inside(size), i32c(0)
		if g.r.IntN(3) > 0 && size > 0 {
			at, n = i32c(0), i32c(int32(g.r.Uint32N(size+1)))
		}
		return cat(at, value(), n, op(0xfc, 17, t))
	case 7, 8:
		if size == 0 && !g.rarely() {
			break
		}
		if g.r.IntN(2) == 0 {
			return cat(g.inside(size), value(), op(0x26, t))
		}
		return g.note(g.inside(size), op(0x25, t, 0xd1))
	case 9: // what is called is of the type, unless something moved
		if size == 0 {
			break
		}
		at := g.inside(size)
		call := cat(at, op(0x11, 2, t))
		if g.r.IntN(4) > 0 {
			return cat(at, op(0xd2, byte(2+g.r.IntN(3)), 0x26, t), g.note(call))
		}
		return g.note(at, op(0x25, t, 0xd1), op(0x04, i32), i32c(0), op(0x05), call, op(0x0b))
	case 10, 11, 12:
		if g.active[data] && g.r.IntN(200) > 0 { // it is refused
			break
		}
		return cat(g.spans(memory, g.datas[data]), op(0xfc, 8, byte(data), 0))
	case 13:
		return cat(g.spans(memory, memory), op(0xfc, 10, 0, 0))
	case 14:
		if g.r.IntN(2) == 0 {
			return cat(value(), op(0x24, 0))
		}
		return g.note(op(0x23, 0, 0xd1))
	}
	// a loop that carries a value
	return g.note(i32c(int32(1+g.r.IntN(9))), op(0x03, 0), op(0x22, 2), op(0x20, 2), i32c(1), op(0x6b), op(0x22, 2), op(0x20, 2), op(0x0d, 0), op(0x6a, 0x0b))
}
