//go:build !js

package node

import (
	"errors"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/host"
)

type kadDHT struct {
	*dht.IpfsDHT
	records *providers
}

func (k kadDHT) known() int            { return k.RoutingTable().Size() }
func (k kadDHT) refresh() <-chan error { return k.RefreshRoutingTable() }

// openKademlia takes part in the network's DHT, or returns nil when the node
// only asks others.
func (n *Node) openKademlia(h host.Host) (kademlia, error) {
	mode, ok := map[string]dht.ModeOpt{"auto": dht.ModeAutoServer, "server": dht.ModeServer, "client": dht.ModeClient}[n.cfg.DHT]
	if !ok {
		return nil, nil
	}
	records, err := n.openProviders(h)
	if err != nil {
		return nil, err
	}
	d, err := dht.New(n.ctx, h,
		dht.ProtocolPrefix(n.net.ID.DHTPrefix()),
		dht.Mode(mode),
		dht.AddressFilter(nil), // loopback and LAN addresses are real here
		dht.BootstrapPeers(n.addrs.bootstrap...),
		dht.DisableValues(),
		dht.ProviderStore(records),
		dht.DisableAutoRefresh(), // discover decides when
	)
	if err != nil {
		return nil, errors.Join(err, records.Close())
	}
	return kadDHT{d, records}, nil
}
