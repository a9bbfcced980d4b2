package transport

import (
	"errors"
	"fmt"
	"sync"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/security/noise"

	"edgenet.dev/transport/webtransport"
)

// NewHost starts a host that dials over the browser's WebTransport and
// WebSocket, in a page or in a Worker. It composes swarm and basichost itself,
// because libp2p's root package does not build for js. A tab cannot listen: it
// keeps slots on Config.Relays, and others reach it through them. The caller
// closes it.
func NewHost(c Config) (host.Host, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	if len(c.Listen) > 0 {
		return nil, fmt.Errorf("transport: a tab cannot listen on %s", c.Listen[0])
	}
	if c.Relay || c.Reachability == Public {
		return nil, fmt.Errorf("transport: a tab cannot be reached and serve relays")
	}
	h, err := newTab(c)
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	return h, nil
}

// tab is the host of a browser's node; it owns the goroutine that keeps relays.
type tab struct {
	*basichost.BasicHost
	reachability event.Emitter
	stop         func()
	closing      sync.Once
	closed       error
}

func (t *tab) Close() error {
	t.closing.Do(func() {
		if t.stop != nil {
			t.stop()
		}
		t.closed = errors.Join(t.reachability.Close(), t.BasicHost.Close())
	})
	return t.closed
}

func newTab(c Config) (_ *tab, err error) {
	var opened []func() error
	defer func() {
		for i := len(opened) - 1; err != nil && i >= 0; i-- {
			opened[i]()
		}
	}()
	id, err := peer.IDFromPrivateKey(c.Key)
	if err != nil {
		return nil, err
	}
	store, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, err
	}
	opened = append(opened, store.Close)
	if err := errors.Join(store.AddPrivKey(id, c.Key), store.AddPubKey(id, c.Key.GetPublic())); err != nil {
		return nil, err
	}
	conns, err := connmgr.NewConnManager(c.low(), c.Connections)
	if err != nil {
		return nil, err
	}
	opened = append(opened, conns.Close)

	bus := eventbus.NewBus()
	resources := newLimits()
	opts := []swarm.Option{swarm.WithResourceManager(resources)}
	if c.Bandwidth != nil {
		opts = append(opts, swarm.WithMetrics(c.Bandwidth))
	}
	sw, err := swarm.NewSwarm(id, store, bus, opts...)
	if err != nil {
		return nil, err
	}
	opened = append(opened, sw.Close)

	secure, err := noise.New(noise.ID, c.Key, []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}})
	if err != nil {
		return nil, err
	}
	up, err := upgrader.New([]sec.SecureTransport{secure}, []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}, nil, resources, nil)
	if err != nil {
		return nil, err
	}
	if webtransport.Supported() {
		wt, err := webtransport.New(c.Key, nil, resources)
		if err != nil {
			return nil, err
		}
		if err := sw.AddTransport(wt); err != nil {
			return nil, err
		}
	}
	if err := sw.AddTransport(webtransport.NewWebSocket(up, resources)); err != nil {
		return nil, err
	}

	h, err := basichost.NewHost(sw, &basichost.HostOpts{
		EventBus: bus, ConnManager: conns, EnablePing: true, UserAgent: c.UserAgent, AddrsFactory: c.announced,
	})
	if err != nil {
		return nil, err
	}
	opened = append(opened, h.Close)
	if err := client.AddTransport(h, up); err != nil {
		return nil, err
	}
	// Only a host that knows it is private announces its relayed addresses.
	reachability, err := bus.Emitter(new(event.EvtLocalReachabilityChanged), eventbus.Stateful)
	if err != nil {
		return nil, err
	}
	opened = append(opened, reachability.Close)
	if err := reachability.Emit(event.EvtLocalReachabilityChanged{Reachability: network.ReachabilityPrivate}); err != nil {
		return nil, err
	}
	h.Start()
	t := &tab{BasicHost: h, reachability: reachability}
	if len(c.Relays) > 0 || c.Resolve != nil {
		if t.stop, err = keepRelays(t, c); err != nil {
			return nil, err
		}
	}
	return t, nil
}
