package enginetest

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"edgenet.dev/sandbox/instrument"
)

// Random makes a valid reactor from a seed: functions full of arithmetic,
// memory traffic, branches, bounded and (rarely) unbounded loops, direct and
// indirect calls with many types, recursion and traps. Its output is a slice
// of memory that holds all its locals and globals. floats admits float and
// SIMD instructions.
func Random(seed uint64, floats bool) []byte {
	g := &generator{r: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)), byType: map[byte][]instrument.Instruction{}}
	g.types = []byte{i32, i64}
	if floats {
		g.types = []byte{i32, i64, f32, f64, v128}
	}
	allowed := map[byte]bool{}
	for _, t := range g.types {
		allowed[t] = true
	}
	for _, in := range instrument.Instructions() {
		ok := len(in.Out) <= 1
		for _, t := range append(in.In, in.Out...) {
			ok = ok && allowed[t]
		}
		switch {
		case !ok:
		case len(in.Out) == 0:
			g.stores = append(g.stores, in)
		default:
			g.byType[in.Out[0]] = append(g.byType[in.Out[0]], in)
		}
	}
	a := reactor(nil)
	a.types = slices.Clone(types)
	a.globals, a.more = 2, g.types
	g.globals = append([]byte{i32, i32}, g.types...)
	for i := range callees {
		c := callee{index: byte(2 + i), typ: byte(len(a.types)), out: []byte{g.any()}}
		for range g.r.IntN(4) {
			c.in = append(c.in, g.any())
		}
		if g.r.IntN(3) == 0 {
			c.out = append(c.out, g.any())
		}
		a.types = append(a.types, [2][]byte{c.in, c.out})
		locals := g.locals(c.in...)
		code := g.body()
		if g.r.IntN(25) == 0 { // recursion without an end, or nearly
			code = cat(code, g.expr(i32, 2), op(0x04, 0x40), g.invoke(c), g.discard(c.out), op(0x0b))
		}
		for _, t := range c.out {
			code = cat(code, g.expr(t, 3))
		}
		a.funcs = append(a.funcs, fn{typ: int(c.typ), locals: locals, code: code})
		a.table = append(a.table, int(c.index))
		g.callees = append(g.callees, c) // functions below can be called
	}
	if g.r.IntN(4) == 0 {
		g.locals()
		a.funcs = append(a.funcs, fn{typ: 2, code: cat(i32c(int32(g.r.Uint32())), op(0x24, 0))})
		a.start = 2 + callees
	}
	g.indirect = true // only execute, which nobody calls
	locals := g.locals(i32, i32)
	code := g.body()
	at := int32(64)
	for i, t := range g.local {
		code = cat(code, i32c(at), get(byte(i)), store(t))
		at += 16
	}
	for i, t := range g.globals {
		code = cat(code, i32c(at), op(0x23, byte(i)), store(t))
		at += 16
	}
	a.funcs[1] = fn{typ: 1, locals: locals, code: cat(code, pack(i32c(0), i32c(at))), export: "execute"}
	return a.bytes()
}

const callees = 3

type callee struct {
	index, typ byte
	in, out    []byte
}

type generator struct {
	r        *rand.Rand
	types    []byte
	byType   map[byte][]instrument.Instruction
	stores   []instrument.Instruction
	globals  []byte // types
	local    []byte // types of the current function's locals, parameters first
	counters int    // i32 locals at the end that count loops
	used     int
	callees  []callee
	indirect bool // calls may go to any function of the table
	depth    int
}

const counters = 3

func (g *generator) locals(params ...byte) []byte {
	g.local = slices.Clone(params)
	for _, t := range g.types {
		g.local = append(g.local, t, t)
	}
	g.counters, g.used = len(g.local), 0
	for range counters {
		g.local = append(g.local, i32)
	}
	return g.local[len(params):]
}

// pick is a local of type t that is no counter.
func (g *generator) pick(t byte) byte {
	for {
		if i := g.r.IntN(g.counters); g.local[i] == t {
			return byte(i)
		}
	}
}

func store(t byte) []byte {
	return map[byte][]byte{i32: {0x36, 0, 0}, i64: {0x37, 0, 0}, f32: {0x38, 0, 0}, f64: {0x39, 0, 0}, v128: {0xfd, 11, 0, 0}}[t]
}

func load(t byte) []byte {
	return map[byte][]byte{i32: {0x28, 0, 0}, i64: {0x29, 0, 0}, f32: {0x2a, 0, 0}, f64: {0x2b, 0, 0}, v128: {0xfd, 0, 0, 0}}[t]
}

