//go:build !js

package node_test

import (
	"context"
	"testing"
	"time"

	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
)

// Nodes that know their own accounts only, as tabs do: one works and is paid,
// one pays for work, through checkpoints, restarts and the loss of a store,
// and what they keep does not grow with the network.
func TestLightNodes(t *testing.T) {
	const works, pays = 6, 7
	l := newLabOf(t, 8, 4, func(g *proto.Genesis) { g.EpochSeconds = 3 })
	store := mem.New()
	light := func(i int) *node.Node {
		return l.start(i, func(c *node.Config) {
			c.Light = true
			if i == pays {
				c.Store, c.Executor, c.Worker = keep{store}, nil, market.Worker{}
			}
		})
	}
	for i := range 6 {
		l.start(i, nil)
	}
	light(works)
	light(pays)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	l.until("all workers follow the offers", func() bool { return l.submitter().Stats().OfferTopicPeers >= 2 })
	run := func(by *node.Node, n int) {
		t.Helper()
		rs, err := by.SubmitBatch(ctx, node.JobSpec{Type: "text", Inputs: l.texts(n), Options: market.Options{Redundancy: 2}})
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range rs {
			if !r.Verified || len(r.Workers) != 2 {
				t.Fatalf("task %d: %+v", i, r)
			}
		}
	}
	for range 3 {
		run(l.submitter(), 10)
	}
	run(l.nodes[pays], 10)
	l.settled()
	worker, payer := l.nodes[works].ID(), l.nodes[pays].ID()
	if a := l.nodes[0].Account(worker); a.Avail <= grant {
		t.Errorf("the light worker earned nothing: %+v", a)
	}
	if a := l.nodes[0].Account(payer); a.Avail >= grant {
		t.Errorf("the light payer paid nothing: %+v", a)
	}
	if _, err := l.submitter().Transfer(ctx, payer, proto.OneCredit, "to a light node"); err != nil {
		t.Fatal(err)
	}
	l.settled()
	epoch := l.nodes[0].Epoch()
	l.until("two epochs later", func() bool { return l.nodes[pays].Epoch() > epoch+2 })

	// From its store, and without it.
	for _, lost := range []bool{false, true} {
		l.stops[pays]()
		if lost {
			store = mem.New()
		}
		light(pays)
		if _, err := l.nodes[pays].Transfer(ctx, worker, proto.OneCredit, "from a light node"); err != nil {
			t.Fatal(err)
		}
		run(l.nodes[pays], 4)
		l.settled()
	}
	if a := l.nodes[0].Account(payer); a.Offences > 0 || a.Frozen {
		t.Errorf("the light payer was punished: %+v", a)
	}
	for i, n := range l.nodes {
		if own := int(n.Account(n.ID()).Seq) + 1; l.light[i] && n.Events() > own {
			t.Errorf("light node %d keeps %d events, %d are its own", i, n.Events(), own)
		}
	}
}
