package instrument

import "errors"

// Names the rewriter adds. A module must not export names with this prefix.
const (
	Reserved    = "edgenet:"
	FuelExport  = Reserved + "fuel"  // mutable i64: fuel left; negative when exhausted
	DepthExport = Reserved + "depth" // mutable i32: stack units left; negative when exhausted
	PagesExport = Reserved + "pages" // mutable i32: largest memory of this task, in pages; -1 after the engine could not grow that far
	StartExport = Reserved + "start" // the start section's function, called by the host
	HostModule  = Reserved + "host"  // module of the refuel import
	RefuelName  = "refuel"           // (fuel i64) -> fuel i64, only when Sliced
)

// DepthLimit is the depth of calls in units: 16 + parameters + locals +
// operands per frame of a function that calls (v128 counts twice).
const DepthLimit = 16_384

const frameUnits = 16

// Config of a rewrite. It is part of what a replica must agree on, except
// Sliced, which changes neither fuel nor results.
type Config struct {
	MemoryPages uint32 // ceiling of the declared memory maximum; 1..65536
	// Sliced adds a host call where fuel is found below zero, so that the host
	// hands out the fuel in slices and can stop the guest between them.
	Sliced bool
	// Import refuses an import by returning a reason; nil allows all.
	Import func(module, name string, t FuncType) string
}

// Result is a rewritten module and what the host must know about it.
type Result struct {
	Bytes     []byte
	StartFuel uint64 // charged before the first instruction
	HasStart  bool   // StartExport exists
	HasMemory bool
	MinPages  uint32
	MaxPages  uint32
	Funcs     map[string]FuncType // exported functions
	Memories  map[string]bool     // exported memories
	NaNs      int                 // places where a NaN is made canonical
}

// Rewrite checks raw and returns its metered form. Errors are *RefusedError.
func Rewrite(raw []byte, cfg Config) (res *Result, err error) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case *RefusedError:
			res, err = nil, e
		default:
			panic(e)
		}
	}()
	if cfg.MemoryPages == 0 || cfg.MemoryPages > 65_536 {
		return nil, errors.New("instrument: memory ceiling must be 1 to 65536 pages")
	}
	m := &module{}
	m.read(raw, &cfg)
	res = &Result{
		Bytes: m.write(&cfg), StartFuel: m.startFuel(), HasStart: m.start >= 0 && off&defenceStart == 0,
		NaNs: m.nans, HasMemory: m.hasMem, MinPages: m.memMin, MaxPages: m.memMax,
		Funcs: map[string]FuncType{}, Memories: map[string]bool{},
	}
	for _, e := range m.exports {
		switch e.kind {
		case KindFunc:
			res.Funcs[e.name] = m.typeOf(e.index)
		case KindMemory:
			res.Memories[e.name] = true
		}
	}
	return res, nil
}

// startFuel is the price of an instance: memory, tables, segments, functions.
func (m *module) startFuel() uint64 {
	n := uint64(len(m.funcs)) * weightFunc
	n += uint64(m.memMin) * weightPage
	for _, t := range m.tables {
		n += uint64(t.min) * weightElement
	}
	for _, e := range m.elems {
		n += uint64(len(e.exprs)) * weightElement
	}
	for _, d := range m.datas {
		n += 1 + uint64(len(d.init))>>bulkShift
	}
	return n
}

// funcOut is where function i stands in the written module: the refuel import
// follows the original imports.
func (m *module) funcOut(cfg *Config, i uint32) uint64 {
	if cfg.Sliced && int(i) >= len(m.imports) {
		return uint64(i) + 1
	}
	return uint64(i)
}

// Indices of the added globals.
func (m *module) fuelGlobal() uint64  { return uint64(len(m.globals)) }
func (m *module) depthGlobal() uint64 { return uint64(len(m.globals)) + 1 }
func (m *module) pagesGlobal() uint64 { return uint64(len(m.globals)) + 2 }

func (m *module) appendConst(b []byte, cfg *Config, c constExpr) []byte {
	b = append(b, c.code...)
	if c.isFunc {
		b = appendU(b, m.funcOut(cfg, c.fn))
	}
	return append(b, opEnd)
}

