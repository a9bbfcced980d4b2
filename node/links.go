package node

import (
	"cmp"
	"fmt"
	"slices"
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
	maxLinks  = 256          // submitters served at once
	bareLinks = maxLinks / 4 // places for streams that have nothing at stake
	maxHolds  = 64           // that one may show
	maxStake  = 8            // holds of one that count for its place, the newest

	// Certified events that a submitter may show: each costs a quorum's signatures.
	showRate  = 100 // a second
	showBurst = 2 * (1 + ledger.MaxExtends)
	maxShows  = 1024 // submitters of which is known how much they showed
)

// link is one submitter's stream.
type link struct {
	from  peer.ID
	site  string // where it speaks from, see siteOf
	out   *outbox[toSubmitter]
	since time.Time
	holds map[cid.Cid]shownHold // verified ones that came on this stream; the reader's

	withheld []resultItem // until more is promised; the writer's

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

func newLink(from peer.ID, site string) *link {
	return &link{from: from, site: site, out: newOutbox[toSubmitter](), since: time.Now(), holds: map[cid.Cid]shownHold{}}
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

// stakeOf is what a submitter's open holds may still pay this worker.
func (w *work) stakeOf(id peer.ID) proto.Credit {
	w.mu.Lock()
	l := w.links[id]
	w.mu.Unlock()
	if l == nil {
		return 0
	}
	return l.stake(time.Now())
}

// siteOf is where a submitter speaks from.
func (w *work) siteOf(id peer.ID) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.links[id]; l != nil {
		return l.site
	}
	return ""
}

// join gives l a place: that of an older stream of the same submitter or, when all
// are taken, that of the one that gives way.
func (w *work) join(l *link) {
	w.mu.Lock()
	old := w.links[l.from]
	switch {
	case old != nil:
		l.inherit(old)
	case len(w.links) >= maxLinks:
		old = w.givesWay(time.Now())
		delete(w.links, old.from)
	}
	w.links[l.from] = l
	w.mu.Unlock()
	if old != nil {
		old.out.close() // its writer ends, which ends its reader
		w.n.jobs.post(market.SubmitterLost{Submitter: old.from})
	}
}

// inherit takes over what an older stream of the same submitter showed.
func (l *link) inherit(old *link) {
	old.mu.Lock()
	defer old.mu.Unlock()
	l.open = slices.Clone(old.open)
}

// givesWay is the stream that ends for a new one. Those with nothing at stake have
// bareLinks places among themselves, in which each has some time to show a hold: of
// these the oldest of the most crowded address goes. While they are fewer, the
// one with least at stake goes, of equals the oldest. Call with mu held.
func (w *work) givesWay(now time.Time) *link {
	var bare []*link
	crowd := map[string]int{}
	var poorest *link
	var least proto.Credit
	for _, l := range w.links {
		switch s := l.stake(now); {
		case s == 0:
			bare = append(bare, l)
			crowd[crowdOf(l.from, l.site)]++
		case poorest == nil || s < least || s == least && l.since.Before(poorest.since):
			poorest, least = l, s
		}
	}
	if len(bare) < bareLinks {
		return poorest
	}
	return slices.MinFunc(bare, func(a, b *link) int {
		return cmp.Or(cmp.Compare(crowd[crowdOf(b.from, b.site)], crowd[crowdOf(a.from, a.site)]), a.since.Compare(b.since))
	})
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
