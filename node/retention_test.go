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
	if err := n.Retain(time.Nanosecond, 0); err != nil || !gone(second) || gone(open) {
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

// A job that the market no longer keeps is settled once its holds are closed: until
// then a restart reads from its tasks what was promised to workers.
func TestRecordsOfAnOpenHoldStay(t *testing.T) {
	l := newLab(t, 1)
	n := l.start(0, nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	id, hold := proto.JobID{1}, proto.CIDOf([]byte("hold"))
	if err := n.Evicted(id, hold); err != nil {
		t.Fatal(err)
	}
	if err := n.KeepHold(hold, id, true); err != nil {
		t.Fatal(err)
	}
	if v, _, err := n.Job(id); err != nil || v.Settled || v.Cost == 0 {
		t.Errorf("with an open hold: settled %v, cost %s (%v)", v.Settled, v.Cost, err)
	}
	if err := n.Remove(ctx, id); proto.CodeOf(err) != proto.CodeNotFinal {
		t.Errorf("with an open hold it was removed: %v", err)
	}
	if err := n.Retain(time.Nanosecond, 1); err != nil {
		t.Fatal(err)
	}
	if _, tasks, err := n.Job(id); err != nil || len(tasks) != 1 {
		t.Fatalf("with an open hold %d tasks are left (%v)", len(tasks), err)
	}
	if err := n.KeepHold(hold, id, false); err != nil {
		t.Fatal(err)
	}
	if v, _, err := n.Job(id); err != nil || !v.Settled {
		t.Errorf("with its hold closed: settled %v (%v)", v.Settled, err)
	}
	if err := n.Remove(ctx, id); err != nil {
		t.Error(err)
	}
}

// A removal counts what jobs use once, however many it removes, and the market
// saves meanwhile. What a job begins to use then stays, and so does what another
// job has; what only removed jobs had goes with the last one.
func TestRemovalsShareOneCount(t *testing.T) {
	l := newLab(t, 1)
	w, err := node.NewWatched(node.Config{Network: l.net, Key: l.keys[0], Listen: []string{}, DHT: "off"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.Up(ctx); err != nil {
		t.Fatal(err)
	}
	hold := proto.CIDOf([]byte("hold"))
	both, kept, new := []byte("of two that go"), []byte("of one that stays"), []byte("of one that comes")
	for i := range byte(4) {
		if err := w.Evicted(proto.JobID{i + 1}, hold, both, kept, new); err != nil {
			t.Fatal(err)
		}
	}
	open, other := proto.JobID{9}, proto.CIDOf([]byte("other hold"))
	if err := w.Evicted(open, other, kept); err != nil {
		t.Fatal(err)
	}
	if err := w.KeepHold(other, open, true); err != nil {
		t.Fatal(err)
	}
	var late proto.JobID
	w.During = func() {
		w.During = nil
		if late, err = w.Start(ctx, node.JobSpec{Type: "text", Inputs: [][]byte{new}, Options: market.Options{Redundancy: 2}}); err != nil {
			t.Error(err)
		}
	}
	if err := w.Retain(time.Nanosecond, 1); err != nil {
		t.Fatal(err)
	}
	for i := range byte(4) {
		if _, _, err := w.Job(proto.JobID{i + 1}); proto.CodeOf(err) != proto.CodeNotFound {
			t.Errorf("job %d is there: %v", i, err)
		}
	}
	for _, table := range []string{"job/", "task/", "receipt/"} {
		if w.Scans[table] != 1 {
			t.Errorf("%s was read %d times", table, w.Scans[table])
		}
	}
	if w.Locked {
		t.Error("the market could not save while blobs were counted")
	}
	if w.HasBlob(both) || !w.HasBlob(kept) || !w.HasBlob(new) {
		t.Errorf("what two had is there %v, what another has %v, what job %s began to use %v", w.HasBlob(both), w.HasBlob(kept), late, w.HasBlob(new))
	}
}

// A trial that was paid is no end of its task, and its fuel counts once the task
// has one.
func TestTasksCountOnce(t *testing.T) {
	trial := market.ReplicaRecord{State: market.Done, Trial: true, Fuel: 5}
	c := node.CountTask(
		market.TaskRecord{State: market.Running, Replicas: []market.ReplicaRecord{trial}},
		market.TaskRecord{State: market.Done, Replicas: []market.ReplicaRecord{trial, {State: market.Done, Agreed: true, Fuel: 7}, {State: market.Failed, Fuel: 11}}},
	)
	if c.TaskFuel != 12 || len(c.TasksEnded) != 1 || c.TasksEnded[market.Done] != 1 {
		t.Errorf("%d fuel, tasks %v", c.TaskFuel, c.TasksEnded)
	}
}
