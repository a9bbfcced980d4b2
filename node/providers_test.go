//go:build !js

package node_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/peer"
	mh "github.com/multiformats/go-multihash"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/sandbox/modules"
)

// A DHT server keeps who works on a shard, also over a restart, and nothing else
// that peers announce.
func TestProviderRecordsOfShardsOnlyAreKept(t *testing.T) {
	l := newLab(t, 1)
	dir := t.TempDir()
	n := l.start(0, func(c *node.Config) { c.Dir = dir })
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1"))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	info, err := peer.AddrInfoFromString(n.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d, err := dht.New(ctx, h, dht.ProtocolPrefix(l.net.ID.DHTPrefix()), dht.Mode(dht.ModeClient), dht.AddressFilter(nil), dht.DisableValues())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := h.Connect(ctx, *info); err != nil {
		t.Fatal(err)
	}
	until(t, "the node is in the table", func() bool { return d.RoutingTable().Size() == 1 })
	provide := func(name string) {
		key, err := mh.Sum([]byte(name), mh.SHA2_256, -1)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Provide(ctx, cid.NewCidV1(cid.Raw, key), true); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		provide(fmt.Sprint(n.CapabilityKey(0), i))
	}
	if all, _ := n.Providers(h.ID()); all != 0 {
		t.Error("records of other keys are kept")
	}
	provide(n.CapabilityKey(0))
	until(t, "the record of the shard is kept", func() bool { _, has := n.Providers(h.ID()); return has })
	l.stops[0]()
	n = l.start(0, func(c *node.Config) { c.Dir = dir })
	if _, has := n.Providers(h.ID()); !has {
		t.Error("the record is lost when the server starts again")
	}
}

// One network full of identities takes the places of its own, not of others.
func TestProviderRecordsAreBounded(t *testing.T) {
	l := newLab(t, 1)
	n := l.start(0, nil)
	now := time.Now()
	old, elsewhere := someID(t), someID(t)
	n.Provided(elsewhere, "/ip4/198.51.100.7/tcp/1", now.Add(-time.Hour))
	n.Provided(old, "/ip4/192.0.2.1/tcp/1", now.Add(-time.Minute))
	for i := range node.MaxProviders + 50 {
		n.Provided(someID(t), fmt.Sprintf("/ip4/192.0.2.%d/tcp/1", i%250), now)
	}
	all, honest := n.Providers(elsewhere)
	if _, first := n.Providers(old); all != node.MaxProviders || !honest || first {
		t.Errorf("%d providers are kept, the one elsewhere %t, the oldest of the crowd %t", all, honest, first)
	}
}

// A node finds a worker that nobody it knows tells it of but by the provider
// record: the worker serves no lookups, so it is in nobody's routing table.
func TestWorkersAreFoundByTheirProviderRecords(t *testing.T) {
	l := newLab(t, 3)
	server := l.start(0, nil)
	worker := l.start(1, func(c *node.Config) {
		c.DHT, c.Executor = "client", l.exec
		c.Worker = market.Worker{Enabled: true, Slots: 1, Types: modules.Types()}
	})
	until(t, "the worker is announced", func() bool { _, has := server.Providers(worker.ID()); return has })
	seeker := l.start(2, func(c *node.Config) { c.DHT = "client" })
	until(t, "the worker is found", func() bool { return connected(seeker, worker.ID()) })
}
