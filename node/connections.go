package node

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/zap"

	"edgenet.dev/proto"
)

// A node holds connections to its bootstrap peers, and while it has few to those
// it remembers; to a few of those it chose itself also when many dialled it.
// Whoever does not answer is asked again after twice the time; a
// node without any peer asks more often, because somebody must be first when a
// whole network starts again.

const (
	dialTimeout   = 15 * time.Second
	dialsAtOnce   = 8
	redialFirst   = time.Second
	redialAlone   = 4 * time.Second // at most, without a peer
	aloneTries    = 64              // then a lonely node slows down, too
	redialBoot    = 2 * time.Minute
	redialKnown   = 10 * time.Minute
	enoughChosen  = 3                      // of the peers that a node chose itself; those that dialled it may all be one's
	connectLookup = 200 * time.Millisecond // a lost connection is noticed so soon after its event
	connectStays  = 30 * time.Second       // a connection that lasted so long was no failure
)

// dialer decides whom to dial when. It belongs to one goroutine but for outcome.
type dialer struct {
	n      *Node
	mu     sync.Mutex
	states map[peer.ID]*dialState
	done   chan struct{} // told when a dial ended
}

type dialState struct {
	dialling  bool
	fails     int // dials without an answer, and connections that did not last
	retryAt   time.Time
	connected time.Time // since when, as far as was noticed; zero while it is not
}

