//go:build !js

package node_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/ledger"
	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
)

// A light submitter has witnesses prove the reputations of those who claim its
// offers, and prefers the better one at the same price. What proves nothing, and
// what an older checkpoint says, changes nothing that it knows.
func TestLightSubmitterKnowsReputations(t *testing.T) {
	const good, fresh, light = 2, 3, 4
	l := newLabOf(t, 5, 1, func(g *proto.Genesis) { g.EpochSeconds = 2 })
	for i := range light {
		l.start(i, func(c *node.Config) { c.KeepEpochs = 1 })
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	payer, best, other := l.submitter(), l.nodes[good].ID(), l.nodes[fresh].ID()
	if err := payer.Stake(ctx, proto.OneCredit); err != nil {
		t.Fatal(err)
	}
	pay := func(sum uint64) (reply *proto.ProofReply) {
		t.Helper()
		if err := payer.PayForMinutes(ctx, best, 30); err != nil {
			t.Fatal(err)
		}
		l.until("the witness proves the work", func() bool {
			var err error
			if reply, err = payer.AskProof(ctx, l.nodes[0].ID(), best); err != nil || reply.Reputation == nil {
				return false
			}
			h, err := ledger.VerifyCheckpoint(l.net, reply.Checkpoint)
			if err != nil {
				t.Fatal(err)
			}
			id, r, err := ledger.VerifyReputation(h, reply.Reputation)
			if err != nil || id != best {
				t.Fatalf("register of %s: %v", id, err)
			}
			return r.Valid == sum*minute
		})
		return reply
	}
	older, newer := pay(30), pay(60)

	tab := l.start(light, func(c *node.Config) { c.Light, c.Executor, c.Worker, c.KeepEpochs = true, nil, market.Worker{}, 1000 })
	l.until("both workers follow the offers", func() bool { return tab.Stats().OfferTopicPeers >= 2 })
	// run is a job of one task, of more fuel than those before, so that none of
	// their sessions serves it: who did it, and who comes first among equals.
	fuel := proto.DefaultFuel
	run := func() (did, first peer.ID) {
		t.Helper()
		fuel++
		r, err := tab.Submit(ctx, market.Task{Type: "text", Input: []byte(text), Options: market.Options{Redundancy: 1, Fuel: fuel}})
		if err != nil || len(r.Workers) != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		a, b := proto.HashOf(append(r.Task.Job[:], best...)), proto.HashOf(append(r.Task.Job[:], other...))
		if first = other; bytes.Compare(a[:], b[:]) < 0 {
			first = best
		}
		return r.Workers[0], first
	}
	run()
	l.until("the reputation is proven", func() bool { return tab.Reputation(best).Valid == 60*minute })
	if got := tab.Reputation(other); got.Score() != 0 {
		t.Errorf("the new worker has %+v", got)
	}
	// A claim may come too late for its job, so the other one may do some.
	for better, worse := 0, 0; better < 4; {
		switch did, first := run(); {
		case first == best: // says nothing
		case did == best:
			better++
		default:
			if worse++; worse > 8 {
				t.Fatalf("the new worker did %d of %d jobs that come to it only without reputations", worse, worse+better)
			}
		}
	}

	// Stake is proven beside, though the worker has done nothing yet.
	if err := l.nodes[fresh].Stake(ctx, proto.OneCredit); err != nil {
		t.Fatal(err)
	}
	l.until("the stake is proven", func() bool {
		reply, err := tab.AskReputation(ctx, l.nodes[0].ID(), other)
		if err == nil {
			_, err = tab.TakeStanding(other, reply)
		}
		return err == nil && tab.ToldStakes()[other] == proto.OneCredit
	})
	if got := tab.ToldStakes()[best]; got != 0 {
		t.Errorf("a worker that staked nothing has %s", got)
	}
	staked, err := tab.AskReputation(ctx, l.nodes[0].ID(), other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tab.TakeStanding(best, &proto.ProofReply{Checkpoint: staked.Checkpoint, Account: staked.Account}); err == nil {
		t.Error("another's stake is taken for a worker's")
	}

	known := tab.Reputation(best)
	forge := func(change func(*proto.ProofReply)) *proto.ProofReply {
		r := goproto.Clone(newer).(*proto.ProofReply)
		change(r)
		return r
	}
	for name, tt := range map[string]struct {
		worker  peer.ID
		reply   *proto.ProofReply
		refused bool
	}{
		"older":             {best, older, false},
		"the same":          {best, newer, false},
		"withheld":          {best, forge(func(r *proto.ProofReply) { r.Reputation = nil }), false},
		"no checkpoint":     {best, forge(func(r *proto.ProofReply) { r.Checkpoint = nil }), true},
		"other checkpoint":  {best, forge(func(r *proto.ProofReply) { r.Checkpoint = older.Checkpoint }), true},
		"not certified":     {best, forge(func(r *proto.ProofReply) { r.Checkpoint.Certificate = nil }), true},
		"more":              {best, forge(func(r *proto.ProofReply) { r.Reputation.Leaf.Value[15]++ }), true},
		"newer":             {best, forge(func(r *proto.ProofReply) { r.Reputation.Leaf.Value[7]++ }), true},
		"of another":        {other, newer, true},
		"given another key": {other, forge(func(r *proto.ProofReply) { copy(r.Reputation.Leaf.Key, other[len(other)-32:]) }), true},
	} {
		if changed, err := tab.TakeStanding(tt.worker, tt.reply); changed || (err != nil) != tt.refused {
			t.Errorf("%s: changed %v, %v", name, changed, err)
		}
	}
	if got := tab.Reputation(best); got.Valid != known.Valid || tab.Reputation(other).Valid != 0 {
		t.Errorf("%+v, was %+v; the new worker has %+v", got, known, tab.Reputation(other))
	}
}

// Of four witnesses a bad one hides nobody's reputation: that there is none is
// believed of two only, and a checkpoint from long ago is not what counts now.
func TestBadWitnessHidesNoReputation(t *testing.T) {
	const witnesses, light, worker = 4, 5, 6
	l := newLabOf(t, 7, witnesses, func(g *proto.Genesis) { g.EpochSeconds = 2 })
	for i := range light {
		l.start(i, func(c *node.Config) { c.KeepEpochs = 1 })
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	best, err := peer.IDFromPrivateKey(l.keys[worker])
	if err != nil {
		t.Fatal(err)
	}
	payer := l.submitter()
	if err := payer.Stake(ctx, proto.OneCredit); err != nil { // else its payments count for nothing
		t.Fatal(err)
	}
	var older *proto.ProofReply
	l.until("there is a checkpoint", func() bool {
		older, err = payer.AskProof(ctx, l.nodes[0].ID(), best)
		return err == nil
	})
	if older.Reputation != nil {
		t.Fatal("a reputation without work")
	}
	if err := payer.PayForMinutes(ctx, best, 30); err != nil {
		t.Fatal(err)
	}
	for i := range witnesses {
		l.until("the witness proves the work", func() bool {
			r, err := payer.AskProof(ctx, l.nodes[i].ID(), best)
			return err == nil && r.Reputation != nil
		})
	}
	tab := l.start(light, func(c *node.Config) { c.Light, c.Executor, c.Worker, c.KeepEpochs = true, nil, market.Worker{}, 4 })
	l.until("the old checkpoint is too old", func() bool {
		_, err := tab.TakeStanding(best, older)
		return err != nil
	})
	withheld := func(r *proto.ProofReply) { r.Reputation = nil }
	old := func(r *proto.ProofReply) { goproto.Reset(r); goproto.Merge(r, older) }
	for name, tt := range map[string]struct {
		bad    int
		change func(*proto.ProofReply)
		want   uint64
		ended  bool
	}{
		"one withholds it":                {1, withheld, 30 * minute, true},
		"one shows an old checkpoint":     {1, old, 30 * minute, true},
		"two say that there is none":      {2, withheld, 0, true},
		"all show an old checkpoint":      {witnesses, old, 0, false},
		"nobody changes what others show": {0, nil, 30 * minute, true},
	} {
		for first := range witnesses {
			bad := map[peer.ID]bool{}
			for k := range tt.bad {
				bad[peer.ID(l.net.Witnesses[(first+k)%witnesses])] = true
			}
			minutes, ended := tab.AskStanding(ctx, first, best, func(from peer.ID, r *proto.ProofReply) {
				if bad[from] {
					tt.change(r)
				}
			})
			if minutes != tt.want || ended != tt.ended {
				t.Errorf("%s, asked first: %d: %d units, ended %v", name, first, minutes, ended)
			}
		}
	}
}

const minute = 1_000_000 // in a register's units
