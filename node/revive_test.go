//go:build !js

package node_test

import "testing"

// Gossipsub forgets the topics of a peer when its own stream to it ends, and
// the peer, which noticed nothing, does not tell them again.
func TestGossipIsRevived(t *testing.T) {
	l := newLab(t, 2)
	l.startAll(2, nil)
	a, b := l.nodes[0], l.nodes[1]
	know := func() bool { return a.HearsOf(b.ID()) && b.HearsOf(a.ID()) }
	l.until("both know each other's topics", know)
	if !a.LoseStream(b.ID()) {
		t.Fatal("there is no gossip stream")
	}
	l.until("the topics are forgotten", func() bool { return !a.HearsOf(b.ID()) })
	a.ReviveGossip(10)
	l.until("both know each other's topics again", know)
}
