package node

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// A reconciliation that says nothing for syncQuiet gives its place away when
// somebody wants it.
const syncQuiet = 2 * time.Second

// syncTurn is for how long a reconciliation keeps its place, unless it is quiet, from
// one with more at stake.
const syncTurn = 10 * time.Second

// places bound sessions that run at once, one per peer. Who takes them to keep
// others out does not: of the sessions that are quiet the one that is so for the
// longest ends for a new one. Peers whose newest session failed lose their
// place first, whatever they say, and take nobody's: else a few of them that
// hang up and begin anew would hold all places. After its turn a session ends for
// one of a peer with more at stake here. Peers with nothing at stake have half of
// the places at most behind one address.
type places struct {
	most    int
	witness func(peer.ID) bool
	// apart: witnesses need none of the places. Else they take one of somebody
	// else when all are taken.
	apart bool
	stake func(peer.ID) proto.Credit // nil: nobody has anything

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
	end   context.CancelFunc
	last  atomic.Int64 // Unix time in ns of the newest progress
	site  string       // where the peer speaks from, see siteOf
	began time.Time    // it has its place
	stake proto.Credit // of the peer, then
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
	s.began = now
	if p.stake != nil && !p.witness(id) {
		s.stake = p.stake(id)
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
	beside := p.crowded(s)
	if p.witness(id) {
		beside = ""
	}
	if (taken >= p.most || beside != "") && !(p.apart && p.witness(id)) {
		x, ok := p.dispensable(now, id, s, beside)
		if !ok {
			return false
		}
		p.of[x].end()
		p.drop(now, x, false)
	}
	p.of[id] = s
	return true
}

// crowded is the address of a session when half of the places are taken from there
// by peers with nothing at stake, as this one. Call with mu held.
func (p *places) crowded(s *syncSession) string {
	if s.site == "" || s.stake > 0 {
		return ""
	}
	n := 0
	for x, o := range p.of {
		if o.site == s.site && o.stake == 0 && !p.witness(x) {
			n++
		}
	}
	if n < (p.most+1)/2 {
		return ""
	}
	return s.site
}

// dispensable is whose session ends for s of id, one from site unless that is
// "": of a peer that failed, then of one with least at stake, then the quietest.
// Call with mu held.
func (p *places) dispensable(now time.Time, id peer.ID, s *syncSession, site string) (least peer.ID, ok bool) {
	witness := p.witness(id)
	if !witness && p.fails(now, id) {
		return "", false
	}
	for x, o := range p.of {
		if p.witness(x) && (p.apart || !witness) || site != "" && (o.site != site || o.stake > 0) {
			continue
		}
		prefers := p.fails(now, x) || witness && !p.witness(x) || s.stake > o.stake && now.Sub(o.began) >= syncTurn // no matter whether it is quiet
		if !prefers && now.UnixNano()-o.last.Load() < int64(syncQuiet) {
			continue
		}
		if !ok || p.goesBefore(now, x, least) {
			least, ok = x, true
		}
	}
	return least, ok
}

func (p *places) goesBefore(now time.Time, a, b peer.ID) bool {
	rank := func(id peer.ID) int {
		switch {
		case p.witness(id):
			return 2
		case p.fails(now, id):
			return 0
		}
		return 1
	}
	x, y := p.of[a], p.of[b]
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(x.stake, y.stake), cmp.Compare(x.last.Load(), y.last.Load())) < 0
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
