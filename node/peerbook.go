package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	envelope "github.com/libp2p/go-libp2p/core/record"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/zap"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
)

// The peerbook is what survives a restart of a node's connections: the peers of
// its network that it was connected to, in the table "peer/" of the state store.
// Peers that this node chose to reach and others, which dialled it or which
// Kademlia led it to, have places of their own, so that a stranger with many
// identities can push out strangers only. Half of the places of either kind
// belong to the peers that were known first, and of the rest the largest subnet
// gives way, so that one that has many addresses, too, does not get all.

const (
	maxReached      = 64 // peers that this node chose to dial
	maxMet          = 64 // other peers
	maxChosen       = 256
	peerLapses      = 14 * 24 * time.Hour // unseen for so long, a peer's place is anybody's
	maxKnownAddrs   = 16
	maxKnownAddr    = 256     // bytes
	maxKnownRecord  = 8 << 10 // what identify carries at most
	touchEvery      = time.Hour
	knownAddrTTL    = time.Hour
	identifyBacklog = 256
)

type peerbook struct {
	n *Node

	mu    sync.Mutex
	peers map[peer.ID]*knownPeer
	// chosen are the peers that this node itself wanted to reach last. Kademlia
	// dials whomever others name.
	chosen *lru.Cache[peer.ID, struct{}]
	// met is told when a peer of the network was identified.
	met chan struct{}
}

type knownPeer struct {
	addrs   []ma.Multiaddr
	record  []byte    // signed peer record in its envelope; may be nil
	since   time.Time // when it was remembered first
	seen    time.Time
	reached bool // this node chose to dial it
}

func newPeerbook(n *Node) *peerbook {
	chosen, _ := lru.New[peer.ID, struct{}](maxChosen) // it fails for sizes below 1 only
	return &peerbook{n: n, peers: map[peer.ID]*knownPeer{}, chosen: chosen, met: make(chan struct{}, 1)}
}

// choose notes that this node wants to reach a peer.
func (b *peerbook) choose(id peer.ID) { b.chosen.Add(id, struct{}{}) }

func peerKey(id peer.ID) string { return "peer/" + string(id) }

// load reads the table. What cannot be read is dropped: it is a cache of the
// network, not of anybody's work.
func (b *peerbook) load() error {
	var drop []write
	err := b.n.kv.scan("peer/", func(key string, v []byte) error {
		id, p, err := readKnownPeer(key[len("peer/"):], v)
		if err != nil {
			drop = append(drop, write{key: key})
			return nil
		}
		b.peers[id] = p
		return nil
	})
	if err != nil {
		return fmt.Errorf("known peers: %w", err)
	}
	for _, id := range b.over() {
		delete(b.peers, id)
		drop = append(drop, write{key: peerKey(id)})
	}
	if len(drop) == 0 {
		return nil
	}
	return b.n.kv.commit(drop)
}

func readKnownPeer(name string, v []byte) (peer.ID, *knownPeer, error) {
	id, err := proto.ParsePeer([]byte(name))
	if err != nil {
		return "", nil, err
	}
	m := new(proto.KnownPeer)
	if err := goproto.Unmarshal(v, m); err != nil {
		return "", nil, err
	}
	p := &knownPeer{record: m.Record, since: proto.UnixMs(m.SinceUnixMs), seen: proto.UnixMs(m.SeenUnixMs), reached: m.Dialled}
	for _, raw := range m.Addresses {
		a, err := ma.NewMultiaddrBytes(raw)
		if err != nil {
			return "", nil, err
		}
		p.addrs = append(p.addrs, a)
	}
	if len(p.addrs) == 0 {
		return "", nil, fmt.Errorf("no address")
	}
	return id, p, nil
}

// save writes one peer lazily: a crash costs at most the newest.
func (b *peerbook) save(id peer.ID, p *knownPeer) error {
	m := &proto.KnownPeer{Record: p.record, SinceUnixMs: uint64(p.since.UnixMilli()), SeenUnixMs: uint64(p.seen.UnixMilli()), Dialled: p.reached}
	for _, a := range p.addrs {
		m.Addresses = append(m.Addresses, a.Bytes())
	}
	v, err := goproto.Marshal(m)
	if err != nil {
		return err
	}
	return b.n.kv.put(peerKey(id), v)
}

