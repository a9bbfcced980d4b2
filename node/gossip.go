package node

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pubsubpb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"go.uber.org/zap"

	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// gossip is the node's gossipsub: which topics it follows, what may pass and
// how much did.
type gossip struct {
	n *Node

	mu     sync.Mutex
	topics map[string]*topic
	// passed remembers events that gossip brought here once: whoever repeats
	// them after pubsub's own memory of messages ended gets no echo. Being in
	// the ledger is not enough to stop one, or what a witness certified itself
	// would end at it.
	passed *lru.Cache[proto.Hash, struct{}]

	workers chan struct{} // a peer told that it follows offers
	looks   atomic.Uint64 // at who follows offers
	budgets *budgets
	faulty  *misconduct
	now     func() time.Time // by which the budgets count; time.Now but in tests
}

const maxPassed = 1 << 16

type topic struct {
	*pubsub.Topic
	kind           string // offers, claims, credits
	sent, received atomic.Uint64
	followed       bool
}

func (n *Node) openGossip() error {
	passed, err := lru.New[proto.Hash, struct{}](maxPassed)
	if err != nil {
		return fmt.Errorf("gossipsub: %w", err)
	}
	g := &gossip{n: n, topics: map[string]*topic{}, passed: passed, workers: make(chan struct{}, 1), budgets: newBudgets(), faulty: newMisconduct(), now: time.Now}
	params, thresholds := peerScore(func(id peer.ID) float64 { return g.faulty.score(time.Now(), id) })
	ps, err := pubsub.NewGossipSub(n.ctx, n.host,
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), // what we gossip is signed itself
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(messageID),
		pubsub.WithMaxMessageSize(proto.MaxGossip+1024),
		pubsub.WithGossipSubParams(gossipParams()),
		// What this node says first goes to everybody it knows to follow the
		// topic: a mesh forms with the next heartbeat only, and whoever joins it
		// then is not told what was said before.
		pubsub.WithFloodPublish(true),
		pubsub.WithGossipSubProtocols([]protocol.ID{pubsub.GossipSubID_v13, pubsub.GossipSubID_v12, pubsub.GossipSubID_v11}, pubsub.GossipSubDefaultFeatures),
		pubsub.WithPeerScore(params, thresholds),
		pubsub.WithPeerGater(pubsub.DefaultPeerGaterParams()),
		pubsub.WithPeerExchange(false),
		pubsub.WithSubscriptionFilter(newTopics(n.net.ID, n.net.Genesis.Shards, g.follows)),
	)
	if err != nil {
		return fmt.Errorf("gossipsub: %w", err)
	}
	n.pubsub, n.gossip = ps, g
	if n.light == nil {
		if err := n.gossip.follow(n.net.ID.CreditsTopic(), "credits"); err != nil {
			return err
		}
	}
	return n.gossip.followWork(n.worker())
}

// followWork follows the shards that a worker can do. A relay follows every
// shard: gossip does not pass over limited connections, so peers behind it
// hear each other through it only. Topics once followed stay so.
func (g *gossip) followWork(w market.Worker) error {
	if !w.Enabled && !g.n.cfg.Relay {
		return nil
	}
	if g.n.cfg.Relay {
		w.Custom = true
	}
	for _, shard := range workerShards(w, g.n.net.Genesis.Shards) {
		if err := g.follow(g.n.net.ID.OffersTopic(shard), "offers"); err != nil {
			return err
		}
		if err := g.follow(g.n.net.ID.ClaimsTopic(shard), "claims"); err != nil {
			return err
		}
	}
	return nil
}

// messageID = SHA-256(topic || data): the same object is one message, whoever
// sends it.
func messageID(m *pubsubpb.Message) string {
	h := sha256.New()
	h.Write([]byte(m.GetTopic()))
	h.Write(m.GetData())
	return string(h.Sum(nil))
}

