//go:build !unix && !js

package sandbox

import "github.com/tetratelabs/wazero/experimental"

// allocator backs linear memory with the Go heap where pages cannot be mapped.
type allocator struct {
	limit  uint64 // bytes; the task's ceiling
	spares *spares
	failed bool
}

// spares are kept where memory is mapped.
type spares struct{}

func (*spares) close() {}

func (a *allocator) Allocate(_, ceiling uint64) experimental.LinearMemory {
	return &heap{size: min(ceiling, a.limit)}
}

func (a *allocator) release() {}

type heap struct {
	size uint64
	b    []byte
}

func (h *heap) Reallocate(size uint64) []byte {
	if size > h.size {
		return nil
	}
	if size > uint64(cap(h.b)) {
		b := make([]byte, size)
		copy(b, h.b)
		h.b = b
	}
	h.b = h.b[:size]
	return h.b
}

func (h *heap) Free() { h.b = nil }
