//go:build !js

package node_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

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

// A stranger that hints at a copy again and again makes a node ask everybody now
// and then, not each time.
func TestHintsOfACopyAreFollowedNowAndThen(t *testing.T) {
	l := newLab(t, 1)
	n := l.start(0, nil)
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableRelay())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	var asked atomic.Int64
	h.SetStreamHandler(l.net.ID.Protocol("instance"), func(s network.Stream) {
		asked.Add(1)
		s.Reset()
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	to, err := peer.AddrInfoFromString(n.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Connect(ctx, *to); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := node.Hint(ctx, h, to.ID, l.net.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(150 * time.Millisecond)
	}
	if got := asked.Load(); got > 4 {
		t.Errorf("asked %d times in a few seconds", got)
	}
	until(t, "a hint is followed", func() bool { return asked.Load() > 1 })
}
