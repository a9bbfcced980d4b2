package ledger

import (
	"encoding/binary"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// bonus is what one event claims, source by source.
type bonus struct {
	epoch uint64
	rate  uint64 // R − 1 in ppm; read when the first source claims one
	read  bool
}

// claimBonus mints on top of a source. The bonus on v microcredits of work is
// ⌊v·(R−1)⌋; v is the least that gives what is claimed. It is at most what the
// source paid for work at the base price, and all v of an epoch are at most
// κ·stake. R comes from the checkpoint of the event's own epoch, so it does
// not depend on when the event arrives.
func (t *tx) claimBonus(b *bonus, amount, eligible uint64, e *effect) error {
	if amount == 0 {
		return nil
	}
	if !b.read {
		f, ok := t.base.figures[b.epoch]
		if !ok {
			return &missingError{[]proto.Hash{epochNeed(b.epoch)}}
		}
		b.read, b.rate = true, t.rate(f)
	}
	if b.rate == 0 {
		return proto.CodeInvalidEvent.Errorf("nothing is minted in epoch %d", b.epoch)
	}
	off := t.base.off
	v := workFor(amount, b.rate)
	if v > eligible && !off.has(guardBonusWork) {
		return proto.CodeInvalidEvent.Errorf("a bonus on %s credits, the source paid %s for work", proto.Credit(v), proto.Credit(eligible))
	}
	p := &e.post
	if b.epoch > p.bonusEpoch || b.epoch != p.bonusEpoch && off.has(guardBonusReset) {
		p.bonusEpoch, p.bonusUsed = b.epoch, 0
	}
	used := satAdd(p.bonusUsed, v)
	if limit := stakeCap(t.net, p.staked); used > limit && !off.has(guardBonusStake) {
		return proto.CodeInvalidEvent.Errorf("a bonus on %s credits in epoch %d, the stake allows %s", proto.Credit(used), b.epoch, proto.Credit(limit))
	}
	p.bonusUsed = used
	var err error
	if p.avail, err = sum(p.avail, amount); err != nil {
		return err
	}
	if e.minted, err = sum(e.minted, amount); err != nil {
		return err
	}
	e.worked, err = sum(e.worked, v)
	return err
}

// workFor is the least v with ⌊v·rate/10^6⌋ ≥ amount: ⌈amount·10^6/rate⌉.
func workFor(amount, rate uint64) uint64 {
	v := mulDiv(amount, 1_000_000, rate)
	if mulDiv(v, rate, 1_000_000) < amount {
		v++
	}
	return v
}

// stakeCap is κ·stake: the most work per epoch that earns a bonus.
func stakeCap(net *proto.Network, staked uint64) uint64 {
	return mulDiv(staked, net.Genesis.KappaPpm, 1_000_000)
}

// inFlight is how many epochs' bonuses may not be in a checkpoint yet when its
// figures are used: its own, and those before it that were certified late.
const inFlight = epochLead + 2

// rate is R − 1 in ppm for events of the epoch with these figures. It is zero
// when what the figures do not show yet could pass the lifetime cap: no more
// than the stake allows, and stake is never more than there is.
func (t *tx) rate(f figures) uint64 {
	if satAdd(f.minted, unseen(t.net, f)) > uint64(MintCap(t.net)) && !t.base.off.has(guardMintCap) {
		return 0
	}
	return mintRate(t.net, f.x)
}

// unseen bounds the bonuses at the rate of f that f does not show yet.
func unseen(net *proto.Network, f figures) uint64 {
	supply := f.minted
	for _, g := range net.Grants {
		supply += uint64(g)
	}
	return satMul(inFlight, mulDiv(stakeCap(net, supply), mintRate(net, f.x), 1_000_000))
}

// FillBonus sets in sources, to be claimed together by the account in an event
// of epoch, the largest bonus that the rules allow, in the given order. A
// source that this ledger does not know gets none.
func (l *Ledger) FillBonus(account peer.ID, epoch uint64, sources []*proto.Source) {
	t := newTx(l.net, &l.s)
	f, ok := l.s.figures[epoch]
	if !ok {
		return
	}
	rate := t.rate(f)
	p := t.account(account).post
	used := p.bonusUsed
	if epoch > p.bonusEpoch {
		used = 0
	}
	left := stakeCap(l.net, p.staked)
	left -= min(left, used)
	for _, s := range sources {
		at, err := pointOf(s)
		if err != nil {
			continue
		}
		r, _ := t.receivable(at)
		v := min(left, r.eligible)
		s.Bonus = mulDiv(v, rate, 1_000_000)
		if s.Bonus > 0 {
			left -= workFor(s.Bonus, rate)
		}
	}
}

// epochNeed stands for the checkpoint of an epoch among the things an event
// waits for.
func epochNeed(epoch uint64) proto.Hash {
	return proto.HashOf(binary.BigEndian.AppendUint64([]byte("edgenet/checkpoint of epoch\x00"), epoch))
}

// retry adds the events that waited for what a checkpoint says.
func (l *Ledger) retry(need proto.Hash) ([]*Certified, error) {
	var waited []*Certified
	for _, w := range l.waiting[need] {
		waited = append(waited, w.c)
	}
	for _, c := range waited {
		l.forget(c.hash)
	}
	if len(waited) == 0 {
		return nil, nil
	}
	added, _, err := l.add(nil, waited)
	return added, err
}
