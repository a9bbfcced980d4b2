package node

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"

	"edgenet.dev/proto"
)

// Pong is a peer's answer to a ping.
type Pong struct {
	RTT     time.Duration
	Address string // over which it went
	Relayed bool
}

// Ping connects to a peer, unless it is connected, and measures one round trip.
func (n *Node) Ping(ctx context.Context, to peer.AddrInfo) (Pong, error) {
	if err := n.isReady(); err != nil {
		return Pong{}, err
	}
	if to.ID == n.self {
		return Pong{}, proto.CodeMalformed.Errorf("%s is this node itself; ping another peer", to.ID)
	}
	if err := n.blocks.refusal(to.ID, to.Addrs...); err != nil {
		return Pong{}, err
	}
	ctx, cancel := n.until(ctx)
	defer cancel()
	ctx, stop := context.WithTimeout(network.WithAllowLimitedConn(ctx, "edgenet"), probeTimeout)
	defer stop()
	n.clearBackoff(to.ID) // an earlier failure would be all that is said
	n.host.Peerstore().AddAddrs(to.ID, to.Addrs, peerstore.TempAddrTTL)
	r, ok := <-ping.Ping(ctx, n.host, to.ID)
	if ok && r.Error == nil {
		out := Pong{RTT: r.RTT}
		if conns := n.host.Network().ConnsToPeer(to.ID); len(conns) > 0 {
			a := conns[0].RemoteMultiaddr()
			_, err := a.ValueForProtocol(ma.P_CIRCUIT)
			out.Address, out.Relayed = a.String(), err == nil
		}
		return out, nil
	}
	err := r.Error
	if !ok || ctx.Err() != nil {
		err = fmt.Errorf("no answer within %s", probeTimeout)
	}
	return Pong{}, proto.CodeNotFound.Errorf("peer %s does not answer: %v", to.ID, err)
}
