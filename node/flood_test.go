//go:build !js

package node_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edgenet.dev/node"
	"edgenet.dev/proto"
)

// A peer that asks a witness as fast as it can is answered at its rate, while
// others are served at once. Without the limit it is answered all the time.
func TestFloodingCallerIsSlowed(t *testing.T) {
	const asked = 40 * node.CallBurst
	for _, limited := range []bool{true, false} {
		t.Run(fmt.Sprintf("limited %v", limited), func(t *testing.T) {
			l := newLab(t, 3)
			l.start(0, nil)
			if !limited {
				l.nodes[0].Unlimited()
			}
			l.start(1, nil)
			l.start(2, nil)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			var flood sync.WaitGroup
			defer flood.Wait()
			defer cancel()
			var answers atomic.Int64
			begun := time.Now()
			excess := func() int64 {
				return answers.Load() - node.CallBurst - node.CallRate*(int64(time.Since(begun)/time.Second)+2)
			}
			flood.Go(func() {
				if err := l.nodes[1].AskHeads(ctx, l.nodes[0].ID(), asked, &answers); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			})
			l.until("the flood is on", func() bool { return answers.Load() >= node.CallBurst/2 })
			for range 5 {
				if _, err := l.nodes[2].Transfer(ctx, l.nodes[0].ID(), proto.OneCredit, "an honest one"); err != nil {
					t.Fatal(err)
				}
			}
			if !limited {
				l.until("more is answered than the rate allows", func() bool { return excess() > 0 })
			} else if n := excess(); n > 0 {
				t.Errorf("%d answers more than the rate allows", n)
			}
		})
	}
}
