package proto

import (
	"sync"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/peer"
)

// checked holds signatures that were found valid, when RememberSignatures asked
// for it.
var checked atomic.Pointer[signatures]

// RememberSignatures makes this process compute equal signature checks once, as
// far as it remembers: between n and 2n of those that were found valid. n = 0
// switches it off, which is the default: a daemon sees most signatures once or
// twice. A process that holds many nodes, as a simulation does, sees each of
// them many times. What is remembered is the SHA-256 over signer, signature and
// message, and only after a real check, so nothing passes that would not have.
func RememberSignatures(n int) {
	if n <= 0 {
		checked.Store(nil)
		return
	}
	checked.Store(&signatures{limit: n, young: map[Hash]struct{}{}})
}

// signatures forgets in two generations.
type signatures struct {
	limit      int
	mu         sync.Mutex
	young, old map[Hash]struct{}
}

func signatureKey(signer peer.ID, msg, sig []byte) Hash {
	b := make([]byte, 0, len(signer)+len(sig)+len(msg))
	b = append(b, signer...) // 38 bytes and 64: fixed lengths
	b = append(b, sig...)
	return HashOf(append(b, msg...))
}

func (s *signatures) has(key Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.young[key]; ok {
		return true
	}
	_, ok := s.old[key]
	return ok
}

func (s *signatures) add(key Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.young) >= s.limit {
		s.old, s.young = s.young, map[Hash]struct{}{}
	}
	s.young[key] = struct{}{}
}
