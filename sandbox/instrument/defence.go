package instrument

// defence is a set of the rewriter's measures that tests can leave out, to
// prove that a test would notice. Nothing outside this package's tests can
// change off.
type defence uint8

const (
	defenceStack    defence = 1 << iota // depth metering
	defenceNaN                          // canonical NaNs
	defenceLimits                       // bounds of a module
	defenceLEB                          // opcodes are decoded and written again
	defenceStart                        // the start section becomes an export
	defenceSegments                     // segments that engines disagree about are refused
	defenceDetour                       // instructions that wazero's compiler gets wrong are avoided
)

var off defence

// over reports whether n is above a bound of a module.
func over(n, limit uint64) bool { return n > limit && off&defenceLimits == 0 }
