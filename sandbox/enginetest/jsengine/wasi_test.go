//go:build unix

package jsengine_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest/jsengine"
)

// hostCalls are the imports of the guest ABI, some of those that answer ENOSYS
// among them. Parameters: p a pointer, n a length or a count, d a descriptor,
// c a clock, v a vector of buffers, s poll subscriptions, I an i64, x any i32.
var hostCalls = []struct{ module, name, sig, params string }{
	{"wasi_snapshot_preview1", "args_get", "ii:i", "pp"},
	{"wasi_snapshot_preview1", "args_sizes_get", "ii:i", "pp"},
	{"wasi_snapshot_preview1", "environ_get", "ii:i", "pp"},
	{"wasi_snapshot_preview1", "environ_sizes_get", "ii:i", "pp"},
	{"wasi_snapshot_preview1", "clock_time_get", "iIi:i", "cIp"},
	{"wasi_snapshot_preview1", "fd_close", "i:i", "d"},
	{"wasi_snapshot_preview1", "fd_fdstat_get", "ii:i", "dp"},
	{"wasi_snapshot_preview1", "fd_fdstat_set_flags", "ii:i", "dx"},
	{"wasi_snapshot_preview1", "fd_prestat_get", "ii:i", "dp"},
	{"wasi_snapshot_preview1", "fd_prestat_dir_name", "iii:i", "dpn"},
	{"wasi_snapshot_preview1", "fd_read", "iiii:i", "dv"},
	{"wasi_snapshot_preview1", "fd_seek", "iIii:i", "dIxp"},
	{"wasi_snapshot_preview1", "fd_write", "iiii:i", "dv"},
	{"wasi_snapshot_preview1", "poll_oneoff", "iiii:i", "s"},
	{"wasi_snapshot_preview1", "random_get", "ii:i", "pn"},
	{"wasi_snapshot_preview1", "sched_yield", ":i", ""},
	{"wasi_snapshot_preview1", "fd_filestat_get", "ii:i", "dp"},
	{"wasi_snapshot_preview1", "path_open", "iiiiiIIii:i", "dxpnxIIxp"},
	{"wasi_snapshot_preview1", "sock_shutdown", "ii:i", "dx"},
	{"edgenet", "progress", "i:", "x"},
	{"wasi_snapshot_preview1", "proc_exit", "i:", "x"},
	{"env", "abort", "iiii:", "xxxx"},
}

const rareCalls = 2 // at the end of the list: they end the run

type hostCalling struct{ *rand.Rand }

func (r hostCalling) any() uint32 {
	return []uint32{0, 1, 3, 0x7fffffff, 0x80000000, 0xffffffff, r.Uint32(), r.Uint32N(100)}[r.IntN(8)]
}

// pointer is mostly inside memory, often at its end, sometimes far outside.
func (r hostCalling) pointer() uint32 {
	switch r.IntN(12) {
	case 0:
		return r.any()
	case 1:
		return 65_536 - r.Uint32N(40)
	}
	return r.Uint32N(60_000)
}

func (r hostCalling) size() uint32 {
	switch r.IntN(12) {
	case 0:
		return r.any()
	case 1:
		return 1024 + r.Uint32N(2)
	}
	return r.Uint32N(40)
}

// setup is code to run before the call and the call's arguments.
func (r hostCalling) arguments(params string) (setup, args []byte) {
	for _, p := range params {
		switch p {
		case 'p':
			args = append(args, i32const(r.pointer())...)
		case 'n':
			args = append(args, i32const(r.size())...)
		case 'd':
			args = append(args, i32const([]uint32{0, 1, 2, r.Uint32N(5), r.any()}[r.IntN(5)])...)
		case 'c':
			args = append(args, i32const([]uint32{0, 1, 2, 3, 4, r.any()}[r.IntN(6)])...)
		case 'I':
			args = append(args, i64const(r.Uint64())...)
		case 'x':
			args = append(args, i32const(r.any())...)
		case 'v':
			at, n := r.pointer(), r.Uint32N(5)
			for i := range n {
				if at < 60_000 {
					setup = slices.Concat(setup, store32(at+8*i, i32const(r.pointer())), store32(at+8*i+4, i32const(r.size())))
				}
			}
			if r.IntN(15) == 0 {
				n = r.size()
			}
			args = slices.Concat(args, i32const(at), i32const(n), i32const(r.pointer()))
		case 's':
			at, n := r.pointer(), 1+r.Uint32N(4)
			for i := range n {
				s := at + 48*i
				if at >= 60_000 {
					break
				}
				kind := []uint32{0, 0, 0, 1, 2, 3, 255}[r.IntN(7)]
				if r.IntN(3) > 0 {
					kind = 0
				}
				wait := []uint64{0, 1, r.Uint64N(1e10), r.Uint64(), 1<<64 - 1}[r.IntN(5)]
				setup = slices.Concat(setup, store32(s, i32const(r.Uint32())), store32(s+8, i32const(kind)), store32(s+16, i32const(r.Uint32N(4))),
					store32(s+24, i32const(uint32(wait))), store32(s+28, i32const(uint32(wait>>32))), store32(s+40, i32const(r.Uint32N(4))))
			}
			if r.IntN(15) == 0 {
				n = r.size()
			}
			to := r.pointer()
			if r.IntN(4) == 0 {
				to = at + r.Uint32N(64) // events over subscriptions
			}
			args = slices.Concat(args, i32const(at), i32const(to), i32const(n), i32const(r.pointer()))
		}
	}
	return setup, args
}