// special are values at the edges of the types.
var special = []uint64{
	0, 1, 2, 0x7f, 0x80, 0xffffffff, 0x80000000, 0x7fffffff, 1 << 63, 1<<63 - 1, 1<<64 - 1,
	0x7f800000, 0xff800000, 0x3ff0000000000001, 0x7ff0000000000000, 0xfff0000000000000, 0x00000001_00000001, 0x80000000_80000000,
	0x7fc00001_ffc00000, 0x7f800000_ff800000, 0x7f800001_7fc00000, 0x4f000000_cf000000, 0x43e0000000000000, 0xc1e0000000000000,
	0x7fc00000, 0x7f800001, 0xffc00001, 0x3f800000, 0x7ff8000000000000, 0x7ff0000000000001, 0x3ff0000000000000, 0xfff8000000000001,
}

func (g *generator) constant(t byte) []byte {
	v := g.r.Uint64()
	if g.r.IntN(2) == 0 {
		v = special[g.r.IntN(len(special))]
	}
	le := binary.LittleEndian
	switch t {
	case i32:
		return i32c(int32(v))
	case i64:
		return i64c(int64(v))
	case f32:
		return le.AppendUint32([]byte{0x43}, uint32(v))
	case f64:
		return le.AppendUint64([]byte{0x44}, v)
	}
	return le.AppendUint64(le.AppendUint64([]byte{0xfd, 12}, v), special[g.r.IntN(len(special))])
}

// address is an i32 that is nearly always inside the first page.
func (g *generator) address(depth int) []byte {
	if g.r.IntN(300) == 0 {
		return g.expr(i32, depth)
	}
	return cat(g.expr(i32, depth), i32c(0x3fff), op(0x71))
}

// expr leaves one value of type t.
func (g *generator) expr(t byte, depth int) []byte {
	if depth <= 0 {
		if g.r.IntN(3) == 0 {
			return g.constant(t)
		}
		return get(g.pick(t))
	}
	switch g.r.IntN(12) {
	case 0:
		return g.constant(t)
	case 1:
		return cat(g.address(depth-1), load(t))
	case 2:
		return cat(g.expr(t, depth-1), tee(g.pick(t)))
	case 3:
		return cat(g.expr(i32, depth-1), op(0x04, t), g.expr(t, depth-1), op(0x05), g.expr(t, depth-1), op(0x0b))
	case 4:
		return cat(g.expr(t, depth-1), g.expr(t, depth-1), g.expr(i32, depth-1), op(0x1b))
	case 5: // leave a block with a value
		return cat(op(0x02, t), g.expr(t, depth-1), g.expr(i32, depth-1), op(0x0d, 0), op(0x0b))
	case 6:
		for _, c := range g.callees {
			if len(c.out) == 1 && c.out[0] == t && g.r.IntN(2) == 0 {
				return g.invoke(c)
			}
		}
	case 7:
		if i := g.r.IntN(len(g.globals)); g.globals[i] == t {
			return op(0x23, byte(i))
		}
		return cat(g.expr(t, depth-1), g.expr(t, depth-1), g.expr(i32, depth-1), op(0x1c, 1, t))
	case 8:
		if t == v128 { // shuffle
			b := cat(g.expr(t, depth-1), g.expr(t, depth-1), op(0xfd, 13))
			for range 16 {
				b = append(b, byte(g.r.IntN(32)))
			}
			return b
		}
		if t == i32 {
			return [][]byte{{0x3f, 0}, {0xfc, 16, 0}, {0xd2, 2, 0xd1}, {0xd0, 0x70, 0xd1}, {0x41, 1, 0x25, 0, 0xd1}}[g.r.IntN(5)]
		}
	}
	ins := g.byType[t][g.r.IntN(len(g.byType[t]))]
	for traps(ins.Code) && g.r.IntN(60) > 0 {
		ins = g.byType[t][g.r.IntN(len(g.byType[t]))]
	}
	return g.apply(ins, depth)
}

// apply writes the operands, the instruction and its immediates.
func (g *generator) apply(ins instrument.Instruction, depth int) (b []byte) {
	in := ins.In
	if ins.Memory {
		b, in = g.address(depth-1), in[1:]
	}
	for _, t := range in {
		b = append(b, g.expr(t, depth-1)...)
	}
	b = append(b, ins.Code...)
	if ins.Memory {
		b = append(b, byte(g.r.IntN(int(ins.Align)+1)), byte(g.r.IntN(128)))
	}
	if ins.Lanes > 0 {
		b = append(b, byte(g.r.IntN(int(ins.Lanes))))
	}
	return b
}

