package market

import (
	"maps"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
)

// sortedPeers are the keys of set in an order that is always the same.
func sortedPeers[V any](set map[peer.ID]V) []peer.ID { return slices.Sorted(maps.Keys(set)) }
