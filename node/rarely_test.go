//go:build !js

package node_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"edgenet.dev/node"
)

// A peer that does not answer again and again is named in the log ever more
// rarely.
func TestSilentPeersAreLoggedRarely(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	n := newLab(t, 1).start(0, func(c *node.Config) { c.Log = zap.New(core) })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	nobody := []string{"/ip4/127.0.0.1/tcp/1/p2p/" + someID(t).String()}
	for range 9 {
		if err := n.Introduce(ctx, nobody); err != nil {
			t.Fatal(err)
		}
	}
	if lines := logs.FilterMessage("peer does not answer").Len(); lines != 4 {
		t.Errorf("%d lines about 9 failures, want those of 1, 2, 4 and 8", lines)
	}
}
