//go:build !js

package node_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
)

// Of two workers that do the same tasks the one with stake mints a bonus with
// its payment, and each is told why.
func TestRewardsAreExplained(t *testing.T) {
	l := newLabOf(t, 4, 1, func(g *proto.Genesis) { g.KappaPpm = 1_000_000 })
	l.startAll(4, nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	staked, plain := l.nodes[2], l.nodes[3]
	if err := staked.Stake(ctx, 10*proto.OneCredit); err != nil {
		t.Fatal(err)
	}
	rs, err := l.nodes[1].SubmitBatch(ctx, node.JobSpec{Type: "text", Inputs: l.texts(20), Options: market.Options{Redundancy: 2}})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range rs {
		if r.State != market.Done || !r.Verified {
			t.Fatalf("task %d: %+v", i, r)
		}
	}
	l.settled()

	var paid, minted proto.Credit
	for _, r := range staked.Rewards(staked.ID()) {
		paid, minted = paid+r.Paid, minted+r.Amount
		if r.Kind != "bonus" || r.From != l.nodes[1].ID() || r.Rate < 9_990_000 || r.Rate > 10_000_000 {
			t.Errorf("reward %+v", r)
		}
		if full := r.Paid * proto.Credit(r.Rate-1_000_000) / 1_000_000; r.Amount == full && r.Limit != node.NoLimit || r.Amount < full && r.Limit != node.WorkLimit {
			t.Errorf("%s of %s minted, limit %q: %s", r.Amount, full, r.Limit, r.Reason)
		}
	}
	// The payment is rounded up to a microcredit per task, the bonus is not.
	if paid == 0 || minted < 5*paid || minted > 9*paid {
		t.Errorf("%s minted on %s paid, want about nine times as much", minted, paid)
	}
	if a := l.nodes[0].Audit(); a.Minted != minted || !a.Conserved() {
		t.Errorf("the ledger says %s minted: %+v", a.Minted, a)
	}
	list := plain.Rewards(plain.ID())
	if len(list) == 0 {
		t.Error("nothing is said of the worker without stake")
	}
	for _, r := range list {
		if r.Amount != 0 || r.Paid == 0 || r.Limit != node.StakeLimit || !strings.Contains(r.Reason, "nothing at stake") {
			t.Errorf("reward %+v", r)
		}
	}
}
