//go:build !js

package node_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
)

func (l *lab) submitter() *node.Node { return l.nodes[l.witnesses] }

func (l *lab) texts(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = []byte(strings.Repeat(text+" ", i+1))
	}
	return out
}

// With one of four witnesses away a job is certified,
// verified and paid; the one that comes back has the same ledger.
func TestFourWitnessesOneAway(t *testing.T) {
	l := newLabOf(t, 7, 4, nil)
	for _, i := range []int{0, 1, 2, 4, 5, 6} {
		l.start(i, nil)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	rs, err := l.submitter().SubmitBatch(ctx, node.JobSpec{Type: "text", Inputs: l.texts(8), Options: market.Options{Redundancy: 2}})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range rs {
		if r.State != market.Done || !r.Verified || len(r.Workers) != 2 {
			t.Fatalf("task %d: %+v", i, r)
		}
	}
	l.settled()
	l.start(3, nil)
	l.settled()

	// Another one goes, and a witness pays, too.
	l.stops[1]()
	if _, err := l.nodes[2].Transfer(ctx, l.submitter().ID(), proto.OneCredit, "from a witness"); err != nil {
		t.Fatal(err)
	}
	l.settled()
	for _, c := range l.nodes[0].History(l.nodes[2].ID(), 1) {
		if n := len(c.Wire.Certificate.Commits); n != 3 {
			t.Errorf("a certificate of %d commits, want a quorum of 3", n)
		}
	}
}

// Checkpoints are certified while the network runs, every node prunes what
// they cover, a node that joins then never sees it and has the same ledger, and
// what it proves about an account convinces whoever knows the genesis only.
func TestJoinFromCheckpoint(t *testing.T) {
	l := newLabOf(t, 6, 4, func(g *proto.Genesis) { g.EpochSeconds = 1 })
	short := func(c *node.Config) { c.KeepEpochs = 1 }
	for i := range 5 {
		l.start(i, short)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	payer, to := l.submitter(), l.nodes[0].ID()
	const payments = 20
	for range payments {
		if _, err := payer.Transfer(ctx, to, proto.OneCredit, ""); err != nil {
			t.Fatal(err)
		}
	}
	l.settled()
	events := payer.Events()
	l.until("every node pruned", func() bool {
		for _, n := range l.nodes[:5] {
			if n.Base() == 0 || n != payer && n != l.nodes[0] && n.Events() >= payments {
				return false
			}
		}
		return true
	})
	if got := payer.Events(); got < payments {
		t.Errorf("the payer holds %d events, its own chain of %d ended", got, payments)
	}
	joined := l.start(5, short)
	l.until("the new node has the ledger", func() bool {
		return joined.Base() > 0 && joined.StateHash() == l.nodes[0].StateHash()
	})
	l.settled()
	if got := joined.Events(); got >= payments {
		t.Errorf("the new node holds %d of %d events: it replayed history", got, events)
	}
	if a := joined.Account(payer.ID()); a.Avail != grant-payments*proto.OneCredit {
		t.Errorf("the new node says that the payer has %s", a.Avail)
	}
	// It spends what it has and goes on.
	if _, err := joined.Transfer(ctx, to, proto.OneCredit, ""); err != nil {
		t.Fatal(err)
	}
	l.settled()

	var reply *proto.ProofReply
	var header *ledger.CheckpointHeader
	l.until("a checkpoint proves the payer's balance", func() bool {
		var err error
		if reply, err = payer.AskProof(ctx, joined.ID(), payer.ID()); err != nil {
			t.Fatal(err)
		}
		if header, err = ledger.VerifyCheckpoint(l.net, reply.Checkpoint); err != nil {
			t.Fatal(err)
		}
		proven, err := ledger.VerifyAccount(l.net, header, reply.Account)
		if err != nil {
			t.Fatal(err)
		}
		return proven.ID == payer.ID() && proven.State.Avail == grant-payments*proto.OneCredit
	})
	reply.Account.Leaf.Value[len(reply.Account.Leaf.Value)-1] ^= 1
	if _, err := ledger.VerifyAccount(l.net, header, reply.Account); err == nil {
		t.Error("a changed state is proven, too")
	}
}

// The submitter vanishes in the middle of a batch with work done and not
// settled: its worker claims, the witnesses close the hold after deadline and
// grace, the worker has what was vouched for and delivered, and the submitter
// finds the rest of its credits free when it comes back.
func TestPayerVanishes(t *testing.T) {
	for _, light := range []bool{false, true} {
		t.Run(fmt.Sprintf("light worker=%v", light), func(t *testing.T) { payerVanishes(t, light) })
	}
}

func payerVanishes(t *testing.T, light bool) {
	l := newLabOf(t, 6, 4, func(g *proto.Genesis) { g.GraceSeconds = 6 })
	keepers := map[int]*mem.Store{}
	for i := range 6 {
		l.start(i, func(c *node.Config) {
			c.VoteTimeout = 300 * time.Millisecond
			c.Light = light && i == 5
			if i == l.witnesses {
				keepers[i] = mem.New()
				c.Store, c.Overtime = keep{keepers[i]}, time.Second
			}
		})
	}
	payer, worker := l.submitter(), l.nodes[5]
	l.until("the worker follows the offers", func() bool { return payer.Stats().OfferTopicPeers > 0 })
	inputs := make([][]byte, 3000)
	for i := range inputs {
		inputs[i] = []byte(text)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := payer.Start(ctx, node.JobSpec{Type: "text", Inputs: inputs, Options: market.Options{Redundancy: 1, Timeout: 8 * time.Second}}); err != nil {
		t.Fatal(err)
	}
	l.until("some tasks are accepted", func() bool { return worker.Stats().Worker.Accepted > 50 })
	id := payer.ID()
	l.stops[l.witnesses]()
	l.until("the ledger knows of the hold", func() bool { return l.nodes[0].Account(id).Held > 0 })
	l.settled()
	earned := l.nodes[0].Account(worker.ID()).Avail - grant
	stats := worker.Stats().Worker
	if earned < proto.Credit(stats.Accepted) || earned > proto.Credit(stats.Done)*10 {
		t.Errorf("the worker earned %s for %d accepted and %d executed tasks", earned, stats.Accepted, stats.Done)
	}
	closed := false
	for _, e := range l.nodes[0].History(id, 10) {
		closed = closed || e.Kind == "close"
	}
	if !closed {
		t.Fatal("the hold was not closed by the witnesses: nothing was shown")
	}

	payer = l.start(l.witnesses, func(c *node.Config) { c.Store = keep{keepers[l.witnesses]} })
	if _, err := payer.Transfer(ctx, l.nodes[0].ID(), proto.OneCredit, "back again"); err != nil {
		t.Fatal(err)
	}
	l.settled()
	fee := proto.Fee(earned, l.net.Genesis.FeePpm)
	if a := l.nodes[0].Account(id); a.Avail != grant-earned-fee-proto.OneCredit {
		t.Errorf("the payer has %s, its worker earned %s", a.Avail, earned)
	}
}

// A staked node that answers the witnesses' probes is rewarded by checkpoints;
// one that is away is not.
func TestUptimeIsRewarded(t *testing.T) {
	const staked = 100 * proto.OneCredit
	l := newLabOf(t, 6, 4, func(g *proto.Genesis) { g.EpochSeconds, g.KappaPpm = 2, 100_000 })
	for i := range 6 {
		l.start(i, nil)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	up, away := l.nodes[4].ID(), l.nodes[5].ID()
	for _, n := range l.nodes[4:] {
		if err := n.Stake(ctx, staked); err != nil {
			t.Fatal(err)
		}
	}
	l.stops[5]()
	total := func(id peer.ID) proto.Credit {
		a := l.nodes[0].Account(id)
		return a.Avail + a.Staked + a.Receivable
	}
	before := total(away)
	l.until("the node that is there is rewarded three times", func() bool {
		return total(up) >= grant+3*proto.OneCredit/60
	})
	// A report may have counted it before it went.
	if got := total(away); got > before+proto.OneCredit/30 {
		t.Errorf("the node that is away got %s", got-before)
	}
	for i, n := range l.nodes[:5] {
		if a := n.Audit(); !a.Conserved() || i == 0 && a.Minted == 0 {
			t.Errorf("node %d: %+v", i, a)
		}
	}
}

// One account is written by one node: a second one is refused its directory.
func TestOneNodePerDirectory(t *testing.T) {
	l := newLab(t, 1)
	cfg := node.Config{Network: l.net, Key: l.keys[0], Dir: t.TempDir()}
	first, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if second, err := node.New(cfg); err == nil {
		second.Close()
		t.Fatal("two nodes write one directory")
	}
}
