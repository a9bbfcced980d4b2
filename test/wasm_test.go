package test

import (
	"bytes"
	"encoding/binary"
)

// The modules of these tests are assembled here, so that they need no
// compiler and say exactly what they do. They follow the reactor ABI: memory,
// edgenet_alloc(i32) i32, execute(ptr i32, len i32) i64 with ptr<<32 | len.

func uleb(n uint64) []byte { return binary.AppendUvarint(nil, n) }

func sleb(n int64) (b []byte) {
	for {
		c := byte(n & 0x7f)
		n >>= 7
		if n == 0 && c&0x40 == 0 || n == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func vec(items ...[]byte) []byte {
	return append(uleb(uint64(len(items))), bytes.Join(items, nil)...)
}

func sized(b []byte) []byte { return append(uleb(uint64(len(b))), b...) }

func section(id byte, body []byte) []byte { return append([]byte{id}, sized(body)...) }

func export(name string, kind, index byte) []byte {
	return append(sized([]byte(name)), kind, index)
}

// reactor assembles a module whose execute has the given body. Locals of
// execute: 0 ptr (i32), 1 len (i32), 2 and 3 (i64). Input lies at 1024, and one
// page of memory holds it.
func reactor(execute ...byte) []byte {
	const i32, i64 = 0x7f, 0x7e
	alloc := sized([]byte{0, 0x41, 0x80, 0x08, 0x0b}) // no locals; i32.const 1024; end
	body := append([]byte{1, 2, i64}, execute...)
	return bytes.Join([][]byte{
		{0, 'a', 's', 'm', 1, 0, 0, 0},
		section(1, vec([]byte{0x60, 1, i32, 1, i32}, []byte{0x60, 2, i32, i32, 1, i64})),
		section(3, vec([]byte{0}, []byte{1})),
		section(5, vec([]byte{1, 1, 1})),
		section(7, vec(export("memory", 2, 0), export("edgenet_alloc", 0, 0), export("execute", 0, 1))),
		section(10, vec(alloc, sized(append(body, 0x0b)))),
	}, nil)
}

// spinModule reads a 64-bit count n, turns a linear congruential generator n
// times starting at n, and returns the last 8-byte state. It is slow by
// computing, so killing it is killing work.
func spinModule() []byte {
	code := []byte{
		0x20, 0, 0x29, 3, 0, // local.get ptr; i64.load
		0x22, 2, // local.tee 2: rounds left
		0x21, 3, // local.set 3: state
		0x02, 0x40, 0x03, 0x40, // block; loop
		0x20, 2, 0x50, 0x0d, 1, // rounds left == 0: leave the block
		0x20, 3, 0x42,
	}
	code = append(code, sleb(spinA)...)
	code = append(code, 0x7e, 0x42) // i64.mul; i64.const
	code = append(code, sleb(spinC)...)
	code = append(code,
		0x7c, 0x21, 3, // i64.add; local.set 3
		0x20, 2, 0x42, 1, 0x7d, 0x21, 2, // rounds left -= 1
		0x0c, 0, 0x0b, 0x0b, // br loop; end; end
		0x20, 0, 0x20, 3, 0x37, 3, 0, // store the state over the input
		0x20, 0, 0xad, 0x42, 32, 0x86, 0x42, 8, 0x84, // ptr<<32 | 8
	)
	return reactor(code...)
}

const (
	spinA = 6364136223846793005
	spinC = 1442695040888963407
)

// spinInput asks spinModule for n rounds.
func spinInput(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

// spinWant is spinModule in Go.
func spinWant(n uint64) []byte {
	state := n
	for range n {
		state = state*spinA + spinC
	}
	return binary.LittleEndian.AppendUint64(nil, state)
}
