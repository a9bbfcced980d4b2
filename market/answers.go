package market

import (
	"math"
	"math/bits"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"

	"edgenet.dev/proto"
)

// How many offers a worker answers. Others count a worker's claims against it as
// they count all that an author says: one that can be made to say more than they
// take is not heard any more with what it says for jobs that pay.
const (
	// MaxClaims are a worker's claims per second in all. Nodes take twice as much of an author.
	MaxClaims = laneClaims + otherClaims + turnClaims

	// Half of them are for submitters that have an open lane here, those that may
	// pay most first; what they leave over others may have. A quarter is for others,
	// those with most credits first. A quarter goes round all, whatever they have:
	// however many richer ones there are, each is answered once in turnEvery.
	laneClaims  = 50
	otherClaims = 25
	turnClaims  = 25
	turnEvery   = 10 * time.Second

	// Of these, claims for the offers of one submitter, and of all submitters whose
	// account does not cover one execution: they cost nothing to make, and there is
	// nothing to be earned.
	claimsOf   = 50
	poorClaims = 10

	claimBurst = 2 // seconds' worth that may be said at once
)

func claimLimit(perSecond int) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond), claimBurst*perSecond)
}

// answering is what is left of the claims that a worker may make.
type answering struct {
	lanes, others, turns *rate.Limiter
	poor                 *rate.Limiter         // of others, for those that cannot pay
	had                  map[peer.ID]time.Time // submitters that had their turn; turnClaims bounds them
}

func newAnswering() answering {
	return answering{claimLimit(laneClaims), claimLimit(otherClaims), claimLimit(turnClaims), claimLimit(poorClaims), map[peer.ID]time.Time{}}
}

// poor reports whether an offer's submitter cannot pay for one execution of it, as
// far as that is known here.
func (m *Machine) poor(in OfferSeen) bool {
	o := in.Offer
	return in.Funds != nil && *in.Funds < proto.PayFor(min(proto.Fuel(o.FuelLimit), proto.MaxFuel), m.leastPrice(proto.Priority(o.Priority)))
}

// answers takes one of the claims that a worker may make now. c is the offer's
// submitter, nil when it is not known.
func (m *Machine) answers(b *bid, c *customer) bool {
	a := &m.work.answering
	switch {
	case m.off.answers:
		return true
	case b.poor && !a.poor.AllowN(m.now, 1):
		return false
	case c != nil && !c.claims.AllowN(m.now, 1):
		return false
	case b.poor:
		return a.others.AllowN(m.now, 1)
	case c != nil && m.leaves(a.lanes, reserve(c.stake(m.now))):
		return true
	case m.leaves(a.others, reserve(b.funds)), m.leaves(a.lanes, (1+reserve(b.funds))/2):
		return true
	}
	return m.inTurn(b.from)
}

// leaves takes a claim of l if this part of what it can hold is there.
func (m *Machine) leaves(l *rate.Limiter, part float64) bool {
	return l.TokensAt(m.now) >= part*float64(l.Burst()) && l.AllowN(m.now, 1)
}

// reserve is the part that one who has so much leaves for those who have more: all
// of it who has a microcredit, half with two or three, and less with each doubling.
func reserve(has proto.Credit) float64 {
	if has <= 0 {
		return math.Inf(1)
	}
	return 1 / float64(bits.Len64(uint64(has)))
}

// inTurn gives a submitter one of the claims that go round.
func (m *Machine) inTurn(from peer.ID) bool {
	a := &m.work.answering
	if at, ok := a.had[from]; ok && m.now.Sub(at) < turnEvery || !a.turns.AllowN(m.now, 1) {
		return false
	}
	if len(a.had) >= 2*turnClaims*int(turnEvery/time.Second) {
		for id, at := range a.had {
			if m.now.Sub(at) >= turnEvery {
				delete(a.had, id)
			}
		}
	}
	a.had[from] = m.now
	return true
}
