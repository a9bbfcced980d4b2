package node

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	manet "github.com/multiformats/go-multiaddr/net"

	"edgenet.dev/proto"
)

// serving decides who has one of a few places, in which a peer is served that
// decides itself how long that takes. A place goes to who has most at stake here
// for each place that it has then: who splits its stake among many identities
// gains nothing. Of equals it goes to the address with fewest places, the peer with
// fewest, and who came first. Peers with nothing at stake have half of the places
// at most, and those behind one address half of these.
//
// Whoever has a place keeps it for a turn. After that it gives it to one who
// waits and has more at stake for each place, or at equal stakes fewer behind its
// address. What one has at stake counts twice as much with each turn for which none
// of its requests got a place, against those that have a place for agedTurns: so
// poorer ones come later and more rarely, and nobody is kept out. Some peers, witnesses, need none of the places.
type serving struct {
	most, each     int
	queue, queueOf int // requests that wait, in all and of one peer
	apart          func(peer.ID) bool
	stake          func(peer.ID) proto.Credit

	turn time.Duration
	ages time.Duration // without a place, until one's stake counts twice
	beat time.Duration // between two words to one that waits
	rate int           // bytes a second that a reader takes on average after its turn, while others wait

	mu       sync.Mutex
	taken    int // by others than those apart
	strange  int // of these by peers with nothing at stake
	of       map[peer.ID]int
	origins  map[origin]int
	seated   []*guest // of those who count
	waiting  []*guest
	arrivals uint64
	timer    *time.Timer // when the next turn ends that somebody waits for
}

// origin is whose peers share places: all behind one address, and on this machine
// each peer for itself. Those with something at stake count for themselves.
type origin struct {
	place    string
	stranger bool
}

// guest has a place or waits for one.
type guest struct {
	context.Context // ends when the place is lost or left
	end             context.CancelFunc
	id              peer.ID
	apart           bool
	stake           proto.Credit
	origin          origin
	since           uint64
	waits           time.Time // none of its peer's requests got a place since
	began           time.Time // it has its place
	ready           chan struct{}
	gone            bool // there is no place for it
}

const (
	maxWaiting   = 1024 // requests that wait for a place
	maxWaitingOf = 64   // of these of one peer

	agedTurns   = 3  // turns that one keeps its place against less at stake that waited
	mostDoubled = 20 // times that a stake counts twice
)

func newServing(most, each int, turn time.Duration, apart func(peer.ID) bool, stake func(peer.ID) proto.Credit) *serving {
	return &serving{
		most: most, each: each, queue: maxWaiting, queueOf: maxWaitingOf, apart: apart, stake: stake, turn: turn, ages: min(turn, blobTurn), beat: servingBeat, rate: fetchRate,
		of: map[peer.ID]int{}, origins: map[origin]int{},
	}
}

// servingBeat is how often one that waits is told so.
const servingBeat = 5 * time.Second

// take waits for a place until ctx ends, or beat fails, which is called now and
// then meanwhile unless it is nil. The guest's context ends when it loses its
// place; it calls leave in any case.
func (s *serving) take(ctx context.Context, id peer.ID, site string, beat func() error) (*guest, bool) {
	g := s.guest(id, site)
	s.mu.Lock()
	if !s.join(g) {
		s.mu.Unlock()
		return nil, false
	}
	s.seat(time.Now())
	every := s.beat
	s.mu.Unlock()
	var tick <-chan time.Time
	if beat != nil {
		t := time.NewTicker(every)
		defer t.Stop()
		tick = t.C
	}
	for waits := true; waits; {
		select {
		case <-g.ready:
			waits = false
		case <-ctx.Done():
			waits = false
		case <-tick:
			waits = beat() == nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.waiting, g); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		g.gone = true
	}
	return g, !g.gone
}

func (s *serving) guest(id peer.ID, site string) *guest {
	g := &guest{id: id, apart: s.apart(id), ready: make(chan struct{})}
	if !g.apart {
		g.stake = s.stake(id)
	}
	g.origin = origin{crowdOf(id, site), g.stake == 0}
	g.Context, g.end = context.WithCancel(context.Background())
	return g
}

