//go:build !js

package transport

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	ma "github.com/multiformats/go-multiaddr"
)

// napping is a router that speaks NAT-PMP: it opens port P as P + 1000.
type napping struct {
	at   netip.AddrPort
	mu   sync.Mutex
	open map[mappedPort]bool
	asks []byte // operations, in their order
}

func newNapping(t *testing.T) *napping {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := &napping{at: conn.LocalAddr().(*net.UDPAddr).AddrPort(), open: map[mappedPort]bool{}}
	done := make(chan struct{})
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	go func() {
		defer close(done)
		b := make([]byte, 64)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			conn.WriteToUDPAddrPort(r.answer(b[:n]), from)
		}
	}()
	return r
}

func (r *napping) answer(ask []byte) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asks = append(r.asks, ask[1])
	if ask[1] == 0 {
		return []byte{0, 128, 0, 0, 0, 0, 0, 1, 203, 0, 113, 9}
	}
	p := mappedPort{ask[1] == 1, binary.BigEndian.Uint16(ask[4:])}
	if r.open[p] = true; binary.BigEndian.Uint32(ask[8:]) == 0 {
		delete(r.open, p)
	}
	reply := append([]byte{0, ask[1] | 128, 0, 0, 0, 0, 0, 1}, ask[4:6]...)
	reply = binary.BigEndian.AppendUint16(reply, p.port+1000)
	return append(reply, ask[8:12]...)
}

// A router that speaks NAT-PMP opens every port that is listened on, also one
// that is added later, and closes them all when the host ends.
func TestRouterOpensPorts(t *testing.T) {
	r := newNapping(t)
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	n := h.Network()
	listen := func(a string) {
		if err := n.Listen(ma.StringCast(a)); err != nil {
			t.Fatal(err)
		}
	}
	listen("/ip4/0.0.0.0/tcp/0")
	m := startPortMapper(n, none{}, func() (netip.AddrPort, error) { return r.at, nil })
	defer func() { m.Close() }()
	opened := func(a ma.Multiaddr) bool {
		at := m.GetMapping(a)
		if at == nil {
			return false
		}
		p, _, _ := portOf(a)
		q, rest, _ := portOf(at)
		ip, _ := at.ValueForProtocol(ma.P_IP4)
		if ip != "203.0.113.9" || q.port != p.port+1000 || q.udp != p.udp || p.udp && rest.String() != "/quic-v1" {
			t.Fatalf("%s is opened as %s", a, at)
		}
		return true
	}
	all := func() bool {
		return !slices.ContainsFunc(n.ListenAddresses(), func(a ma.Multiaddr) bool { return !opened(a) })
	}
	allOpen(t, all)
	listen("/ip4/0.0.0.0/udp/0/quic-v1")
	if len(n.ListenAddresses()) != 2 {
		t.Fatal(n.ListenAddresses())
	}
	allOpen(t, all)
	r.mu.Lock()
	if len(r.open) != 2 {
		t.Errorf("open at the router are %v, want both ports", r.open)
	}
	r.mu.Unlock()
	if !m.HasDiscoveredNAT() {
		t.Error("no router was found")
	}
	if a := m.GetMapping(ma.StringCast("/ip4/127.0.0.1/tcp/4001")); a != nil {
		t.Errorf("loopback is opened as %s", a)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.open) != 0 {
		t.Errorf("left open: %v", r.open)
	}
}

func allOpen(t *testing.T, all func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !all(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not all ports were opened")
		}
	}
}

// none is UPnP on a network whose router does not speak it.
type none struct{}

func (none) GetMapping(ma.Multiaddr) ma.Multiaddr { return nil }
func (none) HasDiscoveredNAT() bool               { return false }
func (none) Close() error                         { return nil }

var _ basichost.NATManager = none{}
