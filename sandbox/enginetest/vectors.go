package enginetest

import (
	"embed"
	"slices"
	"strings"

	"edgenet.dev/proto"
)

// Types that every module here declares, by index.
var types = [][2][]byte{
	0: {{i32}, {i32}},
	1: {{i32, i32}, {i64}},
	2: {nil, nil},
	3: {{i32}, nil},
	4: {{i32, i32}, {i32}},
	5: {{i32, i32, i32, i32}, {i32}},
	6: {{i32, i64, i32}, {i32}},
	7: {{i32, i32, i32, i32}, nil},
	8: {nil, {i32}},
}

// pack returns ptr<<32 | len from two i32 expressions.
func pack(ptr, size []byte) []byte {
	return cat(ptr, op(0xad), i64c(32), op(0x86), size, op(0xad), op(0x84))
}

// reactor exports an allocator that always answers 1024 and the given execute.
// Functions follow as indices 2, 3, … behind the imports.
func reactor(execute []byte, more ...fn) *asm {
	return &asm{types: types, pages: 1, funcs: append([]fn{
		{typ: 0, code: i32c(1024), export: "edgenet_alloc"},
		{typ: 1, code: execute, export: "execute", locals: []byte{i32, i32, i64, f32, f64, v128}},
	}, more...)}
}

// Locals of execute behind its parameters.
const (
	locA = 2 + iota
	locB
	locWide
	locF32
	locF64
	locV
)

// number returns the i32 on the stack as four bytes of output.
func number(code ...[]byte) []byte {
	return cat(cat(code...), set(locA), i32c(16), get(locA), op(0x36, 2, 0), pack(i32c(16), i32c(4)))
}

func le32(v uint32) string {
	return string([]byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)})
}

var wasiTypes = map[string]int{
	"fd_read": 5, "fd_write": 5, "poll_oneoff": 5, "proc_exit": 3, "random_get": 4, "clock_time_get": 6,
	"environ_sizes_get": 4, "args_sizes_get": 4, "args_get": 4, "fd_filestat_get": 4, "sched_yield": 8, "fd_fdstat_get": 4,
}

// command exports _start and imports WASI functions as 0, 1, ….
func command(code []byte, wasi ...string) *asm {
	a := &asm{types: types, pages: 1, funcs: []fn{{typ: 2, code: code, export: "_start", locals: []byte{i32, i32}}}}
	for _, name := range wasi {
		a.imports = append(a.imports, imp{"wasi_snapshot_preview1", name, wasiTypes[name]})
	}
	return a
}

// print writes size bytes at ptr to fd with import 0, fd_write; the vector
// stands at 0 and the count at 8.
func print(fd, ptr, size int32) []byte {
	return cat(i32c(0), i32c(ptr), op(0x36, 2, 0), i32c(4), i32c(size), op(0x36, 2, 0), i32c(fd), i32c(0), i32c(1), i32c(8), call(0))
}

const drop = 0x1a

// Echo returns its input.
func Echo() []byte { return reactor(pack(get(0), get(1))).bytes() }

// LastWords is what LogAndSpin logs: any bytes, no text.
const LastWords = "stuck at \xff\x1b["

// LogAndSpin logs LastWords and never ends.
func LogAndSpin() []byte {
	a := command(cat(print(2, 1000, int32(len(LastWords))), op(drop), loop(br(0))), "fd_write")
	a.data = map[uint32]string{1000: LastWords}
	return a.bytes()
}

// WriteAndSpin writes text to stdout so many times and never ends.
func WriteAndSpin(text string, times int) []byte {
	var body [][]byte
	for range times {
		body = append(body, print(1, 1000, int32(len(text))), op(drop))
	}
	a := command(cat(append(body, loop(br(0)))...), "fd_write")
	a.data = map[uint32]string{1000: text}
	return a.bytes()
}

// Spin reports progress for ever.
func Spin() []byte {
	a := reactor(cat(loop(i32c(1), call(0), br(0)), op(0x00)))
	a.imports = []imp{{"edgenet", "progress", 3}}
	return a.bytes()
}

