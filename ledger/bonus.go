package ledger

import (
	"edgenet.dev/proto"
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
// κ·stake.
func (t *tx) claimBonus(b *bonus, amount, eligible uint64, e *effect) error {
	if amount == 0 {
		return nil
	}
	if !b.read {
		f, ok := t.base.figures[b.epoch]
		if !ok {
			return proto.CodeNotFinal.Errorf("the checkpoint of epoch %d is not known here", b.epoch)
		}
		b.read, b.rate = true, t.rate(f)
	}
	if b.rate == 0 {
		return proto.CodeInvalidEvent.Errorf("nothing is minted in epoch %d", b.epoch)
	}
	_ = eligible
	return proto.CodeInvalidEvent.Errorf("a bonus is not supported yet")
}

func (t *tx) rate(figures) uint64 { return 0 }
