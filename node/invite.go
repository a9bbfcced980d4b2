package node

import (
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"edgenet.dev/proto"
)

// UsableAddrs are those of Addrs at which other machines may reach this node:
// public ones from anywhere, private ones within their local network, as far as
// firewalls let them. Loopback and link-local addresses are of no use to others.
// Names count as public.
func (n *Node) UsableAddrs() (public, private []string) {
	for _, text := range n.Addrs() {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			continue
		}
		switch {
		case manet.IsIPLoopback(a), manet.IsIP6LinkLocal(a), manet.IsIPUnspecified(a):
		case manet.IsPrivateAddr(a):
			private = append(private, text)
		default:
			public = append(public, text)
		}
	}
	return public, private
}

// Invite makes an invite to this node's network by way of this node. addrs, if
// any, are named instead of the node's own; /p2p/ may be missing. Without a
// usable address those on loopback are named, which serve this machine alone.
func (n *Node) Invite(addrs []string, referrer peer.ID) (*proto.NetworkInvite, error) {
	if err := n.isReady(); err != nil {
		return nil, err
	}
	i := &proto.NetworkInvite{Network: n.net, Referrer: referrer}
	if len(addrs) > 0 {
		for _, text := range addrs {
			a, err := ma.NewMultiaddr(text)
			if err != nil {
				return nil, proto.CodeMalformed.Errorf("%q is no multiaddr such as /dns4/example.org/tcp/4001", text)
			}
			if _, err := peer.IDFromP2PAddr(a); err != nil {
				a = a.Encapsulate(ma.StringCast("/p2p/" + n.self.String()))
			}
			i.Peers = append(i.Peers, a)
		}
	} else {
		public, private := n.UsableAddrs()
		i.Peers = forDaemons(append(public, private...))
		if len(i.Peers) == 0 {
			i.Peers = forDaemons(n.Addrs())
		}
		i.Peers = i.Peers[:min(len(i.Peers), proto.MaxInviteAddrs)]
	}
	if len(i.Peers) == 0 {
		return nil, proto.CodeNotFound.Errorf("this node listens nowhere: nobody could join by it")
	}
	_, err := proto.ParseInvite(i.String()) // what it would be refused for is told here
	return i, err
}

// forDaemons leaves out what daemons have no need of: WebTransport, whose
// certificates live two weeks, and WebSocket beside anything else.
func forDaemons(addrs []string) []ma.Multiaddr {
	var out, sockets []ma.Multiaddr
	for _, text := range addrs {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			continue
		}
		has := func(code int) bool {
			return slices.ContainsFunc(a.Protocols(), func(p ma.Protocol) bool { return p.Code == code })
		}
		switch {
		case has(ma.P_WEBTRANSPORT):
		case has(ma.P_WS), has(ma.P_WSS):
			sockets = append(sockets, a)
		default:
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return sockets
	}
	return out
}
