package instrument

// Opcodes the rewriter names. Prefixed opcodes are prefix<<8 | sub-opcode.
const (
	opUnreachable  = 0x00
	opNop          = 0x01
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opDrop         = 0x1a
	opSelect       = 0x1b
	opSelectT      = 0x1c
	opLocalGet     = 0x20
	opLocalSet     = 0x21
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opTableGet     = 0x25
	opTableSet     = 0x26
	opMemorySize   = 0x3f
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opI32LtS       = 0x48
	opI64LtS       = 0x53
	opI64GtU       = 0x56
	opF32Ne        = 0x5c
	opF64Ne        = 0x62
	opI32Add       = 0x6a
	opI32Eq        = 0x46
	opI32Sub       = 0x6b
	opI32Or        = 0x72
	opF32Copysign  = 0x98
	opF64Copysign  = 0xa6
	opI32FromF32   = 0xbc
	opI64FromF64   = 0xbd
	opF32FromI32   = 0xbe
	opF64FromI64   = 0xbf
	opI64Add       = 0x7c
	opI64Sub       = 0x7d
	opI64Mul       = 0x7e
	opI64ShrU      = 0x88
	opI64ExtendU   = 0xad
	opRefNull      = 0xd0
	opRefIsNull    = 0xd1
	opRefFunc      = 0xd2
	opMisc         = 0xfc
	opSIMD         = 0xfd

	miscMemoryInit = 0xfc08
	miscDataDrop   = 0xfc09
	miscMemoryCopy = 0xfc0a
	miscMemoryFill = 0xfc0b
	miscTableInit  = 0xfc0c
	miscElemDrop   = 0xfc0d
	miscTableCopy  = 0xfc0e
	miscTableGrow  = 0xfc0f
	miscTableSize  = 0xfc10
	miscTableFill  = 0xfc11

	simdConst        = 0xfd0c
	simdShuffle      = 0xfd0d
	simdI64x2Replace = 0xfd1e
	simdF64x2Replace = 0xfd22
	simdAnd          = 0xfd4e
	simdXor          = 0xfd51
	simdBitselect    = 0xfd52
	simdF32x4Eq      = 0xfd41
	simdF64x2Eq      = 0xfd47
)

// signature of an opcode without control flow: what it pops and pushes, as
// value types, and its immediates.
type signature struct {
	in, out string
	imm     byte // 0 none, 'm' memarg, 'l' lane, 'x' memarg and lane
	align   byte // largest alignment exponent of a memarg
	lanes   byte // lanes of a lane immediate
	ok      bool
}

// letters spells value types in the tables below.
func letters(s string) string {
	b := make([]byte, len(s))
	for i, c := range []byte(s) {
		switch c {
		case 'i':
			b[i] = I32
		case 'I':
			b[i] = I64
		case 'f':
			b[i] = F32
		case 'F':
			b[i] = F64
		case 'v':
			b[i] = V128
		}
	}
	return string(b)
}

var (
	plainOps = plainTable()
	satOps   = satTable()
	simdOps  = simdTable()
)

func plainTable() (t [256]signature) {
	set := func(from, to int, in, out string) {
		for op := from; op <= to; op++ {
			t[op] = signature{in: letters(in), out: letters(out), ok: true}
		}
	}
	mem := func(op int, in, out string, align byte) {
		t[op] = signature{in: letters(in), out: letters(out), imm: 'm', align: align, ok: true}
	}
	for i, a := range []byte{2, 3, 2, 3} { // the full-width loads and stores
		ty := "iIfF"[i : i+1]
		mem(0x28+i, "i", ty, a)
		mem(0x36+i, "i"+ty, "", a)
	}
	for i, a := range []byte{0, 0, 1, 1} {
		mem(0x2c+i, "i", "i", a)
	}
	for i, a := range []byte{0, 0, 1, 1, 2, 2} {
		mem(0x30+i, "i", "I", a)
	}
	mem(0x3a, "ii", "", 0)
	mem(0x3b, "ii", "", 1)
	for i, a := range []byte{0, 1, 2} {
		mem(0x3c+i, "iI", "", a)
	}
	set(0x45, 0x45, "i", "i")
	set(0x46, 0x4f, "ii", "i")
	set(0x50, 0x50, "I", "i")
	set(0x51, 0x5a, "II", "i")
	set(0x5b, 0x60, "ff", "i")
	set(0x61, 0x66, "FF", "i")
	set(0x67, 0x69, "i", "i")
	set(0x6a, 0x78, "ii", "i")
	set(0x79, 0x7b, "I", "I")
	set(0x7c, 0x8a, "II", "I")
	set(0x8b, 0x91, "f", "f")
	set(0x92, 0x98, "ff", "f")
	set(0x99, 0x9f, "F", "F")
	set(0xa0, 0xa6, "FF", "F")
	set(0xa7, 0xa7, "I", "i")
	set(0xa8, 0xa9, "f", "i")
	set(0xaa, 0xab, "F", "i")
	set(0xac, 0xad, "i", "I")
	set(0xae, 0xaf, "f", "I")
	set(0xb0, 0xb1, "F", "I")
	set(0xb2, 0xb3, "i", "f")
	set(0xb4, 0xb5, "I", "f")
	set(0xb6, 0xb6, "F", "f")
	set(0xb7, 0xb8, "i", "F")
	set(0xb9, 0xba, "I", "F")
	set(0xbb, 0xbb, "f", "F")
	set(0xbc, 0xbc, "f", "i")
	set(0xbd, 0xbd, "F", "I")
	set(0xbe, 0xbe, "i", "f")
	set(0xbf, 0xbf, "I", "F")
	set(0xc0, 0xc1, "i", "i")
	set(0xc2, 0xc4, "I", "I")
	return t
}

