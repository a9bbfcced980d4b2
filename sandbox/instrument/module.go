package instrument

// Export kinds as the binary format numbers them.
const (
	KindFunc byte = iota
	KindTable
	KindMemory
	KindGlobal
)

type tableType struct{ min, max uint32 }

type globalType struct {
	typ  byte
	mut  bool
	init constExpr
}

// constExpr is one checked constant instruction. Function references keep the
// index apart because the writer may shift it.
type constExpr struct {
	code   []byte
	fn     uint32
	isFunc bool
}

type importFunc struct {
	module, name string
	typ          uint32
}

type export struct {
	name  string
	kind  byte
	index uint32
}

type module struct {
	types    []FuncType
	nTypes   int // of the original; the rewriter appends more
	typeAt   map[string]uint32
	imports  []importFunc
	funcs    []uint32 // type of every function, imports first
	tables   []tableType
	hasMem   bool
	memMin   uint32
	memMax   uint32
	hasMax   bool
	globals  []globalType
	exports  []export
	start    int64 // -1 without one
	elems    []elem
	nData    int // from the data count section; -1 without one
	datas    []data
	declared map[uint32]bool // functions that ref.func in code may name
	inits    map[uint32]int  // where code first reads a data segment
	nans     int
	moves    int      // see maxMoves
	bodies   [][]byte // rewritten, with their size in front
}

func (m *module) typeOf(fn uint32) FuncType { return m.types[m.funcs[fn]] }

var sectionNames = [...]string{
	"custom", "type", "import", "function", "table", "memory", "global", "export", "start", "element", "code", "data", "data count",
}

// Order of sections by id: the data count section (12) stands before code.
var sectionOrder = [...]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 10}

func (m *module) read(b []byte, cfg *Config) {
	r := &reader{b: b, end: len(b), section: "header"}
	if len(b) < 8 || string(b[:4]) != "\x00asm" {
		r.fail("not a WebAssembly module")
	}
	if string(b[4:8]) != "\x01\x00\x00\x00" {
		r.pos = 4
		r.fail("not version 1 of the binary format")
	}
	r.pos = 8
	m.start, m.nData = -1, -1
	m.declared, m.inits = map[uint32]bool{}, map[uint32]int{}
	last, codeSeen, dataSeen := 0, false, false
	counted := 8 // bytes that engines see: all but custom sections
	for r.pos < r.end {
		r.section = "module"
		at := r.pos
		id := r.byte()
		if int(id) >= len(sectionNames) {
			if id == 13 {
				r.failAt(at, "exception handling is not allowed")
			}
			r.failAt(at, "unknown section %d", id)
		}
		size := r.u32()
		if uint64(size) > uint64(r.left()) {
			r.failAt(at, "%s section of %d bytes, %d left", sectionNames[id], size, r.left())
		}
		s := &reader{b: b, pos: r.pos, end: r.pos + int(size), section: sectionNames[id]}
		r.pos = s.end
		if id == 0 {
			s.name() // checked, then dropped with the rest
			continue
		}
		if counted += s.end - at; over(uint64(counted), MaxBytes) {
			r.failAt(at, "more than %d bytes without custom sections, at most %d", counted-1, MaxBytes)
		}
		if sectionOrder[id] <= last {
			r.failAt(at, "%s section out of order or repeated", sectionNames[id])
		}
		last = sectionOrder[id]
		switch id {
		case 1:
			m.readTypes(s)
		case 2:
			m.readImports(s, cfg)
		case 3:
			m.readFuncs(s)
		case 4:
			m.readTables(s)
		case 5:
			m.readMemory(s, cfg)
		case 6:
			m.readGlobals(s)
		case 7:
			m.readExports(s, cfg)
		case 8:
			m.readStart(s)
		case 9:
			m.readElems(s)
		case 10:
			codeSeen = true
			m.readCode(s, cfg)
		case 11:
			dataSeen = true
			m.readDatas(s)
		case 12:
			m.nData = int(s.u32())
		}
		s.done()
	}
	r.section = "module"
	if !codeSeen && len(m.funcs) > len(m.imports) {
		r.fail("functions without a code section")
	}
	if !dataSeen && m.nData > 0 {
		r.fail("data count without a data section")
	}
}

func (m *module) readTypes(r *reader) {
	for range r.count("types", maxTypes) {
		at := r.pos
		if r.byte() != 0x60 {
			r.failAt(at, "not a function type")
		}
		var t FuncType
		for range r.count("parameters", maxParams) {
			t.Params = append(t.Params, r.valType())
		}
		for range r.count("results", maxResults) {
			t.Results = append(t.Results, r.valType())
		}
		m.types = append(m.types, t)
	}
	m.nTypes = len(m.types)
}

