//go:build !js

package node_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
)

// TestQuotedHoldIsTaken: what Quote names is the amount of the Hold event; it is
// small, and smaller after a restart of a node that has seen the module run. What
// cannot be paid or cannot start is refused and leaves no job.
func TestQuotedHoldIsTaken(t *testing.T) {
	l := newLabOf(t, 5, 1, nil)
	dir := t.TempDir()
	atDir := func(c *node.Config) { c.Dir = dir }
	l.start(0, nil)
	l.start(1, atDir)
	for i := 2; i < 5; i++ {
		l.start(i, nil)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	spec := node.JobSpec{Type: proto.TypeText, Inputs: [][]byte{[]byte("hi hi")}}
	holds := func(n *node.Node) (out []proto.Credit) {
		for _, e := range n.History(n.ID(), 1000) {
			if e.Kind == "hold" {
				out = append(out, proto.Credit(e.Held))
			}
		}
		return out
	}
	run := func() (hold proto.Credit) {
		n := l.nodes[1]
		q, err := n.Quote(spec)
		if err != nil {
			t.Fatal(err)
		}
		before := len(holds(n))
		rs, err := n.SubmitBatch(ctx, spec)
		if err != nil || !rs[0].Verified || rs[0].Cost > q.Worst || rs[0].Cost > q.Hold {
			t.Fatalf("%+v, %v", rs, err)
		}
		all := holds(n)
		if len(all) != before+1 {
			t.Fatalf("%d holds, %d before", len(all), before)
		}
		found := false
		for _, h := range all {
			found = found || h == q.Hold
		}
		if !found || q.Hold > 1000 {
			t.Fatalf("quoted was a hold of %s, there are %v", q.Hold, all)
		}
		return q.Hold
	}
	first := run()
	for _, bad := range []struct {
		spec node.JobSpec
		code proto.Code
	}{
		{node.JobSpec{Type: proto.TypeText, Inputs: spec.Inputs, Options: market.Options{Priority: proto.PriorityNormal, MaxCredits: proto.OneCredit}}, proto.CodeBudget},
		{node.JobSpec{Module: poison(t, "bigmin"), Inputs: spec.Inputs}, proto.CodeLimits},
		{node.JobSpec{Module: poison(t, "bigmin"), Inputs: spec.Inputs, Options: market.Options{Memory: 1 << 30, Fuel: 1_000_000}}, proto.CodeLimits},
	} {
		if id, err := l.nodes[1].Start(ctx, bad.spec); !errors.Is(err, bad.code.Err()) && proto.CodeOf(err) != bad.code {
			t.Errorf("job %s, %v; want %s", id, err, bad.code)
		}
	}
	if jobs := l.nodes[1].Jobs(); len(jobs) != 1 {
		t.Fatalf("%d jobs", len(jobs))
	}
	// It grows while it runs, and costs what ran.
	r, err := l.nodes[1].Submit(ctx, market.Task{Module: poison(t, "bomb"), Input: []byte("x")})
	if err != nil || !r.Verified || string(r.Output) != "4080" || r.Cost > 10_000 {
		t.Fatalf("%+v, %v", r, err)
	}
	before := len(holds(l.nodes[1]))
	l.stops[1]()
	l.start(1, atDir)
	l.until("the worker's streams and its ledger are back", func() bool {
		return len(l.nodes[1].Peers()) >= 4 && len(holds(l.nodes[1])) == before
	})
	if again := run(); again >= first {
		t.Errorf("a hold of %s after a restart, of %s before anything was known", again, first)
	}
}

func poison(t *testing.T, name string) []byte {
	raw, err := os.ReadFile("../test/testdata/poison/" + name + ".wasm")
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
