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
	spares *spares
	failed bool
	made   []*mapping
}

// spares are mappings that small guests left, cleared: to map, touch and unmap
// one costs more than such a guest's whole run.
type spares struct {
	mu   sync.Mutex
	free [][]byte
}

const (
	maxSpares  = 4
	spareBytes = 256 << 10 // of memory that a guest had at most, and that is cleared
)

// take returns a cleared mapping of size bytes, or nil. Then it gives up those
// of other sizes: address space is limited.
func (s *spares) take(size uint64) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, b := range s.free {
		if uint64(len(b)) == size {
			s.free = append(s.free[:i], s.free[i+1:]...)
			return b
		}
	}
	s.drop()
	return nil
}

// put takes b over, of which a guest could reach the first used bytes.
func (s *spares) put(b []byte, used uint64) {
	if used <= spareBytes {
		clear(b[:used])
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.free) < maxSpares {
			s.free = append(s.free, b)
			return
		}
	}
	syscall.Munmap(b)
}

func (s *spares) drop() {
	for _, b := range s.free {
		syscall.Munmap(b)
	}
	s.free = nil
}

func (s *spares) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop()
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
	used  uint64 // bytes a guest could reach so far
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
		b := m.alloc.spares.take(m.size)
		if b == nil {
			var err error
			b, err = syscall.Mmap(-1, 0, int(m.size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
			if err != nil {
				m.alloc.failed = true
				return nil
			}
		}
		m.b = b
	}
	m.used = max(m.used, size)
	return m.b[:size:size]
}

func (m *mapping) Free() {
	m.once.Do(func() {
		if m.b != nil {
			m.alloc.spares.put(m.b, m.used)
			m.b = nil
		}
	})
}
