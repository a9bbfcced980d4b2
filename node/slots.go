package node

import (
	"context"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
)

// slots bound work that peers ask for: so much at once in all, so much for one
// peer. Peers that are reserved for need none of the former.
type slots struct {
	all      chan struct{}
	each     int
	reserved func(peer.ID) bool

	mu sync.Mutex
	of map[peer.ID]*peerSlots
}

type peerSlots struct {
	own   chan struct{}
	users int // that have or want one
}

// peerQueue bounds what may wait for the slots of one peer.
const peerQueue = 256

func newSlots(all, each int, reserved func(peer.ID) bool) *slots {
	return &slots{all: make(chan struct{}, all), each: each, reserved: reserved, of: map[peer.ID]*peerSlots{}}
}

// take waits for a slot until ctx ends.
func (s *slots) take(ctx context.Context, id peer.ID) (release func(), ok bool) {
	p := s.join(id)
	if p == nil {
		return nil, false
	}
	select {
	case p.own <- struct{}{}:
	case <-ctx.Done():
		s.leave(id, p)
		return nil, false
	}
	free := func() { <-p.own; s.leave(id, p) }
	if s.reserved(id) {
		return free, true
	}
	select {
	case s.all <- struct{}{}:
		return func() { <-s.all; free() }, true
	case <-ctx.Done():
		free()
		return nil, false
	}
}

func (s *slots) join(id peer.ID) *peerSlots {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.of[id]
	if p == nil {
		p = &peerSlots{own: make(chan struct{}, s.each)}
		s.of[id] = p
	}
	if p.users >= s.each+peerQueue {
		return nil
	}
	p.users++
	return p
}

func (s *slots) leave(id peer.ID, p *peerSlots) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.users--; p.users == 0 {
		delete(s.of, id)
	}
}