func (m *module) typeIndex(r *reader) uint32 {
	at := r.pos
	i := r.u32()
	if int64(i) >= int64(m.nTypes) {
		r.failAt(at, "type %d of %d", i, m.nTypes)
	}
	return i
}

func (m *module) readImports(r *reader, cfg *Config) {
	for range r.count("imports", maxImports) {
		at := r.pos
		im := importFunc{module: r.name(), name: r.name()}
		kind := r.byte()
		switch kind {
		case KindFunc:
		case KindTable:
			r.failAt(at, "imported table %s.%s is not allowed", im.module, im.name)
		case KindMemory:
			r.failAt(at, "imported memory %s.%s is not allowed", im.module, im.name)
		case KindGlobal:
			r.failAt(at, "imported global %s.%s is not allowed", im.module, im.name)
		default:
			r.failAt(at, "import kind %d is not allowed", kind)
		}
		im.typ = m.typeIndex(r)
		if im.module == HostModule {
			r.failAt(at, "module name %s is reserved", HostModule)
		}
		if cfg.Import != nil {
			if reason := cfg.Import(im.module, im.name, m.types[im.typ]); reason != "" {
				r.failAt(at, "import %s.%s: %s", im.module, im.name, reason)
			}
		}
		m.imports = append(m.imports, im)
		m.funcs = append(m.funcs, im.typ)
	}
}

func (m *module) readFuncs(r *reader) {
	for range r.count("functions", maxFuncs) {
		m.funcs = append(m.funcs, m.typeIndex(r))
	}
}

// limits reads a size range whose entries must not exceed ceiling.
func (r *reader) limits(what string, ceiling uint64) (lo, hi uint32, hasMax bool) {
	at := r.pos
	switch flag := r.byte(); flag {
	case 0:
	case 1:
		hasMax = true
	case 2, 3:
		r.failAt(at, "shared %s is not allowed", what)
	case 4, 5, 6, 7:
		r.failAt(at, "64-bit %s is not allowed", what)
	default:
		r.failAt(at, "%s limits flag %d is not allowed", what, flag)
	}
	lo = r.u32()
	if uint64(lo) > ceiling {
		r.failAt(at, "%s minimum %d, at most %d", what, lo, ceiling)
	}
	if hasMax {
		hi = r.u32()
		if hi < lo {
			r.failAt(at, "%s maximum %d below its minimum %d", what, hi, lo)
		}
	}
	return lo, hi, hasMax
}

func (m *module) readTables(r *reader) {
	total := 0
	for range r.count("tables", maxTables) {
		at := r.pos
		r.refType()
		lo, hi, hasMax := r.limits("table", maxTableSize)
		if !hasMax || hi > maxTableSize {
			hi = maxTableSize
		}
		if total += int(lo); over(uint64(total), maxTableSize) {
			r.failAt(at, "tables of %d elements, at most %d", total, maxTableSize)
		}
		m.tables = append(m.tables, tableType{lo, hi})
	}
}

func (m *module) readMemory(r *reader, cfg *Config) {
	at := r.pos
	n := r.count("memories", maxTables)
	if n > 1 {
		r.failAt(at, "%d memories, at most 1", n)
	}
	if n == 0 {
		return
	}
	m.hasMem = true
	at = r.pos
	m.memMin, m.memMax, m.hasMax = r.limits("memory", 65_536)
	if m.hasMax && m.memMax > 65_536 {
		r.failAt(at, "memory maximum %d, at most 65536 pages", m.memMax)
	}
	if m.memMin > cfg.MemoryPages {
		r.failAt(at, "memory minimum of %d pages, at most %d", m.memMin, cfg.MemoryPages)
	}
	if !m.hasMax || m.memMax > cfg.MemoryPages {
		m.memMax = cfg.MemoryPages
	}
}

// constant reads one constant expression of type want.
func (m *module) constant(r *reader, want byte) (c constExpr) {
	at := r.pos
	op := r.byte()
	var got byte
	c.code = []byte{op}
	switch op {
	case opI32Const:
		got, c.code = I32, appendS(c.code, r.signed(32))
	case opI64Const:
		got, c.code = I64, appendS(c.code, r.signed(64))
	case opF32Const:
		got, c.code = F32, append(c.code, r.bytes(4)...)
	case opF64Const:
		got, c.code = F64, append(c.code, r.bytes(8)...)
	case opRefNull:
		got, c.code = FuncRef, append(c.code, r.refType())
	case opRefFunc:
		got, c.isFunc, c.fn = FuncRef, true, m.funcIndex(r)
		m.declared[c.fn] = true
	case opSIMD:
		if r.u32() != simdConst&0xff {
			r.failAt(at, "not a constant")
		}
		got, c.code = V128, append(append(c.code, simdConst&0xff), r.bytes(16)...)
	case opGlobalGet:
		r.failAt(at, "global.get in a constant (imported globals are not allowed)")
	default:
		r.failAt(at, "opcode 0x%02x in a constant", op)
	}
	if got != want {
		r.failAt(at, "constant of type %s, want %s", typeName(got), typeName(want))
	}
	if at = r.pos; r.byte() != opEnd {
		r.failAt(at, "constant of more than one instruction")
	}
	return c
}

