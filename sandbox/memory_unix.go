//go:build unix

package sandbox

import (
	"sync"
	"syscall"

	"github.com/tetratelabs/wazero/experimental"
)

// allocator backs linear memory with pages that the kernel hands out on first
// touch, so that a fresh instance costs microseconds and growing never copies.
type allocator struct {
	limit  uint64 // bytes; the task's ceiling
	failed bool
	made   []*mapping
}

func (a *allocator) Allocate(_, ceiling uint64) experimental.LinearMemory {
	m := &mapping{alloc: a, size: min(ceiling, a.limit)}
	a.made = append(a.made, m)
	return m
}

// release unmaps what the engine left behind after a failed instantiation.
func (a *allocator) release() {
	for _, m := range a.made {
		m.Free()
	}
}

type mapping struct {
	alloc *allocator
	size  uint64
	b     []byte
	once  sync.Once
}

func (m *mapping) Reallocate(size uint64) []byte {
	if size > m.size {
		return nil
	}
	if m.b == nil {
		if m.size == 0 {
			return []byte{}
		}
		b, err := syscall.Mmap(-1, 0, int(m.size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
		if err != nil {
			m.alloc.failed = true
			return nil
		}
		m.b = b
	}
	return m.b[:size:size]
}

func (m *mapping) Free() {
	m.once.Do(func() {
		if m.b != nil {
			syscall.Munmap(m.b)
			m.b = nil
		}
	})
}
