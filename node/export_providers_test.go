//go:build !js

package node

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const MaxProviders = maxProviders

// CapabilityKey names a shard in the DHT.
func (n *Node) CapabilityKey(shard uint32) string { return capabilityKey(n.net.ID, shard) }

// Providers counts the peers whose provider records this node keeps for others,
// and reports whether id is one of them.
func (n *Node) Providers(id peer.ID) (all int, has bool) {
	ps := n.dht.(kadDHT).records
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return len(ps.of), ps.of[id] != nil
}

// Provided has the node keep that a peer at addr works on shard 0, as of then.
func (n *Node) Provided(id peer.ID, addr string, at time.Time) {
	a := ma.StringCast(addr)
	n.dht.(kadDHT).records.add(at, 0, id, []ma.Multiaddr{a}, subnet(a))
}
