package enginetest

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"edgenet.dev/proto"
)

// Bomb is a module that means harm, and how it must end. Its bytes are made
// when asked for.
type Bomb struct {
	Name   string
	Module func() []byte
	Limits proto.Limits // zero fields take the defaults

	Refused string         // part of the refusal: "section … reason"; empty: the module is accepted
	Status  []proto.Status // one of these, when accepted; CompileTimeout depends on the machine
}

// Bombs are the corpus.
func Bombs() []Bomb {
	bs := append(refusedBombs(), compileBombs()...)
	return append(append(bs, memoryBombs()...), endlessBombs()...)
}

var idle = pack(i32c(0), i32c(0))

func repeat(n int, b ...byte) []byte { return bytes.Repeat(b, n) }

// nested is n blocks inside one another around inner.
func nested(n int, inner []byte) []byte {
	return cat(repeat(n, 0x02, 0x40), inner, repeat(n, 0x0b))
}

// many is a module with n functions that all look like f, behind an execute
// that does nothing.
func many(n int, f fn) func() []byte {
	return func() []byte {
		a := reactor(idle)
		for range n {
			a.funcs = append(a.funcs, f)
		}
		return a.bytes()
	}
}

// localsOf declares n locals of type t in one group.
func localsOf(n uint64, t byte) []byte { return cat([]byte{1}, uleb(n), []byte{t}) }

// branches is a br_table with n targets and a default, all the outermost block.
func branches(n int) []byte { return cat(get(0), op(0x0e), uleb(uint64(n)), repeat(n+1, 0)) }

func refusedBombs() []Bomb {
	table := func(size int) func() []byte {
		return func() []byte {
			a := reactor(idle)
			a.table = make([]int, size)
			return a.bytes()
		}
	}
	refused := func(name, why string, module func() []byte) Bomb {
		return Bomb{Name: name, Refused: why, Module: module}
	}
	return []Bomb{
		refused("four giga locals", "code section", many(1, fn{typ: 3, decl: localsOf(0xffff_ffff, i64)})),
		refused("four giga locals in two groups", "code section", many(1, fn{typ: 3, decl: cat([]byte{2}, uleb(1<<31), []byte{i64}, uleb(1<<31), []byte{i64})})),
		refused("locals past the limit", "code section", many(1, fn{typ: 3, decl: localsOf(1_025, i64)})),
		refused("nesting past the limit", "code section", many(1, fn{typ: 3, code: nested(1_025, nil)})),
		refused("blocks past the limit", "code section", many(1, fn{typ: 3, code: repeat(4_097, 0x02, 0x40, 0x0b)})),
		refused("loops past the limit", "code section", many(1, fn{typ: 3, code: repeat(257, 0x03, 0x40, 0x0b)})),
		refused("loops nested past the limit", "code section", many(1, fn{typ: 3, code: cat(repeat(33, 0x03, 0x40), repeat(33, 0x0b))})),
		refused("branch targets past the limit", "code section", many(1, fn{typ: 3, code: branches(4_097)})),
		refused("body past the limit", "code section", many(1, fn{typ: 3, code: repeat(64<<10, 0x01)})),
		refused("functions past the limit", "function section", many(20_000, fn{typ: 3})),
		refused("blocks times locals", "code section", many(6, fn{typ: 3, decl: localsOf(1_023, i64), code: repeat(4_096, 0x02, 0x40, 0x0b)})),
		refused("table past the limit", "table section", table(65_537)),
		refused("module past the limit", "module section", func() []byte {
			a := reactor(idle)
			a.data = map[uint32]string{0: strings.Repeat("x", 4<<20)}
			return a.bytes()
		}),
		refused("operands past the limit", "code section", func() []byte {
			a := reactor(idle)
			wide := bytes.Repeat([]byte{i64}, 64)
			a.types = append(slices.Clone(types), [2][]byte{wide, wide}, [2][]byte{nil, wide})
			a.funcs = append(a.funcs, fn{typ: len(types) + 1, code: bytes.Repeat(i64c(0), 64)}, fn{typ: len(types), code: bytes.Repeat(i64c(0), 64)})
			for range 9 {
				a.funcs = append(a.funcs, fn{typ: len(types) + 1, code: cat(call(2), bytes.Repeat(call(3), 32_000))})
			}
			return a.bytes()
		}),
		refused("elements past the limit", "element section", func() []byte {
			a := reactor(idle)
			a.passive = 3
			return a.bytes()
		}),
		refused("globals past the limit", "global section", func() []byte {
			a := reactor(idle)
			a.globals = 4_097
			return a.bytes()
		}),
	}
}

