package node

import (
	"slices"
	"sort"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Stats is a node at one moment.
type Stats struct {
	Uptime          time.Duration
	Addrs           []string // with /p2p/
	Peers           int
	DHTPeers        int
	OfferTopicPeers int
	Witness         bool
	Events          int // certified events held
	Worker          WorkerStats
	BytesIn         uint64 // all libp2p traffic since the start
	BytesOut        uint64
	Gossip          []GossipCount
	Problems        []string // see Node.Problems
}

// WorkerStats is the worker's part of Stats.
type WorkerStats struct {
	Enabled      bool
	Slots, Busy  int
	Waiting      int // tasks taken that wait for a slot
	Done, Failed uint64
	Accepted     uint64 // results that submitters promised to pay, since the start
	Types        []string
	Why          string // why it has no work
}

// Served says whose work this worker prefers to whose, and why: what its time
// was worth to it by submitter and module.
func (n *Node) Served() []string {
	n.jobs.mu.Lock()
	defer n.jobs.mu.Unlock()
	return n.jobs.m.WhyServed()
}

// PeerInfo is a connected peer.
type PeerInfo struct {
	ID        peer.ID
	Addrs     []string // of open connections
	Agent     string
	Direction string // "inbound" or "outbound"
	RTT       time.Duration
	Relayed   bool
	Connected bool
	Seen      time.Time // when a remembered peer was last connected; zero: it is not remembered
}

// Stats reads the node's counters.
func (n *Node) Stats() Stats {
	w := n.worker()
	s := Stats{
		Uptime: time.Since(n.started), Witness: n.wallet.witness != nil, Events: n.Events(),
		Worker: WorkerStats{Enabled: w.Enabled, Slots: w.Slots, Types: w.Types, Done: n.work.done.Load(), Failed: n.work.failed.Load(), Accepted: n.work.accepted.Load()},
	}
	s.Problems = n.Problems()
	n.jobs.mu.Lock()
	s.Worker.Busy, s.Worker.Waiting, s.Worker.Why = n.jobs.m.Busy(), n.jobs.m.Waiting(), n.jobs.m.WhyWorker()
	n.jobs.mu.Unlock()
	if n.isReady() != nil {
		return s
	}
	s.Addrs, s.Peers = n.Addrs(), len(n.host.Network().Peers())
	if n.dht != nil {
		s.DHTPeers = n.dht.known()
	}
	if s.Peers == 0 && w.Enabled && s.Worker.Busy == 0 {
		s.Worker.Why = "Idle: no peer is connected, so no offer can be heard; see that 'bootstrap' names one that runs."
	}
	s.OfferTopicPeers, s.Gossip = n.gossip.offerPeers(), n.gossip.counts()
	t := n.traffic.GetBandwidthTotals()
	s.BytesIn, s.BytesOut = uint64(t.TotalIn), uint64(t.TotalOut)
	return s
}

// Addrs are the node's multiaddrs with /p2p/, as others are told them.
func (n *Node) Addrs() []string {
	if n.isReady() != nil {
		return nil
	}
	addrs, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: n.self, Addrs: n.host.Addrs()})
	if err != nil {
		return nil
	}
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.String()
	}
	return out
}

// KnownPeers lists connected peers and, after them, those that are remembered
// from earlier connections.
func (n *Node) KnownPeers() []PeerInfo {
	out := n.Peers()
	for _, k := range n.peerbook.list() {
		i := slices.IndexFunc(out, func(p PeerInfo) bool { return p.ID == k.ID })
		if i >= 0 {
			out[i].Seen = k.seen
			continue
		}
		info := PeerInfo{ID: k.ID, Seen: k.seen}
		for _, a := range k.Addrs {
			info.Addrs = append(info.Addrs, a.String())
		}
		out = append(out, info)
	}
	return out
}

// Peers lists connected peers by id.
func (n *Node) Peers() []PeerInfo {
	if n.isReady() != nil {
		return nil
	}
	var out []PeerInfo
	for _, p := range n.host.Network().Peers() {
		conns := n.host.Network().ConnsToPeer(p)
		if len(conns) == 0 {
			continue
		}
		info := PeerInfo{ID: p, RTT: n.host.Peerstore().LatencyEWMA(p), Relayed: true, Direction: "outbound", Connected: true}
		if conns[0].Stat().Direction == network.DirInbound {
			info.Direction = "inbound"
		}
		for _, c := range conns {
			info.Addrs = append(info.Addrs, c.RemoteMultiaddr().String())
			if _, err := c.RemoteMultiaddr().ValueForProtocol(ma.P_CIRCUIT); err != nil {
				info.Relayed = false
			}
		}
		if a, err := n.host.Peerstore().Get(p, "AgentVersion"); err == nil {
			info.Agent, _ = a.(string)
		}
		out = append(out, info)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}