// write is the canonical writer.
func (m *module) write(cfg *Config) []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	var refuel uint32
	if cfg.Sliced {
		refuel = m.addType(FuncType{Params: []byte{I64}, Results: []byte{I64}})
	}
	section := func(id byte, n int, body func(b []byte) []byte) {
		if n == 0 {
			return
		}
		b := body(appendU(nil, uint64(n)))
		out = append(appendU(append(out, id), uint64(len(b))), b...)
	}
	section(1, len(m.types), func(b []byte) []byte {
		for _, t := range m.types {
			b = append(appendU(append(b, 0x60), uint64(len(t.Params))), t.Params...)
			b = append(appendU(b, uint64(len(t.Results))), t.Results...)
		}
		return b
	})
	nImports := len(m.imports)
	if cfg.Sliced {
		nImports++
	}
	section(2, nImports, func(b []byte) []byte {
		for _, im := range m.imports {
			b = append(appendName(appendName(b, im.module), im.name), KindFunc)
			b = appendU(b, uint64(im.typ))
		}
		if cfg.Sliced {
			b = append(appendName(appendName(b, HostModule), RefuelName), KindFunc)
			b = appendU(b, uint64(refuel))
		}
		return b
	})
	section(3, len(m.funcs)-len(m.imports), func(b []byte) []byte {
		for _, t := range m.funcs[len(m.imports):] {
			b = appendU(b, uint64(t))
		}
		return b
	})
	section(4, len(m.tables), func(b []byte) []byte {
		for _, t := range m.tables {
			b = appendU(appendU(append(b, FuncRef, 1), uint64(t.min)), uint64(t.max))
		}
		return b
	})
	if m.hasMem {
		section(5, 1, func(b []byte) []byte {
			return appendU(appendU(append(b, 1), uint64(m.memMin)), uint64(m.memMax))
		})
	}
	section(6, len(m.globals)+3, func(b []byte) []byte {
		for _, g := range m.globals {
			mut := byte(0)
			if g.mut {
				mut = 1
			}
			b = m.appendConst(append(b, g.typ, mut), cfg, g.init)
		}
		// Zero until the host sets them: nothing runs by accident.
		b = append(b, I64, 1, opI64Const, 0, opEnd)
		b = append(b, I32, 1, opI32Const, 0, opEnd)
		return append(b, I32, 1, opI32Const, 0, opEnd)
	})
	added := 3
	exportStart := m.start >= 0 && off&defenceStart == 0
	if exportStart {
		added++
	}
	section(7, len(m.exports)+added, func(b []byte) []byte {
		put := func(name string, kind byte, index uint64) {
			b = appendU(append(appendName(b, name), kind), index)
		}
		for _, e := range m.exports {
			i := uint64(e.index)
			if e.kind == KindFunc {
				i = m.funcOut(cfg, e.index)
			}
			put(e.name, e.kind, i)
		}
		put(FuelExport, KindGlobal, m.fuelGlobal())
		put(DepthExport, KindGlobal, m.depthGlobal())
		put(PagesExport, KindGlobal, m.pagesGlobal())
		if exportStart {
			put(StartExport, KindFunc, m.funcOut(cfg, uint32(m.start)))
		}
		return b
	})
	if m.start >= 0 && !exportStart {
		section(8, int(m.funcOut(cfg, uint32(m.start))), func(b []byte) []byte { return b })
	}
	section(9, len(m.elems), func(b []byte) []byte { return m.writeElems(b, cfg) })
	if m.nData >= 0 {
		b := appendU(nil, uint64(m.nData))
		out = append(appendU(append(out, 12), uint64(len(b))), b...)
	}
	section(10, len(m.bodies), func(b []byte) []byte {
		for _, body := range m.bodies {
			b = append(b, body...)
		}
		return b
	})
	section(11, len(m.datas), func(b []byte) []byte {
		for _, d := range m.datas {
			if d.flags == 1 {
				b = append(b, 1)
			} else {
				b = m.appendConst(append(b, 0), cfg, d.offset)
			}
			b = append(appendU(b, uint64(len(d.init))), d.init...)
		}
		return b
	})
	return out
}
