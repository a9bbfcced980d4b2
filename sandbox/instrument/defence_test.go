//go:build !js

package instrument_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
	"edgenet.dev/sandbox/instrument"
)

// TestEachDefenceIsNeeded runs a check with all defences, which must hold, and
// without one, which the check must notice.
func TestEachDefenceIsNeeded(t *testing.T) {
	type row struct {
		name    string
		defence instrument.Defence
		check   func() error
	}
	rows := []row{
		{"stack", instrument.DefenceStack, vectorsHold("recursion 2000")},
		{"NaN", instrument.DefenceNaN, vectorsHold("NaN")},
		{"limits", instrument.DefenceLimits, boundsHold},
		{"LEB", instrument.DefenceLEB, longOpcodeHolds},
		{"start section", instrument.DefenceStart, vectorsHold("start")},
		{"segments outside", instrument.DefenceSegments, outsideIsRefused},
		{"segments used up", instrument.DefenceSegments, usedUpIsRefused},
	}
	if runtime.GOARCH == "amd64" { // the compilers for others are not known to need it
		for _, op := range []string{"bitselect", "copysign", "replace-lane", "select"} {
			rows = append(rows, row{"detour of " + op, instrument.DefenceDetour, vectorsHold("spilled " + op)})
		}
	}
	for _, c := range rows {
		t.Run(c.name, func(t *testing.T) {
			if err := c.check(); err != nil {
				t.Errorf("with the defence: %v", err)
			}
			instrument.Without(c.defence, func() {
				if err := c.check(); err == nil {
					t.Error("nobody notices that the defence is off")
				} else {
					t.Logf("without it: %v", err)
				}
			})
		})
	}
}

// onBoth runs raw on wazero's compiler and interpreter with the budget of a
// vector and wants the same from both.
func onBoth(raw []byte, input string, lim proto.Limits) (res sandbox.Result, err error) {
	m, err := sandbox.Prepare(raw, sandbox.Policy{})
	if err != nil {
		return res, err
	}
	for i, interpreter := range []bool{false, true} {
		ex, err := sandbox.NewInProcess(sandbox.InProcessConfig{Interpreter: interpreter})
		if err != nil {
			return res, err
		}
		got, err := ex.Run(context.Background(), m, []byte(input), sandbox.Task{Limits: lim})
		ex.Close()
		if err != nil {
			return res, err
		}
		if i > 0 && (got.Status != res.Status || got.Fuel != res.Fuel || string(got.Output) != string(res.Output)) {
			return res, fmt.Errorf("compiler: %s %x, fuel %d; interpreter: %s %x, fuel %d", res.Status, res.Output, res.Fuel, got.Status, got.Output, got.Fuel)
		}
		res = got
	}
	return res, nil
}

// vectorsHold checks the vectors whose name starts with prefix.
func vectorsHold(prefix string) func() error {
	return func() error {
		n := 0
		for _, v := range enginetest.Vectors() {
			if !strings.HasPrefix(v.Name, prefix) {
				continue
			}
			n++
			if v.Limits.Fuel == 0 {
				v.Limits.Fuel = 1_000_000
			}
			got, err := onBoth(v.Module, v.Input, v.Limits)
			if err != nil {
				return fmt.Errorf("%s: %w", v.Name, err)
			}
			if v.Digest != "" && proto.HashOf(got.Output).String() == v.Digest {
				got.Output = nil
			}
			if got.Status != v.Status || string(got.Output) != v.Output || got.Fuel != v.Fuel {
				return fmt.Errorf("%s: %s %q, fuel %d; want %s %q, %d", v.Name, got.Status, got.Output, got.Fuel, v.Status, v.Output, v.Fuel)
			}
		}
		if n == 0 {
			return fmt.Errorf("no vector %s", prefix)
		}
		return nil
	}
}

func leb(n int) (b []byte) {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func section(id byte, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	return slices.Concat([]byte{id}, leb(len(body)), body)
}

// reactor has execute with locals of the given groups, behind its two
// parameters.
func reactor(locals, execute []byte) []byte {
	sized := func(b ...byte) []byte { return slices.Concat(leb(len(b)), b) }
	name := func(s string, kind ...byte) []byte { return slices.Concat(leb(len(s)), []byte(s), kind) }
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		section(1, []byte{2, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 2, 0x7f, 0x7f, 1, 0x7e}),
		section(3, []byte{2, 0, 1}),
		section(5, []byte{1, 0, 1}),
		section(7, []byte{3}, name("memory", 2, 0), name("edgenet_alloc", 0, 0), name("execute", 0, 1)),
		section(10, []byte{2}, sized(0, 0x41, 0x80, 8, 0x0b), sized(slices.Concat(locals, execute, []byte{0x0b})...)))
}

