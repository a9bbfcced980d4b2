package node

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	routedhost "github.com/libp2p/go-libp2p/p2p/host/routed"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"

	"edgenet.dev/proto"
	"edgenet.dev/transport"
)

// openHost starts the libp2p host and, unless it is off, Kademlia; from then
// on a peer known by id only is looked up when it is dialled.
func (n *Node) openHost() error {
	r := transport.Reachability(n.cfg.Reachability)
	if (r == "" || r == transport.Auto) && (n.cfg.Relay || n.cfg.DHT == "server") {
		r = transport.Public // whoever serves relays or the DHT says that it can be reached
	}
	limits := n.net.Genesis.Relay
	h, err := transport.NewHost(transport.Config{
		Key: n.cfg.Key, Listen: n.addrs.listen, Announce: n.addrs.announce,
		Reachability: r, Relay: n.cfg.Relay,
		RelayLimit: relay.RelayLimit{Data: int64(limits.Bytes), Duration: n.net.RelayTime()},
		Relays:     n.addrs.bootstrap, Resolve: n.resolve(), UserAgent: n.agent(), Bandwidth: n.traffic, Metrics: n.cfg.Metrics,
		Connections:    n.connections(r),
		CertificatesAt: n.cfg.CertificatesAt,
		MapPorts:       n.cfg.MapPorts,
		Gater:          n.blocks.gater(),
	})
	if err != nil {
		return err
	}
	n.host = h
	n.peerbook.fill(h)
	if n.cfg.DHT == "off" {
		return nil
	}
	if n.dht, err = n.openKademlia(h); err != nil {
		return fmt.Errorf("kademlia: %w", err)
	}
	if n.dht != nil {
		n.walks.find = n.dht.FindPeer
	}
	n.host = routedhost.Wrap(h, lookup{n})
	return nil
}

// connections is above how many those of least use are closed.
func (n *Node) connections(r transport.Reachability) int {
	switch {
	case n.cfg.Connections > 0:
		return n.cfg.Connections
	case n.net.IsWitness(n.self):
		return WitnessConnections
	case n.cfg.Relay, r == transport.Public:
		return ServiceConnections
	}
	return DefaultConnections
}

// resolve is Config.Resolve as the transport wants it. Addresses that nobody
// can read are as good as none.
func (n *Node) resolve() func(context.Context) ([]peer.AddrInfo, error) {
	if n.cfg.Resolve == nil {
		return nil
	}
	return func(ctx context.Context) ([]peer.AddrInfo, error) {
		addrs, err := n.cfg.Resolve(ctx)
		if err != nil {
			return nil, err
		}
		return parseRelays(n.self, addrs)
	}
}

// agent is what identify tells peers.
func (n *Node) agent() string {
	if n.cfg.Version == "" {
		return "edgenet"
	}
	return "edgenet/" + strings.TrimPrefix(n.cfg.Version, "edgenetd/")
}

// handle serves a stream protocol of the network; the node waits for every
// handler before it closes.
func (n *Node) handle(name string, serve func(network.Stream)) {
	n.host.SetStreamHandler(n.net.ID.Protocol(name), func(s network.Stream) {
		n.closing.Lock()
		if n.stopped {
			n.closing.Unlock()
			s.Reset()
			return
		}
		n.handlers.Add(1)
		n.closing.Unlock()
		defer n.handlers.Done()
		serve(s)
	})
}

// stream opens a stream of the network to a peer, over a relay if need be.
func (n *Node) stream(ctx context.Context, to peer.ID, name string) (network.Stream, error) {
	if name == "task" { // this node's own choice of a worker
		n.peerbook.choose(to)
	}
	if err := n.blocks.refusal(to); err != nil {
		return nil, err
	}
	s, err := n.host.NewStream(network.WithAllowLimitedConn(ctx, "edgenet"), to, n.net.ID.Protocol(name))
	if err != nil {
		return nil, fmt.Errorf("reach %s: %w", to, err)
	}
	return s, nil
}

// frames reads frames of at most limit bytes from s.
func frames(s network.Stream, limit int) *proto.FrameReader {
	return proto.NewFrameReader(bufio.NewReaderSize(s, 16<<10), limit)
}

// heartbeat is how often gossipsub looks after its meshes; a variable for tests.
var heartbeat = 700 * time.Millisecond

// Gossip parameters of the network; sources and reasons in docs/protocol.md.
func gossipParams() pubsub.GossipSubParams {
	p := pubsub.DefaultGossipSubParams()
	p.D, p.Dlo, p.Dhi = 8, 6, 12
	p.Dscore, p.Dout, p.Dlazy = 6, 3, 12
	p.HeartbeatInterval = heartbeat
	return p
}

// peerScore follows Lotus' thresholds. P3 (mesh delivery rate) is off: topics
// are quiet for minutes, and quiet peers are not bad peers. P6 (peers behind one
// address) is off, too: many honest ones share a router. Those that misbehave from
// one address are known by misconduct.
func peerScore(misconduct func(peer.ID) float64) (*pubsub.PeerScoreParams, *pubsub.PeerScoreThresholds) {
	score := &pubsub.PeerScoreParams{
		Topics:                    map[string]*pubsub.TopicScoreParams{},
		AppSpecificScore:          misconduct,
		AppSpecificWeight:         1,
		BehaviourPenaltyThreshold: 6,
		BehaviourPenaltyWeight:    -10,
		BehaviourPenaltyDecay:     pubsub.ScoreParameterDecay(time.Hour),
		DecayInterval:             time.Second,
		DecayToZero:               0.01,
		RetainScore:               6 * time.Hour,
	}
	limits := &pubsub.PeerScoreThresholds{
		GossipThreshold:             -500,
		PublishThreshold:            -1000,
		GraylistThreshold:           -2500,
		AcceptPXThreshold:           1000,
		OpportunisticGraftThreshold: 3.5,
	}
	return score, limits
}

func topicScore() *pubsub.TopicScoreParams {
	return &pubsub.TopicScoreParams{
		TopicWeight:                    0.5,
		TimeInMeshWeight:               0.0002778,
		TimeInMeshQuantum:              time.Second,
		TimeInMeshCap:                  1,
		FirstMessageDeliveriesWeight:   0.5,
		FirstMessageDeliveriesDecay:    pubsub.ScoreParameterDecay(time.Hour),
		FirstMessageDeliveriesCap:      100,
		InvalidMessageDeliveriesWeight: -1000,
		InvalidMessageDeliveriesDecay:  pubsub.ScoreParameterDecay(time.Hour),
	}
}
