//go:build !js

package node

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
)

// mdns finds peers of this network on the local network until stop is called.
func (n *Node) mdns(ctx context.Context) (stop func(), err error) {
	s := mdns.NewMdnsService(n.host, "_edgenet-"+n.net.ID.Short()+"._udp", neighbour{ctx, n})
	if err := s.Start(); err != nil {
		return nil, err
	}
	return func() { s.Close() }, nil
}

type neighbour struct {
	ctx context.Context
	n   *Node
}

func (m neighbour) HandlePeerFound(p peer.AddrInfo) {
	if p.ID != m.n.self {
		m.n.peerbook.choose(p.ID)
		_ = m.n.host.Connect(m.ctx, p) // it will be announced again
	}
}