func (m *module) funcIndex(r *reader) uint32 {
	at := r.pos
	i := r.u32()
	if int64(i) >= int64(len(m.funcs)) {
		r.failAt(at, "function %d of %d", i, len(m.funcs))
	}
	return i
}

func (m *module) tableIndex(r *reader) uint32 {
	at := r.pos
	i := r.u32()
	if int64(i) >= int64(len(m.tables)) {
		r.failAt(at, "table %d of %d", i, len(m.tables))
	}
	return i
}

func (m *module) readGlobals(r *reader) {
	for range r.count("globals", maxGlobals) {
		g := globalType{typ: r.valType()}
		at := r.pos
		switch r.byte() {
		case 0:
		case 1:
			g.mut = true
		default:
			r.failAt(at, "global mutability")
		}
		g.init = m.constant(r, g.typ)
		m.globals = append(m.globals, g)
	}
}

func (m *module) readExports(r *reader, cfg *Config) {
	seen := map[string]bool{}
	for range r.count("exports", maxExports) {
		at := r.pos
		e := export{name: r.name()}
		if seen[e.name] {
			r.failAt(at, "export %q twice", e.name)
		}
		seen[e.name] = true
		if len(e.name) >= len(Reserved) && e.name[:len(Reserved)] == Reserved {
			r.failAt(at, "export %q: names that start with %q are reserved", e.name, Reserved)
		}
		kindAt := r.pos
		e.kind, e.index = r.byte(), r.u32()
		var n int
		switch e.kind {
		case KindFunc:
			n = len(m.funcs)
			m.declared[e.index] = true
		case KindTable:
			n = len(m.tables)
		case KindMemory:
			if m.hasMem {
				n = 1
			}
		case KindGlobal:
			n = len(m.globals)
		default:
			r.failAt(kindAt, "export kind %d", e.kind)
		}
		if int64(e.index) >= int64(n) {
			r.failAt(kindAt, "export %q: index %d of %d", e.name, e.index, n)
		}
		m.exports = append(m.exports, e)
	}
}

func (m *module) readStart(r *reader) {
	at := r.pos
	f := m.funcIndex(r)
	if t := m.typeOf(f); len(t.Params)+len(t.Results) != 0 {
		r.failAt(at, "start function has type %s", t)
	}
	m.start = int64(f)
}

func (m *module) readCode(r *reader, cfg *Config) {
	at := r.pos
	n := r.count("bodies", maxFuncs)
	first := len(m.imports)
	if n != len(m.funcs)-first {
		r.failAt(at, "%d bodies for %d functions", n, len(m.funcs)-first)
	}
	var work, written int
	most := maxWritten
	if cfg.Sliced {
		most *= 4 // checks are longer; what the plain form admits must fit
	}
	m.bodies = make([][]byte, 0, n)
	for i := range n {
		at := r.pos
		size := r.u32()
		if over(uint64(size), maxBody) {
			r.failAt(at, "function %d has a body of %d bytes, at most %d", first+i, size, maxBody)
		}
		if uint64(size) > uint64(r.left()) {
			r.failAt(at, "body of %d bytes, %d left", size, r.left())
		}
		read := func(need []byte) (*body, []byte) {
			f := newBody(m, cfg, m.typeOf(uint32(first+i)))
			f.need = need
			f.r = &reader{b: r.b, pos: r.pos, end: r.pos + int(size), section: "code"}
			return f, f.rewrite()
		}
		f, b := read(nil)
		if f.arithmetic {
			f, b = read(f.decide())
		}
		r.pos = f.r.end
		if over(uint64(m.moves), maxMoves) {
			r.failAt(at, "calls, blocks and branches move more than %d operands", maxMoves)
		}
		if written += len(b); over(uint64(written), uint64(most)) {
			r.failAt(at, "metered code above %d bytes", most)
		}
		m.bodies = append(m.bodies, b)
		if work += f.blocks * len(f.locals); over(uint64(work), maxWork) {
			r.failAt(at, "blocks times locals of all functions above %d", maxWork)
		}
	}
}

// addType finds or adds a function type and returns its index.
func (m *module) addType(t FuncType) uint32 {
	if m.typeAt == nil {
		m.typeAt = make(map[string]uint32, len(m.types))
		for i := len(m.types) - 1; i >= 0; i-- {
			m.typeAt[m.types[i].key()] = uint32(i)
		}
	}
	k := t.key()
	i, ok := m.typeAt[k]
	if !ok {
		i = uint32(len(m.types))
		m.types = append(m.types, t)
		m.typeAt[k] = i
	}
	return i
}
