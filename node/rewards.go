package node

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// Reward is what was minted for an account beside a payment, or the bonus that
// a payment for work did not earn, with the reason.
type Reward struct {
	Kind    string       // "bonus", "uptime" or "referral"
	Amount  proto.Credit // minted
	Claimed bool         // else it is pending
	Epoch   uint64
	Event   *ledger.Certified // that claimed a bonus; nil for the others
	Source  cid.Cid           // of a bonus: the payment
	Index   uint32
	From    peer.ID      // who paid, or was referred; "" when it is not known here
	Paid    proto.Credit // for the work
	Rate    uint64       // R at the event's epoch in ppm; 0 when its checkpoint is not kept here
	Limit   RewardLimit
	Reason  string // a sentence without its end
}

// RewardLimit is what kept a reward lower than the curve.
type RewardLimit string

// What may limit a reward.
const (
	NoLimit    RewardLimit = ""
	StakeLimit RewardLimit = "stake" // κ·stake of the account for this epoch is used up
	WorkLimit  RewardLimit = "work"  // the work's fuel at the base price is worth less than was paid
	CurveLimit RewardLimit = "curve" // R is 1, or all that bonuses may ever mint could be minted
	Unclaimed  RewardLimit = "unclaimed"
)

// Rewards explains what was minted for an account, newest first: bonuses as far
// as its events are kept here, the others as far as checkpoints are.
func (n *Node) Rewards(account peer.ID) []Reward {
	n.wallet.mu.Lock()
	defer n.wallet.mu.Unlock()
	l := n.wallet.l
	var out []Reward
	for _, r := range l.Rewards(account) {
		if r.Kind != "bonus" {
			out = append(out, checkpointReward(l.Network(), r))
		}
	}
	for _, c := range l.History(account, l.Len()) {
		for _, s := range slices.Concat(c.Event.GetOpen().GetSources(), c.Event.GetReceive().GetSources()) {
			if r, ok := bonusOf(l, c, s); ok {
				out = append(out, r)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Reward) int { return cmp.Compare(b.Epoch, a.Epoch) })
	return out
}

// checkpointReward explains a reward that a checkpoint paid.
func checkpointReward(net *proto.Network, r ledger.Reward) Reward {
	out := Reward{Kind: r.Kind, Amount: r.Amount, Claimed: r.Claimed, Epoch: r.Epoch, From: r.Referee}
	if r.Kind == "uptime" {
		out.Reason = fmt.Sprintf("at least 90 %% of the probes of %d witnesses were answered", net.F()+1)
		if r.Amount < proto.Credit(net.Genesis.BasePrice/60) {
			out.Limit, out.Reason = StakeLimit, out.Reason+"; the stake allows no more"
		}
		return out
	}
	out.Reason = "5 % of the fees that the payments of " + r.Referee.String() + " burned, at most 10 credits in all"
	return out
}

// bonusOf explains one claimed payment. A payment that is not for work is no
// reward.
func bonusOf(l *ledger.Ledger, c *ledger.Certified, s *proto.Source) (Reward, bool) {
	id, err := proto.ParseCID(s.GetEvent())
	if err != nil {
		return Reward{}, false
	}
	r := Reward{Kind: "bonus", Amount: proto.Credit(s.Bonus), Claimed: true, Epoch: c.Event.Epoch, Event: c, Source: id, Index: s.Index, Paid: proto.Credit(s.Amount)}
	work := s.Bonus > 0
	if from, ok := l.Get(id); ok {
		r.From = from.Account
		work = from.Event.GetSettle() != nil || from.Event.GetClose() != nil
	}
	if !work {
		return Reward{}, false
	}
	net, post := l.Network(), c.Event.GetPost()
	if h, ok := l.Checkpoint(c.Event.Epoch); ok {
		r.Rate = ledger.CurveRate(net, h.Body.X)
	} else if c.Event.Epoch == 0 {
		r.Rate = ledger.CurveRate(net, 0)
	}
	full := proto.Credit(0)
	if r.Rate > 1_000_000 {
		full = proto.Credit(ppm(s.Amount, r.Rate-1_000_000))
	}
	capped := ppm(post.GetStaked(), net.Genesis.KappaPpm)
	multiple := fmt.Sprintf("%d.%06d", r.Rate/1_000_000, r.Rate%1_000_000)
	switch {
	case r.Rate == 0:
		r.Reason = "the checkpoint of its epoch is not kept here, so the multiple is not known any more"
	case r.Amount > 0 && r.Amount == full:
		r.Reason = fmt.Sprintf("all of the payment, at the multiple %s", multiple)
	case net.Genesis.KappaPpm == 0:
		r.Limit, r.Reason = StakeLimit, "this network pays no bonus"
	case capped == 0:
		r.Limit, r.Reason = StakeLimit, "the account had nothing at stake"
	case full == 0:
		r.Limit, r.Reason = CurveLimit, "the curve has come down to 1"
	case post.GetBonusEpoch() == c.Event.Epoch && post.GetBonusUsed()+1 >= capped:
		r.Limit = StakeLimit
		r.Reason = fmt.Sprintf("at the multiple %s, for a part: the stake allows a bonus on %s credits per epoch, and that is used up", multiple, proto.Credit(capped))
	case r.Amount > 0:
		r.Limit = WorkLimit
		r.Reason = fmt.Sprintf("at the multiple %s, for a part: the work is worth less than the payment at the base price", multiple)
	default:
		r.Limit, r.Reason = Unclaimed, "none was claimed with the payment"
	}
	return r, true
}

// ppm is ⌊a·rate/10^6⌋ for a below 2^53 and any rate that a genesis gives.
func ppm(a, rate uint64) uint64 {
	hi, lo := bits.Mul64(a, rate)
	if hi >= 1_000_000 {
		return 1<<64 - 1
	}
	q, _ := bits.Div64(hi, lo, 1_000_000)
	return q
}