// over lists the peers that have no place any more. Call with mu held, or before
// anybody else knows b.
func (b *peerbook) over() (out []peer.ID) {
	for _, reached := range []bool{true, false} {
		var of []peer.ID
		for id, p := range b.peers {
			if p.reached == reached {
				of = append(of, id)
			}
		}
		most := maxMet
		if reached {
			most = maxReached
		}
		if len(of) > most {
			out = append(out, b.dispensable(of, len(of)-most, most/2, time.Now())...)
		}
	}
	return out
}

// dispensable picks those that go: never one of those known first and seen
// lately, as many as are senior; of the others one after the other of the subnet
// that has the most, the one unseen for the longest, connected ones last.
func (b *peerbook) dispensable(of []peer.ID, count, senior int, now time.Time) (gone []peer.ID) {
	lapsed := func(id peer.ID) bool { return now.Sub(b.peers[id].seen) > peerLapses }
	slices.SortFunc(of, func(x, y peer.ID) int {
		return cmp.Or(yesLast(lapsed(x), lapsed(y)), b.peers[x].since.Compare(b.peers[y].since), cmp.Compare(x, y))
	})
	of = of[senior:]
	slices.SortFunc(of, func(x, y peer.ID) int {
		return cmp.Or(yesLast(b.here(x), b.here(y)), b.peers[x].seen.Compare(b.peers[y].seen), cmp.Compare(x, y))
	})
	for ; count > 0; count-- {
		share := map[string]int{}
		for _, id := range of {
			share[b.peers[id].subnet()]++
		}
		least := 0
		for i, id := range of {
			if share[b.peers[id].subnet()] > share[b.peers[of[least]].subnet()] {
				least = i
			}
		}
		gone = append(gone, of[least])
		of = slices.Delete(of, least, least+1)
	}
	return gone
}

// subnet is that of the peer's first address that has one.
func (p *knownPeer) subnet() string {
	for _, a := range p.addrs {
		if s := subnet(a); s != "" {
			return s
		}
	}
	return ""
}

// run writes down who was identified, until ctx ends.
func (b *peerbook) run(ctx context.Context) error {
	sub, err := b.n.host.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted), eventbus.Name("peerbook"), eventbus.BufSize(identifyBacklog))
	if err != nil {
		return err
	}
	defer sub.Close()
	// Those identified before the subscription, if any.
	for _, c := range b.n.host.Network().Conns() {
		b.noteConn(c)
	}
	again := time.NewTicker(touchEvery)
	defer again.Stop()
	defer b.touch(time.Now())
	for {
		select {
		case e, ok := <-sub.Out():
			if !ok {
				return nil
			}
			id := e.(event.EvtPeerIdentificationCompleted)
			b.note(id.Conn, id.ListenAddrs, id.SignedPeerRecord)
		case now := <-again.C:
			b.touch(now)
		case <-ctx.Done():
			return nil
		}
	}
}

// noteConn is note with what the peerstore knows.
func (b *peerbook) noteConn(c network.Conn) {
	ps, id := b.n.host.Peerstore(), c.RemotePeer()
	var env *envelope.Envelope
	if cab, ok := peerstore.GetCertifiedAddrBook(ps); ok {
		env = cab.GetPeerRecord(id)
	}
	b.note(c, ps.Addrs(id), env)
}

// note remembers the peer of a connection if it speaks this network's protocols
// and listens somewhere: a tab does not.
func (b *peerbook) note(c network.Conn, listens []ma.Multiaddr, env *envelope.Envelope) {
	id := c.RemotePeer()
	if !b.n.ofNetwork(id) {
		return
	}
	wake(b.met)
	dialled := c.Stat().Direction == network.DirOutbound
	reached := dialled && b.chosen.Contains(id)
	if reached {
		b.n.host.ConnManager().TagPeer(id, ofChoice, choiceTags)
	}
	if _, err := proto.ParsePeer([]byte(id)); err != nil {
		return
	}
	if dialled { // it worked
		listens = append([]ma.Multiaddr{c.RemoteMultiaddr()}, listens...)
	}
	addrs := bounded(id, listens)
	if !slices.ContainsFunc(addrs, func(a ma.Multiaddr) bool { return !relayed(a) }) {
		return
	}
	var raw []byte
	if env != nil {
		if m, err := env.Marshal(); err == nil && len(m) <= maxKnownRecord {
			raw = m
		}
	}
	if err := b.add(id, &knownPeer{addrs: addrs, record: raw, seen: time.Now(), reached: reached}); err != nil {
		b.n.log.Error("remember a peer", zap.Stringer("peer", id), zap.Error(err))
	}
}