func satTable() (t [8]signature) {
	for i, s := range []string{"fi", "fi", "Fi", "Fi", "fI", "fI", "FI", "FI"} {
		t[i] = signature{in: letters(s[:1]), out: letters(s[1:]), ok: true}
	}
	return t
}

func simdTable() (t [256]signature) {
	set := func(in, out string, ops ...int) {
		for _, op := range ops {
			t[op] = signature{in: letters(in), out: letters(out), ok: true}
		}
	}
	span := func(in, out string, from, to int) {
		for op := from; op <= to; op++ {
			set(in, out, op)
		}
	}
	mem := func(op int, in, out string, align byte) {
		t[op] = signature{in: letters(in), out: letters(out), imm: 'm', align: align, ok: true}
	}
	lane := func(op int, in, out string, lanes byte) {
		t[op] = signature{in: letters(in), out: letters(out), imm: 'l', lanes: lanes, ok: true}
	}
	mem(0, "i", "v", 4)
	for op := 1; op <= 6; op++ {
		mem(op, "i", "v", 3)
	}
	for i := range 4 {
		mem(7+i, "i", "v", byte(i))
		t[84+i] = signature{in: letters("iv"), out: letters("v"), imm: 'x', align: byte(i), lanes: 16 >> i, ok: true}
		t[88+i] = signature{in: letters("iv"), imm: 'x', align: byte(i), lanes: 16 >> i, ok: true}
	}
	mem(11, "iv", "", 4)
	mem(92, "i", "v", 2)
	mem(93, "i", "v", 3)
	set("vv", "v", 14)
	for i, ty := range []string{"i", "i", "i", "I", "f", "F"} {
		set(ty, "v", 15+i)
	}
	lane(21, "v", "i", 16)
	lane(22, "v", "i", 16)
	lane(23, "vi", "v", 16)
	lane(24, "v", "i", 8)
	lane(25, "v", "i", 8)
	lane(26, "vi", "v", 8)
	for i, l := range []byte{4, 2, 4, 2} {
		ty := "iIfF"[i : i+1]
		lane(27+2*i, "v", ty, l)
		lane(28+2*i, "v"+ty, "v", l)
	}
	span("vv", "v", 35, 76)
	set("v", "v", 77)
	span("vv", "v", 78, 81)
	set("vvv", "v", 82)
	set("v", "i", 83)
	span("vv", "v", 101, 102)
	span("vv", "v", 110, 115)
	span("vv", "v", 118, 121)
	set("vv", "v", 123, 130, 133, 134)
	span("vv", "v", 142, 147)
	span("vv", "v", 149, 153)
	span("vv", "v", 155, 159)
	set("vv", "v", 174, 177, 206, 209)
	span("vv", "v", 181, 186)
	span("vv", "v", 188, 191)
	span("vv", "v", 213, 223)
	span("vv", "v", 228, 235)
	span("vv", "v", 240, 247)
	span("v", "v", 94, 98)
	span("v", "v", 103, 106)
	set("v", "v", 116, 117, 122, 148, 160, 161, 192, 193, 224, 225, 227, 236, 237, 239)
	span("v", "v", 124, 129)
	span("v", "v", 135, 138)
	span("v", "v", 167, 170)
	span("v", "v", 199, 202)
	span("v", "v", 248, 255)
	set("v", "i", 99, 100, 131, 132, 163, 164, 195, 196)
	span("vi", "v", 107, 109)
	span("vi", "v", 139, 141)
	span("vi", "v", 171, 173)
	span("vi", "v", 203, 205)
	return t
}

