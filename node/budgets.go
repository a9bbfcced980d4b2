package node

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"

	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// What may come by gossip, over all topics, in messages per second. An author's
// messages count against the author, whoever passes them on, so a peer that
// passes on what a spammer said is not taken for one. Authors whose account has
// no credits cost nothing to make: together they have one budget for offers, which
// they could not pay for, and a larger one for claims: new workers have earned
// nothing yet. What one peer passes on, of whomever, is bounded by what checking
// signatures costs.
const (
	authorRate    = 2 * market.MaxClaims // a worker has room for its claims
	strangersRate = 400
	poorRate      = 50 // offers of strangers
	forwardRate   = 2000
	askRate       = 200 // questions of a peer on streams
	burstSeconds  = 2
	maxBudgets    = 1024
)

type budgets struct {
	forwarders, authors, askers *lru.Cache[peer.ID, *rate.Limiter]
	strangers, poor             *rate.Limiter // claims and offers
}

func newBudgets() *budgets {
	of := func() *lru.Cache[peer.ID, *rate.Limiter] {
		c, _ := lru.New[peer.ID, *rate.Limiter](maxBudgets) // it fails for sizes below 1 only
		return c
	}
	strangers := func(perSecond int) *rate.Limiter {
		return rate.NewLimiter(rate.Limit(perSecond), burstSeconds*perSecond)
	}
	return &budgets{of(), of(), of(), strangers(strangersRate), strangers(poorRate)}
}

func allow(of *lru.Cache[peer.ID, *rate.Limiter], p peer.ID, now time.Time, perSecond int) bool {
	l, ok := of.Get(p)
	if !ok {
		l = rate.NewLimiter(rate.Limit(perSecond), burstSeconds*perSecond)
		of.Add(p, l)
	}
	return l.AllowN(now, 1)
}

// passes takes a message of a peer that passed it on, before it is looked at.
func (b *budgets) passes(p peer.ID, now time.Time) bool {
	return allow(b.forwarders, p, now, forwardRate)
}

// says takes a message that its author signed.
func (b *budgets) says(author peer.ID, known, offers bool, now time.Time) bool {
	return allow(b.authors, author, now, authorRate) && (known || b.ofStrangers(offers).AllowN(now, 1))
}

func (b *budgets) ofStrangers(offers bool) *rate.Limiter {
	if offers {
		return b.poor
	}
	return b.strangers
}

// excess reports whether a message is one of a stranger too many, whoever it is
// that claims to have written it: its signature need not be checked for that.
func (g *gossip) excess(t *topic, data []byte, now time.Time) bool {
	if t.kind == "credits" || g.budgets.ofStrangers(t.kind == "offers").TokensAt(now) >= 1 {
		return false
	}
	s, err := proto.Inspect(data, proto.KindOffer, proto.KindWithdrawal, proto.KindClaim)
	return err == nil && !g.n.solvent(s.Signer)
}

// asks takes a question on a stream.
func (b *budgets) asks(p peer.ID, now time.Time) bool { return allow(b.askers, p, now, askRate) }

// solvent reports whether an account has credits, as far as this node knows
// accounts: a light one takes everybody for known.
func (n *Node) solvent(id peer.ID) bool {
	if n.light != nil {
		return true
	}
	a := n.Account(id)
	return a.Avail > 0 || a.Held > 0 || a.Staked > 0 || a.Receivable > 0
}

// funds is what an account can pay with, nil where accounts are not known.
func (n *Node) funds(id peer.ID) *proto.Credit {
	if n.light != nil {
		return nil
	}
	a := n.Account(id)
	f := a.Avail + a.Held + a.Receivable
	return &f
}
