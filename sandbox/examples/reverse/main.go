//go:build wasip1

// Reverse is an example task: a reactor in Go that returns its input backwards,
// rune by rune.
package main

import (
	"slices"
	"unsafe"
)

func main() {}

// held keeps the buffers alive that only the host knows about.
var held [][]byte

//go:wasmexport edgenet_alloc
func alloc(size uint32) uint32 {
	b := make([]byte, size+1) // never empty, so that it has an address
	held = append(held, b)
	return address(b)
}

//go:wasmexport execute
func execute(ptr unsafe.Pointer, size uint32) uint64 {
	runes := []rune(string(unsafe.Slice((*byte)(ptr), size)))
	slices.Reverse(runes)
	out := append([]byte(string(runes)), 0)
	held = append(held, out)
	return uint64(address(out))<<32 | uint64(len(out)-1)
}

func address(b []byte) uint32 { return uint32(uintptr(unsafe.Pointer(&b[0]))) }