// hostCallModule calls host functions with hostile arguments, stores every
// answer, and gives its whole memory as output.
func hostCallModule(seed uint64) []byte {
	r := hostCalling{rand.New(rand.NewPCG(seed, 7))}
	var imports []imported
	for _, h := range hostCalls {
		imports = append(imports, imported{h.module, h.name, h.sig})
	}
	var code []byte
	for i := range 3 + r.Uint32N(20) {
		which := r.IntN(len(hostCalls) - rareCalls)
		if r.IntN(60) == 0 {
			which = len(hostCalls) - 1 - r.IntN(rareCalls)
		}
		h := hostCalls[which]
		setup, args := r.arguments(h.params)
		invoke := append(args, call(uint32(which))...)
		if h.sig[len(h.sig)-1] == 'i' {
			invoke = store32(65_000+4*i, invoke)
		}
		code = slices.Concat(code, setup, invoke)
	}
	data := make([]byte, 4096)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	if seed%3 == 0 {
		return reactor(imports, data, nil, append(code, packed(0, 65_536)...))
	}
	// Write all of memory: the vector stands at its end.
	write := slices.IndexFunc(hostCalls, func(h struct{ module, name, sig, params string }) bool { return h.name == "fd_write" })
	code = slices.Concat(code, store32(65_500, i32const(0)), store32(65_504, i32const(65_536)),
		i32const(1), i32const(65_500), i32const(1), i32const(65_508), call(uint32(write)), []byte{0x1a})
	return module(imports, []function{{sig: ":", code: code, export: "_start"}}, data)
}

// TestHostCalls compares the two shims of the guest ABI.
func TestHostCalls(t *testing.T) {
	native, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer native.Close()
	e := node(t, jsengine.Options{Sliced: true, Slice: 100})
	seen := map[proto.Status]int{}
	input := []byte("some input of the guest, forty-three bytes.")
	for seed := range 2 * count(t) {
		m := prepare(t, hostCallModule(seed))
		limits := proto.Limits{Fuel: 1_000_000, Output: 70_000, Log: 100}
		if seed%10 == 1 {
			limits.Output = 40
		}
		if seed%10 == 2 {
			limits.Fuel = 4_500 + proto.Fuel(seed)
		}
		task := sandbox.Task{Limits: limits, Seed: proto.HashOf(fmt.Append(nil, seed))}
		if seed == 0 {
			task.Seed = proto.Hash{}
		}
		var calls [2][]uint32
		task.Progress = func(p uint32) { calls[0] = append(calls[0], p) }
		want := run(t, native, m, input, task)
		task.Progress = func(p uint32) { calls[1] = append(calls[1], p) }
		got := run(t, e, m, input, task)
		if !same(got, want) {
			t.Fatalf("seed %d: %s\nwazero: %s%s", seed, brief(got), brief(want), firstDifference(got.Output, want.Output))
		}
		// The Worker bounds how often it reports, but never drops the first.
		if len(calls[0]) > 0 && (len(calls[1]) == 0 || calls[1][0] != calls[0][0]) {
			t.Errorf("seed %d: progress %v, wazero: %v", seed, calls[1], calls[0])
		}
		seen[want.Status]++
	}
	t.Log(seen)
	for _, s := range []proto.Status{
		proto.StatusOK, proto.StatusTrap, proto.StatusOutOfFuel, proto.StatusExitNonZero, proto.StatusBadOutput,
	} {
		if seen[s] == 0 {
			t.Errorf("no module ended %s", s)
		}
	}
}

func brief(r sandbox.Result) string {
	r.Output = r.Output[:min(len(r.Output), 16)]
	return show(r)
}

func firstDifference(a, b []byte) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("\nbyte %d of the output: %x, wazero %x", i, a[i:min(i+16, len(a))], b[i:min(i+16, len(b))])
		}
	}
	return fmt.Sprintf("\noutputs of %d and %d bytes", len(a), len(b))
}

// TestWrapping compares what a random module hardly reaches: sums above the
// widths of their types.
func TestWrapping(t *testing.T) {
	native, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer native.Close()
	e := node(t, jsengine.Options{})

	wasi := func(name, sig string) imported { return imported{"wasi_snapshot_preview1", name, sig} }
	poll := func(absolute uint32, at uint64) []byte {
		return slices.Concat(store32(8, i32const(0)), store32(24, i32const(uint32(at))), store32(28, i32const(uint32(at>>32))), store32(40, i32const(absolute)),
			i32const(0), i32const(100), i32const(1), i32const(200), call(0), []byte{0x1a})
	}
	clock := func(at uint32) []byte {
		return slices.Concat(i32const(0), i64const(0), i32const(at), call(1), []byte{0x1a})
	}
	var vectors []byte // 1024 buffers of 4 MiB each at 0
	for i := range uint32(1024) {
		vectors = append(vectors, store32(8*i+4, i32const(4<<20))...)
	}
	for what, raw := range map[string][]byte{
		"clock": reactor([]imported{wasi("poll_oneoff", "iiii:i"), wasi("clock_time_get", "iIi:i")}, nil, nil, slices.Concat(
			poll(1, 1<<64-1), clock(300), clock(308), poll(0, 5), clock(316), poll(0, 1<<64-1), clock(324), packed(0, 400))),
		"bytes written": reactor([]imported{wasi("fd_write", "iiii:i")}, nil, nil, slices.Concat(
			i32const(64), []byte{0x40, 0, 0x1a}, vectors, store32(9004, slices.Concat(i32const(1), i32const(0), i32const(1024), i32const(9000), call(0))), packed(9000, 8))),
	} {
		task := sandbox.Task{Limits: proto.Limits{Fuel: 10_000_000, Log: 8}}
		m := prepare(t, raw)
		got, want := run(t, e, m, nil, task), run(t, native, m, nil, task)
		if !same(got, want) || want.Status != proto.StatusOK {
			t.Errorf("%s: %s; wazero: %s", what, show(got), show(want))
		}
	}
}
