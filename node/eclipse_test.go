//go:build !js

package node_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/market"
	"edgenet.dev/node"
)

// One who has many identities and many addresses cannot push those out that were
// known before, and one who has one network cannot push others out at all.
func TestStrangersDoNotTakeTheWholePeerbook(t *testing.T) {
	n := newLab(t, 1).start(0, nil)
	now := time.Now()
	remember := func(addr string, seen time.Time) peer.ID {
		t.Helper()
		id := someID(t)
		if err := n.RememberPeer(id, addr, seen, true); err != nil {
			t.Fatal(err)
		}
		return id
	}
	var first []peer.ID
	for i := range node.MaxReached / 2 {
		first = append(first, remember(fmt.Sprintf("/ip4/10.0.%d.1/tcp/1", i), now.Add(-time.Hour)))
	}
	elsewhere := remember("/ip4/10.1.0.1/tcp/1", now.Add(-time.Minute))
	lost := func(ids ...peer.ID) (lost int) {
		known := n.KnownPeers()
		for _, id := range ids {
			if !slices.ContainsFunc(known, func(p node.PeerInfo) bool { return p.ID == id }) {
				lost++
			}
		}
		return lost
	}
	for i := range 2 * node.MaxReached {
		remember(fmt.Sprintf("/ip4/192.0.2.%d/tcp/1", i), now)
	}
	if lost(elsewhere) != 0 {
		t.Error("one network full of strangers pushed out a peer that is elsewhere")
	}
	for i := range 2 * node.MaxReached {
		remember(fmt.Sprintf("/ip4/10.2.%d.1/tcp/1", i), now)
	}
	if n := lost(first...); n != 0 {
		t.Errorf("strangers pushed out %d of %d peers that were known first", n, len(first))
	}
}

// Whom others led this node to is remembered as one of the strangers; and many
// strangers that dialled it do not keep it from dialling those it chose.
func TestDialsOfOthersChoiceAreStrangers(t *testing.T) {
	l := newLab(t, 10)
	dir := t.TempDir()
	tcp := []string{"/ip4/127.0.0.1/tcp/0"} // where a dial that nobody answers fails at once
	chosen, found := l.start(1, func(c *node.Config) { c.Bootstrap, c.DHT, c.Listen = nil, "off", tcp }), l.start(2, func(c *node.Config) { c.Bootstrap, c.DHT = nil, "off" })
	n := l.start(0, func(c *node.Config) { c.Dir, c.Bootstrap, c.DHT = dir, chosen.Addrs(), "off" })
	info, err := peer.AddrInfoFromString(found.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := n.DialUnchosen(ctx, *info); err != nil {
		t.Fatal(err)
	}
	until(t, "both are remembered, the one as chosen", func() bool {
		_, one := n.ChosenPeer(chosen.ID())
		known, other := n.ChosenPeer(found.ID())
		return one && known && !other
	})
	l.stops[0]()
	addr := chosen.Addrs()[0]
	listen := []string{addr[:len(addr)-len("/p2p/"+chosen.ID().String())]}
	l.stops[1]()
	l.stops[2]()
	n = l.start(0, func(c *node.Config) { c.Dir, c.Bootstrap, c.DHT = dir, nil, "off" })
	for i := 3; i < 10; i++ {
		l.start(i, func(c *node.Config) { c.Bootstrap, c.DHT = n.Addrs(), "off" })
	}
	until(t, "many strangers are connected", func() bool { return len(n.Peers()) == 7 })
	l.start(1, func(c *node.Config) { c.Bootstrap, c.DHT, c.Listen = nil, "off", listen })
	until(t, "the peer of before is dialled all the same", func() bool { return connected(n, chosen.ID()) })
}

// The connection between who works and who pays is kept for as long as that
// lasts.
func TestConnectionsThatCarryJobsAreKept(t *testing.T) {
	l := newLab(t, 3)
	slow := make(chan struct{})
	finish := sync.OnceFunc(func() { close(slow) })
	defer finish() // or a node whose test failed would not end
	l.startAll(3, func(_ int, c *node.Config) {
		c.Tamper = func(out []byte) []byte { <-slow; return out }
	})
	payer, worker := l.nodes[1], l.nodes[2]
	if payer.Carries(worker.ID()) || worker.Carries(payer.ID()) {
		t.Fatal("there is no job yet")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := payer.SubmitBatch(ctx, node.JobSpec{Type: "text", Inputs: [][]byte{[]byte(text)}, Options: market.Options{Redundancy: 1}})
		done <- err
	}()
	until(t, "both keep the connection", func() bool { return payer.Carries(worker.ID()) && worker.Carries(payer.ID()) })
	finish()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	until(t, "nobody keeps it any more", func() bool { return !payer.Carries(worker.ID()) && !worker.Carries(payer.ID()) })
}
