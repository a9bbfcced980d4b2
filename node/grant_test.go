//go:build !js

package node_test

import (
	"context"
	"strings"
	"testing"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
)

// Limits that no worker grants: the first job that asks for them waits and says
// why, for nobody is known; after that such a job is refused, with the most that
// there is.
func TestLimitsThatNobodyGrantsAreRefused(t *testing.T) {
	l := newLab(t, 4)
	l.startAll(4, func(i int, c *node.Config) {
		if c.Worker.Enabled {
			c.Worker.MaxFuel = []proto.Fuel{2: 40e9, 3: 50e9}[i]
			c.Worker.MaxMemory = []uint64{2: 512 << 20, 3: 4 << 30}[i] // the sandbox has less
		}
	})
	ctx := context.Background()
	n := l.nodes[1]
	spec := func(fuel proto.Fuel, memory uint64) node.JobSpec {
		return node.JobSpec{Type: "text", Inputs: [][]byte{[]byte(text)}, Options: market.Options{Fuel: fuel, Memory: memory, Redundancy: 1, MaxCredits: 100 * proto.OneCredit}}
	}
	id, err := n.Start(ctx, spec(60e9, 0))
	if err != nil {
		t.Fatalf("nobody is known yet: %v", err)
	}
	// The larger one may have answered first, and then the other is silent.
	l.until("the job says what it waits for", func() bool {
		lines, err := n.Why(id)
		return err == nil && strings.Contains(strings.Join(lines, "\n"), "the most that any grants is 50000000000 fuel and 1073741824 bytes")
	})
	if err := n.Cancel(ctx, id); err != nil {
		t.Fatal(err)
	}
	_, err = n.Start(ctx, spec(60e9, 0))
	if text := "grant at most 50000000000; lower it (--fuel, fuelLimit)"; proto.CodeOf(err) != proto.CodeLimits || !strings.Contains(err.Error(), text) {
		t.Errorf("%v, want LIMITS with %q", err, text)
	}
	if _, err := n.Quote(spec(60e9, 0)); proto.CodeOf(err) != proto.CodeLimits {
		t.Errorf("quote: %v", err)
	}
	if jobs := n.Jobs(); len(jobs) != 1 {
		t.Errorf("%d jobs, one was started", len(jobs))
	}
	// What one of them grants is taken, by that one.
	r, err := n.Submit(ctx, market.Task{Type: "text", Input: []byte(text), Options: spec(45e9, sandbox.MaxMemory).Options})
	if err != nil || r.State != market.Done || r.Workers[0] != l.nodes[3].ID() {
		t.Errorf("%+v, %v", r, err)
	}
}