// bounded takes the first addresses of a peer that are small enough, each once
// and without its id.
func bounded(id peer.ID, addrs []ma.Multiaddr) (out []ma.Multiaddr) {
	for _, a := range addrs {
		if bare, of := peer.SplitAddr(a); of == id {
			a = bare
		}
		if len(a) > 0 && len(a.Bytes()) <= maxKnownAddr && len(out) < maxKnownAddrs && !slices.ContainsFunc(out, a.Equal) {
			out = append(out, a)
		}
	}
	return out
}

func yesLast(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return 1
	}
	return -1
}

// add remembers p, keeps what an older entry knew better, and makes room. It
// refuses a peer without an address, whom nobody could dial.
func (b *peerbook) add(id peer.ID, p *knownPeer) error {
	if id == b.n.self || b.n.blocks.hides(id) {
		return nil
	}
	if len(p.addrs) == 0 {
		return proto.CodeMalformed.Errorf("%s has no address of at most %d bytes", id, maxKnownAddr)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.since.IsZero() {
		p.since = p.seen
	}
	if old := b.peers[id]; old != nil {
		p.since = old.since
		p.reached = p.reached || old.reached
		if p.record == nil {
			p.record = old.record
		}
		// The address that worked stays, however the peer is connected now.
		if old.reached {
			p.addrs = bounded(id, append(slices.Clone(old.addrs[:min(1, len(old.addrs))]), p.addrs...))
		}
	}
	b.peers[id] = p
	if err := b.save(id, p); err != nil {
		return err
	}
	var gone []write
	for _, id := range b.over() {
		delete(b.peers, id)
		gone = append(gone, write{key: peerKey(id)})
	}
	if len(gone) == 0 {
		return nil
	}
	// Not at once: a stranger decides how often this happens. After a crash load
	// drops what is too much again.
	return b.n.kv.lazily(gone)
}

func (b *peerbook) forget(id peer.ID) (known bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.peers[id] == nil {
		return false, nil
	}
	delete(b.peers, id)
	return true, b.n.kv.commit([]write{{key: peerKey(id)}})
}

// touch says of connected peers that they are there now.
func (b *peerbook) touch(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, p := range b.peers {
		if !b.here(id) {
			continue
		}
		p.seen = now
		if err := b.save(id, p); err != nil {
			b.n.log.Error("remember a peer", zap.Stringer("peer", id), zap.Error(err))
			return
		}
	}
}

// list is a copy, those that this node reached first and of them the last seen
// first.
func (b *peerbook) list() []rememberedPeer {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]rememberedPeer, 0, len(b.peers))
	for id, p := range b.peers {
		out = append(out, rememberedPeer{AddrInfo: peer.AddrInfo{ID: id, Addrs: slices.Clone(p.addrs)}, seen: p.seen, reached: p.reached})
	}
	slices.SortFunc(out, func(x, y rememberedPeer) int {
		return cmp.Or(yesLast(y.reached, x.reached), y.seen.Compare(x.seen), cmp.Compare(x.ID, y.ID))
	})
	return out
}

type rememberedPeer struct {
	peer.AddrInfo
	seen    time.Time
	reached bool
}

// fill tells the host's peerstore what is remembered, signed records where there
// are any, so that streams to a peer known by id need no lookup.
func (b *peerbook) fill(h host.Host) {
	b.mu.Lock()
	defer b.mu.Unlock()
	certified, _ := peerstore.GetCertifiedAddrBook(h.Peerstore())
	for id, p := range b.peers {
		h.Peerstore().AddAddrs(id, p.addrs, knownAddrTTL)
		if len(p.record) == 0 || certified == nil {
			continue
		}
		env, r, err := envelope.ConsumeEnvelope(p.record, peer.PeerRecordEnvelopeDomain)
		if err != nil {
			continue
		}
		if rec, ok := r.(*peer.PeerRecord); ok && rec.PeerID == id && id.MatchesPublicKey(env.PublicKey) {
			_, _ = certified.ConsumePeerRecord(env, knownAddrTTL) // refused when an older one is there
		}
	}
}

// ofNetwork reports whether a connected peer said that it speaks this network's
// protocols.
func (n *Node) ofNetwork(id peer.ID) bool {
	has, err := n.host.Peerstore().SupportsProtocols(id, n.net.ID.Protocol("directory"))
	return err == nil && len(has) > 0
}

func (b *peerbook) here(id peer.ID) bool { return b.n.host != nil && b.n.connected(id) }
