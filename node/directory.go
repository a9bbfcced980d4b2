package node

import (
	"context"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/zap"

	"edgenet.dev/proto"
)

// The /directory stream: where can these peers be dialled? Daemons answer from
// what they know and from Kademlia, and offer themselves as the way to a peer
// that holds a connection to them, which is how tabs are found. Nothing
// vouches for an address; whoever dials it learns whether the peer is there.

const (
	maxDirectoryPeers = 16
	maxDirectoryAddrs = 32
	directoryWait     = 5 * time.Second
	directoryAsked    = 3 // daemons asked at once

	directoryWalk = 4 * time.Second // in the DHT, for all peers of a question: who asks waits for directoryWait
	maxWalks      = 16              // questions for which the DHT is asked at once, one of a peer
)

// walks asks the DHT for those who ask this node.
type walks struct {
	*serving
	find func(context.Context, peer.ID) (peer.AddrInfo, error) // nil without a DHT
}

// lookup finds the addresses of a peer that is about to be dialled: by
// Kademlia first, then by asking connected daemons.
type lookup struct{ n *Node }

func (r lookup) FindPeer(ctx context.Context, id peer.ID) (peer.AddrInfo, error) {
	if r.n.dht != nil {
		if info, err := r.n.dht.FindPeer(ctx, id); err == nil && len(info.Addrs) > 0 {
			return info, nil
		}
	}
	return r.n.askDirectory(ctx, id)
}

func (n *Node) serveDirectory(s network.Stream) {
	if err := n.answerDirectory(s); err != nil {
		s.Reset()
		return
	}
	s.Close()
}

func (n *Node) answerDirectory(s network.Stream) error {
	s.SetDeadline(time.Now().Add(2 * directoryWait))
	if !n.gossip.budgets.asks(s.Conn().RemotePeer(), time.Now()) { // one bucket for all small requests of a peer
		return proto.CodeRateLimited.Err()
	}
	var req proto.DirectoryRequest
	if err := frames(s, proto.MaxDirectoryFrame).Read(&req); err != nil {
		return err
	}
	if len(req.Peers) > maxDirectoryPeers {
		return proto.CodeTooLarge.Err()
	}
	ctx, cancel := context.WithTimeout(n.ctx, directoryWalk)
	defer cancel()
	var place *guest // taken when the DHT is asked first
	mayWalk := func() (ok bool) {
		if place == nil {
			if place, ok = n.walks.take(ctx, s.Conn().RemotePeer(), siteOf(s.Conn()), nil); !ok {
				place = nil
			}
		}
		return place != nil && ctx.Err() == nil
	}
	defer func() {
		if place != nil {
			n.walks.leave(place)
		}
	}()
	reply := new(proto.DirectoryReply)
	for _, raw := range req.Peers {
		id, err := proto.ParsePeer(raw)
		if err != nil {
			return err
		}
		if addrs := n.whereIs(ctx, id, mayWalk); len(addrs) > 0 {
			p := &proto.PeerAddrs{Peer: raw}
			for _, a := range addrs[:min(len(addrs), maxDirectoryAddrs)] {
				p.Addrs = append(p.Addrs, a.Bytes())
			}
			reply.Peers = append(reply.Peers, p)
		}
	}
	return proto.WriteFrame(s, reply, proto.MaxDirectoryFrame)
}

// whereIs is the directory's answer for one peer. The DHT is asked when mayWalk says
// so, until ctx ends.
func (n *Node) whereIs(ctx context.Context, id peer.ID, mayWalk func() bool) []ma.Multiaddr {
	if id == n.self {
		return n.host.Addrs()
	}
	connected := len(n.host.Network().ConnsToPeer(id)) > 0
	addrs := n.host.Peerstore().Addrs(id)
	if len(addrs) == 0 && !connected && n.walks.find != nil && mayWalk() {
		if info, err := n.walks.find(ctx, id); err == nil {
			addrs = info.Addrs
		}
	}
	// Observed source ports of a tab are no address: only what a peer says it
	// listens on can be dialled, and a relayed one through us.
	addrs = slices.Clone(addrs)
	if connected && n.cfg.Relay {
		for _, a := range n.host.Addrs() {
			if relayed(a) {
				continue
			}
			if via, err := ma.NewMultiaddr(a.String() + "/p2p/" + n.self.String() + "/p2p-circuit"); err == nil {
				addrs = append(addrs, via)
			}
		}
	}
	return addrs
}

func relayed(a ma.Multiaddr) bool {
	_, err := a.ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}

// askDirectory asks a few connected daemons and unites what they say.
func (n *Node) askDirectory(ctx context.Context, id peer.ID) (peer.AddrInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, directoryWait)
	defer cancel()
	var ask []peer.ID
	for _, p := range n.host.Network().Peers() {
		if p == id || len(ask) == directoryAsked {
			continue
		}
		if has, err := n.host.Peerstore().SupportsProtocols(p, n.net.ID.Protocol("directory")); err == nil && len(has) > 0 {
			ask = append(ask, p)
		}
	}
	answers := make(chan []ma.Multiaddr, len(ask))
	for _, p := range ask {
		n.goDo(func(context.Context) { answers <- n.askPeer(ctx, p, id) })
	}
	info := peer.AddrInfo{ID: id}
	for range ask {
		select {
		case addrs := <-answers:
			for _, a := range addrs {
				if !slices.ContainsFunc(info.Addrs, a.Equal) {
					info.Addrs = append(info.Addrs, a)
				}
			}
		case <-ctx.Done():
		}
	}
	if len(info.Addrs) == 0 {
		return info, proto.CodeNotFound.Errorf("find %s: none of %d connected daemons knows it", id, len(ask))
	}
	return info, nil
}

func (n *Node) askPeer(ctx context.Context, of, id peer.ID) []ma.Multiaddr {
	s, err := n.stream(network.WithNoDial(ctx, "directory"), of, "directory")
	if err != nil {
		n.log.Debug("directory", zap.Stringer("peer", of), zap.Error(err))
		return nil
	}
	defer s.Reset()
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	if err := proto.WriteFrame(s, &proto.DirectoryRequest{Peers: [][]byte{[]byte(id)}}, proto.MaxDirectoryFrame); err != nil {
		return nil
	}
	_ = s.CloseWrite() // the frame has its length
	var reply proto.DirectoryReply
	if err := frames(s, proto.MaxDirectoryFrame).Read(&reply); err != nil {
		n.log.Debug("directory", zap.Stringer("peer", of), zap.Error(err))
		return nil
	}
	var out []ma.Multiaddr
	for _, p := range reply.Peers {
		if string(p.Peer) != string(id) {
			continue
		}
		for _, raw := range p.Addrs[:min(len(p.Addrs), maxDirectoryAddrs)] {
			if a, err := ma.NewMultiaddrBytes(raw); err == nil {
				out = append(out, a)
			}
		}
	}
	return out
}
