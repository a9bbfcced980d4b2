package node

import (
	"net/netip"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// subnet is the network that an address belongs to: its /24, or its /48 of IPv6,
// which is what one customer is given at most. Peers that do not share one are
// more likely of different people. "" for an address without an IP.
func subnet(a ma.Multiaddr) string { return prefixOf(a, 24, 48) }

// site is the place that an address belongs to: an IPv4 address, or a /64.
func site(a ma.Multiaddr) string { return prefixOf(a, 32, 64) }

// ipOf is an address's first IP.
func ipOf(a ma.Multiaddr) (netip.Addr, bool) {
	if a == nil {
		return netip.Addr{}, false
	}
	raw, err := manet.ToIP(a)
	if err != nil {
		return netip.Addr{}, false
	}
	ip, ok := netip.AddrFromSlice(raw)
	return ip.Unmap(), ok
}

func prefixOf(a ma.Multiaddr, bits4, bits6 int) string {
	ip, ok := ipOf(a)
	if !ok {
		return ""
	}
	bits := bits6
	if ip.Is4() {
		bits = bits4
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return ""
	}
	return p.String()
}
