//go:build !js

package transport

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
)

// What one address and one subnet may have of a host's connections. Many honest
// peers share an address behind the router of an office, a campus or a mobile
// carrier, so a share is large; and it is a share, so no address has them all.
const (
	leastOfAddress = 64  // of the connections from an IPv4 address or a /64 of IPv6
	leastOfSubnet  = 128 // from a /24, or a /48
	refill         = 30 * time.Second
)

// ofAddress is how many connections one address may have.
func (c Config) ofAddress() int { return max(leastOfAddress, c.Connections/4) }

// ofSubnet is how many connections one subnet may have.
func (c Config) ofSubnet() int { return max(leastOfSubnet, c.Connections/2) }

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// resourceManager bounds connections, streams and memory: libp2p's limits for
// this machine, raised where they would be in the way of the connections that
// the host is meant to have. libp2p's own eight connections for an address would
// be three peers.
func (c Config) resourceManager() (network.ResourceManager, error) {
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)
	auto := limits.AutoScale()
	wall := 2 * c.Connections // until the connection manager has closed what is too much
	has := auto.ToPartialLimitConfig()
	atLeast := func(l *rcmgr.LimitVal, least int) { *l = max(*l, rcmgr.LimitVal(least)) }
	atLeast(&has.System.Conns, wall)
	atLeast(&has.System.ConnsInbound, wall)
	atLeast(&has.System.ConnsOutbound, wall)
	atLeast(&has.System.Streams, 16*wall)
	atLeast(&has.System.StreamsInbound, 16*wall)
	atLeast(&has.System.StreamsOutbound, 16*wall)
	atLeast(&has.Transient.Conns, c.ofSubnet())
	atLeast(&has.Transient.ConnsInbound, c.ofSubnet())
	// Gossip and the network's own protocols have a stream or two with everybody.
	atLeast(&has.ProtocolDefault.Streams, 2*wall)
	atLeast(&has.ProtocolDefault.StreamsInbound, 2*wall)
	atLeast(&has.ProtocolDefault.StreamsOutbound, 2*wall)
	has.System.Memory = max(has.System.Memory, rcmgr.LimitVal64(min(int64(wall)*256<<10, 1<<30)))

	address, subnet := c.ofAddress(), c.ofSubnet()
	perSecond := func(burst int) rate.Limit {
		return rate.Limit{RPS: float64(burst) / refill.Seconds(), Burst: burst}
	}
	unlimited := func(p netip.Prefix) []rcmgr.NetworkPrefixLimit {
		return []rcmgr.NetworkPrefixLimit{{Network: p, ConnCount: math.MaxInt}}
	}
	m, err := rcmgr.NewResourceManager(
		rcmgr.NewFixedLimiter(has.Build(auto)),
		rcmgr.WithNetworkPrefixLimit(unlimited(loopback[0]), unlimited(loopback[1])),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: address}, {PrefixLength: 24, ConnCount: subnet}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 64, ConnCount: address}, {PrefixLength: 48, ConnCount: subnet}},
		),
		rcmgr.WithConnRateLimiters(&rate.Limiter{
			NetworkPrefixLimits: []rate.PrefixLimit{{Prefix: loopback[0]}, {Prefix: loopback[1]}},
			SubnetRateLimiter: rate.SubnetLimiter{
				IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: perSecond(address)}, {PrefixLength: 24, Limit: perSecond(subnet)}},
				IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 64, Limit: perSecond(address)}, {PrefixLength: 48, Limit: perSecond(subnet)}},
				GracePeriod:      time.Minute,
			},
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	return m, nil
}
