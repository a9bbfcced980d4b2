package node

import (
	"context"
	"strconv"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	drouting "github.com/libp2p/go-libp2p/p2p/discovery/routing"
	"go.uber.org/zap"

	"edgenet.dev/proto"
)

// Discovery stays quiet once a node knows this many peers of its network.
const enoughPeers = 6

// announceEvery is well within the day or two that DHT servers keep a provider
// record.
const announceEvery = 6 * time.Hour

// discover finds more peers than the known ones: on the local network, and by
// the DHT's provider records for "follows offers shard s". It asks often while
// alone and rarely once connected.
func (n *Node) discover(ctx context.Context) error {
	if n.cfg.MDNS {
		stop, err := n.mdns(ctx)
		if err != nil {
			n.log.Warn("no local discovery", zap.Error(err))
		} else {
			defer stop()
		}
	}
	wait, announced := time.Second, time.Time{}
	for {
		met := n.peerbook.met // the first peer may bring the DHT
		if n.dht != nil && n.dht.known() > 0 {
			met = nil
			// Kademlia's own timers refresh a small table every two minutes, which
			// is most of what an idle node would send; this loop slows down instead.
			select {
			case <-n.dht.refresh():
			case <-ctx.Done():
				return nil
			}
			if time.Since(announced) > announceEvery && n.announce(ctx) {
				announced = time.Now()
			}
			if len(n.host.Network().Peers()) < enoughPeers {
				n.findPeers(ctx)
			}
			wait = min(5*wait, 10*time.Minute)
		}
		if len(n.host.Network().Peers()) == 0 {
			wait = min(wait, 2*time.Second)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-met:
		case <-time.After(wait):
		}
	}
}

func capabilityKey(id proto.NetworkID, shard uint32) string {
	return "edgenet/" + id.Short() + "/shard/" + strconv.Itoa(int(shard))
}

// announce puts this worker into the DHT under its shards and reports whether
// that is done for now.
func (n *Node) announce(ctx context.Context) bool {
	d := drouting.NewRoutingDiscovery(n.dht)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if !n.worker().Enabled {
		return true
	}
	for _, shard := range workerShards(n.worker(), n.net.Genesis.Shards) {
		if _, err := d.Advertise(ctx, capabilityKey(n.net.ID, shard)); err != nil {
			n.log.Debug("not announced in the DHT", zap.Error(err))
			return false
		}
	}
	return true
}

// findPeers connects to workers that the DHT knows.
func (n *Node) findPeers(ctx context.Context) {
	d := drouting.NewRoutingDiscovery(n.dht)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	found, err := d.FindPeers(ctx, capabilityKey(n.net.ID, 0))
	if err != nil {
		n.log.Debug("no peers from the DHT", zap.Error(err))
		return
	}
	for p := range found {
		if p.ID == n.self || len(n.host.Network().ConnsToPeer(p.ID)) > 0 || len(n.host.Network().Peers()) >= 2*enoughPeers {
			continue
		}
		if err := n.host.Connect(ctx, p); err != nil {
			n.log.Debug("peer from the DHT does not answer", zap.Stringer("peer", p.ID), zap.Error(err))
		}
	}
}

// FindPeer asks Kademlia, and nothing else, for a peer's addresses.
func (n *Node) FindPeer(ctx context.Context, id peer.ID) (peer.AddrInfo, error) {
	if err := n.isReady(); err != nil {
		return peer.AddrInfo{}, err
	}
	if err := n.blocks.refusal(id); err != nil {
		return peer.AddrInfo{}, err
	}
	if n.dht == nil {
		return peer.AddrInfo{}, proto.CodeNotFound.Errorf("find %s: the DHT is off on this node", id)
	}
	info, err := n.dht.FindPeer(ctx, id)
	if err != nil {
		return peer.AddrInfo{}, proto.CodeNotFound.Errorf("find %s: Kademlia does not know it: %v", id, err)
	}
	return info, nil
}