// workerShards are the shards of the worker's types; one that runs custom
// modules follows all, because a module's shard is its hash.
func workerShards(w market.Worker, shards uint32) []uint32 {
	seen := map[uint32]bool{}
	for _, t := range w.Types {
		seen[proto.Shard(t, proto.Hash{}.CID(), shards)] = true
	}
	if w.Custom {
		for i := range shards {
			seen[i] = true
		}
	}
	out := make([]uint32, 0, len(seen))
	for s := range seen {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

// join makes the topic known, with its validator. Call with mu held.
func (g *gossip) join(name, kind string) (*topic, error) {
	if t, ok := g.topics[name]; ok {
		return t, nil
	}
	t := &topic{kind: kind}
	if err := g.n.pubsub.RegisterTopicValidator(name, g.validator(t)); err != nil {
		return nil, fmt.Errorf("topic %s: %w", kind, err)
	}
	pt, err := g.n.pubsub.Join(name)
	if err != nil {
		return nil, fmt.Errorf("topic %s: %w", kind, err)
	}
	if err := pt.SetScoreParams(topicScore()); err != nil {
		return nil, fmt.Errorf("topic %s: %w", kind, err)
	}
	t.Topic = pt
	g.topics[name] = t
	return t, nil
}

// follow subscribes once and starts the topic's reader.
func (g *gossip) follow(name, kind string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	t, err := g.join(name, kind)
	if err != nil || t.followed {
		return err
	}
	sub, err := t.Subscribe(pubsub.WithBufferSize(256))
	if err != nil {
		return fmt.Errorf("topic %s: %w", kind, err)
	}
	t.followed = true
	g.n.goDo(func(ctx context.Context) {
		defer sub.Cancel()
		for {
			m, err := sub.Next(ctx)
			if err != nil {
				return
			}
			if s, ok := m.ValidatorData.(*proto.Signed); ok && s.Signer != g.n.self {
				g.n.heard(s)
			}
		}
	})
	return nil
}

// publish sends data to everyone who follows the topic.
func (g *gossip) publish(ctx context.Context, name, kind string, data []byte) error {
	g.mu.Lock()
	t, err := g.join(name, kind)
	g.mu.Unlock()
	if err != nil {
		return err
	}
	if err := t.Publish(ctx, data); err != nil {
		return fmt.Errorf("publish to %s: %w", kind, err)
	}
	t.sent.Add(1)
	return nil
}

// heard passes a checked message on to the market.
func (n *Node) heard(s *proto.Signed) {
	switch s.Kind {
	case proto.KindOffer:
		n.blocks.heard(s)
		n.jobs.post(market.OfferSeen{From: s.Signer, Offer: s.Payload.GetOffer(), Funds: n.funds(s.Signer)})
	case proto.KindWithdrawal:
		if id, err := proto.ToJobID(s.Payload.GetWithdrawal().GetOffer()); err == nil {
			n.jobs.post(market.WithdrawalSeen{From: s.Signer, Offer: id})
		}
	case proto.KindClaim:
		c := s.Payload.GetClaim()
		n.jobs.post(market.ClaimSeen{From: s.Signer, Claim: c})
		if peer.ID(c.GetSubmitter()) == n.self {
			n.standings.claimed(s.Signer)
		}
	}
}

// validator rejects only faults that every honest peer would see alike: size,
// codec, signature. What depends on local state is ignored, or honest peers
// would be punished for their view.
func (g *gossip) validator(t *topic) pubsub.ValidatorEx {
	return func(_ context.Context, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
		if from == g.n.self {
			return pubsub.ValidationAccept
		}
		now := g.now()
		if !g.budgets.passes(from, now) {
			return pubsub.ValidationIgnore
		}
		if g.excess(t, m.Data, now) {
			return pubsub.ValidationIgnore
		}
		var err error
		switch t.kind {
		case "offers":
			m.ValidatorData, err = proto.Unseal(g.n.net.ID, m.Data, proto.KindOffer, proto.KindWithdrawal)
		case "claims":
			m.ValidatorData, err = proto.Unseal(g.n.net.ID, m.Data, proto.KindClaim)
		default:
			var fresh bool
			if fresh, err = g.credits(m.Data); err == nil && !fresh {
				return pubsub.ValidationIgnore
			}
		}
		if err != nil {
			g.n.log.Debug("gossip rejected", zap.String("topic", t.kind), zap.Stringer("from", from), zap.Error(err))
			g.faulty.add(now, from, g.n.siteOf(from))
			return pubsub.ValidationReject
		}
		if s, ok := m.ValidatorData.(*proto.Signed); ok {
			if g.n.blocks.mutes(s.Signer) {
				return pubsub.ValidationIgnore // whoever passes it on does not know
			}
			if stale(s, now) {
				return pubsub.ValidationIgnore // clocks differ: nobody's fault
			}
			if !g.budgets.says(s.Signer, g.n.wealth(s.Signer), t.kind == "offers", now) {
				return pubsub.ValidationIgnore
			}
		}
		t.received.Add(1)
		return pubsub.ValidationAccept
	}
}

// stale tells offers and claims that are over, so that replayed ones are not
// passed on.
func stale(s *proto.Signed, now time.Time) bool {
	const slack = time.Minute
	end := uint64(now.Add(-slack).UnixMilli())
	switch s.Kind {
	case proto.KindOffer:
		return s.Payload.GetOffer().GetDeadlineUnixMs() < end
	case proto.KindClaim:
		return s.Payload.GetClaim().GetExpiresUnixMs() < end
	}
	return false
}

// silentTicks is for how many looks a connected peer may be without gossip.
const silentTicks = 5

// lostPeer is what revive remembers of a peer.
type lostPeer struct {
	looks int // at which it was found silent, since it was heard or revived
	tried int // times it was revived, since it was heard
}

// revive connects anew to peers that gossipsub does not hear any more. That
// happens when a peer is killed and started again while an old connection to
// it is not known to be dead yet. When at last it is, gossipsub drops the
// topics that the peer has told on the new one, and it is told them once only;
// and after four such ends it ignores the peer altogether for as long as it
// stays connected. Every node follows the credits topic, so who is not seen
// there is lost. Of two peers the one with the lower id acts first.
func (g *gossip) revive(silent map[peer.ID]*lostPeer) {
	known := map[peer.ID]bool{}
	for _, p := range g.n.pubsub.ListPeers(g.n.net.ID.CreditsTopic()) {
		known[p] = true
	}
	connected := map[peer.ID]bool{}
	for _, p := range g.n.host.Network().Peers() {
		connected[p] = true
		ours, err := g.n.host.Peerstore().SupportsProtocols(p, g.n.net.ID.Protocol("sync"))
		if known[p] || err != nil || len(ours) == 0 || g.n.host.Network().Connectedness(p) != network.Connected {
			delete(silent, p)
			continue
		}
		x := silent[p]
		if x == nil {
			x = new(lostPeer)
			silent[p] = x
		}
		x.looks++
		wait := silentTicks << min(x.tried, 5)
		if g.n.self > p {
			wait *= 2
		}
		if x.looks < wait {
			continue
		}
		x.looks = 0
		x.tried++
		g.n.log.Info("connect anew to a peer that gossip lost", zap.Stringer("peer", p))
		g.n.goDo(func(ctx context.Context) { g.reconnect(ctx, p) })
	}
	for p := range silent {
		if !connected[p] {
			delete(silent, p)
		}
	}
}

// reconnect ends all connections to a peer and makes a new one, once gossipsub
// here and there had the time to see that there is none.
func (g *gossip) reconnect(ctx context.Context, p peer.ID) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	_ = g.n.host.Network().ClosePeer(p) // what is left of it is of no use either way
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return
	}
	if err := g.n.host.Connect(ctx, peer.AddrInfo{ID: p}); err != nil && ctx.Err() == nil {
		g.n.log.Debug("connect anew", zap.Stringer("peer", p), zap.Error(err))
	}
}

// GossipCount is what passed through one kind of topic since the start.
type GossipCount struct {
	Topic          string
	Sent, Received uint64
}

func (g *gossip) counts() []GossipCount {
	g.mu.Lock()
	defer g.mu.Unlock()
	sum := map[string]GossipCount{}
	for _, t := range g.topics {
		c := sum[t.kind]
		c.Topic, c.Sent, c.Received = t.kind, c.Sent+t.sent.Load(), c.Received+t.received.Load()
		sum[t.kind] = c
	}
	out := make([]GossipCount, 0, len(sum))
	for _, c := range sum {
		out = append(out, c)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Topic < out[j].Topic })
	return out
}