// invoke calls c with fresh arguments, directly or through the table.
func (g *generator) invoke(c callee) (b []byte) {
	for _, t := range c.in {
		b = append(b, g.expr(t, 1)...)
	}
	switch {
	case g.r.IntN(3) > 0:
		return append(b, call(c.index)...)
	case g.indirect && g.r.IntN(8) == 0:
		return cat(b, g.expr(i32, 1), i32c(3), op(0x71), op(0x11, c.typ, 0)) // often a trap
	}
	return cat(b, i32c(int32(c.index)-2), op(0x11, c.typ, 0))
}

// discard puts results away, the last first.
func (g *generator) discard(out []byte) (b []byte) {
	for _, t := range slices.Backward(out) {
		if g.r.IntN(3) == 0 {
			b = append(b, drop)
		} else {
			b = append(b, set(g.pick(t))...)
		}
	}
	return b
}

// traps reports instructions that end most runs on random operands: division
// and conversions that do not saturate.
func traps(code []byte) bool {
	c := code[0]
	return len(code) == 1 && (c >= 0x6d && c <= 0x70 || c >= 0x7f && c <= 0x82 || c >= 0xa8 && c <= 0xab || c >= 0xae && c <= 0xb1)
}

func (g *generator) any() byte { return g.types[g.r.IntN(len(g.types))] }

func (g *generator) body() (b []byte) {
	for range 2 + g.r.IntN(5) {
		b = append(b, g.statement()...)
	}
	return b
}

func (g *generator) nested() []byte {
	if g.depth >= 3 {
		return nil
	}
	g.depth++
	defer func() { g.depth-- }()
	return g.body()
}

// statement leaves the stack as it was.
func (g *generator) statement() []byte {
	switch g.r.IntN(17) {
	case 13:
		return g.apply(g.stores[g.r.IntN(len(g.stores))], 3)
	case 14:
		if len(g.callees) > 0 {
			c := g.callees[g.r.IntN(len(g.callees))]
			return cat(g.invoke(c), g.discard(c.out))
		}
	case 15: // accumulate
		t := g.any()
		l := g.pick(t)
		if ins := g.byType[t][g.r.IntN(len(g.byType[t]))]; len(ins.In) == 2 && ins.In[0] == t && ins.In[1] == t && !traps(ins.Code) {
			return cat(get(l), g.expr(t, 2), ins.Code, set(l))
		}
	case 0, 1, 2:
		t := g.any()
		return cat(g.expr(t, 3), set(g.pick(t)))
	case 3, 4:
		t := g.any()
		return cat(g.address(2), g.expr(t, 3), store(t))
	case 5:
		i := g.r.IntN(len(g.globals))
		return cat(g.expr(g.globals[i], 2), op(0x24, byte(i)))
	case 6:
		return cat(g.expr(i32, 2), op(0x04, 0x40), g.nested(), op(0x05), g.nested(), op(0x0b))
	case 7:
		return block(g.nested(), g.expr(i32, 2), brIf(0), g.nested())
	case 8, 9:
		if g.used == counters {
			return nil
		}
		c := byte(g.counters + g.used)
		g.used++
		defer func() { g.used-- }()
		if g.r.IntN(30) == 0 {
			return loop(g.nested(), g.expr(i32, 2), brIf(0)) // may never end
		}
		return cat(i32c(1+int32(g.r.IntN(9))), set(c), loop(g.nested(), get(c), i32c(1), op(0x6b), tee(c), brIf(0)))
	case 10: // a jump table over two blocks
		return block(block(g.nested(), g.expr(i32, 2), op(0x0e, 2, 0, 1, 0)), g.nested())
	case 11:
		switch g.r.IntN(12) {
		case 0:
			return cat(g.expr(i32, 1), op(0x04, 0x40), op(0x00), op(0x0b))
		case 1:
			return cat(i32c(int32(g.r.IntN(3))), op(0x40, 0), op(drop))
		case 3:
			return cat(g.expr(i32, 1), op(0x04, 0x40), block(br(0), g.nested()), op(0x0b))
		}
		return cat(g.address(1), g.expr(i32, 1), g.address(1), op(0xfc, 11, 0))
	case 12:
		return cat(g.address(1), g.address(1), g.address(1), op(0xfc, 10, 0, 0))
	}
	return cat(g.expr(g.any(), 3), op(drop))
}
