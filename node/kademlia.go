package node

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/routing"
)

// kademlia is what the node wants of a DHT. A tab has none: it asks the
// daemons that it is connected to (directory.go).
type kademlia interface {
	routing.ContentRouting
	FindPeer(context.Context, peer.ID) (peer.AddrInfo, error)
	known() int // peers in the routing table
	refresh() <-chan error
	Close() error
}