// boundsHold wants a refusal for a module just past each bound that an engine
// would suffer from.
func boundsHold() error {
	nothing := []byte{0x42, 0}
	repeat := func(n int, open, shut []byte) []byte {
		return slices.Concat(slices.Repeat(open, n), slices.Repeat(shut, n), nothing)
	}
	none := []byte{0}
	for name, raw := range map[string][]byte{
		"blocks":       reactor(none, repeat(4097, []byte{0x02, 0x40, 0x0b}, nil)),
		"nesting":      reactor(none, repeat(1025, []byte{0x02, 0x40}, []byte{0x0b})),
		"loops":        reactor(none, repeat(257, []byte{0x03, 0x40, 0x0b}, nil)),
		"loop nesting": reactor(none, repeat(33, []byte{0x03, 0x40}, []byte{0x0b})),
		"locals":       reactor(slices.Concat([]byte{1}, leb(1025), []byte{0x7f}), nothing),
		"body":         reactor(none, repeat(64<<10, []byte{0x01}, nil)),
	} {
		_, err := sandbox.Prepare(raw, sandbox.Policy{})
		var refused *sandbox.RefusedError
		if !errors.As(err, &refused) {
			return fmt.Errorf("%s: not refused: %w", name, errors.Join(err, errors.New("accepted")))
		}
	}
	return nil
}

// segments has a table of one element, and execute of the given code behind
// the given sections.
func segments(elems, datas, execute []byte) []byte {
	raw := reactor([]byte{0}, execute)
	code := bytes.LastIndex(raw, []byte("\x07execute\x00\x01")) + len("\x07execute\x00\x01")
	memory := bytes.Index(raw, []byte{5, 3, 1, 0, 1})
	return slices.Concat(raw[:memory], section(4, []byte{1, 0x70, 0, 1}), raw[memory:code], elems, datas[:min(3, len(datas))], raw[code:], datas[min(3, len(datas)):])
}

// refused wants raw refused. Accepted, it is run to see what it does.
func refused(raw []byte) error {
	_, err := sandbox.Prepare(raw, sandbox.Policy{})
	var refusal *sandbox.RefusedError
	if errors.As(err, &refusal) {
		return nil
	}
	got, err := onBoth(raw, "", proto.Limits{Fuel: 1_000_000})
	return fmt.Errorf("accepted; wazero ends it %s, where V8 traps: %w", got.Status, errors.Join(err, errors.New("not refused")))
}

// outsideIsRefused puts an element behind the end of the table.
func outsideIsRefused() error {
	return refused(segments(section(9, []byte{1, 0, 0x41, 1, 0x0b, 1, 0}), nil, []byte{0x42, 0}))
}

// usedUpIsRefused reads a data segment that was written at the start.
func usedUpIsRefused() error {
	return refused(segments(nil, slices.Concat(section(12, []byte{1}), section(11, []byte{1, 0, 0x41, 0, 0x0b, 1, 'x'})),
		[]byte{0x41, 0, 0x41, 0, 0x41, 1, 0xfc, 8, 0, 0, 0x42, 0}))
}

// longOpcodeHolds spells v128.not in two bytes where one is enough. An engine
// that reads SIMD opcodes as one byte sees i64x2.shl, or so, instead.
func longOpcodeHolds() error {
	execute := slices.Concat(
		[]byte{0x41, 16, 0xfd, 12}, make([]byte, 16), []byte{0xfd, 0xcd, 0x00}, []byte{0xfd, 11, 4, 0},
		[]byte{0x42}, []byte{0x90, 0x80, 0x80, 0x80, 0x80, 0x02}) // 16<<32 | 16
	got, err := onBoth(reactor([]byte{0}, execute), "", proto.Limits{Fuel: 1_000_000})
	if err != nil {
		return err
	}
	if want := strings.Repeat("\xff", 16); got.Status != proto.StatusOK || string(got.Output) != want {
		return fmt.Errorf("%s %x, want ok %x", got.Status, got.Output, want)
	}
	return nil
}
