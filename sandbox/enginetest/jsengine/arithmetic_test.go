//go:build unix

package jsengine_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest/jsengine"
	"edgenet.dev/sandbox/instrument"
)

func twice(v uint32) uint64 { return uint64(v)<<32 | uint64(v) }

// floats are operands at the edges of the float types; in each, both halves
// are of interest.
var floats = []uint64{
	0, 1 << 63, twice(0x80000000), 0x3ff0000000000000, 0xbff8000000000001, 0x7ff0000000000000, 0x7ff8000000000000,
	0x7ff0000000000001, 0xfff8000000abcdef, 0x0000000000000001, twice(0x3f800000), twice(0xff800000), twice(0x7fc00000),
	0x7f800001ffc00123, twice(0x00000001), 0x7fefffffffffffff, 0x41dfffffffe00000, 0xc1e0000000200000, twice(0x4effffff), twice(0xcf000001),
	0x43f0000000000000, 0xc3e0000000000000,
}

var integers = []uint64{1, 2, 31, 33, 63, twice(0x7fffffff), twice(0xffffffff), 1<<63 - 1, 0x0123456789abcdef, 0x8080808080808080, 0x7f7f7f7f7f7f7f7f, 0xff00ff00ff00ff00}

// tuples are inputs of three operands, 16 bytes each.
func tuples(values []uint64) (b []byte) {
	le := binary.LittleEndian
	for i, x := range values {
		for j, y := range values {
			z := values[(i+3*j)%len(values)]
			for _, v := range [][2]uint64{{x, y}, {y, z}, {z, x}} {
				b = le.AppendUint64(le.AppendUint64(b, v[0]), v[1])
			}
		}
	}
	return b
}

var (
	loads  = map[byte][]byte{instrument.I32: {0x28, 0}, instrument.I64: {0x29, 0}, instrument.F32: {0x2a, 0}, instrument.F64: {0x2b, 0}, instrument.V128: {0xfd, 0, 0}}
	stores = map[byte][]byte{instrument.I32: {0x36, 0}, instrument.I64: {0x37, 0}, instrument.F32: {0x38, 0}, instrument.F64: {0x39, 0}, instrument.V128: {0xfd, 11, 0}}
)

// Locals of mapping: where the operands of this step stand, and its results.
const (
	argAt   = 0
	argLeft = 1
	outAt   = 2
	mapPage = 64 // pages of memory
)

// sequence computes one value from the operands of a step.
type sequence struct {
	code []byte
	out  byte
}

// operands loads the operands that in needs, from slot first on.
func operands(in []byte, first int) (code []byte) {
	for i, t := range in {
		code = slices.Concat(code, get(argAt), loads[t], uleb(uint64(16*((first+i)%3))))
	}
	return code
}

// mapping is a reactor that applies every sequence to every tuple of its input.
func mapping(sequences []sequence) []byte {
	const out = 1 << 16
	step := uint32(16 * len(sequences))
	code := slices.Concat(i32const(mapPage), []byte{0x40, 0, 0x1a}, i32const(out), set(outAt), loopOp)
	for i, s := range sequences {
		code = slices.Concat(code, get(outAt), s.code, stores[s.out], uleb(uint64(16*i)))
	}
	code = slices.Concat(code,
		get(argAt), i32const(48), []byte{0x6a}, set(argAt),
		get(outAt), i32const(step), []byte{0x6a}, set(outAt),
		get(argLeft), i32const(48), []byte{0x6b, 0x22, argLeft, 0x0d, 0}, endOp,
		get(outAt), i32const(out), []byte{0x6b, 0xad}, i64const(out<<32), []byte{0x84})
	return reactor(nil, nil, []byte{instrument.I32}, code)
}

// mayTrap reports integer division and conversions that do not saturate.
func mayTrap(code []byte) bool {
	c := code[0]
	return len(code) == 1 && (c >= 0x6d && c <= 0x70 || c >= 0x7f && c <= 0x82 || c >= 0xa8 && c <= 0xab || c >= 0xae && c <= 0xb1)
}

func isFloat(t byte) bool { return t == instrument.F32 || t == instrument.F64 || t == instrument.V128 }

// kernel is a module with inputs.
type kernel struct {
	name   string
	raw    []byte
	inputs [][]byte
}

// numeric are the instructions that compute one value from operands, those
// with a lane for its first and its last.
func numeric() (all []instrument.Instruction) {
	for _, in := range instrument.Instructions() {
		switch {
		case in.Memory || len(in.Out) != 1:
		case in.Lanes > 0:
			for _, lane := range []byte{0, in.Lanes - 1} {
				all = append(all, instrument.Instruction{Code: append(slices.Clone(in.Code), lane), In: in.In, Out: in.Out})
			}
		default:
			all = append(all, in)
		}
	}
	return all
}

