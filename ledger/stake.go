package ledger

import (
	"edgenet.dev/proto"
)

// Bodies for Draft: amounts in microcredits that become stake, start to
// unbond, or become available again after lockSeconds.
type (
	Stake    proto.Credit
	Unstake  proto.Credit
	Withdraw proto.Credit
)

// lockSeconds is how long unbonding stake and a new key wait.
const lockSeconds = 7 * 24 * 3600

// lockEpochs is lockSeconds in epochs, rounded up. Rules count epochs of the
// account's own events, never a clock.
func lockEpochs(net *proto.Network) uint64 {
	n := net.Genesis.EpochSeconds
	return lockSeconds/n + min(1, lockSeconds%n)
}

// unstake moves stake to unbonding and starts the account's one timer again,
// for all that is unbonding: several timers would let a cheater keep one that
// has nearly run out.
func (e *effect) unstake(amount, epoch uint64) error {
	p := &e.post
	if p.staked < amount {
		return proto.CodeInsufficient.Errorf("need %s credits, have %s staked", proto.Credit(amount), proto.Credit(p.staked))
	}
	p.staked -= amount
	p.unbonding += amount
	p.unbondEpoch = epoch
	return nil
}

// withdraw makes unbonded stake available. Whether evidence against the
// account is open is not judged here: a witness that knows some proposes Slash
// for the slot first.
func (t *tx) withdraw(amount, epoch uint64, e *effect) error {
	p := &e.post
	if p.unbonding < amount {
		return proto.CodeInsufficient.Errorf("need %s credits, have %s unbonding", proto.Credit(amount), proto.Credit(p.unbonding))
	}
	if until := p.unbondEpoch + lockEpochs(t.net); epoch < until && !t.base.off.has(guardTimer) {
		return proto.CodeInvalidEvent.Errorf("unbonding until epoch %d, this is %d", until, epoch)
	}
	p.unbonding -= amount
	var err error
	p.avail, err = sum(p.avail, amount)
	return err
}

// unbonded is the first epoch whose events may withdraw what the account has
// unbonding.
func (l *Ledger) unbonded(a *account) uint64 {
	if a.post.unbonding == 0 {
		return 0
	}
	return a.post.unbondEpoch + lockEpochs(l.net)
}
