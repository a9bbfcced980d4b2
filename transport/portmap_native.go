//go:build !js

package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-netroute"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	natpmpPort  = 5351
	mapLifetime = 2 * time.Hour    // what RFC 6886 section 3.3 recommends
	mapRenewal  = 10 * time.Minute // soon enough for a router that was started again or has another address
)

// mappedPort is a port of this machine that a router may open.
type mappedPort struct {
	udp  bool
	port uint16
}

// portMapper has the router open the ports that a host listens on. libp2p does
// so by UPnP; NAT-PMP (RFC 6886) is spoken here, because libp2p 0.51 asks its
// routing library for the route to 0.0.0.0, which that refuses, and so finds no
// gateway to speak it with. A router that offers both is asked by both; it has
// one table. Close takes the mappings back, at best effort.
type portMapper struct {
	upnp    basichost.NATManager
	net     network.Network
	gateway func() (netip.AddrPort, error)
	cancel  context.CancelFunc
	done    chan struct{}
	listens chan struct{} // holds a value when the listen addresses changed

	mu       sync.Mutex
	external netip.Addr            // invalid when the router does not answer
	ports    map[mappedPort]uint16 // to the router's port
}

func newPortMapper(n network.Network) basichost.NATManager {
	return startPortMapper(n, basichost.NewNATManager(n), defaultGateway)
}

func startPortMapper(n network.Network, upnp basichost.NATManager, gateway func() (netip.AddrPort, error)) *portMapper {
	ctx, cancel := context.WithCancel(context.Background())
	m := &portMapper{
		upnp: upnp, net: n, gateway: gateway, cancel: cancel,
		done: make(chan struct{}), listens: make(chan struct{}, 1), ports: map[mappedPort]uint16{},
	}
	go m.run(ctx)
	return m
}

func (m *portMapper) Close() error {
	m.cancel()
	<-m.done
	return m.upnp.Close()
}

func (m *portMapper) HasDiscoveredNAT() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.external.IsValid() || m.upnp.HasDiscoveredNAT()
}

// GetMapping is the address at which the router lets others in to a listen
// address, or nil.
func (m *portMapper) GetMapping(listen ma.Multiaddr) ma.Multiaddr {
	if a := m.upnp.GetMapping(listen); a != nil {
		return a
	}
	p, rest, ok := portOf(listen)
	m.mu.Lock()
	external := m.ports[p]
	addr := m.external
	m.mu.Unlock()
	if !ok || external == 0 || !addr.IsValid() {
		return nil
	}
	var at net.Addr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, external))
	if p.udp {
		at = net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, external))
	}
	mapped, err := manet.FromNetAddr(at)
	if err != nil {
		return nil
	}
	return mapped.Encapsulate(rest)
}

// portOf splits a listen address on IPv4 into its port and what follows that.
func portOf(a ma.Multiaddr) (p mappedPort, rest ma.Multiaddr, ok bool) {
	ported := false
	thin, rest := ma.SplitFunc(a, func(c ma.Component) bool {
		was := ported
		ported = was || c.Protocol().Code == ma.P_TCP || c.Protocol().Code == ma.P_UDP
		return was
	})
	at, err := manet.ToNetAddr(thin)
	if err != nil {
		return mappedPort{}, nil, false
	}
	var ip net.IP
	switch at := at.(type) {
	case *net.TCPAddr:
		p, ip = mappedPort{false, uint16(at.Port)}, at.IP
	case *net.UDPAddr:
		p, ip = mappedPort{true, uint16(at.Port)}, at.IP
	}
	return p, rest, p.port != 0 && ip.To4() != nil && (ip.IsGlobalUnicast() || ip.IsUnspecified())
}

// run keeps the mappings until Close, and takes them back then.
func (m *portMapper) run(ctx context.Context) {
	defer close(m.done)
	heard := &network.NotifyBundle{
		ListenF:      func(network.Network, ma.Multiaddr) { m.changed() },
		ListenCloseF: func(network.Network, ma.Multiaddr) { m.changed() },
	}
	m.net.Notify(heard)
	defer m.net.StopNotify(heard)
	renew := time.NewTicker(mapRenewal)
	defer renew.Stop()
	for {
		m.mapAll(ctx)
		select {
		case <-ctx.Done():
			m.unmapAll()
			return
		case <-m.listens:
		case <-renew.C:
		}
	}
}

func (m *portMapper) changed() {
	select {
	case m.listens <- struct{}{}:
	default:
	}
}

