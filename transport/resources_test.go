//go:build !js

package transport

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

// One address and one subnet have their share of the connections, however long
// they try, and open so many in a while, however fast they close them. Others
// have the rest, and loopback what it likes. The clock is the test's.
func TestAddressesShareTheConnections(t *testing.T) {
	for _, connections := range []int{DefaultConnections, ServiceConnections, WitnessConnections} {
		synctest.Test(t, func(t *testing.T) { addressesShare(t, Config{Connections: connections}) })
	}
}

func addressesShare(t *testing.T, c Config) {
	r, err := c.resourceManager()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var open []network.ConnManagementScope
	opened := func(count int, addr string) (n int) {
		for i := range count {
			s, err := r.OpenConnection(network.DirInbound, false, ma.StringCast(fmt.Sprintf(addr, i%250)))
			if err != nil {
				continue
			}
			if err := s.SetPeer(testID(t)); err != nil { // not transient any more
				t.Errorf("of %d connections to %s one has no place: %v", c.Connections, addr, err)
			}
			open = append(open, s)
			n++
		}
		return n
	}
	address, subnet := c.ofAddress(), c.ofSubnet()
	if address < 64 || subnet < 2*address || subnet > max(128, c.Connections/2) {
		t.Errorf("%d connections: %d for an address, %d for a subnet", c.Connections, address, subnet)
	}
	done := func() {
		for _, s := range open {
			s.Done()
		}
		open = nil
	}
	for _, x := range []struct {
		addr  string
		tries int
		want  int
	}{
		{"/ip4/192.0.2.1/udp/%d/quic-v1", 2 * address, address},
		{"/ip4/192.0.2.%d/udp/1/quic-v1", 2 * subnet, subnet - address},
		{"/ip4/198.51.100.%d/udp/1/quic-v1", 10, 10},
		{"/ip6/2001:db8::%d/udp/1/quic-v1", 2 * address, address},
		{"/ip6/2001:db8:0:%d::1/udp/1/quic-v1", 2 * subnet, subnet - address},
	} {
		if n := opened(x.tries, x.addr); n != x.want {
			t.Errorf("of %d connections %s has %d, want %d", c.Connections, x.addr, n, x.want)
		}
		time.Sleep(refill)
		if n := opened(x.tries, x.addr); x.want < x.tries && n != 0 {
			t.Errorf("of %d connections %s has %d more after a while", c.Connections, x.addr, n)
		}
		time.Sleep(refill)
		if x.want == x.tries { // the host has no more places for the next ones
			done()
		}
	}
	done()
	if n := opened(2*address, "/ip4/127.0.0.1/udp/%d/quic-v1"); c.Connections == ServiceConnections && n != 2*address {
		t.Errorf("of %d connections loopback has %d", c.Connections, n)
	}
	done()
	n := 0
	for range 2 * address {
		if s, err := r.OpenConnection(network.DirInbound, false, ma.StringCast("/ip4/192.0.2.1/udp/1/quic-v1")); err == nil {
			n++
			s.Done()
		}
	}
	if n != address {
		t.Errorf("of %d connections one address opens and closes %d at once, want %d", c.Connections, n, address)
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
