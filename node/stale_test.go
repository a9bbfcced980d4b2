//go:build !js

package node_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pubsubpb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/node"
	"edgenet.dev/proto"
)

// listener is a peer that takes part in gossip, with one topic.
type listener struct {
	topic *pubsub.Topic
	sub   *pubsub.Subscription
}

func listen(ctx context.Context, t *testing.T, to *node.Node, topic string) *listener {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1"), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	ps, err := pubsub.NewGossipSub(ctx, h, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(), pubsub.WithFloodPublish(true),
		pubsub.WithMessageIdFn(func(m *pubsubpb.Message) string { id := sha256.Sum256(m.GetData()); return string(id[:]) }))
	if err != nil {
		t.Fatal(err)
	}
	l := new(listener)
	if l.topic, err = ps.Join(topic); err != nil {
		t.Fatal(err)
	}
	if l.sub, err = l.topic.Subscribe(); err != nil {
		t.Fatal(err)
	}
	info, err := peer.AddrInfoFromString(to.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Connect(ctx, *info); err != nil {
		t.Fatal(err)
	}
	until(t, "the node is known to follow the topic", func() bool { return len(l.topic.ListPeers()) == 1 })
	return l
}

// A worker passes on what is said now, not what was over before: a stranger may
// have kept it.
func TestStaleOffersAreNotPassedOn(t *testing.T) {
	l := newLab(t, 3)
	l.start(0, nil)
	worker := l.start(2, nil)
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id := func() []byte {
		b := make([]byte, 16)
		rand.Read(b)
		return b
	}
	for name, x := range map[string]struct {
		topic string
		ends  func(at time.Time) *proto.Payload
	}{
		"offers": {l.net.ID.OffersTopic(0), func(at time.Time) *proto.Payload {
			return &proto.Payload{Body: &proto.Payload_Offer{Offer: &proto.Offer{Id: id(), DeadlineUnixMs: uint64(at.UnixMilli())}}}
		}},
		"claims": {l.net.ID.ClaimsTopic(0), func(at time.Time) *proto.Payload {
			return &proto.Payload{Body: &proto.Payload_Claim{Claim: &proto.Claim{Offer: id(), ExpiresUnixMs: uint64(at.UnixMilli())}}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			from, to := listen(ctx, t, worker, x.topic), listen(ctx, t, worker, x.topic)
			until(t, "the worker knows both", func() bool { return worker.TopicPeers(x.topic) >= 2 })
			said := map[string]string{}
			say := func(what string, end time.Time) {
				raw, err := proto.Seal(key, l.net.ID, x.ends(end))
				if err != nil {
					t.Fatal(err)
				}
				said[string(raw)] = what
				if err := from.topic.Publish(ctx, raw); err != nil {
					t.Fatal(err)
				}
			}
			heard := func() string {
				m, err := to.sub.Next(ctx)
				if err != nil {
					t.Fatal(err)
				}
				return said[string(m.Data)]
			}
			for hears := false; !hears; { // until the worker's mesh has both
				say("first", time.Now().Add(time.Minute))
				next, stop := context.WithTimeout(ctx, time.Second)
				_, err := to.sub.Next(next)
				stop()
				hears = err == nil
				if ctx.Err() != nil {
					t.Fatal("the worker passes nothing on")
				}
			}
			for range 3 {
				say("stale", time.Now().Add(-2*time.Minute))
			}
			time.Sleep(300 * time.Millisecond) // what is said next is heard last
			say("last", time.Now().Add(time.Minute))
			for what := ""; what != "last"; {
				if what = heard(); what == "stale" {
					t.Fatal("what was over is passed on")
				}
			}
		})
	}
}
