//go:build !js

package sandbox

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox/instrument"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// BenchmarkMetering compares a module as it is with its metered form, called
// in one instance: the difference is the rewriter's.
func BenchmarkMetering(b *testing.B) {
	ctx := context.Background()
	e, err := newEngine(ctx, engineConfig{})
	if err != nil {
		b.Fatal(err)
	}
	defer e.close()
	for _, name := range []string{"text", "vector"} {
		raw, err := os.ReadFile(filepath.Join("modules", name+".wasm"))
		if err != nil {
			b.Fatal(err)
		}
		m, err := Prepare(raw, Policy{})
		if err != nil {
			b.Fatal(err)
		}
		input := kernelInput(name)
		for form, code := range map[string][]byte{"plain": raw, "metered": m.code} {
			b.Run(name+"/"+form, func(b *testing.B) {
				run := &run{guest: newGuest(m.ABI, input, Task{Limits: proto.Limits{}.WithDefaults()}), ctx: ctx}
				ctx := context.WithValue(ctx, runKey{}, run)
				c, err := e.rt.CompileModule(ctx, code)
				if err != nil {
					b.Fatal(err)
				}
				defer c.Close(ctx)
				for b.Loop() {
					b.StopTimer()
					mod, err := e.rt.InstantiateModule(ctx, c, wazero.NewModuleConfig().WithName(""))
					if err != nil {
						b.Fatal(err)
					}
					if form == "metered" {
						run.fuel = mod.ExportedGlobal(instrument.FuelExport).(api.MutableGlobal)
						run.fuel.Set(1 << 50)
						mod.ExportedGlobal(instrument.DepthExport).(api.MutableGlobal).Set(instrument.DepthLimit)
						mod.ExportedGlobal(instrument.PagesExport).(api.MutableGlobal).Set(4096)
					}
					b.StartTimer()
					if _, err := run.drive(ctx, mod, order{abi: m.ABI, hasInit: m.hasInit}, input); err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					mod.Close(ctx)
					b.StartTimer()
				}
			})
		}
	}
}

// kernelInput is some work: words, or a search among 20,000 vectors of 64
// dimensions.
func kernelInput(name string) []byte {
	var b []byte
	x := uint32(1)
	next := func() uint32 {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		return x
	}
	if name == "text" {
		for len(b) < 1<<20 {
			for n := 1 + next()%9; n > 0; n-- {
				b = append(b, 'a'+byte(next()%7))
			}
			b = append(b, ' ')
		}
		return b
	}
	const dim, n = 64, 20_000
	put := func(v uint32) { b = append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24)) }
	for _, v := range []uint32{0x31564e45, 1, 1, dim, 1, n, 10} {
		put(v)
	}
	for range dim * (n + 1) {
		put(0x3f000000 | next()>>9) // 0.5 to 1
	}
	return b
}