// Vectors are the cases in order.
func Vectors() []Vector {
	vs := slices.Concat(reactorVectors(), commandVectors(), spilledVectors())
	for i := range vs {
		vs[i].Fuel = fuel[vs[i].Name]
	}
	return vs
}

//go:embed testdata/spilled
var spilled embed.FS

// spilledVectors are what is left of random modules that wazero's compiler for
// amd64 (1.12) miscompiled: an operand of the instruction lived across a call
// and came back from memory in the middle of the instruction's machine code.
func spilledVectors() (vs []Vector) {
	for _, c := range [][2]string{
		{"bitselect", "37f4117cf0b13b40c44d4de4dfed9d9132b4abc25798d0df91068df42f081006"},
		{"copysign", "eb0da69205a519a25a3271019454f90fce0c1bd6e5c685345f1f5d867e1908de"},
		{"replace-lane", "1951142ca6eb59a77c74dd6bca3ac95ef2962643c60a63dc7abcf010cfba5d6b"},
		{"select", "cc850a2428d7d510ccb7513c4d5d1e4902d1b869abe7bdf680199f0c4fb3ab91"},
	} {
		raw, err := spilled.ReadFile("testdata/spilled/" + c[0] + ".wasm")
		if err != nil {
			panic(err) // it is part of this package
		}
		vs = append(vs, Vector{Name: "spilled " + c[0], Module: raw, Status: proto.StatusOK, Digest: c[1]})
	}
	return vs
}

