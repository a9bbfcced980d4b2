package node

import (
	"context"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pubsubpb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// topics are the names of all topics that exist in a network: gossipsub would
// keep every other name that a peer makes up for as long as that peer is
// connected.
type topics struct {
	kinds map[string]string // name -> offers, claims, credits
	// follows hears of peers that follow a topic.
	follows func(p peer.ID, kind string)
}

var _ pubsub.SubscriptionFilter = (*topics)(nil)

func newTopics(id proto.NetworkID, shards uint32, follows func(p peer.ID, kind string)) *topics {
	t := &topics{kinds: map[string]string{id.CreditsTopic(): "credits"}, follows: follows}
	for i := range shards {
		t.kinds[id.OffersTopic(i)] = "offers"
		t.kinds[id.ClaimsTopic(i)] = "claims"
	}
	return t
}

// CanSubscribe is true for topics that exist.
func (t *topics) CanSubscribe(name string) bool { return t.kinds[name] != "" }

// FilterIncomingSubscriptions takes a peer's subscriptions to topics that exist,
// each topic once. A message with twice as many as there are topics (all of them
// left and joined again) is a flood and is dropped whole, before it is looked at.
func (t *topics) FilterIncomingSubscriptions(p peer.ID, subs []*pubsubpb.RPC_SubOpts) ([]*pubsubpb.RPC_SubOpts, error) {
	if len(subs) > 2*len(t.kinds) {
		return nil, pubsub.ErrTooManySubscriptions
	}
	subs = pubsub.FilterSubscriptions(subs, t.CanSubscribe)
	told := map[string]bool{}
	for _, s := range subs {
		if kind := t.kinds[s.GetTopicid()]; s.GetSubscribe() && !told[kind] {
			told[kind] = true
			t.follows(p, kind)
		}
	}
	return subs, nil
}

// How the node notices new peers of the offers topics. A look asks gossipsub once
// for each shard, so peers that join and leave must not make it look all the
// time: the pause after a look that was woken doubles, up to lookEvery, which is
// how often it looks anyway.
const (
	lookEvery  = 2 * time.Second
	lookPause  = 50 * time.Millisecond // peers often come together
	quietLooks = 3                     // looks without being woken, after which the pause is short again
)

// follows hears that a peer follows a topic, before gossipsub takes note of it.
// It must not wait.
func (g *gossip) follows(p peer.ID, kind string) {
	switch kind {
	case "credits":
		g.n.sync.follows(p)
	case "offers":
		wake(g.workers)
	}
}

// run tells the market how many peers may compete for an offer, and soon when
// there are new ones.
func (g *gossip) run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	silent := map[peer.ID]*lostPeer{}
	pause, quiet := lookPause, 0
	for last, joined := 0, false; ; {
		g.looks.Add(1)
		if now := g.offerPeers(); joined || now != last {
			g.n.jobs.post(market.Neighbours{Workers: now, Joined: joined})
			last = now
		}
		if joined {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
			pause = min(2*pause, lookEvery)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-g.workers:
			joined, quiet = true, 0
		case <-tick.C:
			joined = false
			if quiet++; quiet >= quietLooks {
				pause = lookPause
			}
			g.revive(silent)
		}
	}
}

// offerPeers is the largest number of known peers that follow one shard's
// offers, whether this node follows it or not.
func (g *gossip) offerPeers() int {
	most := 0
	for shard := range g.n.net.Genesis.Shards {
		most = max(most, len(g.n.pubsub.ListPeers(g.n.net.ID.OffersTopic(shard))))
	}
	return most
}
