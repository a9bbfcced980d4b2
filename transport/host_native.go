//go:build !js

package transport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/benbjohnson/clock"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	webtransport "github.com/libp2p/go-libp2p/p2p/transport/webtransport"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// NewHost starts a host with TCP, QUIC, WebTransport and WebSocket. The caller
// closes it. A listen address that is taken is an error that names it.
func NewHost(c Config) (host.Host, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	if err := portsFree(c.Listen); err != nil {
		return nil, err
	}
	conns, err := connmgr.NewConnManager(c.low(), c.Connections)
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	resources, err := c.resourceManager()
	if err != nil {
		conns.Close()
		return nil, err
	}
	opts := []libp2p.Option{
		libp2p.ResourceManager(resources),
		libp2p.Identity(c.Key),
		libp2p.ListenAddrs(c.Listen...),
		libp2p.AddrsFactory(c.announced),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(quic.NewTransport),
		libp2p.Transport(webtransport.New, c.certificates()...),
		libp2p.Transport(websocket.New),
		libp2p.ConnectionManager(conns),
		libp2p.UserAgent(c.UserAgent),
		libp2p.EnableRelay(),
		libp2p.EnableHolePunching(),
		libp2p.NonPublicAddrPublishing(true), // loopback and LAN networks are networks too
		c.metrics(),
	}
	if len(c.Listen) == 0 {
		opts = append(opts, libp2p.NoListenAddrs)
	}
	if c.Gater != nil {
		opts = append(opts, libp2p.ConnectionGater(c.Gater))
	}
	if c.Bandwidth != nil {
		opts = append(opts, libp2p.BandwidthReporter(c.Bandwidth))
	}
	if c.MapPorts && slices.ContainsFunc(c.Listen, func(a ma.Multiaddr) bool { return !manet.IsIPLoopback(a) }) {
		opts = append(opts, libp2p.NATManager(newPortMapper))
	}
	switch c.Reachability {
	case Public:
		opts = append(opts, libp2p.ForceReachabilityPublic(), libp2p.EnableNATService())
	case Private:
		opts = append(opts, libp2p.ForceReachabilityPrivate())
	}
	if c.Relay {
		opts = append(opts, libp2p.EnableRelayService(relay.WithResources(c.relayResources())))
	} else if len(c.Relays) > 0 && c.Resolve == nil {
		opts = append(opts, libp2p.EnableAutoRelayWithStaticRelays(c.Relays))
	}
	h, err := libp2p.New(opts...)
	if err != nil {
		conns.Close()
		resources.Close()
		return nil, fmt.Errorf("transport: %w", err)
	}
	if c.Relay || c.Resolve == nil {
		return h, nil
	}
	stop, err := keepRelays(h, c)
	if err != nil {
		h.Close()
		return nil, err
	}
	return &kept{Host: h, stop: stop}, nil
}

// certificates are options of the WebTransport transport.
func (c Config) certificates() []any {
	if c.CertificatesAt.IsZero() {
		return nil
	}
	stopped := clock.NewMock()
	stopped.Set(c.CertificatesAt)
	return []any{webtransport.WithClock(stopped)}
}

// kept is a host whose relays are kept by a keeper instead of libp2p's own
// AutoRelay, which cannot be told new addresses.
type kept struct {
	host.Host
	stop    func()
	closing sync.Once
	closed  error
}

func (k *kept) Close() error {
	k.closing.Do(func() {
		k.stop()
		k.closed = k.Host.Close()
	})
	return k.closed
}

// portsFree binds each address once without SO_REUSEPORT: libp2p sets that
// option and starts as long as one address works, so two daemons would share a
// port and each get half of the connections.
func portsFree(addrs []ma.Multiaddr) error {
	for _, a := range addrs {
		plain, _ := ma.SplitFunc(a, func(c ma.Component) bool {
			return c.Protocol().Code != ma.P_IP4 && c.Protocol().Code != ma.P_IP6 && c.Protocol().Code != ma.P_TCP && c.Protocol().Code != ma.P_UDP
		})
		network, addr, err := manet.DialArgs(plain)
		if err != nil {
			return fmt.Errorf("transport: listen on %s: %w", a, err)
		}
		var l io.Closer
		if strings.HasPrefix(network, "udp") {
			l, err = net.ListenPacket(network, addr)
		} else {
			l, err = net.Listen(network, addr)
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("transport: %w", &PortTakenError{a})
		}
		if errors.Is(err, syscall.EAFNOSUPPORT) {
			continue // an address of a protocol that the machine has not; libp2p needs one that works
		}
		if err != nil {
			return fmt.Errorf("transport: listen on %s: %w", a, err)
		}
		l.Close()
	}
	return nil
}
