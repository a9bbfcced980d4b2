package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Audit holds the terms of the supply equation in microcredits. Each is
// summed from its own records; none is computed as a remainder.
type Audit struct {
	Avail, Held, Staked, Unbonding proto.Credit // over post states, grants of unopened accounts included
	HeldByHolds                    proto.Credit // the same as Held, summed over open holds
	Receivable                     proto.Credit // over unclaimed payments
	Burned                         proto.Credit // running total of what events burned, from the base checkpoint on
	Genesis                        proto.Credit // over grants
	Minted                         proto.Credit // running total of bonuses and rewards, from the base checkpoint on
}

// Conserved reports whether avail + held + staked + unbonding + receivable +
// burned = genesis + minted, and the holds hold what accounts say is held.
func (a Audit) Conserved() bool {
	in := uint64(a.Genesis) + uint64(a.Minted)
	out, err := uint64(0), error(nil)
	for _, v := range []proto.Credit{a.Avail, a.Held, a.Staked, a.Unbonding, a.Receivable, a.Burned} {
		out, err = sumOr(err, out, uint64(v))
	}
	return err == nil && out == in && a.Held == a.HeldByHolds
}

// Audit sums the supply equation over the effective state.
func (l *Ledger) Audit() Audit {
	var a Audit
	for _, x := range l.s.accounts {
		a.Avail += proto.Credit(x.post.avail)
		a.Held += proto.Credit(x.post.held)
		a.Staked += proto.Credit(x.post.staked)
		a.Unbonding += proto.Credit(x.post.unbonding)
	}
	for _, holds := range l.s.open {
		for id := range holds {
			a.HeldByHolds += proto.Credit(l.s.holds[id].remaining(l.net))
		}
	}
	for _, r := range l.s.points {
		a.Receivable += proto.Credit(r.amount)
	}
	a.Burned, a.Minted = proto.Credit(l.s.burned), proto.Credit(l.s.minted)
	for _, g := range l.net.Grants {
		a.Genesis += g
	}
	return a
}

// StateHash is sha2-256 over the sorted effective state: equal sets of events
// give equal hashes, whatever their order and batches were. The layout is
// fixed by a golden test.
func (l *Ledger) StateHash() proto.Hash {
	if !l.hash.IsZero() {
		return l.hash
	}
	w := sha256.New()
	var buf []byte
	num := func(vs ...uint64) {
		for _, v := range vs {
			buf = binary.BigEndian.AppendUint64(buf, v)
		}
	}
	str := func(b string) {
		num(uint64(len(b)))
		buf = append(buf, b...)
	}
	flush := func() {
		w.Write(buf)
		buf = buf[:0]
	}
	buf = append(buf, "edgenet/state/1\x00"...)
	buf = append(buf, l.net.ID.CID().Bytes()...)
	num(l.s.burned, l.s.minted, l.s.worked)

	ids := make([]peer.ID, 0, len(l.s.accounts))
	for id := range l.s.accounts {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	num(uint64(len(ids)))
	for _, id := range ids {
		a := l.s.accounts[id]
		str(string(id))
		num(a.next(), a.epoch)
		if h := a.head(); h != nil {
			buf = append(buf, h.hash[:]...)
		}
		p := a.post
		num(p.avail, p.held, p.staked, p.unbonding, p.unbondEpoch, p.bonusEpoch, p.bonusUsed, uint64(p.flags), a.receivable)
		num(p.pendingEpoch, p.keySeq)
		str(p.key)
		str(p.recoveryKey)
		str(p.pendingKey)
		str(p.slashed)
		flush()
	}

	points := make([]point, 0, len(l.s.points))
	for p := range l.s.points {
		points = append(points, p)
	}
	slices.SortFunc(points, comparePoints)
	num(uint64(len(points)))
	for _, p := range points {
		r := l.s.points[p]
		buf = append(buf, p.source[:]...)
		num(uint64(p.index), r.amount, r.eligible)
		str(string(r.to))
		str(string(r.from))
		flush()
	}

	var open []*hold
	for _, holds := range l.s.open {
		for id := range holds {
			open = append(open, l.s.holds[id])
		}
	}
	slices.SortFunc(open, func(a, b *hold) int { return bytes.Compare(a.id[:], b.id[:]) })
	num(uint64(len(open)))
	for _, h := range open {
		buf = append(buf, h.id[:]...)
		str(string(h.payer))
		num(h.budget, h.released, h.paid, h.deadline, uint64(len(h.lanes)))
		for _, x := range h.lanes {
			done := uint64(0)
			if x.Done {
				done = 1
			}
			str(string(x.Worker))
			str(string(x.Payee))
			num(uint64(x.Cap), uint64(x.Paid), uint64(x.Fuel), done)
		}
		flush()
	}
	flush()
	l.hash = proto.Hash(w.Sum(nil))
	return l.hash
}
