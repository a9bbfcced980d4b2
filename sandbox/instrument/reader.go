package instrument

import (
	"fmt"
	"unicode/utf8"

	"edgenet.dev/proto"
)

// RefusedError says why a module was not accepted. It carries
// proto.CodeModule.
type RefusedError struct {
	Section string // "header", "type", "import", "code", …; "module" for the whole
	Offset  int    // byte offset in the raw module
	Reason  string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("module refused: %s section, offset %d: %s", e.Section, e.Offset, e.Reason)
}

// Unwrap makes proto.CodeOf find proto.CodeModule.
func (e *RefusedError) Unwrap() error { return proto.CodeModule.Err() }

// reader walks b[pos:end]. A failure panics with *RefusedError, which Rewrite
// recovers; no other panic is caught.
type reader struct {
	b       []byte
	pos     int
	end     int
	section string
}

func (r *reader) fail(format string, args ...any) {
	r.failAt(r.pos, format, args...)
}

func (r *reader) failAt(pos int, format string, args ...any) {
	panic(&RefusedError{Section: r.section, Offset: pos, Reason: fmt.Sprintf(format, args...)})
}

func (r *reader) left() int { return r.end - r.pos }

func (r *reader) byte() byte {
	if r.pos >= r.end {
		r.fail("unexpected end")
	}
	c := r.b[r.pos]
	r.pos++
	return c
}

// bytes returns the next n bytes without copying.
func (r *reader) bytes(n uint32) []byte {
	if uint64(n) > uint64(r.left()) {
		r.fail("%d bytes wanted, %d left", n, r.left())
	}
	b := r.b[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return b
}

// u32 reads an unsigned LEB128 of at most five bytes. Padded spellings, which
// linkers leave behind, are accepted: the writer never repeats them.
func (r *reader) u32() uint32 {
	var v uint64
	for shift := 0; ; shift += 7 {
		at := r.pos
		c := r.byte()
		v |= uint64(c&0x7f) << shift
		if shift == 28 && c > 0x0f {
			r.failAt(at, "LEB128 above 32 bits")
		}
		if c < 0x80 {
			return uint32(v)
		}
	}
}

// signed reads a signed LEB128 of the given width in bits and refuses bits
// that do not match the sign.
func (r *reader) signed(bits int) int64 {
	var v int64
	for shift := 0; ; shift += 7 {
		at := r.pos
		c := r.byte()
		v |= int64(c&0x7f) << shift
		rest := bits - shift // bits of c that count
		if rest <= 7 {
			top := int8(c<<1) >> rest // sign bit and everything above it
			if c >= 0x80 || (top != 0 && top != -1) {
				r.failAt(at, "signed LEB128 above %d bits", bits)
			}
		}
		if c < 0x80 {
			if s := shift + 7; s < 64 {
				v = v << (64 - s) >> (64 - s)
			}
			return v
		}
	}
}

// count reads a vector length and refuses one that cannot fit in what is left
// (each item takes at least a byte) or that is above limit.
func (r *reader) count(what string, limit int) int {
	at := r.pos
	n := r.u32()
	if uint64(n) > uint64(r.left()) {
		r.failAt(at, "%d %s in %d bytes", n, what, r.left())
	}
	if over(uint64(n), uint64(limit)) {
		r.failAt(at, "%d %s, at most %d", n, what, limit)
	}
	return int(n)
}

func (r *reader) name() string {
	at := r.pos
	b := r.bytes(r.u32())
	if len(b) > 1024 {
		r.failAt(at, "name of %d bytes, at most 1024", len(b))
	}
	if !utf8.Valid(b) {
		r.failAt(at, "name is not UTF-8")
	}
	return string(b)
}

func (r *reader) valType() byte {
	at := r.pos
	t := r.byte()
	switch t {
	case I32, I64, F32, F64, V128, FuncRef:
		return t
	case externRef:
		r.failAt(at, "externref is not allowed")
	}
	r.failAt(at, "value type 0x%02x is not allowed", t)
	return 0
}

func (r *reader) refType() byte {
	at := r.pos
	if t := r.valType(); t != FuncRef {
		r.failAt(at, "want a reference type")
	}
	return FuncRef
}

func (r *reader) done() {
	if r.pos != r.end {
		r.fail("%d bytes left over", r.left())
	}
}

// appendU appends v as minimal unsigned LEB128.
func appendU(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// appendS appends v as minimal signed LEB128.
func appendS(b []byte, v int64) []byte {
	for {
		c := byte(v) & 0x7f
		v >>= 7
		if (v == 0 && c < 0x40) || (v == -1 && c >= 0x40) {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func appendName(b []byte, s string) []byte {
	return append(appendU(b, uint64(len(s))), s...)
}
