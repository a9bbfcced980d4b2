//go:build !js

package node_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"edgenet.dev/node"
)

func someID(t *testing.T) peer.ID {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not happen: %s", what)
		}
	}
}

func connected(n *node.Node, to peer.ID) bool {
	return slices.ContainsFunc(n.Peers(), func(p node.PeerInfo) bool { return p.ID == to })
}

// Two nodes that know each other from before only, and start again in either
// order, find each other without a bootstrap peer: each by what it kept on disk,
// the one that had dialled and the one that had been dialled.
func TestPeersAreRememberedOverARestart(t *testing.T) {
	l := newLab(t, 2)
	dirs := []string{t.TempDir(), t.TempDir()}
	listen := [][]string{nil, nil}
	start := func(i int, bootstrap []string) *node.Node {
		n := l.start(i, func(c *node.Config) {
			c.Dir, c.Bootstrap, c.DHT = dirs[i], bootstrap, "off"
			if listen[i] != nil {
				c.Listen = listen[i]
			}
		})
		listen[i] = []string{strings.TrimSuffix(n.Addrs()[0], "/p2p/"+n.ID().String())}
		return n
	}
	a := start(0, nil)
	b := start(1, a.Addrs())
	until(t, "both remember the other, with its signed record", func() bool {
		_, x := a.StoredPeers()
		_, y := b.StoredPeers()
		return x == 1 && y == 1
	})
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		l.stops[0]()
		l.stops[1]()
		first := start(order[0], nil)
		second := start(order[1], nil)
		until(t, fmt.Sprintf("they are connected when node %d starts first", order[0]), func() bool { return connected(first, second.ID()) && connected(second, first.ID()) })
	}
	// The one alone stays away, so whoever is connected was dialled by the other.
	l.stops[1]()
	a = l.nodes[0]
	if known, bootstrap, err := a.ForgetPeer(someID(t)); err != nil || known || bootstrap {
		t.Errorf("forget a stranger: %v %v %v", known, bootstrap, err)
	}
	b = start(1, nil)
	until(t, "they meet again", func() bool { return connected(a, b.ID()) })
	l.stops[1]()
	id := peer.ID("")
	if id, _ = peer.IDFromPrivateKey(l.keys[1]); !slices.ContainsFunc(a.KnownPeers(), func(p node.PeerInfo) bool { return p.ID == id && !p.Seen.IsZero() }) {
		t.Errorf("%s is not among the known peers", id)
	}
	if known, _, err := a.ForgetPeer(id); err != nil || !known {
		t.Errorf("forget: %v, %v", known, err)
	}
	if all, _ := a.StoredPeers(); all != 0 {
		t.Errorf("%d peers on disk after forgetting the only one", all)
	}
}

// A stranger with many identities pushes out other strangers, not the peers that
// this node dialled itself, in memory and on disk.
func TestPeerbookIsBounded(t *testing.T) {
	l := newLab(t, 1)
	n := l.start(0, nil)
	now := time.Now().Add(-time.Hour)
	friend := someID(t)
	if err := n.RememberPeer(friend, "/ip4/192.0.2.1/tcp/1", now.Add(-time.Hour), true); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * node.MaxMet {
		if err := n.RememberPeer(someID(t), "/ip4/192.0.2.2/tcp/1", now.Add(time.Duration(i)*time.Second), false); err != nil {
			t.Fatal(err)
		}
	}
	last := someID(t)
	if err := n.RememberPeer(last, "/ip4/192.0.2.2/tcp/1", time.Now(), false); err != nil {
		t.Fatal(err)
	}
	known := n.KnownPeers()
	has := func(id peer.ID) bool {
		return slices.ContainsFunc(known, func(p node.PeerInfo) bool { return p.ID == id })
	}
	if all, _ := n.StoredPeers(); len(known) != node.MaxMet+1 || all != len(known) || !has(friend) || !has(last) {
		t.Errorf("%d known, %d stored, the dialled one among them %t, the newest %t", len(known), all, has(friend), has(last))
	}
	for i := range 2 * node.MaxReached {
		if err := n.RememberPeer(someID(t), "/ip4/192.0.2.3/tcp/1", now.Add(time.Duration(i)*time.Second), true); err != nil {
			t.Fatal(err)
		}
	}
	if all, _ := n.StoredPeers(); all != node.MaxMet+node.MaxReached {
		t.Errorf("%d stored, want %d", all, node.MaxMet+node.MaxReached)
	}
}

