//go:build !js

package node_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edgenet.dev/proto"
)

// A peer that begins a second session while its first one runs is told to try
// again later, and others are served meanwhile.
func TestOneSessionPerPeer(t *testing.T) {
	l := newLabOf(t, 3, 1, nil)
	for i := range 3 {
		l.start(i, nil)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	to := l.nodes[0].ID()
	begin := func(i int) (code proto.Code, hangUp func()) {
		code, hangUp, err := l.nodes[i].BeginSync(ctx, to)
		if err != nil {
			t.Fatal(err)
		}
		return code, hangUp
	}
	first := func(i int) (hangUp func()) { // their own sessions may run just now
		l.until("a session begins", func() bool {
			var code proto.Code
			if code, hangUp = begin(i); code != proto.CodeOK {
				hangUp()
			}
			return code == proto.CodeOK
		})
		return hangUp
	}
	hangUp := first(1)
	code, other := begin(1)
	if other(); code != proto.CodeBusy {
		t.Fatalf("a second session of a peer: %s, want %s", code, proto.CodeBusy)
	}
	first(2)()
	hangUp()
	first(1)()
}

// Peers that ask one question and then nothing, and begin again as soon as they
// can, keep nobody else from reconciling.
func TestSilentPeersShutNobodyOut(t *testing.T) {
	const silent = 8 // as many as there are places
	l := newLabOf(t, silent+5, 4, nil)
	for _, i := range []int{0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12} { // two witnesses of four
		l.start(i, nil)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	to := l.nodes[0].ID()
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	var hold [silent]atomic.Bool
	for i := range silent {
		all.Go(func() {
			for ctx.Err() == nil {
				code, wait, hangUp, err := l.nodes[5+i].HoldSync(ctx, to)
				switch {
				case err != nil:
					continue
				case code == proto.CodeOK:
					hold[i].Store(true)
					wait()
				default:
					time.Sleep(20 * time.Millisecond)
				}
				hangUp()
			}
		})
	}
	l.until("each of them held a place", func() bool {
		for i := range hold {
			if !hold[i].Load() {
				return false
			}
		}
		return true
	})
	begin := func(i int) proto.Code {
		code, hangUp, err := l.nodes[i].BeginSync(ctx, to)
		if err != nil {
			t.Fatal(err)
		}
		hangUp()
		return code
	}
	// Without an end of the silent ones they would hold all places until ctx ends.
	l.until("a witness begins", func() bool { return begin(1) == proto.CodeOK })
	l.until("another peer begins", func() bool { return begin(4) == proto.CodeOK })
}
