//go:build !js

package node_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pubsubpb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-msgio"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/node"
)

// gossiper is a peer that says by gossip what a test has it say.
type gossiper struct {
	t   *testing.T
	h   host.Host
	out msgio.WriteCloser
}

func newGossiper(t *testing.T, to *node.Node) *gossiper {
	t.Helper()
	h, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	h.SetStreamHandler(pubsub.GossipSubID_v12, func(s network.Stream) { _, _ = io.Copy(io.Discard, s) })
	info, err := peer.AddrInfoFromString(to.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := h.Connect(ctx, *info); err != nil {
		t.Fatal(err)
	}
	s, err := h.NewStream(ctx, to.ID(), pubsub.GossipSubID_v12)
	if err != nil {
		t.Fatal(err)
	}
	return &gossiper{t, h, msgio.NewVarintWriter(s)}
}

func (g *gossiper) say(m *pubsubpb.RPC) {
	g.t.Helper()
	raw, err := goproto.Marshal(m)
	if err != nil {
		g.t.Fatal(err)
	}
	if err := g.out.WriteMsg(raw); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gossiper) follow(follow bool, names ...string) {
	g.t.Helper()
	m := new(pubsubpb.RPC)
	for _, name := range names {
		m.Subscriptions = append(m.Subscriptions, &pubsubpb.RPC_SubOpts{Subscribe: &follow, Topicid: &name})
	}
	g.say(m)
}

// Names that a peer makes up are not kept, not even with the network's prefix,
// and a message with more names than there can be is not read.
func TestOnlyTopicsThatExistAreFollowed(t *testing.T) {
	l := newLab(t, 1)
	n := l.start(0, nil)
	offers, claims, credits := l.net.ID.OffersTopic(0), l.net.ID.ClaimsTopic(0), l.net.ID.CreditsTopic()
	invented := []string{l.net.ID.OffersTopic(1), offers + "x", "/edgenet/" + l.net.ID.Short() + "/anything", "/other"}
	g := newGossiper(t, n)
	g.follow(true, append(invented, offers)[:5]...)
	until(t, "the peer follows offers", func() bool { return n.TopicPeers(offers) == 1 })
	for _, name := range invented {
		if n.TopicPeers(name) != 0 {
			t.Errorf("%s is kept though it does not exist", name)
		}
	}
	var flood []string
	for i := range 100 {
		flood = append(flood, fmt.Sprint(claims, i))
	}
	g.follow(true, append(flood, claims)...)
	g.follow(true, credits) // read after the flood
	until(t, "the peer follows credits", func() bool { return n.TopicPeers(credits) == 1 })
	if n.TopicPeers(claims) != 0 {
		t.Error("a message with 101 topics is read where 3 exist")
	}
}

// A peer that joins and leaves an offers topic all the time does not keep the
// node looking.
func TestChangingSubscriptionsDoNotWakeTheNodeAllTheTime(t *testing.T) {
	l := newLab(t, 1)
	n := l.start(0, nil)
	offers := l.net.ID.OffersTopic(0)
	g := newGossiper(t, n)
	before := n.Looks()
	const changes = 300
	for i := range changes {
		g.follow(i%2 == 0, offers)
		time.Sleep(10 * time.Millisecond)
	}
	g.follow(true, offers)
	until(t, "the peer follows offers", func() bool { return n.TopicPeers(offers) == 1 })
	if looks := n.Looks() - before; looks < 2 || looks > changes/15 {
		t.Errorf("the node looked %d times during %d changes", looks, changes)
	}
}
