package transport

import (
	"fmt"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
)

// NewHost composes a host from swarm and basichost, because libp2p's root
// package does not build for js. It has no transport yet: the browser's
// WebTransport arrives with the browser peer, so this host can neither dial
// nor listen.
func NewHost(c Config) (host.Host, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	if len(c.Listen) > 0 {
		return nil, fmt.Errorf("transport: a tab cannot listen on %s", c.Listen[0])
	}
	id, err := peer.IDFromPrivateKey(c.Key)
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	store, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	if err := store.AddPrivKey(id, c.Key); err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	if err := store.AddPubKey(id, c.Key.GetPublic()); err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	bus := eventbus.NewBus()
	sw, err := swarm.NewSwarm(id, store, bus)
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	h, err := basichost.NewHost(sw, &basichost.HostOpts{EventBus: bus, EnablePing: true, UserAgent: c.UserAgent, AddrsFactory: c.announced})
	if err != nil {
		sw.Close()
		return nil, fmt.Errorf("transport: %w", err)
	}
	h.Start()
	return h, nil
}
