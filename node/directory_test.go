//go:build !js

package node_test

import (
	"context"
	"testing"
	"time"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
)

// Submitter and worker do not listen, take no part in Kademlia and know node 0
// only, as tabs do. The one reaches the other because node 0 tells the way,
// which leads over itself. Without the directory the task must not run, or the
// first half would show nothing.
func TestDirectoryFindsARelayedWorker(t *testing.T) {
	for _, dht := range []string{"ask", "off"} {
		t.Run("dht "+dht, func(t *testing.T) {
			l := newLab(t, 3)
			for i := range 3 {
				l.start(i, func(c *node.Config) {
					if c.DHT = dht; i == 0 {
						c.Relay, c.Reachability = true, "public"
						return
					}
					c.Listen, c.Reachability = []string{}, "private"
				})
			}
			l.until("both are connected to the relay", func() bool { return l.nodes[0].Stats().Peers == 2 })
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			task := market.Task{Type: "text", Input: []byte(text), Options: market.Options{Redundancy: 1}}
			if dht == "ask" {
				r, err := l.nodes[1].Submit(ctx, task)
				if err != nil || r.State != market.Done {
					t.Fatalf("%+v, %v", r, err)
				}
				if _, err := l.nodes[1].FindPeer(ctx, l.nodes[2].ID()); proto.CodeOf(err) != proto.CodeNotFound {
					t.Fatalf("Kademlia answered although the node takes no part in it: %v", err)
				}
				return
			}
			short, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			if r, err := l.nodes[1].Submit(short, task); err == nil {
				t.Fatalf("the task ran without a way to its worker: %+v", r)
			}
		})
	}
}