// join queues a request. When too many wait, one with least at stake for each gives way, of
// these the newest of the most crowded address. Call with mu held.
func (s *serving) join(g *guest) bool {
	s.arrivals++
	g.since, g.waits = s.arrivals, time.Now()
	own := 0
	for _, x := range s.waiting {
		if x.id == g.id {
			own++
		}
	}
	if own >= s.queueOf {
		return false
	}
	s.waiting = append(s.waiting, g)
	if len(s.waiting) <= s.queue {
		return true
	}
	origins, wait := map[origin]int{}, map[peer.ID]proto.Credit{}
	for _, x := range s.waiting {
		origins[x.origin]++
		wait[x.id]++
	}
	last := slices.MaxFunc(s.waiting, func(a, b *guest) int {
		return cmp.Or(byApart(a, b), cmp.Compare(b.stake/wait[b.id], a.stake/wait[a.id]), cmp.Compare(origins[a.origin], origins[b.origin]), cmp.Compare(a.since, b.since))
	})
	s.waiting = slices.DeleteFunc(s.waiting, func(x *guest) bool { return x == last })
	last.gone = true
	close(last.ready)
	return last != g
}

// byApart sorts those first who need no place.
func byApart(a, b *guest) int {
	switch {
	case a.apart == b.apart:
		return 0
	case a.apart:
		return -1
	}
	return 1
}

// seat gives places away, those of guests whose turn is over, too. Call with mu
// held.
func (s *serving) seat(now time.Time) {
	for s.give(now) || s.swap(now, false) || s.swap(now, true) || s.swapAged(now) {
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	if len(s.waiting) == 0 {
		return
	}
	next := now.Add(s.turn) // those that wait grow older
	for _, h := range s.seated {
		if end := h.began.Add(s.turn); end.After(now) && end.Before(next) {
			next = end
		}
	}
	s.timer = time.AfterFunc(next.Sub(now), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seat(time.Now())
	})
}

// give gives a free place to the first who may have it.
func (s *serving) give(now time.Time) bool {
	next := s.first(s.fits, s.aged(now))
	if next == nil {
		return false
	}
	s.begin(now, next)
	return true
}

// swap gives the place of a guest whose turn is over to one who waits with a better
// right to it: to one with nothing at stake, or to one with something.
func (s *serving) swap(now time.Time, stranger bool) bool {
	next := s.first(func(g *guest) bool {
		return !g.apart && g.origin.stranger == stranger && s.of[g.id] < s.each && (!stranger || s.origins[g.origin] < s.ofOrigin())
	}, s.nextClaim)
	if next == nil {
		return false
	}
	full := stranger && s.strange >= s.most/2 // then only another stranger's place will do
	var least *guest
	for _, h := range s.seated {
		if now.Sub(h.began) < s.turn || full && !h.origin.stranger {
			continue
		}
		if least == nil || cmp.Or(
			cmp.Compare(s.claim(h, 0), s.claim(least, 0)), cmp.Compare(s.origins[least.origin], s.origins[h.origin]), h.began.Compare(least.began),
		) < 0 {
			least = h
		}
	}
	if least == nil {
		return false
	}
	has, wants := s.claim(least, 0), s.claim(next, 1)
	if wants < has || wants == has && s.origins[least.origin] <= s.origins[next.origin]+1 {
		return false
	}
	s.moves(now, least, next)
	return true
}

// swapAged gives the place of a guest that has it for long to one who waited for long
// and has less at stake, the place that was held for longest first.
func (s *serving) swapAged(now time.Time) bool {
	aged := s.aged(now)
	next := s.first(func(g *guest) bool { return !g.apart && !g.origin.stranger && s.of[g.id] < s.each }, aged)
	if next == nil {
		return false
	}
	var longest *guest
	for _, h := range s.seated {
		if now.Sub(h.began) >= agedTurns*s.turn && aged(next) > s.claim(h, 0) && (longest == nil || h.began.Before(longest.began)) {
			longest = h
		}
	}
	if longest == nil {
		return false
	}
	s.moves(now, longest, next)
	return true
}