// keepConnected runs until ctx ends and waits for its dials.
func (n *Node) keepConnected(ctx context.Context) error {
	if n.cfg.Resolve != nil {
		return nil // the transport keeps the relays of a tab, whose addresses it can ask for
	}
	d := &dialer{n: n, states: map[peer.ID]*dialState{}, done: make(chan struct{}, 1)}
	changed := make(chan struct{}, 1)
	watch := &network.NotifyBundle{
		DisconnectedF: func(network.Network, network.Conn) { wake(changed) },
	}
	n.host.Network().Notify(watch)
	defer n.host.Network().StopNotify(watch)
	var all sync.WaitGroup
	defer all.Wait()
	for {
		due, wait := d.due(time.Now())
		for _, p := range due {
			all.Go(func() { d.dial(ctx, p) })
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-d.done:
		case <-changed:
			// Peers go together when a network goes: look once, a moment later.
			select {
			case <-time.After(connectLookup):
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// candidate is a peer that this node wants to be connected to.
type candidate struct {
	peer.AddrInfo
	bootstrap bool
	reached   bool // before, by this node's choice
}

// candidates are the bootstrap peers, with what is remembered of them, and then
// others that are remembered, as many as are missing.
func (n *Node) candidates() []candidate {
	known := n.peerbook.list()
	var out []candidate
	for _, p := range n.addrs.bootstrap {
		c := candidate{AddrInfo: peer.AddrInfo{ID: p.ID, Addrs: slices.Clone(p.Addrs)}, bootstrap: true}
		if i := slices.IndexFunc(known, func(k rememberedPeer) bool { return k.ID == p.ID }); i >= 0 {
			for _, a := range known[i].Addrs {
				if !slices.ContainsFunc(c.Addrs, a.Equal) {
					c.Addrs = append(c.Addrs, a)
				}
			}
		}
		out = append(out, c)
	}
	for _, k := range known {
		if !slices.ContainsFunc(n.addrs.bootstrap, func(p peer.AddrInfo) bool { return p.ID == k.ID }) {
			out = append(out, candidate{AddrInfo: k.AddrInfo, reached: k.reached})
		}
	}
	return n.blocks.without(out)
}

// due marks and returns whom to dial now, and says how long nothing else is due.
func (d *dialer) due(now time.Time) (dial []candidate, wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.n.candidates()
	open, chosen, running := len(d.n.host.Network().Peers()), 0, 0
	for _, c := range list {
		if (c.bootstrap || c.reached) && d.n.connected(c.ID) {
			chosen++
		}
	}
	for id, s := range d.states {
		if s.dialling {
			running++
		} else if !slices.ContainsFunc(list, func(c candidate) bool { return c.ID == id }) {
			delete(d.states, id) // forgotten
		}
	}
	wait = time.Hour
	for _, c := range list {
		s, here := d.states[c.ID], d.n.connected(c.ID)
		if s != nil && !here && s.lost(now) {
			if s.fails == 0 {
				delete(d.states, c.ID)
				s = nil
			} else {
				d.failed(c, s, now, "was connected for a moment only", nil)
			}
		}
		switch {
		case here:
			if s != nil && s.connected.IsZero() {
				s.connected = now
			}
			continue
		case s != nil && s.dialling:
			continue
		case !c.bootstrap && open+running >= enoughPeers && !(c.reached && chosen+running < enoughChosen), running >= dialsAtOnce:
			continue // a disconnection or the end of a dial asks again
		case s != nil && s.retryAt.After(now):
			wait = min(wait, s.retryAt.Sub(now))
			continue
		case s == nil:
			s = new(dialState)
			d.states[c.ID] = s
		}
		s.dialling = true
		running++
		dial = append(dial, c)
	}
	return dial, wait
}

func (d *dialer) dial(ctx context.Context, c candidate) {
	defer wake(d.done)
	dctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	d.n.clearBackoff(c.ID)
	if c.bootstrap || c.reached {
		d.n.peerbook.choose(c.ID)
	}
	err := d.n.host.Connect(dctx, c.AddrInfo)
	if ctx.Err() != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.states[c.ID]
	if s == nil {
		return // forgotten
	}
	s.dialling = false
	if err == nil {
		s.connected = time.Now()
		return
	}
	s.fails++
	d.failed(c, s, time.Now(), "does not answer", err)
}

// lost notes the end of a connection, if there was one and it is news: one that
// lasted forgets the failures before it, any other is one more. Otherwise a peer
// that accepts and hangs up would be dialled without a pause.
func (s *dialState) lost(now time.Time) bool {
	if s.connected.IsZero() {
		return false
	}
	s.fails++
	if now.Sub(s.connected) >= connectStays {
		s.fails = 0
	}
	s.connected = time.Time{}
	return true
}

// failed says when to dial a peer again. Call with mu held.
func (d *dialer) failed(c candidate, s *dialState, now time.Time, how string, err error) {
	again := s.wait(c.bootstrap, len(d.n.host.Network().Peers()) == 0)
	s.retryAt = now.Add(again)
	if s.tellable() {
		what := "a peer of before "
		if c.bootstrap {
			what = "bootstrap peer "
		}
		d.n.log.Info(what+how, zap.Stringer("peer", c.ID), zap.Int("tries", s.fails), zap.Duration("again_in", again.Round(time.Second)), zap.Error(err))
	}
}

// tellable is true after 1, 2, 4, 8, … failures in a row: a log line about one
// peer comes at growing intervals.
func (s *dialState) tellable() bool { return s.fails&(s.fails-1) == 0 }

// wait doubles with every failure, and varies by up to a fifth so that two nodes
// do not dial each other at the same moments for ever.
func (s *dialState) wait(bootstrap, alone bool) time.Duration {
	most := redialKnown
	switch {
	case alone && s.fails <= aloneTries:
		most = redialAlone
	case bootstrap:
		most = redialBoot
	}
	d := min(redialFirst<<min(s.fails-1, 20), most)
	return d - time.Duration(rand.Int64N(int64(d)/5+1))
}

// clearBackoff lets a peer be dialled now: this package has a schedule of its
// own, and the swarm's would refuse to try.
func (n *Node) clearBackoff(id peer.ID) {
	if s, ok := n.host.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(id)
	}
}

// ConnectPeer dials a multiaddr that ends in /p2p/ and a peer id, remembers the
// peer if it belongs to this network, and returns the address of the connection.
func (n *Node) ConnectPeer(ctx context.Context, addr string) (peer.ID, string, error) {
	if err := n.isReady(); err != nil {
		return "", "", err
	}
	a, err := ma.NewMultiaddr(addr)
	if err != nil {
		return "", "", proto.CodeMalformed.Errorf("%q is no multiaddr such as /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…", addr)
	}
	info, err := peer.AddrInfoFromP2pAddr(a)
	if err != nil || len(info.Addrs) == 0 {
		return "", "", proto.CodeMalformed.Errorf("%s: want an address that ends in /p2p/ and the peer's id, as 'edgenetd id' prints it there", addr)
	}
	if info.ID == n.self {
		return "", "", proto.CodeMalformed.Errorf("%s is this node itself", addr)
	}
	if _, err := proto.ParsePeer([]byte(info.ID)); err != nil {
		return "", "", err
	}
	if err := n.blocks.refusal(info.ID, info.Addrs...); err != nil {
		return "", "", err
	}
	ctx, done := n.until(ctx)
	defer done()
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	n.clearBackoff(info.ID)
	if err := n.host.Connect(ctx, *info); err != nil {
		return "", "", proto.CodeNotFound.Errorf("%s does not answer at %s: %v", info.ID, info.Addrs[0], err)
	}
	if !n.ofNetwork(info.ID) {
		n.host.Network().ClosePeer(info.ID)
		return "", "", proto.CodeWrongNetwork.Errorf("%s answers but belongs to another network than this node (%s)", info.ID, n.net.ID)
	}
	conns := n.host.Network().ConnsToPeer(info.ID)
	if len(conns) == 0 {
		return "", "", proto.CodeNotFound.Errorf("%s answered and hung up", info.ID)
	}
	// It worked when asked for by hand, also where it had dialled this node before.
	addrs := bounded(info.ID, append(slices.Clone(info.Addrs), n.host.Peerstore().Addrs(info.ID)...))
	if len(addrs) == 0 {
		return "", "", proto.CodeMalformed.Errorf("%s is connected but not remembered, because its address has more than %d bytes; name it by a shorter one", info.ID, maxKnownAddr)
	}
	if err := n.peerbook.add(info.ID, &knownPeer{addrs: addrs, seen: time.Now(), reached: true}); err != nil {
		return "", "", err
	}
	return info.ID, conns[0].RemoteMultiaddr().String(), nil
}

// ForgetPeer drops the connections to a peer and what is remembered of it.
// Either side may connect again later: it is no ban. bootstrap: the
// configuration names the peer, so that this node does at once.
func (n *Node) ForgetPeer(id peer.ID) (known, bootstrap bool, err error) {
	if err := n.isReady(); err != nil {
		return false, false, err
	}
	known, err = n.peerbook.forget(id)
	if err != nil {
		return known, false, err
	}
	known = known || n.connected(id)
	n.host.Peerstore().ClearAddrs(id)
	if err := n.host.Network().ClosePeer(id); err != nil {
		n.log.Debug("forget a peer", zap.Stringer("peer", id), zap.Error(err))
	}
	bootstrap = slices.ContainsFunc(n.addrs.bootstrap, func(p peer.AddrInfo) bool { return p.ID == id })
	return known, bootstrap, nil
}
