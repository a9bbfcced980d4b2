package node

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// MaxReached and MaxMet bound the peerbook.
const MaxReached, MaxMet = maxReached, maxMet

// RememberPeer puts a peer that was seen at a moment into the peerbook.
func (n *Node) RememberPeer(id peer.ID, addr string, seen time.Time, reached bool) error {
	return n.peerbook.add(id, &knownPeer{addrs: bounded(id, []ma.Multiaddr{ma.StringCast(addr)}), seen: seen, reached: reached})
}

// StoredPeers counts the entries on disk, and those among them with a signed
// record.
func (n *Node) StoredPeers() (all, signed int) {
	_ = n.kv.scan("peer/", func(key string, v []byte) error {
		all++
		if _, p, err := readKnownPeer(key[len("peer/"):], v); err == nil && len(p.record) > 0 {
			signed++
		}
		return nil
	})
	return all, signed
}

// Referrer is the one that this account's Open names.
func (n *Node) Referrer() (peer.ID, bool) {
	n.wallet.mu.Lock()
	defer n.wallet.mu.Unlock()
	c, ok := n.wallet.l.At(n.self, 0)
	if !ok {
		return "", false
	}
	return peer.ID(c.Event.GetOpen().GetReferrer()), true
}

// Redials plays failed dials of one peer for a time: how often it is dialled and
// how often the log says so.
func Redials(bootstrap, alone bool, during time.Duration) (dials, lines int, longest time.Duration) {
	s := new(dialState)
	for at := time.Duration(0); at < during; {
		dials++
		s.fails++
		if s.tellable() {
			lines++
		}
		w := s.wait(bootstrap, alone)
		longest = max(longest, w)
		at += w
	}
	return dials, lines, longest
}

// Lost plays connections of one peer, which lasted so long: the failures counted
// after each.
func Lost(lasted ...time.Duration) (fails []int) {
	s, now := new(dialState), time.Now()
	for _, d := range lasted {
		s.connected = now.Add(-d)
		s.lost(now)
		fails = append(fails, s.fails)
	}
	return fails
}

// Carries reports whether this node keeps its connection to id because of a job.
func (n *Node) Carries(id peer.ID) bool { return n.host.ConnManager().IsProtected(id, carrying) }

// DialUnchosen dials as Kademlia does, which is led to a peer by others.
func (n *Node) DialUnchosen(ctx context.Context, id peer.AddrInfo) error {
	return n.host.Connect(ctx, id)
}

// ChosenPeer reports whether the peerbook has id among those that this node
// chose to reach.
func (n *Node) ChosenPeer(id peer.ID) (known, chosen bool) {
	n.peerbook.mu.Lock()
	defer n.peerbook.mu.Unlock()
	p := n.peerbook.peers[id]
	return p != nil, p != nil && p.reached
}
