//go:build !js

package node

import (
	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
)

// ConnectionLimits are libp2p's: above how many connections it closes some, down
// to how many, and how many it lets in, 0 each where it does not say.
func (n *Node) ConnectionLimits() (low, high, wall int) {
	if m, ok := n.host.ConnManager().(*connmgr.BasicConnMgr); ok {
		info := m.GetInfo()
		low, high = info.LowWater, info.HighWater
	}
	_ = n.host.Network().ResourceManager().ViewSystem(func(s network.ResourceScope) error {
		if l, ok := s.(rcmgr.ResourceScopeLimiter); ok {
			wall = min(l.Limit().GetConnTotalLimit(), l.Limit().GetConnLimit(network.DirInbound), l.Limit().GetConnLimit(network.DirOutbound))
		}
		return nil
	})
	return low, high, wall
}
