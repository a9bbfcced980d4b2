package main

import (
	"context"
	_ "embed"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"edgenet.dev/sandbox/instrument"
)

// kernelModule is kernels.c, built by
//
//	clang --target=wasm32 -O2 -msimd128 -ffreestanding -nostdlib -Wl,--no-entry -Wl,--strip-all -o kernels.wasm kernels.c
//
//go:embed kernels/kernels.wasm
var kernelModule []byte

var kernels = []struct {
	name  string
	work  uint32
	calls bool // calls and little else: no goal for it alone
}{
	{name: "text scan", work: 120},
	{name: "dot f32x4", work: 1200},
	{name: "matmul f32", work: 8},
	{name: "integer mix", work: 30_000},
	{name: "fib calls", work: 29, calls: true},
}

// metering times each kernel in its plain and its metered form, one after the
// other in fresh instances of wazero's compiler, and compares the fastest of
// each: what the machine does besides only adds.
func (b bench) metering(ctx context.Context) ([]row, error) {
	res, err := instrument.Rewrite(kernelModule, instrument.Config{MemoryPages: 256})
	if err != nil {
		return nil, err
	}
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	defer rt.Close(ctx)
	var forms [2]wazero.CompiledModule
	for i, code := range [][]byte{kernelModule, res.Bytes} {
		if forms[i], err = rt.CompileModule(ctx, code); err != nil {
			return nil, err
		}
	}
	var ratios, rates []float64
	outsideCalls := 0.0
	for i, k := range kernels {
		best := [2]float64{math.Inf(1), math.Inf(1)}
		var out [2]uint32
		var fuel int64
		for range 12 {
			for form, compiled := range forms {
				at, used, v, err := runKernel(ctx, rt, compiled, uint32(i), k.work, form == 1)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", k.name, err)
				}
				best[form] = min(best[form], at.Seconds())
				out[form], fuel = v, used
			}
		}
		if out[0] != out[1] {
			return nil, fmt.Errorf("%s: plain gives %d, metered %d", k.name, out[0], out[1])
		}
		ratio := best[1] / best[0]
		ratios = append(ratios, ratio)
		if !k.calls {
			outsideCalls = max(outsideCalls, ratio)
		}
		rates = append(rates, float64(fuel)/best[1]/1e9)
		fmt.Fprintf(os.Stderr, "  %-12s plain %6.2f ms, metered %6.2f ms, ratio %.3f, %.2f Gfuel/s\n", k.name, best[0]*1e3, best[1]*1e3, ratio, rates[i])
	}
	slices.Sort(ratios)
	slices.Sort(rates)
	baseline := fmt.Sprintf("plain form of %d kernels, this run", len(kernels))
	return []row{
		{"metering_median_ratio", ratios[len(ratios)/2], "x", baseline, "< 1.15"},
		{"metering_max_ratio", outsideCalls, "x", baseline + ", without pure calls", "< 1.35"},
		{"metering_calls_ratio", ratios[len(ratios)-1], "x", baseline + ", the worst", "-"},
		{"fuel_rate_median", rates[len(rates)/2], "Gfuel/s", fmt.Sprintf("%.2f to %.2f over the kernels", rates[0], rates[len(rates)-1]), "> 1: the reference CPU"},
	}, nil
}

// runKernel gives the time of execute alone, its fuel if metered, and the
// result.
func runKernel(ctx context.Context, rt wazero.Runtime, c wazero.CompiledModule, kernel, work uint32, metered bool) (time.Duration, int64, uint32, error) {
	mod, err := rt.InstantiateModule(ctx, c, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return 0, 0, 0, err
	}
	defer mod.Close(ctx)
	const limit = int64(1) << 50
	left := func() int64 { return 0 }
	if metered {
		fuel := mod.ExportedGlobal(instrument.FuelExport).(api.MutableGlobal)
		fuel.Set(uint64(limit))
		mod.ExportedGlobal(instrument.DepthExport).(api.MutableGlobal).Set(instrument.DepthLimit)
		mod.ExportedGlobal(instrument.PagesExport).(api.MutableGlobal).Set(256)
		left = func() int64 { return limit - int64(fuel.Get()) }
	}
	at, err := mod.ExportedFunction("edgenet_alloc").Call(ctx, 8)
	if err != nil {
		return 0, 0, 0, err
	}
	ptr := api.DecodeU32(at[0])
	in := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, kernel), work)
	mod.Memory().Write(ptr, in)
	before, execute := left(), mod.ExportedFunction("execute")
	var res []uint64
	took := timeOf(func() { res, err = execute.Call(ctx, uint64(ptr), uint64(len(in))) })
	if err != nil {
		return 0, 0, 0, err
	}
	v, ok := mod.Memory().ReadUint32Le(uint32(res[0] >> 32))
	if !ok {
		return 0, 0, 0, fmt.Errorf("result outside memory")
	}
	return took, left() - before, v, nil
}
