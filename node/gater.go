//go:build !js

package node

import (
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/zap"

	"edgenet.dev/node/blocklist"
)

// enforce ends the connections to what is blocked, and forgets blocked peers.
func (b *blocks) enforce() {
	if len(b.list.Load().Entries()) == 0 {
		return
	}
	for _, k := range b.n.peerbook.list() {
		if b.hides(k.ID) {
			if _, err := b.n.peerbook.forget(k.ID); err != nil {
				b.n.log.Error("forget a blocked peer", zap.Stringer("peer", k.ID), zap.Error(err))
			}
			b.n.host.Peerstore().ClearAddrs(k.ID)
		}
	}
	for _, c := range b.n.host.Network().Conns() {
		if b.refuses(c.RemotePeer(), c.RemoteMultiaddr()) {
			if err := c.Close(); err != nil {
				b.n.log.Debug("hang up on a blocked peer", zap.Stringer("peer", c.RemotePeer()), zap.Error(err))
			}
		}
	}
}

// refuses tells and counts a connection to somebody or somewhere that is blocked.
// Of id "" and an address of nil nothing is known.
func (b *blocks) refuses(id peer.ID, a ma.Multiaddr) bool {
	if b.hides(id) {
		b.count(blocklist.Peer)
		return true
	}
	if a == nil {
		return false
	}
	_, blocked := b.address(a)
	if blocked {
		b.count(blocklist.Subnet)
	}
	return blocked
}

// gater asks the list about every connection.
func (b *blocks) gater() connmgr.ConnectionGater { return gater{b} }

type gater struct{ b *blocks }

func (g gater) InterceptPeerDial(id peer.ID) bool { return !g.b.refuses(id, nil) }

func (g gater) InterceptAddrDial(_ peer.ID, a ma.Multiaddr) bool { return !g.b.refuses("", a) }

func (g gater) InterceptAccept(c network.ConnMultiaddrs) bool {
	return !g.b.refuses("", c.RemoteMultiaddr())
}

func (g gater) InterceptSecured(_ network.Direction, id peer.ID, c network.ConnMultiaddrs) bool {
	return !g.b.refuses(id, nil)
}

func (gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
