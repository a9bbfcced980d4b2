//go:build !js

package instrument_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"edgenet.dev/sandbox/instrument"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

type specValue struct {
	Type     string          `json:"type"`
	LaneType string          `json:"lane_type"`
	Value    json.RawMessage `json:"value"`
}

type specCommand struct {
	Type     string `json:"type"`
	Line     int    `json:"line"`
	Name     string `json:"name"`
	Filename string `json:"filename"`
	Action   struct {
		Type   string      `json:"type"`
		Module string      `json:"module"`
		Field  string      `json:"field"`
		Args   []specValue `json:"args"`
	} `json:"action"`
	Expected []specValue `json:"expected"`
}

// lanes spells a value as its scalars with their width in bits; NaN patterns
// are kept as words.
func (v specValue) lanes() (words []string, width int, float bool) {
	ty := v.Type
	if ty == "v128" {
		ty = v.LaneType
		json.Unmarshal(v.Value, &words)
	} else {
		var w string
		json.Unmarshal(v.Value, &w)
		words = []string{w}
	}
	width, _ = strconv.Atoi(strings.TrimLeft(ty, "if"))
	return words, width, ty[0] == 'f'
}

// stack is the value as wazero passes it: one word, two for v128.
func (v specValue) stack() []uint64 {
	if v.Type == "funcref" || v.Type == "externref" {
		return []uint64{0}
	}
	words, width, _ := v.lanes()
	var out [2]uint64
	for i, w := range words {
		n, _ := strconv.ParseUint(w, 10, 64)
		out[i*width/64] |= n << (i * width % 64)
	}
	if v.Type == "v128" {
		return out[:]
	}
	return out[:1]
}

// matches compares got with the expectation, where nan:canonical and
// nan:arithmetic both mean the one canonical NaN: the rewriter leaves no other
// behind arithmetic, except for the sign that the specification leaves open.
func (v specValue) matches(got []uint64) bool {
	words, width, float := v.lanes()
	for i, w := range words {
		lane := got[i*width/64] >> (i * width % 64)
		if width < 64 {
			lane &= 1<<width - 1
		}
		if float && strings.HasPrefix(w, "nan:") {
			if width == 32 && lane&0x7fffffff != 0x7fc00000 || width == 64 && lane&math.MaxInt64 != 0x7ff8<<48 {
				return false
			}
			continue
		}
		if want, _ := strconv.ParseUint(w, 10, 64); lane != want {
			return false
		}
	}
	return true
}

// TestSpecBehaviour runs the specification's assertions against rewritten
// modules: values, traps and exhaustion.
func TestSpecBehaviour(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(wazeroDir(t), "internal", "integration_test", "spectest", "v2", "testdata", "*.json"))
	if err != nil || len(files) < 100 {
		t.Fatalf("%d suites: %v", len(files), err)
	}
	for name, run := range map[string]specRun{
		"interpreter":         {config: wazero.NewRuntimeConfigInterpreter()},
		"interpreter, sliced": {config: wazero.NewRuntimeConfigInterpreter(), sliced: true},
		"compiler":            {config: wazero.NewRuntimeConfigCompiler()},
	} {
		t.Run(name, func(t *testing.T) {
			s := &run
			for _, f := range files {
				s.suite(t, f)
			}
			t.Logf("%d values, %d traps, %d exhaustions; %d modules ran, %d refused or not linkable here", s.values, s.traps, s.exhausted, s.modules, s.refused)
			if s.values < 35_000 || s.traps < 1_500 || s.exhausted < 3 {
				t.Error("fewer assertions ran than should")
			}
		})
	}
}

type specRun struct {
	config                                     wazero.RuntimeConfig
	sliced                                     bool
	values, traps, exhausted, modules, refused int
}

