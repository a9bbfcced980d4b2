package node

import (
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// HearCredits gives the node a message of the credits topic as gossip does.
func (n *Node) HearCredits(data []byte) (fresh bool, err error) { return n.gossip.credits(data) }

// HearsOf reports whether gossip knows which topics p follows.
func (n *Node) HearsOf(p peer.ID) bool {
	return slices.Contains(n.pubsub.ListPeers(n.net.ID.CreditsTopic()), p)
}

// LoseStream resets the stream on which this node gossips to p, as happens
// when an old connection turns out to be dead while p speaks on another.
func (n *Node) LoseStream(p peer.ID) (lost bool) {
	for _, c := range n.host.Network().ConnsToPeer(p) {
		for _, s := range c.GetStreams() {
			if s.Stat().Direction == network.DirOutbound && strings.HasPrefix(string(s.Protocol()), "/meshsub/") {
				s.Reset()
				lost = true
			}
		}
	}
	return lost
}

// ReviveGossip looks so often for peers that gossip lost.
func (n *Node) ReviveGossip(looks int) {
	silent := map[peer.ID]*lostPeer{}
	for range looks {
		n.gossip.revive(silent)
	}
}
