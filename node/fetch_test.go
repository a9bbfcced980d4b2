//go:build !js

package node_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
)

// A submitter whose inputs are never served holds no slot of a worker: another
// one's work goes on meanwhile.
func TestInputsNeverServedHoldNoSlot(t *testing.T) {
	l := newLab(t, 3)
	l.startAll(3, nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	asked := l.nodes[1].ServeNoBlobs()
	inputs := make([][]byte, 32)
	for i := range inputs {
		inputs[i] = bytes.Repeat([]byte{'A' + byte(i)}, proto.MaxInline+1)
	}
	o := market.Options{Redundancy: 1, Fuel: 60_000_000, Priority: proto.PriorityNormal}
	if _, err := l.nodes[1].Start(ctx, node.JobSpec{Type: "text", Inputs: inputs, Options: o}); err != nil {
		t.Fatal(err)
	}
	l.until("the worker asks for the inputs", func() bool { return asked() > 0 })
	o.Timeout = 20 * time.Second // a fetch is given up after 30
	r, err := l.nodes[0].Submit(ctx, market.Task{Type: "text", Input: []byte(text), Options: o})
	if err != nil || r.State != market.Done {
		t.Fatalf("%+v, %v", r, err)
	}
	if n := asked(); n > 4 {
		t.Errorf("%d inputs of one submitter are awaited at once", n)
	}
}

// An input that does not come at the least rate is given up.
func TestSlowInputIsGivenUp(t *testing.T) {
	node.FetchGrace(t, 300*time.Millisecond)
	l := newLab(t, 3)
	l.startAll(3, nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l.nodes[1].ServeNoBlobs()
	id, err := l.nodes[1].Start(ctx, node.JobSpec{
		Type: "text", Inputs: [][]byte{bytes.Repeat([]byte("a"), proto.MaxInline+1)}, Options: market.Options{Redundancy: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	l.until("the worker gives the input up", func() bool {
		v, _, err := l.nodes[1].Job(id)
		return err == nil && slices.ContainsFunc(v.Lost, func(try market.LostTry) bool {
			return try.Code == proto.CodeFetch && strings.Contains(try.Reason, "slower than")
		})
	})
}

// A worker that waits for its turn to fetch an input, and one that is told that the
// submitter serves too many, lose no try.
func TestWaitingForAnInputIsNoLostTry(t *testing.T) {
	const grace = time.Second
	node.FetchGrace(t, grace)
	l := newLab(t, 3)
	l.startAll(3, nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, end := l.nodes[1].KeepBlobsBack(true)
	id, err := l.nodes[1].Start(ctx, node.JobSpec{
		Type: "text", Inputs: [][]byte{bytes.Repeat([]byte("a"), proto.MaxInline+1)}, Options: market.Options{Redundancy: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	lost := func(code proto.Code) bool {
		v, _, err := l.nodes[1].Job(id)
		return err == nil && slices.ContainsFunc(v.Lost, func(try market.LostTry) bool { return try.Code == code })
	}
	l.until("the worker is told that the submitter is busy", func() bool { return lost(proto.CodeBusy) })
	end()
	waiting, end := l.nodes[1].KeepBlobsBack(false)
	l.until("the worker waits", func() bool { return waiting() > 0 })
	time.Sleep(3 * grace) // far longer than it would wait for one that says nothing
	if waiting() == 0 {
		t.Error("it waits no longer")
	}
	end()
	l.until("the job is done", func() bool {
		v, _, err := l.nodes[1].Job(id)
		return err == nil && v.Done == 1
	})
	if lost(proto.CodeFetch) {
		t.Error("to wait for the input was a lost try")
	}
}
