package node

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/zap"

	"edgenet.dev/ledger"
	"edgenet.dev/market"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/transport"
)

// Config describes a node. Network and Key are required; Open finds them in Dir.
type Config struct {
	// Dir is the data directory, in a tab the name of an IndexedDB database. ""
	// keeps jobs in memory: nothing survives Close.
	Dir string
	// Network is the parsed genesis.
	Network *proto.Network
	// Invite is what 'edgenetd invite' prints: a network and addresses of its
	// peers. Only Open reads it. "" = Dir belongs to a network already.
	Invite string
	// Key is the Ed25519 identity; its peer id is the account.
	Key crypto.PrivKey
	// Keys finds the private half of other keys, nil when there is none: those
	// that sign for the account after a rotate. It is asked whenever one is
	// needed, from several goroutines. nil has none.
	Keys func(peer.ID) (crypto.PrivKey, error)
	// Record notes a security-relevant act, with names and values, before it
	// returns. nil notes nothing. See package audit.
	Record func(now time.Time, act string, pairs ...string) error
	// Log receives what an operator should know. nil is silent.
	Log *zap.Logger
	// Listen are multiaddrs. nil listens on free loopback ports with every
	// transport; empty but not nil does not listen.
	Listen []string
	// Announce replaces the listened addresses in what others are told.
	Announce []string
	// Bootstrap are multiaddrs with /p2p/ of peers to know first.
	Bootstrap []string
	// Resolve returns current addresses of Bootstrap's peers or of others, with
	// /p2p/. A tab asks when those that it knows fail, because certificate
	// hashes live 14 days. nil = there is nobody to ask.
	Resolve func(context.Context) ([]string, error)
	// DHT is "auto" (serve until found unreachable), "server", "client", "ask"
	// (take no part, have connected daemons look peers up) or "off". "" = auto.
	// In a tab every one but "off" means ask.
	DHT string
	// Reachability is "auto", "public" or "private" (reserve slots on the
	// bootstrap peers' relays). "" = auto.
	Reachability string
	// MDNS announces and finds peers on the local network.
	MDNS bool
	// Relay serves circuit relay v2 within the genesis' limits.
	Relay bool
	// MapPorts asks the router, by UPnP or NAT-PMP, to let others in on the ports
	// of Listen. It has no effect where Listen is loopback only.
	MapPorts bool
	// Bandwidth bounds the traffic of all streams, both directions together, in
	// bytes per second. 0 = no bound.
	Bandwidth uint64
	// Connections is above how many connections those of least use are closed,
	// down to two thirds as many. 0 = WitnessConnections for a witness,
	// ServiceConnections for a node that relays, serves the DHT or is public, else
	// DefaultConnections.
	Connections int
	// Worker is what this node offers. The zero value takes no work.
	Worker market.Worker
	// Executor runs tasks. It stays the caller's to close, after Close. nil
	// takes no work.
	Executor sandbox.Executor
	// Store keeps the ledger and is the node's to close once New returned.
	// nil keeps it in memory.
	Store ledger.Store
	// Overtime is for how long a hold outlives its job's timeout: until then a
	// payer that went away may come back and settle by itself. Default 5 min.
	Overtime time.Duration
	// VoteTimeout is how long a witness waits for the first round of the
	// agreement and between repetitions. 0 = ledger.DefaultVoteTimeout.
	VoteTimeout time.Duration
	// KeepEpochs is for how many epochs certified events stay after a
	// checkpoint covers them, for peers that missed a few. Events of this
	// node's own account stay for ever. 0 = DefaultKeepEpochs.
	KeepEpochs uint64
	// KeepJobs is for how long jobs that are over are kept after they were
	// submitted, with inputs and results. 0 = for ever.
	KeepJobs time.Duration
	// MaxState bounds the bytes of all jobs that are over; the oldest go first.
	// 0 = no bound. What is not settled stays in any case.
	MaxState uint64
	// MaxClaims bounds the bytes that a worker keeps to prove unpaid work with, an
	// eighth of them for one payer; above it new work is refused. 0 =
	// DefaultMaxClaims.
	MaxClaims uint64
	// MaxCache is what Executor keeps of compiled code at most, in bytes, to be
	// shown with the size of it. 0 = sandbox.DefaultCacheSize.
	MaxCache uint64
	// Light keeps this node's own account only, as a tab does: it does not
	// follow the ledger but asks the witnesses. No witness can be light.
	Light bool
	// Referrer is the account that this node's account names as having brought it
	// in, once, when it is opened. "" names nobody.
	Referrer peer.ID
	// Version is told to peers.
	Version string
	// Tamper, a test hook, alters a worker's real output before it signs.
	Tamper func(output []byte) []byte
	// Linger is how long an idle session keeps its leases and lanes for the
	// next job. Default 2 s.
	Linger time.Duration
	// Metrics takes libp2p's own metrics: a Prometheus registerer. nil counts
	// none. A tab has none. See package metrics for the node's.
	Metrics transport.Registerer
	// CertificatesAt, a test hook, is the moment for which WebTransport
	// certificates are made. Zero follows the clock.
	CertificatesAt time.Time
}