func reactorVectors() []Vector {
	ok, trap := proto.StatusOK, proto.StatusTrap
	nothing := pack(i32c(0), i32c(0))
	recursive := reactor(cat(get(0), call(2), op(drop), nothing), fn{typ: 0, code: cat(get(0), call(2), i32c(1), op(0x6a))})
	// down calls itself until its argument is 0.
	down := func(depth int32) *asm {
		return reactor(cat(i32c(depth), call(2), op(drop), nothing), fn{typ: 0, code: cat(
			get(0), op(0x04, i32), get(0), i32c(1), op(0x6b), call(2), op(0x05), i32c(0), op(0x0b))})
	}
	started := reactor(number(op(0x23, 0)), fn{typ: 2, code: cat(i32c(42), op(0x24, 0))})
	started.globals, started.start = 1, 2
	startTrap := reactor(nothing, fn{typ: 2, code: op(0x00)})
	startTrap.start = 2
	startSpin := reactor(nothing, fn{typ: 2, code: loop(br(0))})
	startSpin.start = 2
	initialised := reactor(number(op(0x23, 0)), fn{typ: 2, code: cat(i32c(7), op(0x24, 0)), export: "_initialize"})
	initialised.globals = 1
	big := reactor(nothing)
	big.pages = 32
	grown := func(pages ...int32) []byte {
		b := []byte{}
		for _, p := range pages {
			b = cat(b, i32c(p), op(0x40, 0))
		}
		return b
	}
	bounded := reactor(number(grown(5)))
	bounded.maxPage = 3
	indirect := func(slot int32, table ...int) *asm {
		a := reactor(cat(i32c(slot), op(0x11, 2, 0), nothing), fn{typ: 2})
		a.table = table
		return a
	}
	farAlloc := reactor(nothing)
	farAlloc.funcs[0].code = i32c(-1)
	abort := reactor(cat(i32c(0), i32c(0), i32c(12), i32c(34), call(0), nothing))
	abort.imports = []imp{{"env", "abort", 7}}
	count := func(n int32, body ...[]byte) []byte {
		return cat(i32c(n), set(locA), loop(cat(body...), get(locA), i32c(1), op(0x6b), tee(locA), brIf(0)))
	}
	return []Vector{
		{Name: "echo", Module: Echo(), Input: "hello", Status: ok, Output: "hello"},
		{Name: "echo nothing", Module: Echo(), Status: ok},
		{Name: "loop 1000", Module: reactor(cat(count(1000), nothing)).bytes(), Status: ok},
		{Name: "dead code", Module: reactor(cat(block(br(0), i32c(1), op(drop), loop(br(0))), nothing)).bytes(), Status: ok},
		{Name: "unreachable", Module: reactor(op(0x00)).bytes(), Status: trap},
		{Name: "trap after a loop", Module: reactor(cat(count(1000), op(0x00))).bytes(), Status: trap},
		{Name: "trap after a fill", Module: reactor(cat(i32c(0), i32c(7), i32c(60_000), op(0xfc, 11, 0), op(0x00))).bytes(), Status: trap},
		{Name: "trap after a call", Module: reactor(cat(i32c(500), call(2), op(drop), op(0x00)), down(0).funcs[2]).bytes(), Status: trap},
		{Name: "divide by zero", Module: reactor(number(i32c(1), i32c(0), op(0x6d))).bytes(), Status: trap},
		{Name: "divide overflow", Module: reactor(number(i32c(-1<<31), i32c(-1), op(0x6d))).bytes(), Status: trap},
		{Name: "load outside", Module: reactor(number(i32c(65_533), op(0x28, 0, 0))).bytes(), Status: trap},
		{Name: "load offset overflow", Module: reactor(number(i32c(-1), op(0x28, 0, 0x7f))).bytes(), Status: trap},
		{Name: "endless loop", Module: reactor(cat(loop(br(0)), op(0x00))).bytes(), Status: proto.StatusOutOfFuel},
		{Name: "endless loop through table", Module: reactor(cat(loop(i32c(0), op(0x0e, 1, 0, 0)), op(0x00))).bytes(), Status: proto.StatusOutOfFuel},
		{Name: "fuel below zero at return", Module: Echo(), Limits: proto.Limits{Fuel: 4105}, Status: proto.StatusOutOfFuel},
		{Name: "fuel exactly enough", Module: Echo(), Limits: proto.Limits{Fuel: 4106}, Status: ok},
		{Name: "no fuel for the instance", Module: Echo(), Limits: proto.Limits{Fuel: 100}, Status: proto.StatusOutOfFuel},
		{Name: "endless recursion", Module: recursive.bytes(), Status: proto.StatusStackLimit},
		{Name: "recursion 500", Module: down(500).bytes(), Status: ok},
		{Name: "recursion 2000", Module: down(2000).bytes(), Status: proto.StatusStackLimit},
		{Name: "start section", Module: started.bytes(), Status: ok, Output: le32(42)},
		{Name: "start traps", Module: startTrap.bytes(), Status: trap},
		{Name: "start never ends", Module: startSpin.bytes(), Status: proto.StatusOutOfFuel},
		{Name: "initialize", Module: initialised.bytes(), Status: ok, Output: le32(7)},
		{Name: "minimum above the limit", Module: big.bytes(), Limits: proto.Limits{Memory: 31 << 16}, Status: trap},
		{Name: "grow", Module: reactor(number(grown(2))).bytes(), Status: ok, Output: le32(1)},
		{Name: "grow to the limit", Module: reactor(number(grown(15))).bytes(), Limits: proto.Limits{Memory: 16 << 16}, Status: ok, Output: le32(1)},
		{Name: "grow past the limit", Module: reactor(number(grown(16))).bytes(), Limits: proto.Limits{Memory: 16 << 16}, Status: ok, Output: le32(0xffffffff)},
		{Name: "grow past the maximum", Module: bounded.bytes(), Status: ok, Output: le32(0xffffffff)},
		{Name: "grow by all", Module: reactor(number(grown(-1))).bytes(), Status: proto.StatusOutOfFuel},
		{Name: "fill", Module: reactor(cat(i32c(0), i32c(7), i32c(60_000), op(0xfc, 11, 0), pack(i32c(9), i32c(2)))).bytes(), Status: ok, Output: "\x07\x07"},
		{Name: "fill for ever", Module: reactor(cat(loop(i32c(0), i32c(7), i32c(60_000), op(0xfc, 11, 0), br(0)), op(0x00))).bytes(), Status: proto.StatusOutOfFuel},
		{Name: "copy outside", Module: reactor(cat(i32c(0), i32c(7), i32c(65_530), op(0xfc, 10, 0, 0), nothing)).bytes(), Status: trap},
		{Name: "call through table", Module: indirect(0, 2).bytes(), Status: ok},
		{Name: "call a wrong type", Module: indirect(0, 0).bytes(), Status: trap},
		{Name: "call past the table", Module: indirect(9, 2).bytes(), Status: trap},
		{Name: "output outside memory", Module: reactor(pack(i32c(65_530), i32c(7))).bytes(), Status: proto.StatusBadOutput},
		{Name: "output at the end of memory", Module: reactor(pack(i32c(65_530), i32c(6))).bytes(), Status: ok, Output: strings.Repeat("\x00", 6)},
		{Name: "output above the limit", Module: Echo(), Input: "hello", Limits: proto.Limits{Output: 4}, Status: proto.StatusBadOutput},
		{Name: "allocator outside memory", Module: farAlloc.bytes(), Input: "x", Status: trap},
		{Name: "abort", Module: abort.bytes(), Status: trap, Log: "abort at 12:34\n"},
		{Name: "NaN f32", Module: reactor(number(op(0x43, 0, 0, 0, 0), op(0x43, 0, 0, 0, 0), op(0x95), op(0xbc))).bytes(), Status: ok, Output: le32(0x7fc00000)},
		{Name: "NaN f32 payload", Module: reactor(number(i32c(-0x3ffffe), op(0xbe), op(0x43, 0, 0, 0x80, 0x3f), op(0x92), op(0xbc))).bytes(), Status: ok, Output: le32(0x7fc00000)},
		{Name: "NaN f32 copied", Module: reactor(number(i32c(-0x3ffffe), op(0xbe), op(0x8c), op(0xbc))).bytes(), Status: ok, Output: le32(0x7fc00002)},
		{Name: "NaN f64", Module: reactor(cat(i32c(16), op(0x44, 0, 0, 0, 0, 0, 0, 0xf0, 0xbf), op(0x9f), op(0x39, 3, 0), pack(i32c(16), i32c(8)))).bytes(), Status: ok, Output: "\x00\x00\x00\x00\x00\x00\xf8\x7f"},
		{Name: "NaN f32x4", Module: reactor(cat(i32c(16), i32c(-0x3ffffe), op(0xfd, 17), i32c(0), op(0xbe), op(0xfd, 19), op(0xfd, 0xe4, 1), op(0xfd, 11, 4, 0), pack(i32c(16), i32c(16)))).bytes(), Status: ok, Output: strings.Repeat(le32(0x7fc00000), 4)},
		{Name: "NaN f64x2", Module: reactor(cat(i32c(16), i64c(-1), op(0xfd, 18), op(0xfd, 0xef, 1), op(0xfd, 11, 4, 0), pack(i32c(16), i32c(16)))).bytes(), Status: ok, Output: strings.Repeat("\x00\x00\x00\x00\x00\x00\xf8\x7f", 2)},
	}
}

