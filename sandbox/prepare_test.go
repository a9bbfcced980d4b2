package sandbox_test

import (
	"errors"
	"strings"
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
)

// section is an id, a size and a body.
func section(id byte, body ...byte) string {
	return string(append([]byte{id, byte(len(body))}, body...))
}

const magic = "\x00asm\x01\x00\x00\x00"

// code is a module with one function ()->() of the given body, memory and
// mutable global 0 of type i32.
func code(body ...byte) string {
	b := append([]byte{0}, body...)
	b = append(b, 0x0b)
	return magic + section(1, 1, 0x60, 0, 0) + section(3, 1, 0) + section(5, 1, 0, 1) + section(6, 1, 0x7f, 1, 0x41, 0, 0x0b) +
		section(7, append([]byte{2, 6}, "memory\x02\x00\x06_start\x00\x00"...)...) +
		section(10, append([]byte{1, byte(len(b))}, b...)...)
}

func imported(module, name string, typ byte, kind ...byte) string {
	if len(kind) == 0 {
		kind = []byte{0, typ}
	}
	b := append([]byte{1, byte(len(module))}, module...)
	b = append(append(b, byte(len(name))), name...)
	return magic + section(1, 2, 0x60, 0, 0, 0x60, 1, 0x7f, 0) + section(2, append(b, kind...)...)
}

// reactorAndStart exports a reactor's functions and _start, but nothing that
// sets its runtime up.
var reactorAndStart = magic +
	section(1, 3, 0x60, 0, 0, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 2, 0x7f, 0x7f, 1, 0x7e) +
	section(3, 3, 0, 1, 2) + section(5, 1, 0, 1) +
	section(7, []byte("\x04\x06memory\x02\x00\x06_start\x00\x00\x0dedgenet_alloc\x00\x01\x07execute\x00\x02")...) +
	section(10, 3, 2, 0, 0x0b, 4, 0, 0x20, 0, 0x0b, 4, 0, 0x42, 0, 0x0b)

