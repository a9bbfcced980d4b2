// Package transport composes the libp2p host of a node: which transports,
// security and muxers a platform has, relay service and relay client, and the
// limits of both. It knows nothing of tasks or credits.
package transport

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/metrics"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
)

// PortTakenError means that another process listens on an address of
// Config.Listen.
type PortTakenError struct{ Addr ma.Multiaddr }

func (e *PortTakenError) Error() string { return "listen on " + e.Addr.String() + ": port is taken" }

// Reachability is what the host assumes about itself before it learns more.
type Reachability string

// Auto lets AutoNAT decide; Public serves relays and the DHT at once; Private
// reserves slots on relays and announces relayed addresses.
const (
	Auto    Reachability = "auto"
	Public  Reachability = "public"
	Private Reachability = "private"
)

// Above how many connections those of least use are closed. A home machine or a
// tab has a few close neighbours and those that pass by; a node that serves
// others has many clients; a witness has to be there for everybody.
const (
	DefaultConnections = 128
	ServiceConnections = 600
	WitnessConnections = 6000
)

// Config describes a host. The zero value of every field but Key is usable.
type Config struct {
	Key          crypto.PrivKey   // Ed25519
	Listen       []ma.Multiaddr   // none = do not listen
	Announce     []ma.Multiaddr   // told to others instead of Listen; none = what is listened on
	Reachability Reachability     // "" = Auto
	MapPorts     bool             // ask the router to let others in, where Listen is not loopback only
	Relay        bool             // serve circuit relay v2
	RelayLimit   relay.RelayLimit // of each relayed connection; zero = 64 MiB and 1 h
	Relays       []peer.AddrInfo  // where a private host reserves slots
	// Resolve returns current addresses of relays. It is asked when those that
	// are known have failed, because certificate hashes live 14 days. nil = none.
	Resolve     func(context.Context) ([]peer.AddrInfo, error)
	Connections int              // above which those of least use are closed, down to two thirds; default DefaultConnections
	UserAgent   string           // default "edgenet"
	Bandwidth   metrics.Reporter // counts traffic; nil = not counted
	// Metrics takes libp2p's own metrics. nil = they are not counted. In a tab it
	// does nothing.
	Metrics Registerer
	// Gater refuses connections, in either direction. nil = none. In a tab it does
	// nothing.
	Gater connmgr.ConnectionGater
	// CertificatesAt, a test hook, is the moment for which WebTransport
	// certificates are made, once. Zero follows the clock.
	CertificatesAt time.Time
}

func (c Config) withDefaults() Config {
	if c.Reachability == "" {
		c.Reachability = Auto
	}
	if c.RelayLimit.Data == 0 {
		c.RelayLimit.Data = 64 << 20
	}
	if c.RelayLimit.Duration == 0 {
		c.RelayLimit.Duration = time.Hour
	}
	if c.Connections == 0 {
		c.Connections = DefaultConnections
	}
	if c.UserAgent == "" {
		c.UserAgent = "edgenet"
	}
	return c
}

func (c Config) validate() error {
	if c.Key == nil {
		return fmt.Errorf("transport: a host needs a key")
	}
	switch c.Reachability {
	case Auto, Public, Private:
	default:
		return fmt.Errorf("transport: reachability %q: want auto, public or private", c.Reachability)
	}
	if c.Connections < 0 {
		return fmt.Errorf("transport: %d connections: want 1 or more", c.Connections)
	}
	return nil
}

// leastRelayed are the relay places that one address may have in any case.
const leastRelayed = 64

// low is down to how many connections are closed.
func (c Config) low() int { return max(1, c.Connections*2/3) }

// relayResources are the limits of the relay service. libp2p's own 128 KiB and
// 2 minutes would cut tasks short, so the genesis states larger ones.
func (c Config) relayResources() relay.Resources {
	r := relay.DefaultResources()
	limit := c.RelayLimit
	r.Limit = &limit
	r.BufferSize = 16 << 10
	// libp2p's eight places for an address are fewer than an office has peers.
	r.MaxReservations = max(r.MaxReservations, c.Connections/2)
	r.MaxReservationsPerIP = max(leastRelayed, r.MaxReservations/4)
	r.MaxReservationsPerASN = r.MaxReservations / 2
	return r
}

// announced replaces the listened addresses by Announce where that is set.
func (c Config) announced(listened []ma.Multiaddr) []ma.Multiaddr {
	if len(c.Announce) == 0 {
		return listened
	}
	return c.Announce
}
