package node

import (
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"

	"edgenet.dev/ledger"
	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// Submitters' streams, and what their holds are worth to this worker. Streams and
// identities cost nothing, so there are places for those that set most aside.

const (
	maxLinks = 256 // submitters served at once
	maxHolds = 64  // that one may show
	maxStake = 8   // holds of one that count for its place, the newest
	// linkGrace is for how long a stream has its place before it has shown a hold.
	linkGrace = 5 * time.Second

	// Certified events that a submitter may show: each costs a quorum's signatures.
	showRate  = 100 // a second
	showBurst = 2 * (1 + ledger.MaxExtends)
	maxShows  = 1024 // submitters of which is known how much they showed
)

// link is one submitter's stream.
type link struct {
	from  peer.ID
	out   *outbox[toSubmitter]
	since time.Time
	holds map[cid.Cid]shownHold // verified ones that came on this stream; the reader's

	mu   sync.Mutex
	open []openLane // the newest last
}

type shownHold struct {
	state  ledger.HoldState
	events int // the hold and its extends
}

// openLane is a lane of this worker and what it may still pay.
type openLane struct {
	hold  cid.Cid
	until time.Time
	left  proto.Credit
}

func newLink(from peer.ID) *link {
	return &link{from: from, out: newOutbox[toSubmitter](), since: time.Now(), holds: map[cid.Cid]shownHold{}}
}

// pays notes what a lane of this worker may still pay, and until when.
func (l *link) pays(hold cid.Cid, until time.Time, left proto.Credit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.open[:0]
	for _, o := range l.open {
		if !o.hold.Equals(hold) {
			kept = append(kept, o)
		}
	}
	if l.open = append(kept, openLane{hold, until, left}); len(l.open) > maxStake {
		l.open = append(l.open[:0], l.open[1:]...)
	}
}

// stake is what the open holds that a submitter showed may still pay this worker.
func (l *link) stake(now time.Time) (sum proto.Credit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.open {
		if now.Before(o.until) {
			sum += o.left
		}
	}
	return sum
}

// join gives l a place, in place of an older stream of the same submitter or, when
// all are taken, of the one with least at stake.
func (w *work) join(l *link) bool {
	w.mu.Lock()
	old := w.links[l.from]
	if old == nil && len(w.links) >= maxLinks {
		if old = w.least(time.Now()); old != nil {
			delete(w.links, old.from)
		}
	}
	if len(w.links) < maxLinks || old != nil {
		w.links[l.from] = l
	}
	joined := w.links[l.from] == l
	w.mu.Unlock()
	if old != nil {
		old.out.close() // its writer ends, which ends its reader
		w.n.jobs.post(market.SubmitterLost{Submitter: old.from})
	}
	return joined
}

// least is the stream whose submitter has the least at stake, of equals the oldest.
// Those that have only begun come last: they have not had the time to show a hold.
// Call with mu held.
func (w *work) least(now time.Time) *link {
	var least *link
	var stake proto.Credit
	var young bool
	for _, l := range w.links {
		s := l.stake(now)
		y := s == 0 && now.Sub(l.since) < linkGrace
		if least == nil || !y && young || y == young && (s < stake || s == stake && l.since.Before(least.since)) {
			least, stake, young = l, s, y
		}
	}
	return least
}

// shows bounds what submitters have verified.
type shows struct {
	mu sync.Mutex
	of *lru.Cache[peer.ID, *rate.Limiter]
}

func newShows() *shows {
	of, err := lru.New[peer.ID, *rate.Limiter](maxShows)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return &shows{of: of}
}

func (s *shows) limit(p peer.ID) *rate.Limiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.of.Get(p)
	if !ok {
		l = rate.NewLimiter(showRate, showBurst)
		s.of.Add(p, l)
	}
	return l
}

// showHold verifies certified hold events by themselves; the rest of the
// payer's chain is not needed, because a certificate proves the balance. Whose hold
// it is comes first: signatures of strangers' holds are not checked for anybody.
func (w *work) showHold(l *link, hold cid.Cid, event *proto.CertifiedEvent, extends []*proto.CertifiedEvent) error {
	if len(extends) > ledger.MaxExtends {
		return proto.CodeTooLarge.Errorf("%d extends", len(extends))
	}
	switch id, payer, err := ledger.HoldOf(w.n.net, event); {
	case err != nil:
		return err
	case !id.Equals(hold) || payer != l.from:
		return proto.CodeNoLane.Errorf("the hold shown is not the one assigned from")
	case l.holds[hold].events > len(extends) && (w.n.light == nil || w.n.wallet.hasHold(hold)):
		return nil // nothing new
	}
	// It reads no further meanwhile, so the submitter waits, and nobody else.
	if err := w.shows.limit(l.from).WaitN(w.n.ctx, 1+len(extends)); err != nil {
		return fmt.Errorf("hold %s: %w", hold, err)
	}
	st, err := ledger.VerifyLane(w.n.net, event, extends)
	if err != nil {
		return err
	}
	if w.n.light != nil {
		if st, err = w.n.light.watch(event, extends); err != nil {
			return err
		}
	}
	if _, again := l.holds[hold]; !again && len(l.holds) >= maxHolds {
		l.holds = map[cid.Cid]shownHold{} // the submitter shows again on a new stream
	}
	l.holds[hold] = shownHold{st, 1 + len(extends)}
	return nil
}
