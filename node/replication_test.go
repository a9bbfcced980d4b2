package node

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// A peer has one session in each direction, and there are a few in all,
// whatever it does to its connections meanwhile.
func TestSessionsAreBounded(t *testing.T) {
	s := newSyncer(nil, func(p peer.ID) bool { return p[0] == 'W' })
	now := time.Now()
	meet := func(p peer.ID) { s.peers[p] = &syncPeer{next: now, wait: syncFirst} }
	meet("a")
	if got := s.due(now); len(got) != 1 {
		t.Fatalf("%d sessions are due with one peer", len(got))
	}
	s.left("a")
	meet("a")
	if got := s.due(now); len(got) != 0 {
		t.Error("a second session with a peer that came back")
	}
	for i := range 2 * maxSyncs {
		meet(peer.ID(rune('b' + i)))
	}
	if got := s.due(now); len(got) != maxSyncs-1 {
		t.Errorf("%d sessions beside one, want %d in all", len(got), maxSyncs)
	}
	s.ended("a", true)
	if at := s.peers["a"].next; at.After(now.Add(2 * syncFirst)) {
		t.Errorf("the next session is only due at %s", at)
	}
	if got := s.due(now); len(got) != 1 {
		t.Errorf("%d sessions are due after one ended, want 1", len(got))
	}

	meet("W1")
	meet("W2")
	if got := s.due(now); len(got) != 2 {
		t.Errorf("%d sessions with two witnesses are due, beside all others", len(got))
	}
}