// moves gives the place of one to another.
func (s *serving) moves(now time.Time, from, to *guest) {
	s.count(from, -1)
	from.end()
	s.begin(now, to)
}

// first is the one that waits for longest of those with the best right to a place,
// by what claim counts for them.
func (s *serving) first(may func(*guest) bool, claim func(*guest) proto.Credit) (next *guest) {
	for _, g := range s.waiting {
		if may(g) && (next == nil || s.before(g, next, claim)) {
			next = g
		}
	}
	return next
}

func (s *serving) begin(now time.Time, g *guest) {
	s.waiting = slices.DeleteFunc(s.waiting, func(x *guest) bool { return x == g })
	for _, x := range s.waiting {
		if x.id == g.id {
			x.waits = now
		}
	}
	s.count(g, 1)
	g.began = now
	close(g.ready)
}

// claim is what g has at stake for each place that it has, and so many more.
func (s *serving) claim(g *guest, more int) proto.Credit {
	return g.stake / proto.Credit(max(1, s.of[g.id]+more))
}

// nextClaim is what g has at stake for each place if it gets one more.
func (s *serving) nextClaim(g *guest) proto.Credit { return s.claim(g, 1) }

// aged is what that counts after a time without a place.
func (s *serving) aged(now time.Time) func(*guest) proto.Credit {
	return func(g *guest) proto.Credit {
		twice := min(now.Sub(g.waits)/s.ages, mostDoubled)
		return min(g.stake, math.MaxInt64>>mostDoubled) << twice / proto.Credit(s.of[g.id]+1)
	}
}

// ofOrigin is how many places strangers behind one address have at most.
func (s *serving) ofOrigin() int { return max(1, s.most/4) }

func (s *serving) fits(g *guest) bool {
	switch {
	case s.of[g.id] >= s.each:
		return false
	case g.apart:
		return true
	case s.taken >= s.most:
		return false
	}
	return !g.origin.stranger || s.strange < s.most/2 && s.origins[g.origin] < s.ofOrigin()
}

func (s *serving) before(a, b *guest, claim func(*guest) proto.Credit) bool {
	return cmp.Or(
		byApart(a, b), cmp.Compare(claim(b), claim(a)),
		cmp.Compare(s.origins[a.origin], s.origins[b.origin]), cmp.Compare(s.of[a.id], s.of[b.id]), cmp.Compare(a.since, b.since),
	) < 0
}

// leave ends the use of a place, unless that was taken from g.
func (s *serving) leave(g *guest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.Err() != nil {
		return
	}
	g.end()
	s.count(g, -1)
	s.seat(time.Now())
}

func (s *serving) count(g *guest, by int) {
	if s.of[g.id] += by; s.of[g.id] == 0 {
		delete(s.of, g.id)
	}
	if g.apart {
		return
	}
	s.taken += by
	if s.origins[g.origin] += by; s.origins[g.origin] == 0 {
		delete(s.origins, g.origin)
	}
	if g.origin.stranger {
		s.strange += by
	}
	if by > 0 {
		s.seated = append(s.seated, g)
	} else {
		s.seated = slices.DeleteFunc(s.seated, func(x *guest) bool { return x == g })
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

// send writes body. A reader that falls behind the least rate after its turn
// loses its place to the first who wants it, and every one after longest.
func (s *serving) send(out network.Stream, body []byte, longest time.Duration) error {
	began, sent := time.Now(), 0
	for len(body) > 0 {
		chunk := body[:min(len(body), blobChunk)]
		due := began.Add(s.turn + time.Duration(sent+len(chunk))*time.Second/time.Duration(s.rate))
		now := time.Now()
		if due.Before(now) { // it is late and nobody minded so far
			due = now.Add(s.turn / 4)
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

// stakeWith is what this node and id set aside for each other's work: what id's
// lanes may still pay this node, and this node's lanes id.
func (n *Node) stakeWith(id peer.ID) (sum proto.Credit) {
	n.leases.mu.Lock()
	_, leased := n.leases.m[id]
	n.leases.mu.Unlock()
	if leased {
		sum = n.wallet.setAside(id)
	}
	return sum + n.work.stakeOf(id)
}
