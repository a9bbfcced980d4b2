package node

import (
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/libp2p/go-libp2p/core/peer"
)

// misconduct remembers who passed on what no honest peer passes on, and from
// where. Gossipsub's own score makes each peer pay for its own faults; one that
// goes on under new identities would begin anew each time. So a fault weighs more
// the more other identities at the same address had one. Who shares an address
// with them and does no wrong loses nothing: that is what a router, an office or a
// carrier looks like.
type misconduct struct {
	mu    sync.Mutex
	of    *lru.Cache[peer.ID, fault]
	sites map[string]int // faulty peers at each address
}

type fault struct {
	site string
	at   time.Time
}

const (
	maxFaulty   = 4096
	faultLasts  = time.Hour
	faultyFree  = 3    // faulty peers at an address before their number counts
	faultWeight = -500 // times the square of the others
)

func newMisconduct() *misconduct {
	m := &misconduct{sites: map[string]int{}}
	m.of, _ = lru.NewWithEvict(maxFaulty, func(_ peer.ID, f fault) { // it fails for sizes below 1 only
		if m.sites[f.site]--; m.sites[f.site] <= 0 {
			delete(m.sites, f.site)
		}
	})
	return m
}

// add notes a fault of a peer at an address. site "" is nowhere.
func (m *misconduct) add(now time.Time, id peer.ID, site string) {
	if site == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of.Remove(id)
	m.of.Add(id, fault{site, now})
	m.sites[site]++
	for {
		oldest, f, ok := m.of.GetOldest()
		if !ok || now.Sub(f.at) < faultLasts {
			return
		}
		m.of.Remove(oldest)
	}
}

// score is what a peer's faults add to its gossip score.
func (m *misconduct) score(now time.Time, id peer.ID) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.of.Peek(id)
	if !ok || now.Sub(f.at) >= faultLasts {
		return 0
	}
	others := float64(max(0, m.sites[f.site]-faultyFree))
	return faultWeight * others * others
}

// siteOf is where a connected peer is, "" when that is not known, as over a relay.
func (n *Node) siteOf(id peer.ID) string {
	for _, c := range n.host.Network().ConnsToPeer(id) {
		if a := c.RemoteMultiaddr(); !relayed(a) {
			return site(a)
		}
	}
	return ""
}