func kernels() (all []kernel) {
	everything := tuples(slices.Concat(floats, integers)[:24])
	some := tuples(floats[:16])
	var single []sequence
	flush := func() {
		if len(single) > 0 {
			all = append(all, kernel{fmt.Sprintf("instructions up to %d", len(all)), mapping(single), [][]byte{everything, tuples(integers)}})
			single = nil
		}
	}
	instructions := numeric()
	for _, in := range instructions {
		s := sequence{slices.Concat(operands(in.In, 0), in.Code), in.Out[0]}
		if !mayTrap(in.Code) {
			if single = append(single, s); len(single) == 40 {
				flush()
			}
			continue
		}
		k := kernel{name: fmt.Sprintf("instruction %x", in.Code), raw: mapping([]sequence{s})}
		for _, input := range [][]byte{tuples(integers), some} {
			for t := range slices.Chunk(input, 48) {
				k.inputs = append(k.inputs, t)
			}
		}
		all = append(all, k)
	}
	flush()
	// A NaN that goes from one instruction into the next may stay as it is
	// only where that cannot be seen.
	for _, second := range instructions {
		if mayTrap(second.Code) || !slices.ContainsFunc(second.In, isFloat) {
			continue
		}
		var pairs []sequence
		for _, first := range instructions {
			if mayTrap(first.Code) || first.Out[0] != second.In[0] || !isFloat(first.Out[0]) || len(pairs) == 60 {
				continue
			}
			if first.Out[0] == instrument.V128 && !floatLanes(first.Code) {
				continue
			}
			pairs = append(pairs, sequence{slices.Concat(operands(first.In, 0), first.Code, operands(second.In[1:], 1), second.Code), second.Out[0]})
		}
		if len(pairs) > 0 {
			all = append(all, kernel{fmt.Sprintf("pairs that end in %x", second.Code), mapping(pairs), [][]byte{some}})
		}
	}
	return all
}

// floatLanes reports SIMD arithmetic on floats.
func floatLanes(code []byte) bool {
	op, n := binary.Uvarint(code[1:])
	return n > 0 && (op == 0x5e || op == 0x5f || op >= 0x67 && op <= 0x6a || op == 0x74 || op == 0x75 || op == 0x7a || op == 0x94 || op >= 0xe0 && op <= 0xf7)
}

func TestArithmeticNode(t *testing.T)     { arithmetic(t, jsengine.NewNode) }
func TestArithmeticChromium(t *testing.T) { arithmetic(t, jsengine.NewChromium) }

// arithmetic compares every numeric instruction, and pairs of float ones, on
// operands at the edges.
func arithmetic(t *testing.T, engine func(string, jsengine.Options) (*jsengine.Engine, error)) {
	native, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer native.Close()
	// Runs are short and the way to a browser is long: several at once.
	const atOnce = 8
	var engines []*jsengine.Engine
	for _, form := range []string{"baseline", "optimised"} {
		opt := forms[form]
		opt.Slots = atOnce / 2
		engines = append(engines, start(t, engine, opt))
	}
	var values, trapped atomic.Int64
	compare := func(k kernel, m *sandbox.Module, input []byte) {
		task := sandbox.Task{Limits: proto.Limits{Fuel: 100_000_000}}
		want, err := native.Run(t.Context(), m, input, task)
		if err != nil {
			t.Errorf("%s: %v", k.name, err)
			return
		}
		for j, e := range engines {
			got, _, err := runOut(t.Context(), e, m, input, task)
			if err != nil || !same(got, want) {
				t.Errorf("%s on engine %d: %s, %v; wazero: %s%s", k.name, j, brief(got), err, brief(want), firstDifference(got.Output, want.Output))
			}
		}
		switch want.Status {
		case proto.StatusOK:
			values.Add(int64(len(want.Output) / 16))
		case proto.StatusTrap:
			trapped.Add(1)
		default:
			t.Errorf("%s: %s", k.name, brief(want))
		}
	}
	jobs := make(chan func())
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for job := range jobs {
				job()
			}
		})
	}
	for i, k := range kernels() {
		if testing.Short() && i%8 != 0 || t.Failed() {
			continue
		}
		m := prepare(t, k.raw)
		for _, input := range k.inputs {
			jobs <- func() { compare(k, m, input) }
		}
	}
	close(jobs)
	wg.Wait()
	t.Logf("%d values, %d traps", values.Load(), trapped.Load())
	if values.Load() == 0 || trapped.Load() == 0 {
		t.Error("nothing compared")
	}
}