// Defaults that others show to people.
const (
	DefaultKeepEpochs  = 24      // a day of the default epochs
	DefaultMaxClaims   = 2 << 30 // bytes
	DefaultConnections = transport.DefaultConnections
	ServiceConnections = transport.ServiceConnections
	WitnessConnections = transport.WitnessConnections
)

var defaultListen = []string{
	"/ip4/127.0.0.1/tcp/0",
	"/ip4/127.0.0.1/udp/0/quic-v1",
	"/ip4/127.0.0.1/udp/0/quic-v1/webtransport",
	"/ip4/127.0.0.1/tcp/0/ws",
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.Listen == nil {
		c.Listen = defaultListen
	}
	if c.KeepEpochs == 0 {
		c.KeepEpochs = DefaultKeepEpochs
	}
	if c.MaxClaims == 0 {
		c.MaxClaims = DefaultMaxClaims
	}
	if c.MaxCache == 0 {
		c.MaxCache = sandbox.DefaultCacheSize
	}
	if c.DHT == "" {
		c.DHT = "auto"
	}
	if c.Executor == nil && c.Worker.Enabled {
		c.Worker.Enabled, c.Worker.Reason = false, "no sandbox is configured"
	}
	c.Worker = offer(c.Worker, c.Executor)
	return c
}

// parsed is what New makes of the textual fields.
type parsed struct {
	listen, announce []ma.Multiaddr
	bootstrap        []peer.AddrInfo
}

// Validate says what is wrong with c, or nil.
func (c Config) Validate() error {
	_, err := c.parse()
	return err
}

func (c Config) parse() (parsed, error) {
	var p parsed
	if err := checkNumbers(reflect.ValueOf(c), ""); err != nil {
		return p, err
	}
	if c.Network == nil {
		return p, fmt.Errorf("node: a network is needed: pass the parsed genesis")
	}
	if c.Key == nil {
		return p, fmt.Errorf("node: a key is needed")
	}
	id, err := peer.IDFromPrivateKey(c.Key)
	if err != nil {
		return p, fmt.Errorf("node: key: %w", err)
	}
	if _, err := proto.ParsePeer([]byte(id)); err != nil {
		return p, fmt.Errorf("node: key: %w", err)
	}
	switch c.DHT {
	case "", "auto", "server", "client", "ask", "off":
	default:
		return p, fmt.Errorf("node: dht %q: want auto, server, client, ask or off", c.DHT)
	}
	switch transport.Reachability(c.Reachability) {
	case "", transport.Auto, transport.Public, transport.Private:
	default:
		return p, fmt.Errorf("node: reachability %q: want auto, public or private", c.Reachability)
	}
	if c.Light && c.Network.IsWitness(id) {
		return p, fmt.Errorf("node: a witness needs the whole ledger: it cannot be light")
	}
	if c.Referrer != "" {
		if _, err := proto.ParsePeer([]byte(c.Referrer)); err != nil {
			return p, fmt.Errorf("node: referrer: %w", err)
		}
		if c.Referrer == id {
			return p, fmt.Errorf("node: referrer: an account cannot refer itself")
		}
	}
	if err := checkWorker(c.Worker); err != nil {
		return p, err
	}
	for _, l := range []struct {
		name string
		in   []string
		out  *[]ma.Multiaddr
	}{{"listen", c.Listen, &p.listen}, {"announce", c.Announce, &p.announce}} {
		for _, s := range l.in {
			a, err := ma.NewMultiaddr(s)
			if err != nil {
				return p, fmt.Errorf("node: %s address %q: want a multiaddr such as /ip4/127.0.0.1/tcp/4001: %w", l.name, s, err)
			}
			*l.out = append(*l.out, a)
		}
	}
	if p.bootstrap, err = parseRelays(id, c.Bootstrap); err != nil {
		return p, fmt.Errorf("node: bootstrap %w", err)
	}
	return p, nil
}

// checkWorker refuses labels and payees that no submitter would take: claims
// with them are dropped in silence.
func checkWorker(w market.Worker) error {
	if w.Payee != "" {
		if _, err := proto.ParsePeer([]byte(w.Payee)); err != nil {
			return fmt.Errorf("node: the worker's payee: %w", err)
		}
	}
	for _, l := range []struct{ name, text string }{{"operator", w.Operator}, {"site", w.Site}} {
		if len(l.text) > proto.MaxLabel {
			return fmt.Errorf("node: the worker's %s has %d bytes: want at most %d", l.name, len(l.text), proto.MaxLabel)
		}
	}
	return nil
}

// parseRelays reads multiaddrs with /p2p/ of other peers than self. There is
// one entry per peer: each counts as a relay to wait for.
func parseRelays(self peer.ID, texts []string) ([]peer.AddrInfo, error) {
	var out []peer.AddrInfo
	for _, s := range texts {
		a, err := peer.AddrInfoFromString(s)
		if err != nil {
			return nil, fmt.Errorf("address %q: want a multiaddr that ends in /p2p/<peer id>: %w", s, err)
		}
		if a.ID == self {
			continue
		}
		if i := slices.IndexFunc(out, func(b peer.AddrInfo) bool { return b.ID == a.ID }); i >= 0 {
			out[i].Addrs = append(out[i].Addrs, a.Addrs...)
		} else {
			out = append(out, *a)
		}
	}
	return out, nil
}
