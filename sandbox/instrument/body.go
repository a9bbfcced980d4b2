package instrument

// ctrl is an open block of the function under rewriting.
type ctrl struct {
	op         byte // opBlock, opLoop, opIf, opElse; opEnd for the function itself
	start, end []byte
	height     int  // of the operand stack below its parameters
	units      int  // the same in stack units
	dead       bool // the rest of the block is unreachable
	live       bool // the block itself is reachable and therefore written
	targeted   bool // some branch goes to its end
}

// labels are the types a branch to c carries.
func (c *ctrl) labels() []byte {
	if c.op == opLoop {
		return c.start
	}
	return c.end
}

// openings of a basic block decide where its fuel counter comes from.
const (
	plain  = iota // the local counter is valid
	entry         // function entry: load, check
	header        // loop header: check
	resume        // after a call: load
)

// body rewrites one function: it checks types with the algorithm of the
// specification's appendix and writes reachable code as it goes.
//
// The written function is
//
//	[depth check] block $ret block $out … br $ret end flush unreachable end flush [depth restore] end
//
// with a return or a branch to the function's label going to $ret and every
// exhausted check to $out.
//
// The counter lives in a local. It is stored at calls, returns, loop headers and
// behind whatever is charged by length, so a trap finds in the global what was
// left at the last of these: the same in every engine, and at most one loop
// body's straight code too much.
type body struct {
	m   *module
	cfg *Config
	r   *reader
	typ FuncType

	locals []byte // parameters and declared locals
	extra  []byte // locals the rewriter adds: the counter, then temporaries
	tmp    [256]uint32
	other  uint32 // second temporary of type v128, or 0

	stack    []byte
	units    int
	maxUnits int
	ctrls    []ctrl

	blocks, loops, loopDepth int

	out     []byte // finished blocks
	blk     []byte // the open basic block
	weight  uint64
	opening int
	depth   int // block nesting where the basic block opened

	from       []int32 // beside stack: index + 1 in values, or 0
	values     []value
	writes     []localWrite // of float locals
	absorbed   kinds        // by the instruction that pops
	arithmetic bool         // some result may be a NaN
	need       []byte       // decided by the first reading, beside values
	calls      bool
	fuel       uint32 // index of the counter
	finished   bool
}

func newBody(m *module, cfg *Config, t FuncType) *body {
	return &body{m: m, cfg: cfg, typ: t, opening: entry}
}

// rewrite returns the function's new body with its size in front.
func (f *body) rewrite() []byte {
	f.readLocals()
	f.fuel = uint32(len(f.locals))
	f.extra = append(f.extra, I64)
	f.ctrls = append(f.ctrls, ctrl{op: opEnd, end: f.typ.Results, live: true})
	for !f.finished {
		f.step()
	}
	f.r.done()

	metersDepth := f.calls && off&defenceStack == 0
	var b []byte
	b = f.appendLocals(b)
	if metersDepth {
		cost := int64(frameUnits + units(f.locals) + f.maxUnits)
		depth := f.m.depthGlobal()
		b = append(appendU(append(b, opGlobalGet), depth), opI32Const)
		b = append(appendS(b, cost), opI32Sub, opGlobalSet)
		b = appendU(b, depth)
	}
	b = f.appendBlockType(append(b, opBlock), FuncType{Results: f.typ.Results})
	b = append(b, opBlock, 0x40)
	if metersDepth {
		// Not to $out: the caller's counter stands in the global and stays.
		b = append(appendU(append(b, opGlobalGet), f.m.depthGlobal()), opI32Const, 0, opI32LtS, opIf, 0x40, opUnreachable, opEnd)
	}
	b = append(b, f.out...)
	b = append(b, opEnd)
	b = f.appendFlush(b)
	b = append(b, opUnreachable, opEnd)
	b = f.appendFlush(b)
	if metersDepth {
		cost := int64(frameUnits + units(f.locals) + f.maxUnits)
		depth := f.m.depthGlobal()
		b = append(appendU(append(b, opGlobalGet), depth), opI32Const)
		b = append(appendS(b, cost), opI32Add, opGlobalSet)
		b = appendU(b, depth)
	}
	b = append(b, opEnd)
	return append(appendU(nil, uint64(len(b))), b...)
}

