package enginetest

import (
	"math/rand/v2"
	"slices"

	"edgenet.dev/sandbox/instrument"
)

// Pressure makes a reactor from a seed that is hard on a compiler's register
// allocation: vector and float locals, often more than a machine has registers
// for, that live across calls, are operands of all sorts of instructions, and
// meet where branches join, which wants them in fixed registers. Values come
// back from memory in the middle of an instruction's machine code. Its output
// is all locals.
func Pressure(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0x5911))
	vectors := 3 + r.IntN(20)
	kinds := []byte{v128}
	if r.IntN(2) == 0 {
		kinds = append(kinds, f32, f64)
	}
	var locals []byte
	for range vectors {
		locals = append(locals, kinds[r.IntN(len(kinds))])
	}
	locals = append(locals, v128, i32, i32, i64) // of each operand's type, one
	if len(kinds) > 1 {
		locals = append(locals, f32, f64)
	}
	counter := byte(2 + len(locals))
	usable := map[byte][]instrument.Instruction{}
	for _, in := range instrument.Instructions() {
		if len(in.Out) != 1 || in.Memory || traps(in.Code) {
			continue
		}
		ok := false
		for _, t := range slices.Concat(in.In, in.Out) {
			ok = ok || t == v128 || t == f32 || t == f64
		}
		for _, t := range slices.Concat(in.In, in.Out) {
			ok = ok && slices.Contains(locals, t)
		}
		if ok {
			usable[in.Out[0]] = append(usable[in.Out[0]], in)
		}
	}
	pick := func(t byte) byte {
		for {
			if i := r.IntN(len(locals)); locals[i] == t {
				return byte(2 + i)
			}
		}
	}
	results := slices.DeleteFunc([]byte{v128, v128, v128, i32, f32, f64}, func(t byte) bool { return !slices.Contains(locals, t) })
	favourite := map[byte]instrument.Instruction{} // so that one instruction meets many situations
	for _, t := range results {
		favourite[t] = usable[t][r.IntN(len(usable[t]))]
	}
	var joins [][]byte
	// value pushes one of type t.
	value := func(t byte) (b []byte) {
		switch r.IntN(6) {
		case 0:
			g := generator{r: r}
			return g.constant(t)
		case 1, 2:
			return get(pick(t))
		case 3:
			if t == v128 && r.IntN(2) == 0 {
				b = cat(get(pick(v128)), get(pick(v128)), op(0xfd, 13))
				for range 16 {
					b = append(b, byte(r.IntN(32)))
				}
				return b
			}
			return cat(get(pick(t)), get(pick(t)), get(pick(i32)), op(0x1c, 1, t))
		}
		in := favourite[t]
		if r.IntN(3) == 0 {
			in = usable[t][r.IntN(len(usable[t]))]
		}
		for _, t := range in.In {
			b = append(b, get(pick(t))...)
		}
		b = append(b, in.Code...)
		if in.Lanes > 0 {
			b = append(b, byte(r.IntN(int(in.Lanes))))
		}
		return b
	}
	statement := func() (b []byte) {
		switch r.IntN(8) {
		case 0: // everything is spilled, and three are wanted in their registers
			return cat(get(pick(v128)), get(pick(v128)), get(pick(v128)), call(2), set(pick(v128)), set(pick(v128)))
		case 1, 2:
			t := results[r.IntN(len(results))]
			return cat(value(t), set(pick(t)))
		}
		// arms that leave several values, which the code behind wants in the
		// same registers from both
		ti := r.IntN(len(joins))
		if r.IntN(2) == 0 {
			b = cat(get(pick(v128)), get(pick(v128)), get(pick(v128)), call(2), set(pick(v128)), set(pick(v128)))
		}
		b = cat(b, get(pick(i32)), op(0x04), sleb(int64(len(types)+1+ti)))
		for arm := range 2 {
			if arm == 1 {
				b = append(b, 0x05)
			}
			for _, t := range joins[ti] {
				b = append(b, value(t)...)
			}
		}
		b = append(b, 0x0b)
		for _, t := range slices.Backward(joins[ti]) {
			b = append(b, set(pick(t))...)
		}
		return b
	}
	for range 6 {
		var ts []byte
		for range 1 + r.IntN(4) {
			ts = append(ts, results[r.IntN(len(results))])
		}
		joins = append(joins, ts)
	}
	var code []byte
	for i, t := range locals {
		g := generator{r: r}
		code = cat(code, g.constant(t), set(byte(2+i)))
	}
	code = cat(code, i32c(3), set(counter))
	var inner []byte
	for range 6 + r.IntN(30) {
		if r.IntN(10) == 0 {
			inner = cat(inner, get(pick(i32)), op(0x04, 0x40), statement(), statement(), op(0x0b))
			continue
		}
		inner = append(inner, statement()...)
	}
	code = cat(code, loop(inner, get(counter), i32c(1), op(0x6b), tee(counter), brIf(0)))
	at := int32(64)
	for i, t := range locals {
		code = cat(code, i32c(at), get(byte(2+i)), store(t))
		at += 16
	}
	a := reactor(cat(code, pack(i32c(64), i32c(at-64))))
	a.types = append(slices.Clone(types), [2][]byte{{v128, v128, v128}, {v128, v128}})
	for _, ts := range joins {
		a.types = append(a.types, [2][]byte{nil, ts})
	}
	a.funcs[1].locals = append(locals, i32)
	a.funcs = append(a.funcs, fn{typ: len(types), code: cat(get(2), get(0), get(1), op(0xfd, 0x51))})
	return a.bytes()
}
