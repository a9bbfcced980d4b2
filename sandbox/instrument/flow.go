package instrument

import "encoding/binary"

// Where a NaN has to be made canonical. Arithmetic leaves NaN bits of the
// engine's choice, which matter only where something else than arithmetic
// sees them. So a function with float arithmetic is read twice: the first time
// notes what consumes each result and each float local that is read; decide
// then says which of them are made canonical in the second.
//
// A local of which every write is arithmetic (or a constant without NaNs) may
// also hold any NaN, if its reads make it canonical where that matters. That
// is chosen where reads of that sort are rarer than the writes, as for an
// accumulator. Either way a value means the same: nothing that arithmetic did
// not make is ever changed.

// value is a result that later instructions consume.
type value struct {
	kind  byte  // of the NaN it may carry; 0 for a constant or a local's read
	local int32 // that was read, or -1
	clean kinds // as which it may be kept in a local that holds any NaN
	safe  kinds // as which every consumer so far absorbs NaNs
	depth int   // of loops
}

// kinds is a set of NaN kinds.
type kinds uint8

func (k kinds) has(kind byte) bool { return k&(1<<kind) != 0 }

const allKinds kinds = 1<<nanF32 | 1<<nanF64 | 1<<nanF32x4 | 1<<nanF64x2

type localWrite struct {
	local int32
	value int32 // index + 1, or 0
	depth int
}

// absorbed are the kinds of NaN whose bits do not matter to op.
func absorbed(op int) (k kinds) {
	for kind := nanF32; kind <= nanF64x2; kind++ {
		if absorbsNaN(op, kind) {
			k |= 1 << kind
		}
	}
	return k
}

// cleanResult are the kinds as which op's result, with its immediates in code,
// has no NaN bits of the module's choice.
func cleanResult(op int, code []byte) (k kinds) {
	if kind := makesNaN(op); kind != 0 {
		return 1 << kind
	}
	le := binary.LittleEndian
	isNaN32 := func(b []byte) bool { return le.Uint32(b)&0x7fffffff > 0x7f800000 }
	isNaN64 := func(b []byte) bool { return le.Uint64(b)&(1<<63-1) > 0x7ff<<52 }
	switch {
	case op >= 0xb2 && op <= 0xb5: // conversions from integers
		k = 1 << nanF32
	case op >= 0xb7 && op <= 0xba:
		k = 1 << nanF64
	case op == 0xfdfa || op == 0xfdfb:
		k = 1 << nanF32x4
	case op == 0xfdfe || op == 0xfdff:
		k = 1 << nanF64x2
	case op == opF32Const:
		if !isNaN32(code[1:]) {
			k = 1 << nanF32
		}
	case op == opF64Const:
		if !isNaN64(code[1:]) {
			k = 1 << nanF64
		}
	case op == simdConst:
		lanes := code[len(code)-16:]
		if !isNaN32(lanes) && !isNaN32(lanes[4:]) && !isNaN32(lanes[8:]) && !isNaN32(lanes[12:]) {
			k |= 1 << nanF32x4
		}
		if !isNaN64(lanes) && !isNaN64(lanes[8:]) {
			k |= 1 << nanF64x2
		}
	}
	return k
}

// note follows the result of op, which is live and on top of the stack, and
// makes it canonical in the second reading where that was decided.
func (f *body) note(op int, code []byte, local int32) {
	v := value{kind: makesNaN(op), local: local, safe: allKinds, depth: f.loopDepth}
	if local < 0 {
		v.clean = cleanResult(op, code)
		if v.clean == 0 {
			return
		}
	}
	i := len(f.values)
	f.values = append(f.values, v)
	f.from[len(f.from)-1] = int32(i) + 1
	if f.need == nil {
		return
	}
	if kind := f.need[i]; kind != 0 {
		f.canonicalise(kind)
	}
}

var kindType = [...]byte{nanF32: F32, nanF64: F64, nanF32x4: V128, nanF64x2: V128}

// written follows a live write of the value from into a local, and returns
// what a tee leaves on the stack.
func (f *body) written(local uint32, from int32) int32 {
	f.writes = append(f.writes, localWrite{int32(local), from, f.loopDepth})
	if from == 0 {
		return 0
	}
	if v := &f.values[from-1]; v.kind == 0 {
		v.safe = 0 // a copy of a local is no arithmetic
		return 0
	}
	return from
}

// decide gives the kind as which each value is made canonical, or 0.
func (f *body) decide() []byte {
	clean := make([]kinds, len(f.locals))
	for i := len(f.typ.Params); i < len(clean); i++ {
		clean[i] = allKinds
	}
	for _, w := range f.writes {
		if w.value == 0 {
			clean[w.local] = 0
		} else {
			clean[w.local] &= f.values[w.value-1].clean
		}
	}
	// How often a local would be made canonical, roughly.
	type cost struct{ reads, writes uint64 }
	costs := map[int32]*[nanF64x2 + 1]cost{}
	at := func(local int32) *[nanF64x2 + 1]cost {
		if costs[local] == nil {
			costs[local] = new([nanF64x2 + 1]cost)
		}
		return costs[local]
	}
	weigh := func(depth int) uint64 { return 1 << (4 * min(depth, 8)) }
	for _, v := range f.values {
		if v.local < 0 {
			continue
		}
		for kind := nanF32; kind <= nanF64x2; kind++ {
			if !v.safe.has(kind) {
				at(v.local)[kind].reads += weigh(v.depth)
			}
		}
	}
	for _, w := range f.writes {
		if w.value == 0 {
			continue
		}
		if v := f.values[w.value-1]; v.kind != 0 && v.safe.has(v.kind) {
			at(w.local)[v.kind].writes += weigh(w.depth)
		}
	}
	loose := make([]byte, len(f.locals)) // kind of a local that may hold any NaN
	for i := range loose {
		c := costs[int32(i)]
		for kind := nanF32; c != nil && kind <= nanF64x2; kind++ {
			if clean[i].has(kind) && c[kind].reads < c[kind].writes {
				loose[i] = kind
				break
			}
		}
	}
	need := make([]byte, len(f.values))
	for i, v := range f.values {
		kind := v.kind
		if v.local >= 0 {
			kind = loose[v.local]
		}
		if kind != 0 && !v.safe.has(kind) {
			need[i] = kind
		}
	}
	for _, w := range f.writes {
		if w.value != 0 && loose[w.local] == 0 && f.values[w.value-1].kind != 0 {
			need[w.value-1] = f.values[w.value-1].kind
		}
	}
	return need
}