func TestRefusals(t *testing.T) {
	exported := func(name string) string {
		return magic + section(5, 1, 0, 1) + section(7, append(append([]byte{1, byte(len(name))}, name...), 2, 0)...)
	}
	for _, c := range []struct{ name, module, section, reason string }{
		{"empty", "", "header", "not a WebAssembly module"},
		{"text", "hello, world", "header", "not a WebAssembly module"},
		{"version", "\x00asm\x02\x00\x00\x00", "header", "version 1"},
		{"component", "\x00asm\x0d\x00\x01\x00", "header", "version 1"},
		{"cut", magic + "\x01\x05\x01", "module", "5 bytes, 1 left"},
		{"section twice", magic + section(1, 0) + section(1, 0), "module", "out of order"},
		{"tag section", magic + section(13, 0), "module", "exception handling"},
		{"types without bytes", magic + section(1, 0xff, 0xff, 0xff, 0xff, 0x0f), "type", "in 0 bytes"},
		{"long LEB", magic + section(1, 0xff, 0xff, 0xff, 0xff, 0x7f), "type", "above 32 bits"},
		{"externref", magic + section(1, 1, 0x60, 1, 0x6f, 0), "type", "externref"},
		{"imported memory", imported("env", "memory", 0, 2, 0, 1), "import", "imported memory env.memory is not allowed"},
		{"imported table", imported("env", "t", 0, 1, 0x70, 0, 1), "import", "imported table"},
		{"imported global", imported("env", "g", 0, 3, 0x7f, 0), "import", "imported global"},
		{"foreign import", imported("wasi_unstable", "fd_write", 0), "import", "can be imported"},
		{"unknown WASI function", imported("wasi_snapshot_preview1", "launch", 0), "import", "no such function"},
		{"WASI function of another type", imported("wasi_snapshot_preview1", "proc_exit", 0), "import", "want (i32) -> ()"},
		{"host's own import", imported("edgenet:host", "refuel", 0), "import", "reserved"},
		{"reserved export", exported("edgenet:fuel"), "export", "reserved"},
		{"shared memory", magic + section(5, 1, 3, 1, 1), "memory", "shared memory"},
		{"64-bit memory", magic + section(5, 1, 4, 1), "memory", "64-bit memory"},
		{"two memories", magic + section(5, 2, 0, 1, 0, 1), "memory", "2 memories, at most 1"},
		{"big memory", magic + section(5, 1, 0, 0x80, 0x80, 2), "memory", "memory minimum of 32768 pages, at most 16384"},
		{"big table", magic + section(4, 1, 0x70, 0, 0x81, 0x80, 4), "table", "at most 65536"},
		{"no memory", magic, "export", "no memory is exported"},
		{"no entry", exported("memory"), "export", "neither execute (reactor) nor _start"},
		{"half a reactor", reactorAndStart, "export", "-buildmode=c-shared"},
		// Engines disagree about segments that do not fit, and about those that
		// are used up at the start.
		{"elements outside", magic + section(4, 1, 0x70, 0, 2) + section(9, 1, 0, 0x41, 3, 0x0b, 0), "element", "0 elements at 3, which is outside: there are 2"},
		{"elements at -1", magic + section(4, 1, 0x70, 0, 2) + section(9, 1, 4, 0x41, 0x7f, 0x0b, 1, 0xd0, 0x70, 0x0b), "element", "outside"},
		{"data outside", magic + section(5, 1, 0, 1) + section(11, 1, 0, 0x41, 0xff, 0xff, 3, 0x0b, 2, 0, 0), "data", "2 bytes at 65535, which is outside: there are 65536"},
		{"data beside no page", magic + section(5, 1, 0, 0) + section(11, 1, 0, 0x41, 1, 0x0b, 0), "data", "outside"},
		{"memory.init of active data", magic + section(1, 1, 0x60, 0, 0) + section(3, 1, 0) + section(5, 1, 0, 1) + section(12, 1) +
			section(10, 1, 12, 0, 0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 8, 0, 0, 0x0b) + section(11, 1, 0, 0x41, 0, 0x0b, 0), "code", "memory.init of data segment 0, which is active"},
		{"atomics", code(0xfe, 0x03, 0), "code", "threads"},
		{"relaxed SIMD", code(0xfd, 0x80, 0x02), "code", "relaxed SIMD"},
		{"tail call", code(0x12, 0), "code", "tail call"},
		{"exceptions", code(0x06, 0x40, 0x0b), "code", "exception handling"},
		{"garbage collection", code(0xfb, 0), "code", "garbage collection"},
		// The rewriter adds a global and locals: these must not become valid.
		{"global past the end", code(0x23, 1, 0x1a), "code", "global 1 of 1"},
		{"local past the end", code(0x20, 0, 0x1a), "code", "local 0 of 0"},
		{"label past the end", code(0x0c, 1), "code", "branch to label 1 of 1"},
		{"function past the end", code(0x10, 1), "code", "function 1 of 1"},
		{"block type past the end", code(0x02, 1, 0x0b), "code", "block type 1 of 1"},
		{"operand missing", code(0x1a), "code", "operand of type any missing"},
		{"operand of another type", code(0x42, 0, 0x24, 0), "code", "operand of type i64, want i32"},
		{"operand left over", code(0x41, 0), "code", "1 operands left"},
		{"SIMD opcode in two bytes", code(0xfd, 0xcd, 0x00), "code", "operand of type v128 missing"}, // v128.not, not 0xcd
		{"alignment", code(0x41, 0, 0x28, 3, 0, 0x1a), "code", "alignment 2^3"},
	} {
		_, err := sandbox.Prepare([]byte(c.module), sandbox.Policy{})
		var refused *sandbox.RefusedError
		if !errors.As(err, &refused) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if refused.Section != c.section || !strings.Contains(refused.Reason, c.reason) {
			t.Errorf("%s: %v; want section %s, reason %q", c.name, err, c.section, c.reason)
		}
		if proto.CodeOf(err) != proto.CodeModule {
			t.Errorf("%s: code %s", c.name, proto.CodeOf(err))
		}
	}
	if _, err := sandbox.Prepare([]byte(code(0x01)), sandbox.Policy{}); err != nil {
		t.Errorf("the frame of these cases is refused itself: %v", err)
	}
}