// compileBombs are within every limit and cost a compiler as much as the limits
// let them.
func compileBombs() []Bomb {
	done := []proto.Status{proto.StatusOK, proto.StatusCompileTimeout}
	slow := func(name string, module func() []byte) Bomb { return Bomb{Name: name, Module: module, Status: done} }
	// Each block reads and writes locals, so that the compiler has values to
	// carry along every edge.
	busy := func(blocks, locals int) []byte {
		var code []byte
		for i := range blocks {
			code = cat(code, op(0x02, 0x40), get(0), op(0x0d, 0), get(byte(1+i%min(locals, 100))), set(byte(1+i*7%min(locals, 100))), op(0x0b))
		}
		return code
	}
	return []Bomb{
		slow("many blocks, many locals", SlowToCompile),
		slow("most blocks times locals", many(4, fn{typ: 3, decl: localsOf(1_023, i64), code: busy(4_096, 1_023)})),
		slow("most functions", many(19_990, fn{typ: 3})),
		slow("deepest nesting", many(40, fn{typ: 3, decl: localsOf(400, i64), code: nested(1_024, cat(get(0), op(0x0d), uleb(1_023)))})),
		slow("widest branches", many(60, fn{typ: 3, code: cat(op(0x02, 0x40), branches(4_096), op(0x0b))})),
		slow("most loops", many(60, fn{typ: 3, decl: localsOf(1_023, i64), code: bytes.Repeat(cat(op(0x03, 0x40), get(1), i64c(1), op(0x7c), set(1), get(0), op(0x0d, 0, 0x0b)), 256)})),
		slow("long straight code", many(40, fn{typ: 3, decl: localsOf(100, i64), code: bytes.Repeat(cat(get(1), get(2), op(0x7c), set(3), get(3), get(1), op(0x7e), set(2)), 4_000)})),
		slow("deep operands", many(40, fn{typ: 0, code: cat(repeat(10_000, 0x20, 0), repeat(9_999, 0x6a))})),
	}
}

func memoryBombs() []Bomb {
	ok, fuel := []proto.Status{proto.StatusOK}, []proto.Status{proto.StatusOutOfFuel}
	return []Bomb{
		{Name: "touch all memory", Module: TouchAll, Limits: proto.Limits{Memory: 256 << 20}, Status: ok},
		{Name: "fill all memory", Module: reactor(cat(i32c(4_095), op(0x40, 0, drop), i32c(0), i32c(7), i32c(256<<20), op(0xfc, 11, 0), idle)).bytes, Limits: proto.Limits{Memory: 256 << 20}, Status: ok},
		{Name: "grow for ever", Module: reactor(cat(loop(i32c(1), op(0x40, 0, drop), br(0)), op(0x00))).bytes, Limits: proto.Limits{Fuel: 100_000_000, Memory: 64 << 20}, Status: fuel},
		{Name: "fill for ever", Module: func() []byte {
			a := reactor(cat(loop(i32c(0), i32c(7), i32c(64<<20), op(0xfc, 11, 0), br(0)), op(0x00)))
			a.pages = 1_024
			return a.bytes()
		}, Limits: proto.Limits{Fuel: 1_000_000_000, Memory: 64 << 20}, Status: fuel},
		{Name: "huge data segment", Module: func() []byte {
			a := reactor(idle)
			a.pages, a.data = 64, map[uint32]string{0: strings.Repeat("x", 4_000_000)}
			return a.bytes()
		}, Status: ok},
		{Name: "many data segments", Module: func() []byte {
			a := reactor(idle)
			a.data = map[uint32]string{}
			for i := range uint32(60_000) {
				a.data[i] = "x"
			}
			return a.bytes()
		}, Status: ok},
		{Name: "largest minimum memory", Module: func() []byte {
			a := reactor(idle)
			a.pages = 16_384
			return a.bytes()
		}, Status: []proto.Status{proto.StatusTrap}},
	}
}

