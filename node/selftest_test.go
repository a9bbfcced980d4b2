//go:build !js

package node_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/sandbox"
)

// broken is a sandbox that does not start while it is told so.
type broken struct {
	sandbox.Executor
	now atomic.Bool
}

func (b *broken) Run(ctx context.Context, m *sandbox.Module, in []byte, t sandbox.Task) (sandbox.Result, error) {
	if b.now.Load() {
		return sandbox.Result{}, errors.New("no child process starts")
	}
	return b.Executor.Run(ctx, m, in, t)
}

// A worker with a local failure notices by a self-test, claims no more and says
// why; once it passes it takes work again.
func TestWorkerThatFailsItsSelfTestTakesNoWork(t *testing.T) {
	node.SelfTestAgain(t, 200*time.Millisecond)
	l := newLab(t, 3)
	exec := &broken{Executor: l.exec}
	dir := t.TempDir()
	l.startAll(3, func(i int, c *node.Config) {
		if i == 2 {
			c.Executor, c.Dir = exec, dir
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	worker := l.nodes[2]
	submit := func(timeout time.Duration) market.TaskState {
		r, err := l.nodes[1].Submit(ctx, market.Task{Type: "text", Input: []byte(text), Options: market.Options{Redundancy: 1, Timeout: timeout}})
		if err != nil {
			t.Fatal(err)
		}
		return r.State
	}
	if s := submit(30 * time.Second); s != market.Done {
		t.Fatal(s)
	}
	exec.now.Store(true)
	submit(3 * time.Second)
	l.until("the worker says that its sandbox does not run", func() bool {
		return strings.Contains(worker.Stats().Worker.Why, "no child process starts")
	})
	if worker.Worker().Enabled {
		t.Error("it still offers itself")
	}
	taken := worker.Counts().TasksTaken
	if s := submit(3 * time.Second); s == market.Done || worker.Counts().TasksTaken != taken {
		t.Errorf("it took work meanwhile: %s", s)
	}
	exec.now.Store(false)
	l.until("it takes work again", func() bool { return worker.Worker().Enabled })
	if s := submit(30 * time.Second); s != market.Done {
		t.Fatal(s)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "self-test-*")); len(left) > 0 {
		t.Errorf("self-tests left %v", left)
	}
}
