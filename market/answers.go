package market

import (
	"golang.org/x/time/rate"

	"edgenet.dev/proto"
)

// How many offers a worker answers. Others count a worker's claims against it as
// they count all that an author says: one that can be made to say more than they
// take is not heard any more with what it says for jobs that pay.
const (
	// MaxClaims are a worker's claims per second. Nodes take twice as much of an author.
	MaxClaims = 100
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

// poor reports whether an offer's submitter cannot pay for one execution of it, as
// far as that is known here.
func (m *Machine) poor(in OfferSeen) bool {
	o := in.Offer
	return in.Funds != nil && *in.Funds < proto.PayFor(min(proto.Fuel(o.FuelLimit), proto.MaxFuel), m.leastPrice(proto.Priority(o.Priority)))
}

// answers takes one of the claims that a worker may make now. c is the offer's
// submitter, nil when it is not known.
func (m *Machine) answers(b *bid, c *customer) bool {
	w := &m.work
	switch {
	case m.off.answers:
		return true
	case b.poor && !w.poorClaims.AllowN(m.now, 1):
		return false
	case c != nil && !c.claims.AllowN(m.now, 1):
		return false
	}
	return w.claims.AllowN(m.now, 1)
}