// Peers of another network are neither remembered nor kept by hand.
func TestOtherNetworksPeersAreNotRemembered(t *testing.T) {
	mine, other := newLab(t, 1), newLab(t, 1)
	a, b := mine.start(0, nil), other.start(0, nil)
	_, _, err := a.ConnectPeer(t.Context(), b.Addrs()[0])
	if err == nil || !strings.Contains(err.Error(), "another network") {
		t.Errorf("connect: %v", err)
	}
	if all, _ := a.StoredPeers(); all != 0 || connected(a, b.ID()) {
		t.Errorf("%d peers stored, connected %t", all, connected(a, b.ID()))
	}
}

// Who does not answer is dialled at growing intervals, and named in the log at
// ones that grow faster; a node alone goes on looking every few seconds.
func TestRedialsGrowRarer(t *testing.T) {
	for _, x := range []struct {
		bootstrap, alone bool
		dials, lines     int
	}{{true, true, 60, 6}, {true, false, 10, 4}, {false, true, 60, 6}, {false, false, 10, 4}} {
		dials, lines, longest := node.Redials(x.bootstrap, x.alone, 2*time.Minute)
		if dials > x.dials || lines > x.lines || dials < 5 || x.alone && longest > 5*time.Second {
			t.Errorf("%+v: %d dials and %d lines in two minutes, at most %v apart", x, dials, lines, longest)
		}
	}
	if dials, _, longest := node.Redials(false, true, 24*time.Hour); dials > 400 || longest < 5*time.Minute {
		t.Errorf("%d dials a day, at most %v apart", dials, longest)
	}
	l := newLab(t, 1)
	core, logs := observer.New(zap.InfoLevel)
	l.start(0, func(c *node.Config) {
		c.Log = zap.New(core)
		c.Bootstrap = []string{"/ip4/127.0.0.1/udp/9/quic-v1/p2p/" + someID(t).String(), "/ip4/127.0.0.1/tcp/1/p2p/" + someID(t).String()}
	})
	until(t, "the log names the peer on the closed port once", func() bool {
		return logs.FilterMessage("bootstrap peer does not answer").FilterField(zap.Int("tries", 1)).Len() > 0
	})
}

// A peer that accepts and hangs up is dialled at growing intervals, too; only a
// connection that lasted makes up for those before.
func TestWhoHangsUpIsDialledAtGrowingIntervals(t *testing.T) {
	if got := fmt.Sprint(node.Lost(0, time.Second, 29*time.Second, 31*time.Second, time.Second)); got != "[1 2 3 0 1]" {
		t.Errorf("failures after each connection: %s", got)
	}
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1"), libp2p.DisableRelay())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	var dials atomic.Int64
	h.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		dials.Add(1)
		time.AfterFunc(50*time.Millisecond, func() { c.Close() })
	}})
	core, logs := observer.New(zap.InfoLevel)
	l := newLab(t, 1)
	l.start(0, func(c *node.Config) {
		c.Log, c.Bootstrap = zap.New(core), []string{h.Addrs()[0].String() + "/p2p/" + h.ID().String()}
	})
	until(t, "the log says twice that the peer was there for a moment", func() bool { return logs.FilterMessage("bootstrap peer was connected for a moment only").Len() > 1 })
	time.Sleep(4 * time.Second)
	if n := dials.Load(); n > 8 {
		t.Errorf("%d dials in a few seconds", n)
	}
}

// Nobody remembers a peer that has no address short enough to be kept.
func TestPeersWithoutAddressAreNotRemembered(t *testing.T) {
	n := newLab(t, 1).start(0, nil)
	long, id := "/ip4/192.0.2.1/tcp/1/http-path/"+strings.Repeat("x", 300), someID(t)
	for range 2 {
		if err := n.RememberPeer(id, long, time.Now(), true); err == nil {
			t.Error("it was remembered")
		}
	}
	if all, _ := n.StoredPeers(); all != 0 {
		t.Errorf("%d peers stored", all)
	}
}

// The account's Open names who brought it in.
func TestReferrerIsNamedOnce(t *testing.T) {
	l := newLab(t, 3)
	l.start(0, nil)
	from := l.start(1, nil)
	n := l.start(2, func(c *node.Config) { c.Referrer = from.ID() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, x := range []*node.Node{n, from} {
		if _, err := x.Transfer(ctx, l.nodes[0].ID(), 1, ""); err != nil {
			t.Fatal(err)
		}
	}
	if r, ok := n.Referrer(); !ok || r != from.ID() {
		t.Errorf("referrer %s, want %s", r, from.ID())
	}
	if r, ok := from.Referrer(); !ok || r != "" {
		t.Errorf("referrer %s where none was named", r)
	}
	if err := (node.Config{Network: l.net, Key: l.keys[2], Referrer: n.ID()}).Validate(); err == nil {
		t.Error("an account may refer itself")
	}
}