func commandVectors() []Vector {
	ok := proto.StatusOK
	word := func(at int32) []byte { return cat(i32c(at), op(0x28, 2, 0)) }
	store := func(at int32, v ...[]byte) []byte { return cat(i32c(at), cat(v...), op(0x36, 2, 0)) }
	// copies stdin to stdout through 64 bytes at 100
	catCode := cat(
		store(16, i32c(100)),
		loop(
			store(20, i32c(64)),
			i32c(0), i32c(16), i32c(1), i32c(24), call(1), op(drop),
			word(24), op(0x04, 0x40),
			store(20, word(24)),
			i32c(1), i32c(16), i32c(1), i32c(28), call(0), op(drop),
			br(1),
			op(0x0b)))
	text := func(a *asm, s string) *asm {
		a.data = map[uint32]string{1000: s}
		return a
	}
	errno := func(code []byte, wasi string) *asm {
		return command(cat(store(100, code), print(1, 100, 4), op(drop)), "fd_write", wasi)
	}
	long := strings.Repeat("0123456789", 30)
	seed := proto.HashOf([]byte("seed"))
	return []Vector{
		{Name: "cat", Module: command(catCode, "fd_write", "fd_read").bytes(), Input: long, Status: ok, Output: long},
		{Name: "cat nothing", Module: command(catCode, "fd_write", "fd_read").bytes(), Status: ok},
		{Name: "exit 0", Module: text(command(cat(print(1, 1000, 2), op(drop), i32c(0), call(1), op(0x00)), "fd_write", "proc_exit"), "ok").bytes(), Status: ok, Output: "ok"},
		{Name: "exit 3", Module: text(command(cat(print(1, 1000, 2), op(drop), i32c(3), call(1), loop(br(0))), "fd_write", "proc_exit"), "ok").bytes(), Status: proto.StatusExitNonZero, ExitCode: 3, Output: "ok"},
		{Name: "stderr is the log", Module: text(command(cat(print(2, 1000, 5), op(drop)), "fd_write"), "hello").bytes(), Limits: proto.Limits{Log: 4}, Status: ok, Log: "hell"},
		{Name: "stdout above the limit", Module: text(command(cat(print(1, 1000, 5), op(drop), print(1, 1000, 5), op(drop)), "fd_write"), "hello").bytes(), Limits: proto.Limits{Output: 9}, Status: proto.StatusBadOutput, Output: "hellohell"},
		{Name: "stdout of a trap", Module: text(command(cat(print(1, 1000, 5), op(drop), print(2, 1000, 2), op(drop), op(0x00)), "fd_write"), "hello").bytes(), Status: proto.StatusTrap, Output: "hello", Log: "he"},
		{Name: "stdout of a spin", Module: text(command(cat(print(1, 1000, 5), op(drop), print(2, 1000, 2), op(drop), loop(br(0))), "fd_write"), "hello").bytes(), Status: proto.StatusOutOfFuel, Output: "hello", Log: "he"},
		{Name: "stdout without fuel to take it", Module: text(command(cat(print(1, 1000, 80), op(drop), op(0x00)), "fd_write"), strings.Repeat("hello", 16)).bytes(), Limits: proto.Limits{Fuel: 4_212}, Status: proto.StatusTrap, Output: strings.Repeat("hello", 16)},
		{Name: "log of any bytes", Module: text(command(cat(print(2, 1000, 5), op(drop)), "fd_write"), "\xff\x00\x1b\xc3\xa9").bytes(), Limits: proto.Limits{Log: 4}, Status: ok, Log: "\xff\x00\x1b\xc3"},
		{Name: "one argument", Module: command(cat(i32c(100), i32c(104), call(1), op(drop), i32c(108), i32c(112), call(2), op(drop), print(1, 100, 17), op(drop)), "fd_write", "args_sizes_get", "args_get").bytes(), Status: ok, Output: le32(1) + le32(5) + le32(112) + "task\x00"},
		{Name: "arguments outside memory", Module: errno(cat(i32c(108), i32c(65_532), call(1)), "args_get").bytes(), Status: ok, Output: le32(21)},
		{Name: "many buffers", Module: errno(cat(i32c(1), i32c(1000), i32c(1024), i32c(104), call(0)), "sched_yield").bytes(), Status: ok, Output: le32(0)},
		{Name: "too many buffers", Module: errno(cat(i32c(1), i32c(1000), i32c(1025), i32c(104), call(0)), "sched_yield").bytes(), Status: ok, Output: le32(28)},
		{Name: "many buffers without fuel", Module: errno(cat(i32c(1), i32c(1000), i32c(1024), i32c(104), call(0)), "sched_yield").bytes(), Limits: proto.Limits{Fuel: 14_000}, Status: proto.StatusOutOfFuel},
		{Name: "write to a file", Module: errno(print(7, 1000, 1), "sched_yield").bytes(), Status: ok, Output: le32(8)},
		{Name: "write from outside", Module: errno(print(1, 65_530, 100), "sched_yield").bytes(), Status: ok, Output: le32(21)},
		{Name: "no environment", Module: errno(cat(i32c(104), i32c(108), call(1)), "environ_sizes_get").bytes(), Status: ok, Output: le32(0)},
		{Name: "no files", Module: errno(cat(i32c(0), i32c(108), call(1)), "fd_filestat_get").bytes(), Status: ok, Output: le32(52)},
		{Name: "clock", Module: command(cat(
			i32c(1), i64c(0), i32c(200), call(1), op(drop), i32c(0), i64c(0), i32c(208), call(1), op(drop), print(1, 200, 16), op(drop),
		), "fd_write", "clock_time_get").bytes(), Status: ok, Output: "\x00\x00\x00\x00\x00\x00\x00\x00\xe8\x03\x00\x00\x00\x00\x00\x00"},
		{Name: "unknown clock", Module: errno(cat(i32c(9), i64c(0), i32c(200), call(1)), "clock_time_get").bytes(), Status: ok, Output: le32(28)},
		{Name: "sleep moves the clock", Module: command(cat(
			// a relative subscription of 5000 ns at 300, the event at 400
			i32c(324), i64c(5000), op(0x37, 3, 0), i32c(300), i32c(400), i32c(1), i32c(500), call(1), op(drop),
			i32c(1), i64c(0), i32c(200), call(2), op(drop), print(1, 200, 8), op(drop),
		), "fd_write", "poll_oneoff", "clock_time_get").bytes(), Status: ok, Output: "\x88\x13\x00\x00\x00\x00\x00\x00"},
		{Name: "random", Module: command(cat(i32c(200), i32c(12), call(1), op(drop), print(1, 200, 12), op(drop)), "fd_write", "random_get").bytes(), Seed: seed, Status: ok, Output: "\x30\x85\x39\x70\x2a\x7a\x2f\xa1\x15\x6f\x9b\x22"},
		{Name: "random without fuel", Module: command(cat(i32c(0), i32c(65_536), call(1), op(drop)), "fd_write", "random_get").bytes(), Limits: proto.Limits{Fuel: 10_000}, Status: proto.StatusOutOfFuel},
		{Name: "random outside", Module: errno(cat(i32c(65_530), i32c(12), call(1)), "random_get").bytes(), Status: ok, Output: le32(21)},
	}
}

