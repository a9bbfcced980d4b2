// Package wasm spells pieces of WebAssembly's binary format for the writers of
// test modules.
package wasm

// U is an unsigned LEB128 number.
func U(v uint64) (b []byte) {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// S is a signed LEB128 number.
func S(v int64) (b []byte) {
	for {
		c := byte(v) & 0x7f
		v >>= 7
		if (v == 0 && c < 0x40) || (v == -1 && c >= 0x40) {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

// Name is a string with its length in front.
func Name(s string) []byte { return append(U(uint64(len(s))), s...) }

// Vec is n items with their number in front.
func Vec(n int, item func(i int) []byte) []byte {
	b := U(uint64(n))
	for i := range n {
		b = append(b, item(i)...)
	}
	return b
}

// Section is a section with its id and size in front.
func Section(id byte, body []byte) []byte {
	return append(append([]byte{id}, U(uint64(len(body)))...), body...)
}

// Instructions.
func I32Const(v int32) []byte             { return append([]byte{0x41}, S(int64(v))...) }
func I64Const(v int64) []byte             { return append([]byte{0x42}, S(v)...) }
func Get[T byte | uint32](local T) []byte { return append([]byte{0x20}, U(uint64(local))...) }
func Set[T byte | uint32](local T) []byte { return append([]byte{0x21}, U(uint64(local))...) }
func Call[T byte | uint32](f T) []byte    { return append([]byte{0x10}, U(uint64(f))...) }
