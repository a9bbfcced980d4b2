//go:build !js

package node_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"edgenet.dev/market"
	"edgenet.dev/node"
)

// Each thing an operator follows has its line: at the submitter, at a worker.
func TestActivityIsLogged(t *testing.T) {
	l := newLab(t, 4)
	seen := map[int]*observer.ObservedLogs{}
	for i := range 4 {
		core, logs := observer.New(zapcore.InfoLevel)
		seen[i] = logs
		l.start(i, func(c *node.Config) { c.Log = zap.New(core) })
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := l.nodes[1].Submit(ctx, market.Task{Type: "text", Input: []byte("a b"), Options: market.Options{Redundancy: 2}}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.nodes[1].Transfer(ctx, l.nodes[2].ID(), 5, ""); err != nil {
		t.Fatal(err)
	}
	for i, lines := range map[int][]string{
		1: {"peer joined", "job submitted", "job finished", "workers paid", "transfer sent"},
		2: {"peer joined", "tasks taken", "task done", "income received"},
	} {
		for _, line := range lines {
			for seen[i].FilterMessage(line).Len() == 0 {
				select {
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
					t.Fatalf("node %d never logged %q", i, line)
				}
			}
		}
	}
	left := zap.Stringer("peer", l.nodes[3].ID())
	l.stops[3]()
	for seen[0].FilterMessage("peer left").FilterField(left).Len() == 0 {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("the witness did not log that a peer left")
		}
	}
}

// A flood of one kind does not hide another, and what is left out is told.
func TestActivityIsBounded(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	now := time.Unix(0, 0)
	a := node.NewActivity(zap.New(core), func() time.Time { return now })
	for range 10_000 {
		a.Say("task done")
	}
	a.Say("peer joined")
	if n := logs.FilterMessage("task done").Len(); n != node.ActivityBurst {
		t.Errorf("%d lines of a burst, want %d", n, node.ActivityBurst)
	}
	if logs.FilterMessage("peer joined").Len() != 1 {
		t.Error("one kind hides another")
	}
	now = now.Add(time.Second)
	a.Say("task done")
	a.Say("task done")
	a.Flush()
	a.Flush()
	var omitted uint64
	for _, e := range logs.FilterMessage("task done").All() {
		if n, ok := e.ContextMap()["omitted"].(uint64); ok {
			omitted += n
		}
	}
	if want := uint64(10_000 + 1 - node.ActivityBurst); omitted != want {
		t.Errorf("%d lines are told to be left out, want %d", omitted, want)
	}
}

// What peers make the market note has the limit of every kind of line.
func TestMarketNotesAreBounded(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	l := newLab(t, 1)
	n := l.start(0, func(c *node.Config) { c.Log = zap.New(core) })
	n.Notes(10_000)
	for _, e := range logs.All() {
		if e.Message == "note" {
			t.Fatal("a note is a kind of its own")
		}
	}
	if got := logs.FilterMessage("market").Len(); got == 0 || got > 2*node.ActivityBurst {
		t.Errorf("%d lines of 10,000 notes", got)
	}
}
