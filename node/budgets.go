package node

import (
	"math"
	"math/bits"
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
// nothing yet. Those that have credits have two together: one goes round, a few
// messages a second of each author, whatever it has, so that a few rich ones do not
// silence the rest. Of the other the rule is: the fewer credits, the fuller it has
// to be, so that the richest are heard when many are there that have a microcredit
// each. What one peer passes on, of whomever, is bounded by what checking
// signatures costs.
const (
	authorRate    = 2 * market.MaxClaims // a worker has room for its claims
	strangersRate = 400
	poorRate      = 50 // offers of strangers
	fundedRate    = 1000
	turnRate      = 400
	turnRateOf    = 4    // of these of one author
	forwardRate   = 2000 // more than all authors together, so that no honest neighbour passes on more
	askRate       = 200  // questions of a peer on streams
	burstSeconds  = 2
	maxBudgets    = 1024
)

type budgets struct {
	forwarders, authors, turns, askers *lru.Cache[peer.ID, *rate.Limiter]
	strangers, poor                    *rate.Limiter // claims and offers without credits
	funded, round                      *rate.Limiter // both with credits: by how many, and in turn
}

func newBudgets() *budgets {
	of := func() *lru.Cache[peer.ID, *rate.Limiter] {
		c, _ := lru.New[peer.ID, *rate.Limiter](maxBudgets) // it fails for sizes below 1 only
		return c
	}
	all := func(perSecond int) *rate.Limiter {
		return rate.NewLimiter(rate.Limit(perSecond), burstSeconds*perSecond)
	}
	return &budgets{of(), of(), of(), of(), all(strangersRate), all(poorRate), all(fundedRate), all(turnRate)}
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

// says takes a message that its author signed, whose account has so much.
func (b *budgets) says(author peer.ID, has proto.Credit, offers bool, now time.Time) bool {
	switch {
	case !allow(b.authors, author, now, authorRate):
		return false
	case has == 0:
		return b.ofStrangers(offers).AllowN(now, 1)
	case allow(b.turns, author, now, turnRateOf) && b.round.AllowN(now, 1):
		return true
	}
	return b.funded.TokensAt(now) >= reserve(has) && b.funded.AllowN(now, 1)
}

// reserve is what an author with so many credits leaves of the common budget for
// richer ones: all of it when it has one microcredit, half with two or three, and less
// and less with each doubling.
func reserve(has proto.Credit) float64 {
	return burstSeconds * fundedRate / float64(bits.Len64(uint64(has)))
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
	return err == nil && g.n.wealth(s.Signer) == 0
}

// asks takes a question on a stream.
func (b *budgets) asks(p peer.ID, now time.Time) bool { return allow(b.askers, p, now, askRate) }

// wealth is what an account has, less what it would cost to open it, as far as this
// node knows accounts: a light one takes everybody for rich.
func (n *Node) wealth(id peer.ID) proto.Credit {
	if n.light != nil {
		return math.MaxInt64
	}
	a := n.Account(id)
	has := a.Avail + a.Held + a.Staked + a.Receivable
	if !a.Opened {
		has -= min(has, proto.Credit(n.net.Genesis.OpeningCost))
	}
	return has
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
