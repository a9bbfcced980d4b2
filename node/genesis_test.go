//go:build !js

package node_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
)

// What the genesis says of the market holds in every node: where offers are
// made, what work and the fee cost, for how long a try may run, and that no two
// replicas are of one operator.
func TestGenesisRulesTheMarket(t *testing.T) {
	l := newLabOf(t, 5, 1, func(g *proto.Genesis) {
		g.Shards, g.BasePrice, g.FeePpm, g.MaxRunSeconds, g.Diversity = 8, 30_000_000, 200_000, 60, true
		g.LowPercent, g.HighPercent = 40, 300
	})
	l.startAll(5, func(i int, c *node.Config) {
		c.Worker.Custom, c.Worker.Types = false, []string{proto.TypeText}
		if c.Worker.Operator = "acme"; i == 4 {
			c.Worker.Operator = "another"
		}
	})
	payer, alone := l.nodes[1], l.nodes[4].ID()
	l.until("the workers follow the offers", func() bool { return payer.Stats().OfferTopicPeers >= 3 })
	shard := proto.Shard(proto.TypeText, proto.Hash{}.CID(), 8)
	if topic := l.net.ID.OffersTopic(shard); shard == 0 || !slices.Contains(l.nodes[4].Topics(), topic) {
		t.Errorf("a worker of %s follows %v, not %s", proto.TypeText, l.nodes[4].Topics(), topic)
	}

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	spec := node.JobSpec{Type: proto.TypeText, Inputs: l.texts(12), Options: market.Options{Redundancy: 2, Fuel: 1e9, MaxCredits: 100 * proto.OneCredit, Run: 61 * time.Second}}
	if _, err := payer.SubmitBatch(ctx, spec); err == nil {
		t.Error("a try may run longer than the network allows")
	}
	spec.Options.Run = time.Minute
	for priority, price := range map[proto.Priority]proto.Credit{
		proto.PriorityLow: 12_000_000, proto.PriorityNormal: 30_000_000, proto.PriorityHigh: 90_000_000,
	} {
		spec.Options.Priority = priority
		if q, err := payer.Quote(spec); err != nil || q.Price != price {
			t.Errorf("%s priority is quoted at %d, want %d (%v)", priority, q.Price, price, err)
		}
		rs, err := payer.SubmitBatch(ctx, spec)
		if err != nil {
			t.Fatal(err)
		}
		checkTerms(t, rs, alone, price)
	}
}

func checkTerms(t *testing.T, rs []*market.Result, alone peer.ID, price proto.Credit) {
	t.Helper()
	for i, r := range rs {
		if !slices.Contains(r.Workers, alone) {
			t.Errorf("task %d was done by %v, two of one operator", i, r.Workers)
		}
		pay := 2 * proto.PayFor(r.Fuel, price)
		if want := pay + proto.Fee(pay, 200_000); r.Cost+2 < want || r.Cost > want+2 { // the fee is rounded for the whole job
			t.Errorf("task %d cost %d, want %d", i, r.Cost, want)
		}
	}
}

// A node that knows no address asks its owner where relays are.
func TestRelaysAreAskedFor(t *testing.T) {
	l := newLab(t, 2)
	relay := l.start(0, func(c *node.Config) { c.Relay, c.Reachability = true, "public" })
	asked := make(chan struct{}, 1)
	n := l.start(1, func(c *node.Config) {
		c.Bootstrap, c.Reachability = nil, "private"
		c.Resolve = func(context.Context) ([]string, error) {
			select {
			case asked <- struct{}{}:
			default:
			}
			return relay.Addrs(), nil
		}
	})
	l.until("it has found the relay", func() bool {
		return len(asked) == 1 && slices.ContainsFunc(n.Peers(), func(p node.PeerInfo) bool { return p.ID == relay.ID() })
	})
}