func (s *specRun) suite(t *testing.T, file string) {
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, s.config.WithCoreFeatures(api.CoreFeaturesV2))
	defer rt.Close(ctx)
	host := rt.NewHostModuleBuilder("spectest")
	none := api.GoFunc(func(context.Context, []uint64) {})
	for name, params := range map[string][]byte{
		"print": nil, "print_i32": {api.ValueTypeI32}, "print_i64": {api.ValueTypeI64}, "print_f32": {api.ValueTypeF32}, "print_f64": {api.ValueTypeF64},
		"print_i32_f32": {api.ValueTypeI32, api.ValueTypeF32}, "print_f64_f64": {api.ValueTypeF64, api.ValueTypeF64},
	} {
		host.NewFunctionBuilder().WithGoFunction(none, params, nil).Export(name)
	}
	if _, err := host.Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	// Slices are refilled without end here: only the path is under test.
	refuel := api.GoFunc(func(_ context.Context, stack []uint64) { stack[0] = 1_000 })
	if _, err := rt.NewHostModuleBuilder(instrument.HostModule).NewFunctionBuilder().
		WithGoFunction(refuel, []byte{api.ValueTypeI64}, []byte{api.ValueTypeI64}).Export(instrument.RefuelName).Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var script struct {
		Commands []specCommand `json:"commands"`
	}
	if err := json.Unmarshal(b, &script); err != nil {
		t.Fatal(err)
	}
	var current api.Module
	named := map[string]api.Module{}
	registered := false
	for _, c := range script.Commands {
		at := fmt.Sprintf("%s:%d", filepath.Base(file), c.Line)
		if c.Type == "module" {
			current = s.instantiate(ctx, t, rt, filepath.Join(filepath.Dir(file), c.Filename))
			if c.Name != "" {
				named[c.Name] = current
			}
			if current == nil && registered {
				// It would have changed the modules it links to.
				clear(named)
			}
			continue
		}
		registered = registered || c.Type == "register"
		if registered && (c.Type == "assert_unlinkable" || c.Type == "assert_uninstantiable") {
			current = nil // so would this module, before it fails
			clear(named)
		}
		mod := current
		if c.Action.Module != "" {
			mod = named[c.Action.Module]
		}
		if mod == nil || c.Action.Type != "invoke" {
			continue
		}
		fn := mod.ExportedFunction(c.Action.Field)
		if fn == nil {
			t.Errorf("%s: no function %s", at, c.Action.Field)
			continue
		}
		var args []uint64
		for _, a := range c.Action.Args {
			args = append(args, a.stack()...)
		}
		s.arm(mod)
		got, err := fn.Call(ctx, args...)
		switch c.Type {
		case "assert_trap":
			if err == nil {
				t.Errorf("%s: %s returned %x, want a trap", at, c.Action.Field, got)
			}
			s.traps++
		case "assert_exhaustion":
			if depth := int32(mod.ExportedGlobal(instrument.DepthExport).Get()); err == nil || depth >= 0 {
				t.Errorf("%s: %s: %v with depth %d, want the stack limit", at, c.Action.Field, err, depth)
			}
			s.exhausted++
		default:
			if err != nil {
				t.Errorf("%s: %s: %v", at, c.Action.Field, err)
				continue
			}
			for i, want := range c.Expected {
				if want.Type == "funcref" || want.Type == "externref" {
					continue
				}
				n := len(want.stack())
				if !want.matches(got[:n]) {
					t.Errorf("%s: %s: result %d is %x, want %s", at, c.Action.Field, i, got[:n], want.Value)
				}
				got = got[n:]
			}
			s.values++
		}
	}
}

// arm gives the module what the host sets before a run.
func (s *specRun) arm(mod api.Module) {
	fuel := uint64(1) << 40
	if s.sliced {
		fuel = 0
	}
	mod.ExportedGlobal(instrument.FuelExport).(api.MutableGlobal).Set(fuel)
	mod.ExportedGlobal(instrument.DepthExport).(api.MutableGlobal).Set(instrument.DepthLimit)
	mod.ExportedGlobal(instrument.PagesExport).(api.MutableGlobal).Set(65_536)
}

// instantiate returns nil for a module that policy refuses or that links to
// another.
func (s *specRun) instantiate(ctx context.Context, t *testing.T, rt wazero.Runtime, file string) api.Module {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil // a text module
	}
	res, err := instrument.Rewrite(raw, instrument.Config{MemoryPages: 65536, Sliced: s.sliced})
	if err != nil {
		s.refused++
		return nil
	}
	mod, err := rt.InstantiateWithConfig(ctx, res.Bytes, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		s.refused++
		return nil
	}
	s.modules++
	if res.HasStart {
		s.arm(mod)
		if _, err := mod.ExportedFunction(instrument.StartExport).Call(ctx); err != nil {
			t.Errorf("%s: start: %v", filepath.Base(file), err)
		}
	}
	return mod
}