// TestLimits builds modules just inside and just outside each bound.
func TestLimits(t *testing.T) {
	leb := func(n int) []byte {
		var b []byte
		for ; n >= 0x80; n >>= 7 {
			b = append(b, byte(n)|0x80)
		}
		return append(b, byte(n))
	}
	wrap := func(id byte, b []byte) string { return string(append(append([]byte{id}, leb(len(b))...), b...)) }
	module := func(locals, body []byte, funcs int) []byte {
		b := append(append(locals, body...), 0x0b)
		codes := leb(funcs)
		for range funcs {
			codes = append(append(codes, leb(len(b))...), b...)
		}
		return []byte(magic + section(1, 1, 0x60, 0, 0) + wrap(3, append(leb(funcs), make([]byte, funcs)...)) + section(5, 1, 0, 1) +
			section(7, append([]byte{2, 6}, "memory\x02\x00\x06_start\x00\x00"...)...) + wrap(10, codes))
	}
	repeat := func(n int, open, shut []byte) (b []byte) {
		for range n {
			b = append(b, open...)
		}
		for range n {
			b = append(b, shut...)
		}
		return b
	}
	none := []byte{0}
	locals := func(n int) []byte { return append(append([]byte{1}, leb(n)...), 0x7f) }
	end := []byte{0x0b}
	flat := func(n int, item ...byte) []byte { return repeat(n, item, nil) }
	table := func(n int) []byte {
		return append(append([]byte{0x41, 0, 0x0e}, leb(n)...), make([]byte, n+1)...)
	}
	// memory.grow is the instruction that metering lengthens most.
	growing := func(n int) []byte {
		return append(append([]byte{0x41, 0}, flat(n, 0x40, 0)...), 0x1a)
	}
	for _, c := range []struct {
		name    string
		in, out []byte
	}{
		{"body", module(none, flat(64<<10-2, 0x01), 1), module(none, flat(64<<10-1, 0x01), 1)},
		{"blocks", module(none, flat(4096, 0x02, 0x40, 0x0b), 1), module(none, flat(4097, 0x02, 0x40, 0x0b), 1)},
		{"nesting", module(none, repeat(1024, []byte{0x02, 0x40}, end), 1), module(none, repeat(1025, []byte{0x02, 0x40}, end), 1)},
		{"loops", module(none, flat(256, 0x03, 0x40, 0x0b), 1), module(none, flat(257, 0x03, 0x40, 0x0b), 1)},
		{"loop nesting", module(none, repeat(32, []byte{0x03, 0x40}, end), 1), module(none, repeat(33, []byte{0x03, 0x40}, end), 1)},
		{"locals", module(locals(1024), nil, 1), module(locals(1025), nil, 1)},
		{"all locals", module(locals(1024), nil, 1), module(locals(1<<32-1), nil, 1)},
		{"branch targets", module(none, table(4096), 1), module(none, table(4097), 1)},
		{"functions", module(none, nil, 20_000), module(none, nil, 20_001)},
		{"metered size", module(none, growing(20_000), 10), module(none, growing(20_000), 26)},
		{"work", module(locals(1000), flat(4000, 0x02, 0x40, 0x0b), 5), module(locals(1000), flat(4001, 0x02, 0x40, 0x0b), 5)},
	} {
		if _, err := sandbox.Prepare(c.in, sandbox.Policy{}); err != nil {
			t.Errorf("%s: at the bound: %v", c.name, err)
		}
		if _, err := sandbox.Prepare(c.out, sandbox.Policy{}); proto.CodeOf(err) != proto.CodeModule {
			t.Errorf("%s: above the bound: %v", c.name, err)
		}
	}
}

func TestPrepared(t *testing.T) {
	raw := enginetest.Echo()
	m, err := sandbox.Prepare(raw, sandbox.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	if m.ID != proto.CIDOf(raw) || m.ABI != sandbox.ABIReactor || m.RawSize != len(raw) || m.MeterVersion != proto.MeterVersion {
		t.Errorf("%+v", m)
	}
	if m, err = sandbox.Prepare([]byte(code(0x01)), sandbox.Policy{}); err != nil || m.ABI != sandbox.ABICommand {
		t.Errorf("command: %v, %v", m, err)
	}
	if _, err := sandbox.Prepare([]byte(code(0x01)), sandbox.Policy{Memory: 64 << 10}); err != nil {
		t.Errorf("one page under a policy of one page: %v", err)
	}
}
