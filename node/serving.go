package node

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	manet "github.com/multiformats/go-multiaddr/net"
)

// serving decides who is served blobs, each of which is in memory whole
// meanwhile. Whom this node works with comes first: one with whom it has an
// assignment under way. Others have half of the places at most, and those behind
// one address half of these. Witnesses need none. Whoever reads slowly holds a
// place for as long as nobody else wants it.
type serving struct {
	most, each int
	witness    func(peer.ID) bool
	partner    func(peer.ID) bool

	grace time.Duration // before the rate counts
	rate  int           // bytes a second that a reader takes on average, while others wait

	mu       sync.Mutex
	taken    int // by others than witnesses
	strange  int // of these by others than partners
	of       map[peer.ID]int
	sites    map[string]int // strangers by address
	waiting  []*guest
	arrivals uint64
}

// guest has a place or waits for one.
type guest struct {
	id      peer.ID
	site    string // "" when it is not known
	witness bool
	partner bool
	since   uint64
	ready   chan struct{} // closed with the place, or when there is none for it
	gone    bool          // there is none
}

const (
	maxWaiting   = 1024 // requests that wait for a place
	maxWaitingOf = 64   // of these of one peer
)

func newServing(most, each int, witness, partner func(peer.ID) bool) *serving {
	return &serving{
		most: most, each: each, witness: witness, partner: partner, grace: blobGrace, rate: fetchRate,
		of: map[peer.ID]int{}, sites: map[string]int{},
	}
}

// take waits for a place until ctx ends.
func (s *serving) take(ctx context.Context, id peer.ID, site string) (release func(), ok bool) {
	g := &guest{id: id, site: site, witness: s.witness(id), partner: s.partner(id), ready: make(chan struct{})}
	s.mu.Lock()
	if !s.join(g) {
		s.mu.Unlock()
		return nil, false
	}
	s.seat()
	s.mu.Unlock()
	select {
	case <-g.ready:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.waiting, g); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		return nil, false
	}
	return func() { s.leave(g) }, !g.gone
}

// join queues a request. When too many wait, the newest stranger's gives way to
// one of a partner or a witness. Call with mu held.
func (s *serving) join(g *guest) bool {
	own, last := 0, -1
	for i, x := range s.waiting {
		if x.id == g.id {
			own++
		}
		if x.rank() == 0 {
			last = i
		}
	}
	switch {
	case own >= maxWaitingOf:
		return false
	case len(s.waiting) < maxWaiting:
	case g.rank() > 0 && last >= 0:
		gone := s.waiting[last]
		s.waiting = slices.Delete(s.waiting, last, last+1)
		gone.gone = true
		close(gone.ready)
	default:
		return false
	}
	s.arrivals++
	g.since = s.arrivals
	s.waiting = append(s.waiting, g)
	return true
}

func (g *guest) rank() int {
	switch {
	case g.witness:
		return 2
	case g.partner:
		return 1
	}
	return 0
}

// seat gives free places away. Call with mu held.
func (s *serving) seat() {
	for {
		var next *guest
		for _, g := range s.waiting {
			if s.fits(g) && (next == nil || s.before(g, next)) {
				next = g
			}
		}
		if next == nil {
			return
		}
		s.waiting = slices.DeleteFunc(s.waiting, func(g *guest) bool { return g == next })
		s.count(next, 1)
		close(next.ready)
	}
}

func (s *serving) fits(g *guest) bool {
	switch {
	case s.of[g.id] >= s.each:
		return false
	case g.witness:
		return true
	case s.taken >= s.most:
		return false
	case g.partner:
		return true
	}
	return s.strange < s.most/2 && (g.site == "" || s.sites[g.site] < s.most/4)
}

func (s *serving) before(a, b *guest) bool {
	return cmp.Or(
		cmp.Compare(b.rank(), a.rank()), cmp.Compare(s.of[a.id], s.of[b.id]),
		cmp.Compare(s.sites[a.site], s.sites[b.site]), cmp.Compare(a.since, b.since),
	) < 0
}

func (s *serving) leave(g *guest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(g, -1)
	s.seat()
}

func (s *serving) count(g *guest, by int) {
	if s.of[g.id] += by; s.of[g.id] == 0 {
		delete(s.of, g.id)
	}
	if g.witness {
		return
	}
	s.taken += by
	if g.partner {
		return
	}
	s.strange += by
	if s.sites[g.site] += by; s.sites[g.site] == 0 {
		delete(s.sites, g.site)
	}
}

// wanted reports whether somebody waits for a place.
func (s *serving) wanted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting) > 0
}

// blobChunk is what is written at once: a reader's pace shows after each.
const blobChunk = 64 << 10

// send writes a blob. A reader that falls behind the least rate after the grace
// loses its place to the first who wants it, and every one after longest.
func (s *serving) send(out network.Stream, body []byte, longest time.Duration) error {
	began, sent := time.Now(), 0
	for len(body) > 0 {
		chunk := body[:min(len(body), blobChunk)]
		due := began.Add(s.grace + time.Duration(sent+len(chunk))*time.Second/time.Duration(s.rate))
		now := time.Now()
		if due.Before(now) { // it is late and nobody minded so far
			due = now.Add(s.grace / 4)
		}
		if end := began.Add(longest); due.After(end) {
			due = end
		}
		if err := out.SetWriteDeadline(due); err != nil {
			return err
		}
		n, err := out.Write(chunk)
		sent, body = sent+n, body[n:]
		if err != nil && (!isTimeout(err) || s.wanted() || time.Since(began) >= longest) {
			return err
		}
	}
	return nil
}

// siteOf is the place that the other end of a connection speaks from, "" on this
// machine, where many nodes may be.
func siteOf(c network.Conn) string {
	a := c.RemoteMultiaddr()
	if manet.IsIPLoopback(a) {
		return ""
	}
	return site(a)
}

// crowdOf names those who share their places: all behind one address, and on this
// machine each peer for itself.
func crowdOf(id peer.ID, site string) string {
	if site == "" {
		return string(id)
	}
	return site
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// partner reports whether this node and id have work for each other under way: a
// lease that it pays for, or a lane of this node that id showed.
func (n *Node) partner(id peer.ID) bool {
	n.leases.mu.Lock()
	_, ok := n.leases.m[id]
	n.leases.mu.Unlock()
	if ok {
		return true
	}
	n.work.mu.Lock()
	defer n.work.mu.Unlock()
	l := n.work.links[id]
	return l != nil && l.stake(time.Now()) > 0
}
