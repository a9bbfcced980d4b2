package attack

import (
	"context"
	"fmt"
	"time"

	pubsubpb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-msgio/pbio"

	"edgenet.dev/test/daemon"
)

// inventedTopics subscribe to topics that do not exist, a thousand in a message.
type inventedTopics struct{}

func (inventedTopics) Name() string { return "invented_topics" }

func (inventedTopics) Run(ctx context.Context, t *Target) error {
	return t.subscribers(ctx, 4, func(ctx context.Context, i int, s *stranger, say func(...*pubsubpb.RPC_SubOpts) error) error {
		for n := 0; ctx.Err() == nil; n++ {
			var subs []*pubsubpb.RPC_SubOpts
			for k := range 900 {
				subs = append(subs, subscription(fmt.Sprintf("/edgenet/%s/%d/%08d/%d", s.net.ID.Short(), i, n, k), true))
			}
			if say(subs...) != nil {
				return nil // they hang up on such a peer
			}
			t.Count("topics", len(subs))
			pause(ctx, 20*time.Millisecond)
		}
		return nil
	})
}

// churn subscribes and unsubscribes all the time.
type churn struct{}

func (churn) Name() string { return "churn" }

func (churn) Run(ctx context.Context, t *Target) error {
	return t.subscribers(ctx, 4, func(ctx context.Context, _ int, s *stranger, say func(...*pubsubpb.RPC_SubOpts) error) error {
		topics := []string{s.net.ID.CreditsTopic(), s.net.ID.OffersTopic(0), s.net.ID.ClaimsTopic(0)}
		for on := true; ctx.Err() == nil; on = !on {
			var subs []*pubsubpb.RPC_SubOpts
			for _, topic := range topics {
				subs = append(subs, subscription(topic, on))
			}
			if say(subs...) != nil {
				return nil
			}
			t.Count("changes", len(subs))
			pause(ctx, 5*time.Millisecond)
		}
		return nil
	})
}

func subscription(topic string, on bool) *pubsubpb.RPC_SubOpts {
	return &pubsubpb.RPC_SubOpts{Topicid: &topic, Subscribe: &on}
}

// subscribers are n strangers for every daemon that speak gossipsub's frames by
// themselves.
func (t *Target) subscribers(ctx context.Context, n int, each func(ctx context.Context, i int, s *stranger, say func(...*pubsubpb.RPC_SubOpts) error) error) error {
	nodes := append([]*daemon.Node{t.Witness, t.Submitter}, t.Workers...)
	return t.swarm(ctx, n*len(nodes), func(ctx context.Context, i int, s *stranger) error {
		const protocol = "/meshsub/1.1.0"
		s.SetStreamHandler(protocol, func(st network.Stream) { // what they say to us is of no interest
			b := make([]byte, 4096)
			for {
				if _, err := st.Read(b); err != nil {
					return
				}
			}
		})
		nd := nodes[i%len(nodes)]
		if err := s.meet(ctx, nd); err != nil {
			return err
		}
		st, err := s.NewStream(ctx, nd.ID, protocol)
		if err != nil {
			return err
		}
		defer st.Reset()
		out := pbio.NewDelimitedWriter(st)
		return each(ctx, i, s, func(subs ...*pubsubpb.RPC_SubOpts) error {
			if err := st.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
				return err
			}
			return out.WriteMsg(&pubsubpb.RPC{Subscriptions: subs})
		})
	})
}