// mapAll asks for the router's address and for every port that is listened on.
// That a router does not do it is the usual case and no event.
func (m *portMapper) mapAll(ctx context.Context) {
	router, external, err := m.router(ctx)
	if err != nil {
		m.mu.Lock()
		m.external = netip.Addr{}
		m.mu.Unlock()
		return
	}
	wanted := map[mappedPort]bool{}
	for _, a := range m.net.ListenAddresses() {
		if p, _, ok := portOf(a); ok {
			wanted[p] = true
		}
	}
	m.mu.Lock()
	m.external = external
	for p := range m.ports {
		if !wanted[p] {
			delete(m.ports, p) // the router forgets it when its lifetime is over
		}
	}
	m.mu.Unlock()
	for p := range wanted {
		at, err := mapPort(ctx, router, p, mapLifetime)
		if err != nil {
			continue // refused, or the router is away: what it said before ends at the next renewal
		}
		m.mu.Lock()
		m.ports[p] = at
		m.mu.Unlock()
	}
}

// router is the gateway that answers, and its address on the other side.
func (m *portMapper) router(ctx context.Context) (router netip.AddrPort, external netip.Addr, err error) {
	if router, err = m.gateway(); err != nil {
		return router, external, err
	}
	reply, err := natpmp(ctx, router, []byte{0, 0}, 12)
	if err != nil {
		return router, external, err
	}
	if external = netip.AddrFrom4([4]byte(reply[8:12])); external.IsUnspecified() {
		return router, external, errors.New("the router has no address of its own")
	}
	return router, external, nil
}

// unmapAll takes the mappings back, within a second.
func (m *portMapper) unmapAll() {
	m.mu.Lock()
	ports := m.ports
	m.ports, m.external = map[mappedPort]uint16{}, netip.Addr{}
	m.mu.Unlock()
	if len(ports) == 0 {
		return
	}
	router, err := m.gateway()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for p := range ports {
		if _, err := mapPort(ctx, router, p, 0); err != nil {
			return // a router that does not answer forgets by itself
		}
	}
}

// mapPort has a router open a port, the same outside if it is free there, or
// close it with a lifetime of zero. It returns the port outside.
func mapPort(ctx context.Context, router netip.AddrPort, p mappedPort, lifetime time.Duration) (uint16, error) {
	ask := make([]byte, 12)
	if ask[1] = 2; p.udp {
		ask[1] = 1
	}
	binary.BigEndian.PutUint16(ask[4:], p.port)
	if lifetime > 0 {
		binary.BigEndian.PutUint16(ask[6:], p.port)
	}
	binary.BigEndian.PutUint32(ask[8:], uint32(lifetime/time.Second))
	reply, err := natpmp(ctx, router, ask, 16)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint16(reply[10:]), nil
}

// natpmp asks a router and waits for its answer, which has size bytes. It asks
// five times with growing pauses, eight seconds in all: RFC 6886 section 3.1
// says nine times and two minutes, but nobody waits for the first answer here.
func natpmp(ctx context.Context, router netip.AddrPort, ask []byte, size int) ([]byte, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "udp4", router.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	reply := make([]byte, 64)
	for wait := 250 * time.Millisecond; wait <= 4*time.Second; wait *= 2 {
		if _, err = conn.Write(ask); err != nil {
			return nil, err
		}
		if err = conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return nil, err
		}
		for {
			var n int
			if n, err = conn.Read(reply); err != nil {
				break
			}
			if n != size || reply[0] != 0 || reply[1] != ask[1]|0x80 {
				continue // the answer to something else
			}
			if code := binary.BigEndian.Uint16(reply[2:]); code != 0 {
				return nil, fmt.Errorf("the router answers with result code %d", code)
			}
			return reply[:n], nil
		}
		if ne := net.Error(nil); !errors.As(err, &ne) || !ne.Timeout() {
			return nil, err // nobody listens there, or ctx is done
		}
	}
	return nil, fmt.Errorf("no router answers at %s: %w", router, err)
}

// carrier is what providers use between themselves and their customers (RFC 6598).
var carrier = netip.MustParsePrefix("100.64.0.0/10")

// defaultGateway is where packets to everywhere go first.
func defaultGateway() (netip.AddrPort, error) {
	router, err := netroute.New()
	if err != nil {
		return netip.AddrPort{}, err
	}
	// Any public address will do: 192.88.99.1 was an anycast address and is
	// nobody's now, so no machine has a route of its own to it.
	_, gateway, _, err := router.Route(net.IPv4(192, 88, 99, 1))
	if err != nil {
		return netip.AddrPort{}, err
	}
	ip, ok := netip.AddrFromSlice(gateway.To4())
	if !ok || !ip.IsPrivate() && !carrier.Contains(ip) {
		return netip.AddrPort{}, errors.New("no gateway of a home network")
	}
	return netip.AddrPortFrom(ip, natpmpPort), nil
}
