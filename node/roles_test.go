//go:build !js

package node_test

import (
	"testing"

	"edgenet.dev/node"
	"edgenet.dev/proto"
)

// How many connections libp2p keeps and lets in follows a node's role: few at
// home, more where it serves others, thousands where everybody has to reach it;
// and the configuration has the last word.
func TestConnectionsFollowTheRole(t *testing.T) {
	l := newLab(t, 2)
	for _, x := range []struct {
		role      string
		is        int
		edit      func(*node.Config)
		low, high int
	}{
		{"a worker", 1, func(c *node.Config) {}, 85, node.DefaultConnections},
		{"a relay", 1, func(c *node.Config) { c.Relay = true }, 400, node.ServiceConnections},
		{"a server of Kademlia", 1, func(c *node.Config) { c.DHT = "server" }, 400, node.ServiceConnections},
		{"a public node", 1, func(c *node.Config) { c.Reachability = "public" }, 400, node.ServiceConnections},
		{"a witness", 0, func(c *node.Config) {}, 4000, node.WitnessConnections},
		{"a witness with a configuration", 0, func(c *node.Config) { c.Connections = 9000 }, 6000, 9000},
	} {
		n := l.start(x.is, func(c *node.Config) {
			c.DHT, c.Bootstrap = "off", nil
			x.edit(c)
		})
		low, high, wall := n.ConnectionLimits()
		if low != x.low || high != x.high || wall < 2*high {
			t.Errorf("%s closes connections above %d down to %d and has room for %d, want %d, %d and twice as many", x.role, high, low, wall, x.high, x.low)
		}
		l.stops[x.is]()
	}
	if node.DefaultConnections != 128 || node.ServiceConnections != 600 || node.WitnessConnections < 2*proto.MaxWitnesses {
		t.Errorf("%d, %d and %d connections by role", node.DefaultConnections, node.ServiceConnections, node.WitnessConnections)
	}
}