// Busy counts to fifty million.
func Busy() []byte {
	return reactor(cat(i32c(50_000_000), set(locA), loop(get(locA), i32c(1), op(0x6b), tee(locA), brIf(0)), pack(i32c(0), i32c(0)))).bytes()
}

// SlowToCompile is within every limit and keeps a compiler busy: many blocks
// that all use many locals.
func SlowToCompile() []byte {
	a := reactor(pack(i32c(0), i32c(0)))
	for range 8 {
		locals := make([]byte, 600)
		for i := range locals {
			locals[i] = i64
		}
		var code []byte
		for i := range 3_000 {
			code = cat(code, op(0x02, 0x40), get(0), op(0x0d, 0), get(byte(1+i%100)), set(byte(1+i*7%100)), op(0x0b))
		}
		a.funcs = append(a.funcs, fn{typ: 3, locals: locals, code: code})
	}
	return a.bytes()
}

// TouchAll grows memory page by page as far as it goes, writes to each page,
// and returns how many there are.
func TouchAll() []byte {
	return reactor(number(
		loop(i32c(1), op(0x40, 0), tee(locA), i32c(-1), op(0x47),
			op(0x04, 0x40), get(locA), i32c(16), op(0x74), i32c(1), op(0x36, 2, 0), br(1), op(0x0b)),
		op(0x3f, 0))).bytes()
}

// Fill grows memory to so many pages, fills it with b unless that is 0, and
// returns all its words or-ed.
func Fill(pages int32, b byte) []byte {
	fill := []byte(nil)
	if b != 0 {
		fill = cat(i32c(0), i32c(int32(b)), i32c(pages<<16), op(0xfc, 11, 0))
	}
	const at, all = locA, locB
	return reactor(cat(
		i32c(pages-1), op(0x40, 0), op(drop), fill,
		loop(get(all), get(at), op(0x28, 2, 0), op(0x72), set(all),
			get(at), i32c(4), op(0x6a), tee(at), i32c(pages<<16), op(0x49), brIf(0)),
		number(get(all)))).bytes()
}
