//go:build !js

package node

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	records "github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	mh "github.com/multiformats/go-multihash"
	"go.uber.org/zap"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
)

const (
	maxProviders   = 1024 // peers that this DHT server keeps
	maxFound       = 64   // providers that one answer names
	providerLives  = 24 * time.Hour
	providersSaved = 10 * time.Second
)

// providers are the provider records of this DHT server: who works on which
// shard. Other keys are not the network's and are not kept, so a peer has one
// entry with one time for each shard, whatever it announces. When there are too
// many peers, the oldest of the subnet with the most goes. The state store has
// them, too, table "provider/": a server that starts again would else know
// nobody until the next announcements, hours later. A crash costs what came in
// the last few seconds.
type providers struct {
	n      *Node
	host   host.Host
	shards map[string]uint32 // by multihash of the capability key

	mu    sync.Mutex
	of    map[peer.ID]*provider
	self  []bool           // shards that this node itself announces
	dirty map[peer.ID]bool // to be written or, when gone, deleted
	saved chan struct{}    // closed when the writer has ended
	stop  context.CancelFunc
}

type provider struct {
	addrs  []ma.Multiaddr
	seen   []uint32 // Unix seconds by shard
	subnet string
}

// newest is when the provider last announced anything.
func (p *provider) newest() uint32 { return slices.Max(p.seen) }

func providersTable(id peer.ID) string { return "provider/" + string(id) }

var _ records.ProviderStore = (*providers)(nil)

func (n *Node) openProviders(h host.Host) (*providers, error) {
	ps := &providers{
		n: n, host: h, shards: map[string]uint32{}, of: map[peer.ID]*provider{}, self: make([]bool, n.net.Genesis.Shards),
		dirty: map[peer.ID]bool{}, saved: make(chan struct{}),
	}
	for shard := range n.net.Genesis.Shards {
		key, err := mh.Sum([]byte(capabilityKey(n.net.ID, shard)), mh.SHA2_256, -1)
		if err != nil {
			return nil, err
		}
		ps.shards[string(key)] = shard
	}
	if err := ps.load(time.Now()); err != nil {
		return nil, fmt.Errorf("provider records: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background()) // Close ends it, after the last write
	ps.stop = stop
	go ps.save(ctx)
	return ps, nil
}

// load reads the table and drops what is of no use any more.
func (ps *providers) load(now time.Time) error {
	return ps.n.kv.scan("provider/", func(key string, v []byte) error {
		id, m := peer.ID(key[len("provider/"):]), new(proto.ProviderRecord)
		p := &provider{seen: make([]uint32, len(ps.self))}
		if err := goproto.Unmarshal(v, m); err == nil {
			copy(p.seen, m.SeenUnixS)
			p.subnet = m.Subnet
			for _, raw := range m.Addresses {
				if a, err := ma.NewMultiaddrBytes(raw); err == nil {
					p.addrs = append(p.addrs, a)
				}
			}
		}
		if expired(p.newest(), now) || len(p.addrs) == 0 || len(ps.of) >= maxProviders {
			ps.dirty[id] = true
			return nil
		}
		ps.of[id] = p
		return nil
	})
}

func expired(seen uint32, now time.Time) bool {
	return now.Sub(time.Unix(int64(seen), 0)) > providerLives
}

// AddProvider keeps that a peer works on a shard. Another key is no error: the
// DHT has no answer for the peer either way.
func (ps *providers) AddProvider(_ context.Context, key []byte, of peer.AddrInfo) error {
	shard, ok := ps.shards[string(key)]
	if !ok {
		return nil
	}
	if of.ID == ps.n.self {
		ps.mu.Lock()
		defer ps.mu.Unlock()
		ps.self[shard] = true
		return nil
	}
	addrs := bounded(of.ID, of.Addrs)
	if _, err := proto.ParsePeer([]byte(of.ID)); err != nil || len(addrs) == 0 {
		return nil
	}
	// Where it is, not where it says that it is.
	from := addrs[0]
	if c := ps.host.Network().ConnsToPeer(of.ID); len(c) > 0 {
		from = c[0].RemoteMultiaddr()
	}
	ps.add(time.Now(), shard, of.ID, addrs, subnet(from))
	return nil
}

func (ps *providers) add(now time.Time, shard uint32, id peer.ID, addrs []ma.Multiaddr, subnet string) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.of[id]
	if p == nil {
		p = &provider{seen: make([]uint32, len(ps.self))}
		ps.of[id] = p
	}
	p.addrs, p.subnet, p.seen[shard] = addrs, subnet, uint32(now.Unix())
	ps.dirty[id] = true
	if len(ps.of) > maxProviders {
		gone := ps.dispensable(now)
		delete(ps.of, gone)
		ps.dirty[gone] = true
	}
}

// dispensable is the peer that gives way. Call with mu held.
func (ps *providers) dispensable(now time.Time) peer.ID {
	shared := map[string]int{}
	for _, p := range ps.of {
		shared[p.subnet]++
	}
	var least peer.ID
	for id, p := range ps.of {
		if least == "" {
			least = id
			continue
		}
		q := ps.of[least]
		if cmp.Or(
			yesLast(!expired(p.newest(), now), !expired(q.newest(), now)),
			cmp.Compare(shared[q.subnet], shared[p.subnet]),
			cmp.Compare(p.newest(), q.newest()),
			cmp.Compare(id, least),
		) < 0 {
			least = id
		}
	}
	return least
}

// GetProviders names some of those that work on a shard, drawn by chance.
func (ps *providers) GetProviders(_ context.Context, key []byte) (out []peer.AddrInfo, _ error) {
	shard, ok := ps.shards[string(key)]
	if !ok {
		return nil, nil
	}
	now := time.Now()
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for id, p := range ps.of {
		if !expired(p.seen[shard], now) {
			out = append(out, peer.AddrInfo{ID: id, Addrs: slices.Clone(p.addrs)})
		}
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	out = out[:min(len(out), maxFound)]
	if ps.self[shard] {
		out = append(out, peer.AddrInfo{ID: ps.n.self, Addrs: ps.host.Addrs()})
	}
	return out, nil
}

// save writes what changed, a few seconds later and all together, until ctx
// ends.
func (ps *providers) save(ctx context.Context) {
	defer close(ps.saved)
	tick := time.NewTicker(providersSaved)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			ps.flush(time.Now())
		case <-ctx.Done():
			ps.flush(time.Now())
			return
		}
	}
}

func (ps *providers) flush(now time.Time) {
	var writes []write
	ps.mu.Lock()
	for id, p := range ps.of {
		if expired(p.newest(), now) {
			delete(ps.of, id)
			ps.dirty[id] = true
		}
	}
	for id := range ps.dirty {
		w := write{key: providersTable(id)}
		if p := ps.of[id]; p != nil {
			m := &proto.ProviderRecord{SeenUnixS: p.seen, Subnet: p.subnet}
			for _, a := range p.addrs {
				m.Addresses = append(m.Addresses, a.Bytes())
			}
			w.value, _ = goproto.Marshal(m) // it fails for text that is no UTF-8 only
		}
		writes = append(writes, w)
	}
	clear(ps.dirty)
	ps.mu.Unlock()
	if len(writes) == 0 {
		return
	}
	if err := ps.n.kv.lazily(writes); err != nil {
		ps.n.log.Error("keep provider records", zap.Error(err))
	}
}

// Close writes what changed last.
func (ps *providers) Close() error {
	ps.stop()
	<-ps.saved
	return nil
}
