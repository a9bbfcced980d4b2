package market

import (
	"cmp"
	"math"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// What a submitter remembers of the workers it assigned work to. A key costs
// nothing, so neither a low price nor a quick claim says anything of it: what
// counts is what it kept, what it has to lose and what others saw of it.
// Everything fades, so that who was away or broken for a day starts anew.

// StandingRecord is what this node saw of one worker, in thousandths of an
// execution; both fade by half in standingHalf.
type StandingRecord struct {
	Worker  peer.ID
	FirstMs uint64 // Unix time: when this node first had to do with it
	Kept    uint64 // results that agreed
	Broken  uint64 // silence, losses, refusals of what it had claimed, wrong results
	AtMs    uint64 // Unix time that Kept and Broken are of; for the eviction of the oldest, too
}

const (
	maxStandings  = 1024
	standingHalf  = time.Hour
	standingsKept = 10 * time.Second // between two times that they are saved
	standingMost  = 1_000_000        // of Kept and of Broken: a long clean record excuses no hour of losses

	one        = 1000
	brokeReply = one / 4 // an answer, though not a result: refused after a claim, or its connection broke
	brokeTry   = one     // nothing came of it, as it said itself
	brokeWord  = 2 * one // nothing was heard of it any more
	brokeVote  = 4 * one // a result that is not right
	brokeBad   = 2 * one // from which on who kept less than twice that is not asked while there are others

	// newFor is how long a key counts among the strangers, which answer for each
	// other: who comes as eight keys is one stranger eight times.
	newFor = 24 * time.Hour
)

// class is how much a worker is trusted with.
type class uint8

const (
	classGood class = iota // it kept what it promised, has a reputation or a stake
	classNew
	classBad
)

// fade brings r to now.
func (r *StandingRecord) fade(now time.Time) {
	at := uint64(now.UnixMilli())
	if at <= r.AtMs {
		return
	}
	gone, half := at-r.AtMs, uint64(standingHalf/time.Millisecond)
	if gone < half/64 { // less would be lost in rounding
		return
	}
	r.AtMs = at
	if n := gone / half; n > 0 {
		r.Kept, r.Broken = r.Kept>>min(n, 63), r.Broken>>min(n, 63)
	}
	gone %= half
	r.Kept -= r.Kept * gone / (2 * half)
	r.Broken -= r.Broken * gone / (2 * half)
}

func (r *StandingRecord) add(kept, broken uint64) {
	r.Kept, r.Broken = min(r.Kept+kept, standingMost), min(r.Broken+broken, standingMost)
}

// standing finds a worker's record or makes one.
func (m *Machine) standing(w peer.ID) *StandingRecord {
	r := m.standings[w]
	if r == nil {
		if len(m.standings) >= maxStandings {
			m.forgetStanding()
		}
		now := uint64(m.now.UnixMilli())
		r = &StandingRecord{Worker: w, FirstMs: now, AtMs: now}
		m.standings[w] = r
	}
	r.fade(m.now)
	m.stood[w] = true
	return r
}

// forgetStanding makes room: strangers go first, so that many keys push out
// nobody who is known.
func (m *Machine) forgetStanding() {
	var old *StandingRecord
	for _, r := range m.standings {
		if old == nil || cmp.Or(first(r.Kept < one, old.Kept < one), cmp.Compare(r.AtMs, old.AtMs), cmp.Compare(r.Worker, old.Worker)) < 0 {
			old = r
		}
	}
	delete(m.standings, old.Worker)
	delete(m.stood, old.Worker)
	m.saves = append(m.saves, SaveStanding{Record: StandingRecord{Worker: old.Worker}})
}

func (m *Machine) keptPromise(w peer.ID) {
	r := m.standing(w)
	r.add(one, 0)
	m.strange(r, one, 0)
}

func (m *Machine) brokePromise(w peer.ID, much uint64) {
	r := m.standing(w)
	r.add(0, much)
	m.strange(r, 0, much)
}

// broke books that r came to nothing by no fault of its result. What a worker
// had to do at one moment is lost in one incident, of a link or of a disk, and
// that costs it no more than an eighth of what it kept, or what makes a
// stranger bad.
func (m *Machine) broke(r *replica, much uint64) {
	w, cp := r.lease.worker, r.lease.cp
	if cp.broke.IsZero() || r.sent.After(cp.broke) || m.off.incident {
		cp.broke, cp.spare = m.now, max(brokeBad, m.standing(w).Kept/8)
	}
	much = min(much, cp.spare)
	if !m.off.incident {
		cp.spare -= much
	}
	m.brokePromise(w, much)
}

// strange books what a young identity did on all of them.
func (m *Machine) strange(r *StandingRecord, kept, broken uint64) {
	if uint64(m.now.UnixMilli())-r.FirstMs < uint64(newFor/time.Millisecond) {
		m.strangers.fade(m.now)
		m.strangers.add(kept, broken)
	}
}

// class of a worker.
func (m *Machine) class(w peer.ID) class {
	if m.off.standing {
		return classNew
	}
	var kept, broken uint64
	if r := m.standings[w]; r != nil {
		r.fade(m.now)
		kept, broken = r.Kept, r.Broken
	}
	switch {
	case broken >= brokeBad && kept < 2*broken:
		return classBad
	case kept >= one || broken < one && (m.tenths(w) > 0 || m.stakes[w] >= m.cfg.Price):
		return classGood
	}
	return classNew
}

// share of the places that strangers get: one in so many. They get fewer while
// strangers broke more than they kept.
func (m *Machine) strangersShare() int {
	m.strangers.fade(m.now)
	if m.strangers.Broken > m.strangers.Kept {
		return 8
	}
	return 4
}

// weight of a worker in the order of those who claim: reputation and stake.
func (m *Machine) weight(w peer.ID) float64 {
	if m.off.standing {
		return 1
	}
	stake := float64(m.stakes[w]) / float64(max(1, m.cfg.Price))
	return 1 + float64(m.tenths(w)) + min(10, math.Log2(1+stake))
}

// weighted is a place in an order by weighted rendezvous, the lower the earlier:
// with twice the weight somebody comes first twice as often.
func weighted(h proto.Hash, weight float64) float64 {
	u := float64(uint64(h[0])<<40|uint64(h[1])<<32|uint64(h[2])<<24|uint64(h[3])<<16|uint64(h[4])<<8|uint64(h[5])) + 0.5
	return -math.Log(1-u/(1<<48)) / weight
}

// keepStandings saves what changed, once a job is over.
func (m *Machine) keepStandings() {
	if m.now.Before(m.stoodKept.Add(standingsKept)) {
		return
	}
	m.stoodKept = m.now
	for _, w := range sortedPeers(m.stood) {
		if r := m.standings[w]; r != nil {
			m.saves = append(m.saves, SaveStanding{Record: *r})
		}
	}
	clear(m.stood)
}

func (m *Machine) restoreStandings(recs []StandingRecord) {
	for _, r := range recs {
		if r.Worker != "" && len(m.standings) < maxStandings {
			m.standings[r.Worker] = &r
		}
	}
}
