//go:build !js

package node_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
	"edgenet.dev/transport"
)

// An owner proposes one event to two witnesses and another one for the same
// place to the other two: one of them at most is certified, and every node sees
// a share of its stake burned and the account frozen.
func TestTwoEventsForOnePlaceAreSlashed(t *testing.T) {
	const thief = 5
	const staked = 100 * proto.OneCredit
	l := newLabOf(t, 6, 4, nil)
	store := mem.New()
	for i := range 6 {
		l.start(i, func(c *node.Config) {
			c.VoteTimeout = 300 * time.Millisecond
			if i == thief {
				c.Store = keep{store}
			}
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := l.nodes[thief].Stake(ctx, staked); err != nil {
		t.Fatal(err)
	}
	l.settled()
	id := l.nodes[thief].ID()
	l.stops[thief]()

	// The same key goes on without the node's care.
	led, err := ledger.Open(l.net, store)
	if err != nil {
		t.Fatal(err)
	}
	listen := ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")
	h, err := transport.NewHost(transport.Config{Key: l.keys[thief], Listen: []ma.Multiaddr{listen}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	seal := func(p *proto.Payload) []byte {
		raw, err := proto.Seal(l.keys[thief], l.net.ID, p)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for half, to := range []peer.ID{l.nodes[0].ID(), l.nodes[4].ID()} {
		ev, err := led.Draft(id, led.Epoch(), 0, &proto.Transfer{To: []byte(to), Amount: uint64(500 * proto.OneCredit)})
		if err != nil {
			t.Fatal(err)
		}
		p, err := ledger.NewPropose(seal(&proto.Payload{Body: &proto.Payload_Event{Event: ev}}), nil)
		if err != nil {
			t.Fatal(err)
		}
		frame := &proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: seal(p)}}
		for _, w := range l.nodes[2*half : 2*half+2] {
			info, err := peer.AddrInfoFromString(w.Addrs()[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := h.Connect(ctx, *info); err != nil {
				t.Fatal(err)
			}
			s, err := h.NewStream(ctx, info.ID, l.net.ID.Protocol("vote"))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Reset()
			if err := proto.WriteFrame(s, frame, proto.MaxVoteFrame); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.until("every node knows of the punishment", func() bool {
		for _, n := range l.nodes[:5] {
			if a := n.Account(id); a.Offences != 1 || !a.Frozen || a.Staked != staked*95/100 {
				return false
			}
		}
		return true
	})
	l.settled()
	made := 0
	for _, e := range l.nodes[0].History(id, 10) {
		if e.Kind == "transfer" {
			made++
		}
	}
	if made > 1 {
		t.Errorf("%d transfers have one place", made)
	}
	// The account itself takes no work from now on, and says why.
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	n := l.start(thief, func(c *node.Config) { c.Store = keep{store} })
	l.until("the frozen account takes no work", func() bool {
		s := n.Stats()
		return !s.Worker.Enabled && len(s.Problems) == 1 && strings.Contains(s.Problems[0], "frozen") && strings.Contains(s.Worker.Why, s.Problems[0])
	})
	if _, err := n.Start(ctx, node.JobSpec{Type: "text", Inputs: [][]byte{[]byte("hi")}}); err == nil || !strings.Contains(err.Error(), "frozen") {
		t.Errorf("a job of a frozen account: %v", err)
	}
	if err := n.SetWorker(ctx, market.Worker{Enabled: true, Slots: 1, Types: []string{"text"}}); err != nil || n.Worker().Enabled {
		t.Errorf("a frozen account was told to work, and does (%v)", err)
	}
}
