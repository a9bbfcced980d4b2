package instrument

// Defence is one measure of the rewriter.
type Defence = defence

const (
	DefenceStack    = defenceStack
	DefenceNaN      = defenceNaN
	DefenceLimits   = defenceLimits
	DefenceLEB      = defenceLEB
	DefenceStart    = defenceStart
	DefenceSegments = defenceSegments
	DefenceDetour   = defenceDetour
)

// Without runs fn with the rewriter's defences d left out.
func Without(d Defence, fn func()) {
	off = d
	defer func() { off = 0 }()
	fn()
}
