//go:build !js

package node_test

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"

	"edgenet.dev/node"
)

// A witness of a version that cannot say whether this identity runs elsewhere
// has answered: a network of old and new versions goes on signing.
func TestAWitnessWithoutTheProtocolHasAnswered(t *testing.T) {
	l := newLab(t, 2)
	old, err := libp2p.New(libp2p.Identity(l.keys[0]), libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1"), libp2p.DisableRelay())
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	n := l.start(1, func(c *node.Config) { c.Bootstrap = []string{old.Addrs()[0].String() + "/p2p/" + old.ID().String()} })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := n.MaySign(ctx); err != nil {
		t.Error(err)
	}
}