// Instruction is an instruction without control flow.
type Instruction struct {
	Code    []byte
	In, Out []byte // value types
	Memory  bool   // followed by an alignment exponent of at most Align, and an offset
	Align   byte
	Lanes   byte // if not 0, followed by a lane below it
}

// Instructions lists the numeric instructions and those that load and store,
// for generators of test modules.
func Instructions() []Instruction {
	var all []Instruction
	add := func(op int, s signature) {
		if s.ok {
			all = append(all, Instruction{appendOp(nil, op), []byte(s.in), []byte(s.out), s.imm == 'm' || s.imm == 'x', s.align, s.lanes})
		}
	}
	for op, s := range plainOps {
		add(op, s)
	}
	for op, s := range satOps {
		add(opMisc<<8|op, s)
	}
	for op, s := range simdOps {
		add(opSIMD<<8|op, s)
	}
	return all
}

// Weights of meter version 1, in fuel. One unit is about one simple
// instruction.
const (
	weightPage    = 4096 // per page of memory.grow and of minimum memory
	weightHost    = 64   // per call of an import, on top of the call's weight
	weightCall    = 4
	weightElement = 1 // per table element moved or created
	bulkShift     = 3 // bytes per fuel of bulk moves, as a power of two
	weightFunc    = 1 // per function, at instantiation
)

func weight(op int) uint64 {
	switch op {
	case opNop, opBlock, opLoop, opElse, opEnd:
		return 0
	case opCall:
		return weightCall
	case opCallIndirect:
		return 2 * weightCall
	case opBrTable:
		return 2
	case opMemoryGrow, miscMemoryInit, miscMemoryCopy, miscMemoryFill, miscTableInit, miscTableCopy, miscTableGrow, miscTableFill:
		return 16
	case 0x6d, 0x6e, 0x6f, 0x70, 0x7f, 0x80, 0x81, 0x82: // integer div and rem
		return 8
	case 0x91, 0x95, 0x9f, 0xa3, 0xfde3, 0xfde7, 0xfdef, 0xfdf3: // sqrt and float div
		return 4
	}
	return 1
}

// Kinds of float results whose NaN bits differ between engines.
const (
	nanF32 byte = 1 + iota
	nanF64
	nanF32x4
	nanF64x2
)

// makesNaN is the kind of NaN that op may produce with bits of the engine's
// choice; 0 for every other op (neg, abs, copysign, pmin and pmax only move
// bits).
func makesNaN(op int) byte {
	switch {
	case op >= 0x8d && op <= 0x97 || op == 0xb6:
		return nanF32
	case op >= 0x9b && op <= 0xa5 || op == 0xbb:
		return nanF64
	case op >= 0xfd67 && op <= 0xfd6a, op == 0xfde3, op >= 0xfde4 && op <= 0xfde9, op == 0xfd5e:
		return nanF32x4
	case op == 0xfd74, op == 0xfd75, op == 0xfd7a, op == 0xfd94, op == 0xfdef, op >= 0xfdf0 && op <= 0xfdf5, op == 0xfd5f:
		return nanF64x2
	}
	return 0
}

// absorbsNaN reports whether op, consuming a value of the kind, gives a result
// that does not depend on the bits of its NaNs: it is canonicalised itself, or
// yields no float.
func absorbsNaN(op int, kind byte) bool {
	switch kind {
	case nanF32:
		return op >= 0x8d && op <= 0x97 || op >= 0x5b && op <= 0x60 || op == 0xbb || op >= 0xa8 && op <= 0xa9 ||
			op >= 0xae && op <= 0xaf || op >= 0xfc00 && op <= 0xfc01 || op >= 0xfc04 && op <= 0xfc05 || op == opDrop
	case nanF64:
		return op >= 0x9b && op <= 0xa5 || op >= 0x61 && op <= 0x66 || op == 0xb6 || op >= 0xaa && op <= 0xab ||
			op >= 0xb0 && op <= 0xb1 || op >= 0xfc02 && op <= 0xfc03 || op >= 0xfc06 && op <= 0xfc07 || op == opDrop
	case nanF32x4:
		return op >= 0xfd67 && op <= 0xfd6a || op >= 0xfde3 && op <= 0xfde9 || op >= 0xfd41 && op <= 0xfd46 || op == 0xfd5f ||
			op >= 0xfdf8 && op <= 0xfdf9 || op == opDrop
	case nanF64x2:
		return op == 0xfd74 || op == 0xfd75 || op == 0xfd7a || op == 0xfd94 || op >= 0xfdef && op <= 0xfdf5 ||
			op >= 0xfd47 && op <= 0xfd4c || op == 0xfd5e || op >= 0xfdfc && op <= 0xfdfd || op == opDrop
	}
	return false
}
