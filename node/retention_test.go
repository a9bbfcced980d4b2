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

// What is beyond a bound is removed with all that only it uses; what is not over
// stays.
func TestOldJobsAreRemoved(t *testing.T) {
	l := newLab(t, 4)
	dir := t.TempDir()
	for i := range 4 {
		l.start(i, func(c *node.Config) {
			if i == 1 {
				c.Dir = dir
			}
		})
	}
	n := l.nodes[1]
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	shared := []byte("shared")
	submit := func(own string) proto.JobID {
		t.Helper()
		id, err := n.Start(ctx, node.JobSpec{Type: "text", Inputs: [][]byte{shared, []byte(own)}, Options: market.Options{Redundancy: 2}})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Wait(ctx, id); err != nil {
			t.Fatal(err)
		}
		for {
			v, _, err := n.Job(id)
			if err != nil {
				t.Fatal(err)
			}
			if v.Settled {
				return id
			}
			if ctx.Err() != nil {
				t.Fatal("the job is never settled")
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	first, second := submit("first "+strings.Repeat("x ", 20_000)), submit("second")
	open, err := n.Start(ctx, node.JobSpec{Type: "text", Inputs: [][]byte{shared}, Options: market.Options{Redundancy: 7, Timeout: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	gone := func(id proto.JobID) bool {
		_, _, err := n.Job(id)
		return proto.CodeOf(err) == proto.CodeNotFound
	}
	if err := n.Retain(0, 0); err != nil || gone(first) || gone(second) {
		t.Fatalf("without bounds something was removed (%v)", err)
	}
	before := n.StoredKeys()
	if err := n.Retain(0, 30<<10); err != nil || !gone(first) || gone(second) {
		t.Fatalf("by size: first removed %v, second removed %v (%v)", gone(first), gone(second), err)
	}
	if after := n.StoredKeys(); after > before-6 { // job, two tasks, four receipts, an input and an output
		t.Errorf("%d records before, %d after", before, after)
	}
	r, err := n.Result(proto.TaskID{Job: second, Index: 0}) // its input and output are those of the job that went
	if err != nil || len(r.Output) == 0 {
		t.Errorf("the other job lost its result: %v %v", r, err)
	}
	if !n.HasBlob(shared) || n.HasBlob([]byte("first "+strings.Repeat("x ", 20_000))) {
		t.Error("the shared input is gone, or the other one is not")
	}
	if err := n.Remove(ctx, open); proto.CodeOf(err) != proto.CodeNotFinal {
		t.Errorf("a job that is not over: %v", err)
	}
	if err := n.Retain(time.Nanosecond, 1); err != nil || !gone(second) || gone(open) {
		t.Errorf("by age: second removed %v, open removed %v (%v)", gone(second), gone(open), err)
	}
	if err := n.Cancel(ctx, open); err != nil {
		t.Fatal(err)
	}
	if err := n.Remove(ctx, open); err != nil || !gone(open) {
		t.Errorf("a job that was cancelled: %v", err)
	}
	if err := n.Remove(ctx, open); proto.CodeOf(err) != proto.CodeNotFound {
		t.Errorf("a job that is gone: %v", err)
	}
}
