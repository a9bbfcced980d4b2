//go:build !js

package transport

import (
	"fmt"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

// One address and one subnet have a share of a host's places, large enough for
// many peers behind one router, and the rest stays for others.
func TestAddressesShareTheConnections(t *testing.T) {
	for _, connections := range []int{DefaultConnections, ServiceConnections, WitnessConnections} {
		c := Config{Connections: connections}
		r, err := c.resourceManager()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		opened := func(count int, addr string) (n int) {
			for i := range count {
				a := ma.StringCast(fmt.Sprintf(addr, i%250))
				s, err := r.OpenConnection(network.DirInbound, false, a)
				if err != nil {
					continue
				}
				n++
				if err := s.SetPeer(testID(t)); err != nil { // not transient any more
					n--
				}
			}
			return n
		}
		address, subnet := c.ofAddress(), c.ofSubnet()
		if address < 64 || subnet < 2*address || subnet > max(128, connections/2) {
			t.Errorf("%d connections: %d for an address, %d for a subnet", connections, address, subnet)
		}
		if n := opened(2*address, "/ip4/192.0.2.1/udp/%d/quic-v1"); n < address || n > address+address/4 {
			t.Errorf("of %d connections one address has %d, want %d", connections, n, address)
		}
		if n := opened(2*subnet, "/ip4/192.0.2.%d/udp/1/quic-v1"); n < subnet-address-address/4 || n > subnet-address+subnet/4 {
			t.Errorf("of %d connections the rest of its subnet has %d, want %d", connections, n, subnet-address)
		}
		if n := opened(10, "/ip4/198.51.100.%d/udp/1/quic-v1"); n != 10 {
			t.Errorf("of %d connections others have %d", connections, n)
		}
		if n := opened(2*address, "/ip6/2001:db8::%d/udp/1/quic-v1"); n < address || n > address+address/4 {
			t.Errorf("of %d connections one IPv6 network has %d, want %d", connections, n, address)
		}
		if n := opened(2*address, "/ip4/127.0.0.1/udp/%d/quic-v1"); connections == ServiceConnections && n != 2*address {
			t.Errorf("of %d connections loopback has %d", connections, n)
		}
	}
}

// Relay places are shared like connections.
func TestRelayPlacesOfAnAddress(t *testing.T) {
	for connections, want := range map[int][2]int{DefaultConnections: {128, 64}, ServiceConnections: {300, 75}, WitnessConnections: {3000, 750}} {
		r := Config{Connections: connections}.relayResources()
		if r.MaxReservations != want[0] || r.MaxReservationsPerIP != want[1] || r.MaxReservationsPerASN != want[0]/2 {
			t.Errorf("%d connections: %d relay places, %d for an address, %d for a carrier", connections, r.MaxReservations, r.MaxReservationsPerIP, r.MaxReservationsPerASN)
		}
	}
}