func (f *body) readLocals() {
	f.locals = append(f.locals, f.typ.Params...)
	groups := f.r.count("local groups", maxLocals)
	for range groups {
		at := f.r.pos
		n := f.r.u32()
		if over(uint64(n)+uint64(len(f.locals)), maxLocals) {
			f.r.failAt(at, "%d locals, at most %d", uint64(n)+uint64(len(f.locals)), maxLocals)
		}
		t := f.r.valType()
		for range n {
			f.locals = append(f.locals, t)
		}
	}
}

func (f *body) appendLocals(b []byte) []byte {
	all := append(append([]byte(nil), f.locals[len(f.typ.Params):]...), f.extra...)
	var groups []byte
	n := 0
	for i := 0; i < len(all); n++ {
		j := i
		for j < len(all) && all[j] == all[i] {
			j++
		}
		groups = append(appendU(groups, uint64(j-i)), all[i])
		i = j
	}
	return append(appendU(b, uint64(n)), groups...)
}

// temp is the index of the rewriter's temporary of type t.
func (f *body) temp(t byte) uint64 {
	if f.tmp[t] == 0 {
		f.extra = append(f.extra, t)
		f.tmp[t] = uint32(len(f.locals) + len(f.extra) - 1)
	}
	return uint64(f.tmp[t])
}

// second is the index of another temporary of type v128.
func (f *body) second() uint64 {
	if f.other == 0 {
		f.extra = append(f.extra, V128)
		f.other = uint32(len(f.locals) + len(f.extra) - 1)
	}
	return uint64(f.other)
}

func units(ts []byte) int {
	n := len(ts)
	for _, t := range ts {
		if t == V128 {
			n++
		}
	}
	return n
}

// appendFlush stores the counter where callees and the host see it.
func (f *body) appendFlush(b []byte) []byte {
	b = append(appendU(append(b, opLocalGet), uint64(f.fuel)), opGlobalSet)
	return appendU(b, f.m.fuelGlobal())
}

func (f *body) appendBlockType(b []byte, t FuncType) []byte {
	switch {
	case len(t.Params) == 0 && len(t.Results) == 0:
		return append(b, 0x40)
	case len(t.Params) == 0 && len(t.Results) == 1:
		return append(b, t.Results[0])
	}
	return appendS(b, int64(f.m.addType(t)))
}

// appendCheck leaves for $out when the i64 on the stack is negative, and keeps
// it as the counter. nesting is the number of open blocks of the original.
func (f *body) appendCheck(b []byte, nesting int) []byte {
	b = append(appendU(append(b, opLocalTee), uint64(f.fuel)), opI64Const, 0, opI64LtS)
	if !f.cfg.Sliced {
		return appendU(append(b, opBrIf), uint64(nesting))
	}
	b = append(b, opIf, 0x40, opLocalGet)
	b = append(appendU(b, uint64(f.fuel)), opCall)
	b = append(appendU(b, uint64(len(f.m.imports))), opLocalTee)
	b = append(appendU(b, uint64(f.fuel)), opI64Const, 0, opI64LtS, opBrIf)
	return append(appendU(b, uint64(nesting)+1), opEnd)
}

// close writes the open basic block behind its charge and opens the next one.
func (f *body) close(next int) {
	b := f.out
	load := func() {
		if f.opening == entry || f.opening == resume {
			b = appendU(append(b, opGlobalGet), f.m.fuelGlobal())
		} else {
			b = appendU(append(b, opLocalGet), uint64(f.fuel))
		}
		if f.weight > 0 {
			b = append(appendS(append(b, opI64Const), int64(f.weight)), opI64Sub)
		}
	}
	switch {
	case f.opening == entry || f.opening == header:
		load()
		if b = f.appendCheck(b, f.depth); f.opening == header {
			b = f.appendFlush(b)
		}
	case f.opening == resume || f.weight > 0:
		load()
		b = appendU(append(b, opLocalSet), uint64(f.fuel))
	}
	f.out = append(b, f.blk...)
	f.blk, f.weight, f.opening, f.depth = f.blk[:0], 0, next, len(f.ctrls)-1
}

// live reports whether the current code is reachable, hence written.
func (f *body) live() bool {
	c := &f.ctrls[len(f.ctrls)-1]
	return c.live && !c.dead
}

