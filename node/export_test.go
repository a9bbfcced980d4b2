package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pubsubpb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"

	"edgenet.dev/proto"
)

// HearCredits gives the node a message of the credits topic as gossip does.
func (n *Node) HearCredits(data []byte) (fresh bool, err error) { return n.gossip.credits(data) }

// HearsOf reports whether gossip knows which topics p follows.
func (n *Node) HearsOf(p peer.ID) bool {
	return slices.Contains(n.pubsub.ListPeers(n.net.ID.CreditsTopic()), p)
}

// LoseStream resets the stream on which this node gossips to p, as happens
// when an old connection turns out to be dead while p speaks on another.
func (n *Node) LoseStream(p peer.ID) (lost bool) {
	for _, c := range n.host.Network().ConnsToPeer(p) {
		for _, s := range c.GetStreams() {
			if s.Stat().Direction == network.DirOutbound && strings.HasPrefix(string(s.Protocol()), "/meshsub/") {
				s.Reset()
				lost = true
			}
		}
	}
	return lost
}

// Unlimited lets callers of /vote speak as fast as they like. Call it before
// there are any.
func (n *Node) Unlimited() { n.wallet.votes.calls = rate.Inf }

// CallBurst and CallRate are how many frames a caller of /vote may send at once,
// and then per second.
const CallBurst, CallRate = callBurst, callRate

// AskHeads asks a peer times for its head on one /vote stream as fast as it takes
// the questions, and counts the answers until ctx ends.
func (n *Node) AskHeads(ctx context.Context, to peer.ID, times int, answers *atomic.Int64) error {
	s, err := n.host.NewStream(ctx, to, n.net.ID.Protocol("vote"))
	if err != nil {
		return err
	}
	defer s.Reset()
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	var asking sync.WaitGroup
	defer asking.Wait()
	asking.Go(func() {
		q := &proto.VoteFrame{Body: &proto.VoteFrame_HeadRequest{HeadRequest: &proto.HeadRequest{Account: []byte(n.self), Nonce: make([]byte, 16)}}}
		for range times {
			if proto.WriteFrame(s, q, maxCall) != nil {
				return
			}
		}
	})
	in := frames(s, proto.MaxVoteFrame)
	for ; answers.Load() < int64(times); answers.Add(1) {
		var f proto.VoteFrame
		if err := in.Read(&f); err != nil {
			return err
		}
		if f.GetHeadReport() == nil {
			return fmt.Errorf("answered with %T", f.Body)
		}
	}
	return nil
}

// ReviveGossip looks so often for peers that gossip lost.
func (n *Node) ReviveGossip(looks int) {
	silent := map[peer.ID]*lostPeer{}
	for range looks {
		n.gossip.revive(silent)
	}
}

// BeginSync asks p a first question of a reconciliation, reads what p answers,
// and leaves the session as it is until it hangs up.
func (n *Node) BeginSync(ctx context.Context, p peer.ID) (code proto.Code, hangUp func(), err error) {
	code, _, hangUp, err = n.HoldSync(ctx, p)
	return code, hangUp, err
}

// HoldSync is BeginSync by somebody who may wait until p ends the session.
func (n *Node) HoldSync(ctx context.Context, p peer.ID) (code proto.Code, ended, hangUp func(), err error) {
	st, err := n.stream(ctx, p, "sync")
	if err != nil {
		return 0, nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { st.Reset() })
	hangUp = func() {
		stop()
		st.Reset()
	}
	question := &proto.SyncRange{Fingerprint: make([]byte, 16), Count: 1}
	err = proto.WriteFrame(st, &proto.SyncFrame{Salt: make([]byte, 16), Ranges: []*proto.SyncRange{question}}, maxSync)
	f := new(proto.SyncFrame)
	in := frames(st, maxSync)
	if err == nil {
		err = in.Read(f)
	}
	if err != nil {
		hangUp()
		return 0, nil, nil, err
	}
	ended = func() {
		for in.Read(new(proto.SyncFrame)) == nil {
		}
	}
	return proto.Code(f.Code), ended, hangUp, nil
}

// ProbeRecords is what a witness remembers of whom it probes.
type ProbeRecords struct{ r probeRecords }

func NewProbeRecords() ProbeRecords { return ProbeRecords{probeRecords{}} }

func (r ProbeRecords) Order(list []peer.ID, connected func(peer.ID) bool) []peer.ID {
	return r.r.order(list, connected)
}

func (r ProbeRecords) Add(answers map[peer.ID]bool) { r.r.add(answers) }

func (r ProbeRecords) Len() int { return len(r.r) }

// How a witness probes in an epoch of an hour.
const ProbesPerEpoch, ProbesAtOnce, ProbeTimeout, ProbePeriod = probesPerEpoch, probesAtOnce, probeTimeout, probeMost

// Prober has a node probe peers at addresses, in this order in each round. Wait
// for it when ctx is done.
func (n *Node) Prober(ctx context.Context, list []peer.AddrInfo, length time.Duration) (round func() map[peer.ID]bool, wait func()) {
	var ids []peer.ID
	for _, x := range list {
		n.host.Peerstore().AddAddrs(x.ID, x.Addrs, time.Hour)
		ids = append(ids, x.ID)
	}
	p := n.prober()
	return func() map[peer.ID]bool { return p.round(ctx, ids, length) }, p.all.Wait
}

// MaySign waits until nobody else can be found with this node's identity.
func (n *Node) MaySign(ctx context.Context) error { return n.instances.check(ctx) }

// Topics are those that this node's gossip is part of.
func (n *Node) Topics() []string { return n.pubsub.GetTopics() }

// Hint tells to, on a stream of h, that its identity runs elsewhere, too, without
// a proof.
func Hint(ctx context.Context, h host.Host, to peer.ID, of proto.NetworkID) error {
	s, err := h.NewStream(ctx, to, of.Protocol("instance"))
	if err != nil {
		return err
	}
	defer s.Reset()
	_, err = question(ctx, s, &proto.InstanceRequest{Nonce: make([]byte, instanceLen), Id: make([]byte, instanceLen), PassedOn: true})
	return err
}

// TopicPeers counts the peers that gossip knows to follow a topic, whether it
// exists or not.
func (n *Node) TopicPeers(topic string) int { return len(n.pubsub.ListPeers(topic)) }

// Looks counts how often the node looked at who follows offers.
func (n *Node) Looks() uint64 { return n.gossip.looks.Load() }

// HearOffer gives the node a message of the offers topic of shard 0 as gossip
// does.
func (n *Node) HearOffer(from peer.ID, data []byte) pubsub.ValidationResult {
	return n.hear(n.net.ID.OffersTopic(0), from, data)
}

// HearClaim is HearOffer for claims.
func (n *Node) HearClaim(from peer.ID, data []byte) pubsub.ValidationResult {
	return n.hear(n.net.ID.ClaimsTopic(0), from, data)
}

func (n *Node) hear(topic string, from peer.ID, data []byte) pubsub.ValidationResult {
	n.gossip.mu.Lock()
	t := n.gossip.topics[topic]
	n.gossip.mu.Unlock()
	return n.gossip.validator(t)(context.Background(), from, &pubsub.Message{Message: &pubsubpb.Message{Data: data}})
}

// GossipAt has the budgets of gossip count by another clock. Call it before there
// are peers.
func (n *Node) GossipAt(now func() time.Time) { n.gossip.now = now }

// What may come by gossip per second, for twice as many at once.
const AuthorRate, StrangersRate, PoorRate, FundedRate, ForwardRate = authorRate, strangersRate, poorRate, fundedRate + turnRate, forwardRate
