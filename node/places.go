package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/libp2p/go-libp2p/core/peer"
)

// A reconciliation that says nothing for syncQuiet gives its place away when
// somebody wants it.
const syncQuiet = 2 * time.Second

// places bound sessions that run at once, one per peer. Who takes them to keep
// others out does not: of the sessions that are quiet the one that is so for the
// longest ends for a new one. Peers whose newest session failed lose their
// place first, whatever they say, and take nobody's: else a few of them that
// hang up and begin anew would hold all places. Partners, with whom this node has
// work under way, take places of strangers, and strangers behind one address have
// half of them at most.
type places struct {
	most    int
	witness func(peer.ID) bool
	// apart: witnesses need none of the places. Else they take one of somebody
	// else when all are taken.
	apart   bool
	partner func(peer.ID) bool // nil: there are none

	mu     sync.Mutex
	of     map[peer.ID]*syncSession
	failed *lru.Cache[peer.ID, time.Time] // end of the newest session
}

// syncFailed is for how long a failed session counts.
const syncFailed = time.Minute

func newPlaces(most int, witness func(peer.ID) bool, apart bool) *places {
	p := &places{most: most, witness: witness, apart: apart, of: map[peer.ID]*syncSession{}}
	p.failed, _ = lru.New[peer.ID, time.Time](1024) // it fails for sizes below 1 only
	return p
}

// syncSession is a reconciliation that runs: until its context ends.
type syncSession struct {
	context.Context
	end  context.CancelFunc
	last atomic.Int64 // Unix time in ns of the newest progress
	site string       // where the peer speaks from, see siteOf
}

func newSyncSession(ctx context.Context) *syncSession {
	s := new(syncSession)
	s.Context, s.end = context.WithTimeout(ctx, syncTime)
	s.moved(time.Now())
	return s
}

func (s *syncSession) moved(now time.Time) { s.last.Store(now.UnixNano()) }

// take gives a session of id a place, which may end another one.
func (p *places) take(now time.Time, id peer.ID, s *syncSession) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of[id] != nil {
		return false
	}
	taken := len(p.of)
	if p.apart {
		taken = 0
		for x := range p.of {
			if !p.witness(x) {
				taken++
			}
		}
	}
	beside := p.crowded(id, s.site)
	if (taken >= p.most || beside != "") && !(p.apart && p.witness(id)) {
		x, ok := p.dispensable(now, id, beside)
		if !ok {
			return false
		}
		p.of[x].end()
		p.drop(now, x, false)
	}
	p.of[id] = s
	return true
}

// crowded is the address of a stranger when half of the places are taken by
// strangers from there. Call with mu held.
func (p *places) crowded(id peer.ID, site string) string {
	if site == "" || p.rank(id) < rankStranger {
		return ""
	}
	n := 0
	for x, s := range p.of {
		if s.site == site && p.rank(x) == rankStranger {
			n++
		}
	}
	if n < (p.most+1)/2 {
		return ""
	}
	return site
}

const (
	rankWitness = iota
	rankPartner
	rankStranger
	rankFailed
)

func (p *places) rank(id peer.ID) int {
	switch {
	case p.witness(id):
		return rankWitness
	case p.partner != nil && p.partner(id):
		return rankPartner
	}
	return rankStranger
}

// dispensable is whose session ends for one of id, one from site unless that is
// "". Call with mu held.
func (p *places) dispensable(now time.Time, id peer.ID, site string) (least peer.ID, ok bool) {
	witness := p.witness(id)
	if !witness && p.fails(now, id) {
		return "", false
	}
	rank := func(x peer.ID) int {
		r := p.rank(x)
		if r > rankWitness && p.fails(now, x) {
			return rankFailed
		}
		return r
	}
	own := rank(id)
	for x, s := range p.of {
		r := rank(x)
		if r == rankWitness && (p.apart || !witness) || site != "" && s.site != site {
			continue
		}
		prefers := r == rankFailed || own < r // no matter whether it is quiet
		if !prefers && now.UnixNano()-s.last.Load() < int64(syncQuiet) {
			continue
		}
		if !ok || r > rank(least) || r == rank(least) && s.last.Load() < p.of[least].last.Load() {
			least, ok = x, true
		}
	}
	return least, ok
}

func (p *places) fails(now time.Time, id peer.ID) bool {
	at, ok := p.failed.Get(id)
	return ok && now.Sub(at) < syncFailed
}

// leave ends the session's use of a place, unless that was taken from it. done
// tells a session that came to its end.
func (p *places) leave(now time.Time, id peer.ID, s *syncSession, done bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of[id] == s {
		p.drop(now, id, done)
	}
}

func (p *places) drop(now time.Time, id peer.ID, done bool) {
	delete(p.of, id)
	if done {
		p.failed.Remove(id)
	} else {
		p.failed.Add(id, now)
	}
}