func (f *body) push(t byte) {
	f.stack = append(f.stack, t)
	f.from = append(f.from, 0)
	f.units++
	if t == V128 {
		f.units++
	}
	if f.units > f.maxUnits {
		f.maxUnits = f.units
	}
}

func (f *body) pushAll(ts []byte) {
	f.m.moves += len(ts)
	for _, t := range ts {
		f.push(t)
	}
}

// pop takes a value of type want (unknown: any) and returns its type, which is
// unknown below the operands of unreachable code.
func (f *body) pop(want byte) byte {
	c := &f.ctrls[len(f.ctrls)-1]
	if len(f.stack) == c.height {
		if c.dead {
			return unknown
		}
		f.r.fail("operand of type %s missing", typeName(want))
	}
	t := f.stack[len(f.stack)-1]
	f.stack = f.stack[:len(f.stack)-1]
	if from := f.from[len(f.stack)]; from != 0 && !c.dead {
		f.values[from-1].safe &= f.absorbed
	}
	f.from = f.from[:len(f.stack)]
	f.units--
	if t == V128 {
		f.units--
	}
	if t != want && t != unknown && want != unknown {
		f.r.fail("operand of type %s, want %s", typeName(t), typeName(want))
	}
	return t
}

func (f *body) popAll(ts []byte) {
	f.m.moves += len(ts)
	for i := len(ts) - 1; i >= 0; i-- {
		f.pop(ts[i])
	}
}

func (f *body) open(op byte, t FuncType) {
	live := f.live()
	f.popAll(t.Params)
	f.ctrls = append(f.ctrls, ctrl{op: op, start: t.Params, end: t.Results, height: len(f.stack), units: f.units, live: live})
	f.pushAll(t.Params)
	if over(uint64(len(f.ctrls)-1), maxNesting) {
		f.r.fail("blocks nested deeper than %d", maxNesting)
	}
	if f.blocks++; over(uint64(f.blocks), maxBlocks) {
		f.r.fail("more than %d blocks", maxBlocks)
	}
	if op == opLoop {
		if f.loops++; over(uint64(f.loops), maxLoops) {
			f.r.fail("more than %d loops", maxLoops)
		}
		if f.loopDepth++; over(uint64(f.loopDepth), maxLoopNesting) {
			f.r.fail("loops nested deeper than %d", maxLoopNesting)
		}
	}
}

// shut checks and removes the innermost block.
func (f *body) shut() ctrl {
	c := f.ctrls[len(f.ctrls)-1]
	f.popAll(c.end)
	if len(f.stack) != c.height {
		f.r.fail("%d operands left at the end of a block", len(f.stack)-c.height)
	}
	f.ctrls = f.ctrls[:len(f.ctrls)-1]
	return c
}

// stop marks the rest of the block unreachable.
func (f *body) stop() {
	c := &f.ctrls[len(f.ctrls)-1]
	f.stack, f.from, f.units = f.stack[:c.height], f.from[:c.height], c.units
	c.dead = true
}

// label resolves a branch depth.
func (f *body) label(at int, depth uint32) *ctrl {
	if int64(depth) >= int64(len(f.ctrls)) {
		f.r.failAt(at, "branch to label %d of %d", depth, len(f.ctrls))
	}
	return &f.ctrls[len(f.ctrls)-1-int(depth)]
}

// target is the written depth of a branch: $out stands between the outermost
// block and $ret, which takes the place of the function's label.
func (f *body) target(depth uint32) uint64 {
	if int(depth) == len(f.ctrls)-1 {
		return uint64(depth) + 1
	}
	return uint64(depth)
}

func (f *body) blockType() FuncType {
	at := f.r.pos
	if at < f.r.end {
		switch c := f.r.b[at]; c {
		case 0x40:
			f.r.pos++
			return FuncType{}
		case I32, I64, F32, F64, V128, FuncRef, externRef:
			return FuncType{Results: []byte{f.r.valType()}}
		}
	}
	i := f.r.signed(33)
	if i < 0 || i >= int64(f.m.nTypes) {
		f.r.failAt(at, "block type %d of %d", i, f.m.nTypes)
	}
	return f.m.types[i]
}
