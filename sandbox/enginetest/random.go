package enginetest

import (
	"encoding/binary"
	"math/rand/v2"

	"edgenet.dev/sandbox/instrument"
)

// Random makes a valid reactor from a seed: functions full of arithmetic,
// memory traffic, branches, bounded and (rarely) unbounded loops, calls and
// traps. Its output is a slice of memory that holds all its locals. floats
// admits float instructions.
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
		ok := len(in.Out) == 1
		for _, t := range append(in.In, in.Out...) {
			ok = ok && allowed[t]
		}
		if ok {
			g.byType[in.Out[0]] = append(g.byType[in.Out[0]], in)
		}
	}
	a := reactor(nil)
	a.globals = 2
	a.table = []int{2, 3, 4, 2}
	for i := range 3 {
		g.callable = i // functions below can be called: no recursion
		a.funcs = append(a.funcs, fn{typ: 0, locals: g.locals(1), code: cat(g.body(), g.expr(i32, 3))})
	}
	g.callable = 3
	locals := g.locals(2)
	code := g.body()
	at := int32(64)
	for i, t := range g.local {
		code = cat(code, i32c(at), get(byte(i)), store(t))
		at += 16
	}
	a.funcs[1] = fn{typ: 1, locals: locals, code: cat(code, pack(i32c(0), i32c(at))), export: "execute"}
	return a.bytes()
}

type generator struct {
	r        *rand.Rand
	types    []byte
	byType   map[byte][]instrument.Instruction
	local    []byte // types of the current function's locals, parameters first
	counters int    // i32 locals at the end that count loops
	used     int
	callable int
	depth    int
}

const counters = 3

func (g *generator) locals(params int) []byte {
	g.local = nil
	for range params {
		g.local = append(g.local, i32)
	}
	for _, t := range g.types {
		g.local = append(g.local, t, t)
	}
	g.counters, g.used = len(g.local), 0
	for range counters {
		g.local = append(g.local, i32)
	}
	return g.local[params:]
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
		if t == i32 && g.callable > 0 {
			return cat(g.expr(i32, depth-1), call(byte(2+g.r.IntN(g.callable))))
		}
	case 7:
		if t == i32 {
			return cat(op(0x23, byte(g.r.IntN(2))))
		}
	}
	ins := g.byType[t][g.r.IntN(len(g.byType[t]))]
	for traps(ins.Code) && g.r.IntN(60) > 0 {
		ins = g.byType[t][g.r.IntN(len(g.byType[t]))]
	}
	var b []byte
	for _, in := range ins.In {
		b = append(b, g.expr(in, depth-1)...)
	}
	return append(b, ins.Code...)
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
	switch g.r.IntN(14) {
	case 0, 1, 2:
		t := g.any()
		return cat(g.expr(t, 3), set(g.pick(t)))
	case 3, 4:
		t := g.any()
		return cat(g.address(2), g.expr(t, 3), store(t))
	case 5:
		return cat(g.expr(i32, 2), op(0x24, byte(g.r.IntN(2))))
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
		case 2:
			if g.callable == 3 { // only execute, which nobody calls
				return cat(g.expr(i32, 1), g.expr(i32, 1), i32c(3), op(0x71), op(0x11, 0, 0), op(drop))
			}
		case 3:
			return cat(g.expr(i32, 1), op(0x04, 0x40), block(br(0), g.nested()), op(0x0b))
		}
		return cat(g.address(1), g.expr(i32, 1), g.address(1), op(0xfc, 11, 0))
	case 12:
		return cat(g.address(1), g.address(1), g.address(1), op(0xfc, 10, 0, 0))
	}
	return cat(g.expr(g.any(), 3), op(drop))
}
