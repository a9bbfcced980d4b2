package ledger

import (
	"math/bits"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Reputation is what checkpoints say about an account's work: a last-writer-
// wins register whose version is the epoch of the checkpoint that changed it
// last. It decays by At, when it is read. Amounts are in 10^-6 minutes of
// reference CPU.
type Reputation struct {
	Version uint64 // epoch
	Valid   uint64 // paid for by staked payers
	Invalid uint64 // shown wrong by re-execution
}

const (
	microminutes = 1_000_000
	// reputationStart is what a new account must earn before its score means
	// much: 20 minutes.
	reputationStart = 20 * microminutes
	// payerCap bounds what one payer adds in one epoch: an hour. Who deals with
	// itself needs a staked account for every such hour.
	payerCap = 60 * microminutes
	// wrongWeight: a minute of wrong work undoes ten of right work.
	wrongWeight = 10
	// halfLifeSeconds is how long it takes to forget half.
	halfLifeSeconds = 30 * 24 * 3600
)

// Merge is the register after both were seen: the higher version wins. Two of
// one version differ only when witnesses certified two checkpoints for one
// epoch; then the worse one wins, so that merging stays commutative,
// associative and idempotent.
func (r Reputation) Merge(o Reputation) Reputation {
	switch {
	case o.Version != r.Version:
		if o.Version > r.Version {
			return o
		}
	case o.Invalid != r.Invalid:
		if o.Invalid > r.Invalid {
			return o
		}
	case o.Valid < r.Valid:
		return o
	}
	return r
}

// Score is 10^6 · valid / (valid + 10·invalid + 20 minutes), rounded down: 0
// for a new account, below 10^6 always.
func (r Reputation) Score() uint64 { return r.score(reputationStart) }

func (r Reputation) score(start uint64) uint64 {
	valid := min(r.Valid, 1<<58)
	invalid := min(r.Invalid, 1<<54)
	hi, lo := bits.Mul64(valid, 1_000_000)
	q, _ := bits.Div64(hi, lo, max(1, valid+wrongWeight*invalid+start))
	return q
}

// At is the register at a later epoch with nothing added. Halving happens at
// fixed epochs, so it does not matter in how many steps one gets there.
func (r Reputation) At(net *proto.Network, epoch uint64) Reputation {
	if epoch <= r.Version {
		return r
	}
	period := max(1, halfLifeSeconds/net.Genesis.EpochSeconds)
	halvings := epoch/period - r.Version/period
	return Reputation{Version: epoch, Valid: r.Valid >> min(halvings, 63), Invalid: r.Invalid >> min(halvings, 63)}
}

// work is one lane's part of a Settle or Close.
type work struct {
	payer, worker peer.ID
	eligible      uint64 // microcredits paid for work at the base price
	staked        bool   // the payer has stake
}

// next is the register in the checkpoint of epoch, which comes after that of
// r: what staked payers paid for in between is added, by each no more than
// payerCap, and what re-execution showed to be wrong.
func (r Reputation) next(net *proto.Network, account peer.ID, epoch uint64, done []work, wrong uint64) Reputation {
	r = r.At(net, epoch)
	by := map[peer.ID]uint64{}
	for _, w := range done {
		if w.worker == account && w.staked && w.payer != account {
			by[w.payer] = min(payerCap, satAdd(by[w.payer], mulDiv(w.eligible, microminutes, net.Genesis.BasePrice)))
		}
	}
	for _, v := range by { // a sum, so the map's order does not matter
		r.Valid = satAdd(r.Valid, v)
	}
	r.Invalid = satAdd(r.Invalid, wrong)
	return r
}