func endlessBombs() []Bomb {
	fuel := []proto.Status{proto.StatusOutOfFuel}
	spin := reactor(cat(loop(br(0)), op(0x00))).bytes
	// tree calls itself twice, 60 deep: 2^60 calls.
	tree := reactor(cat(i32c(60), call(2), op(drop), idle), fn{typ: 0, code: cat(
		get(0), op(0x04, i32), get(0), i32c(1), op(0x6b), call(2), get(0), i32c(1), op(0x6b), call(2), op(0x6a), op(0x05), i32c(1), op(0x0b))}).bytes
	flood := func(fd int32) func() []byte {
		return func() []byte {
			return command(cat(loop(print(fd, 1_000, 30_000), op(drop), br(0)), op(0x00)), "fd_write").bytes()
		}
	}
	return []Bomb{
		{Name: "endless loop", Module: spin, Limits: proto.Limits{Fuel: 300_000_000}, Status: fuel},
		{Name: "endless loop against the clock", Module: spin, Limits: proto.Limits{Fuel: proto.MaxFuel, Wall: 300 * time.Millisecond}, Status: []proto.Status{proto.StatusTimeout}},
		{Name: "call tree", Module: tree, Limits: proto.Limits{Fuel: 300_000_000}, Status: fuel},
		{Name: "call tree against the clock", Module: tree, Limits: proto.Limits{Fuel: proto.MaxFuel, Wall: 300 * time.Millisecond}, Status: []proto.Status{proto.StatusTimeout}},
		{Name: "deep recursion", Module: reactor(cat(get(0), call(2), op(drop), idle), fn{typ: 0, code: cat(get(0), call(2), i32c(1), op(0x6a))}).bytes, Status: []proto.Status{proto.StatusStackLimit}},
		{Name: "deep recursion, big frames", Module: reactor(cat(get(0), call(2), op(drop), idle), fn{typ: 0, decl: localsOf(1_000, v128), code: cat(get(0), call(2), i32c(1), op(0x6a))}).bytes, Status: []proto.Status{proto.StatusStackLimit}},
		{Name: "log flood", Module: flood(2), Limits: proto.Limits{Fuel: 300_000_000}, Status: fuel},
		{Name: "output flood", Module: flood(1), Status: []proto.Status{proto.StatusBadOutput}},
		{Name: "giant output", Module: reactor(pack(i32c(0), i32c(-1))).bytes, Status: []proto.Status{proto.StatusBadOutput}},
		{Name: "random flood", Module: func() []byte {
			a := command(cat(i32c(1_023), op(0x40, 0, drop), bytes.Repeat(cat(i32c(0), i32c(64<<20), call(0), op(drop)), 4_000)), "random_get")
			return a.bytes()
		}, Limits: proto.Limits{Fuel: 20_000_000, Memory: 64 << 20}, Status: fuel},
		{Name: "vector flood", Module: func() []byte {
			return command(cat(loop(i32c(2), i32c(0), i32c(1_024), i32c(9_000), call(0), op(drop), br(0)), op(0x00)), "fd_write").bytes()
		}, Limits: proto.Limits{Fuel: 100_000_000}, Status: fuel},
		{Name: "progress flood", Module: Spin, Limits: proto.Limits{Fuel: 100_000_000}, Status: fuel},
	}
}

// Sized is a harmless module of about n bytes of ordinary code.
func Sized(n int) []byte {
	body := fn{typ: 3, decl: localsOf(8, i64), code: bytes.Repeat(cat(get(1), get(2), op(0x7c), set(3), get(0), op(0x04, 0x40), get(3), set(1), op(0x0b)), 60)}
	return many(n/(len(body.code)+8), body)()
}
