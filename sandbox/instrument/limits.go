package instrument

// Bounds of a module. They hold before any engine sees a byte: engines compile
// some small modules for minutes and ignore deadlines while they do.
const (
	MaxBytes       = 4 << 20 // without custom sections
	maxTypes       = 20_000
	maxFuncs       = 20_000
	maxImports     = 64
	maxExports     = 4_096
	maxGlobals     = 4_096
	maxTables      = 16
	maxTableSize   = 65_536
	maxSegments    = 100_000
	maxElements    = 131_072 // of all element segments
	maxParams      = 64
	maxResults     = 64
	maxBody        = 64 << 10
	maxBlocks      = 4_096
	maxNesting     = 1_024
	maxLoops       = 256
	maxLoopNesting = 32
	maxLocals      = 1_024
	maxBrTable     = 4_096
	maxWritten     = 16 << 20   // bytes of code after metering
	maxWork        = 20_000_000 // sum over functions of blocks × locals
	maxMoves       = 32_000_000 // operands that calls, blocks and branches take and leave, in all code
)

// Value types as the binary format spells them.
const (
	I32       byte = 0x7f
	I64       byte = 0x7e
	F32       byte = 0x7d
	F64       byte = 0x7c
	V128      byte = 0x7b
	FuncRef   byte = 0x70
	externRef byte = 0x6f
	unknown   byte = 0 // any type, in unreachable code
)

// FuncType is a function signature; each byte is a value type.
type FuncType struct {
	Params, Results []byte
}

// Equal compares signatures.
func (t FuncType) Equal(o FuncType) bool {
	return string(t.Params) == string(o.Params) && string(t.Results) == string(o.Results)
}

func (t FuncType) key() string { return string(t.Params) + ":" + string(t.Results) }

func (t FuncType) String() string { return typeNames(t.Params) + " -> " + typeNames(t.Results) }

func typeName(t byte) string {
	switch t {
	case I32:
		return "i32"
	case I64:
		return "i64"
	case F32:
		return "f32"
	case F64:
		return "f64"
	case V128:
		return "v128"
	case FuncRef:
		return "funcref"
	}
	return "any"
}

func typeNames(ts []byte) string {
	s := "("
	for i, t := range ts {
		if i > 0 {
			s += " "
		}
		s += typeName(t)
	}
	return s + ")"
}
