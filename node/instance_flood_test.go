//go:build !js

package node_test

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify/pb"
	"github.com/libp2p/go-msgio/pbio"

	"edgenet.dev/node"
)

// A peer that says again and again who it is and never answers whether it sees
// a copy of this node keeps nobody else waiting: libp2p tells everybody of one
// peer before it goes on to the next.
func TestSilentPeerHoldsUpNobody(t *testing.T) {
	l := newLab(t, 2)
	victim := l.start(0, nil)
	other := l.start(1, func(c *node.Config) { c.Bootstrap = nil })
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableRelay())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	ours := []protocol.ID{l.net.ID.Protocol("instance"), l.net.ID.Protocol("directory")}
	for _, p := range ours {
		h.SetStreamHandler(p, func(network.Stream) {}) // and stays silent
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	to, err := peer.AddrInfoFromString(victim.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Connect(ctx, *to); err != nil {
		t.Fatal(err)
	}
	for range 600 {
		s, err := h.NewStream(ctx, to.ID, identify.IDPush)
		if err != nil {
			t.Fatal(err)
		}
		if err := pbio.NewDelimitedWriter(s).WriteMsg(&pb.Identify{Protocols: protocol.ConvertToStrings(ours)}); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	time.Sleep(time.Second) // until all is read
	soon, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	if _, _, err := victim.ConnectPeer(soon, other.Addrs()[0]); err != nil {
		t.Errorf("an honest peer: %v", err)
	}
}
