package ledger

import (
	"bytes"
	"crypto/sha256"
	"sort"

	"edgenet.dev/proto"
)

// The set in the order of places. Chains have no gaps, so the sorted accounts
// and the lengths of their chains are the whole index: the n-th event is found
// by two binary searches, and adding an event inserts nothing.

// ranks returns, per account in order, the number of events before it, and
// behind the last the number of all.
func (l *Ledger) ranks() []int {
	if l.sums == nil {
		l.sums = make([]int, len(l.s.order)+1)
		for i, id := range l.s.order {
			l.sums[i+1] = l.sums[i] + len(l.s.accounts[id].chain)
		}
	}
	return l.sums
}

// nth is the event with rank n, 0 ≤ n < Len.
func (l *Ledger) nth(n int) *Certified {
	sums := l.ranks()
	i := sort.Search(len(l.s.order), func(i int) bool { return sums[i+1] > n })
	return l.s.accounts[l.s.order[i]].chain[n-sums[i]]
}

func (c *Certified) place() []byte { return place(c.Account, c.Seq, c.hash) }

// rank is the number of events before key.
func (l *Ledger) rank(key []byte) int {
	return sort.Search(l.Len(), func(n int) bool { return bytes.Compare(l.nth(n).place(), key) >= 0 })
}

// span is the ranks of from ≤ place < to; an empty to is the end.
func (l *Ledger) span(from, to []byte) (lo, hi int) {
	lo, hi = l.rank(from), l.Len()
	if len(to) > 0 {
		hi = l.rank(to)
	}
	return lo, max(lo, hi)
}

// each calls fn for the events with ranks lo ≤ n < hi, in order.
func (l *Ledger) each(lo, hi int, fn func(*Certified)) {
	sums := l.ranks()
	for i := sort.Search(len(l.s.order), func(i int) bool { return sums[i+1] > lo }); i < len(l.s.order) && lo < hi; i++ {
		chain := l.s.accounts[l.s.order[i]].chain
		for ; lo < min(hi, sums[i+1]); lo++ {
			fn(chain[lo-sums[i]])
		}
	}
}

// fingerprintLen is how much of a fingerprint travels. The salt is drawn per
// session, so nobody can prepare a collision.
const fingerprintLen = 16

func (l *Ledger) fingerprint(salt []byte, lo, hi int) []byte {
	h := sha256.New()
	h.Write(salt)
	l.each(lo, hi, func(c *Certified) { h.Write(c.hash[:]) })
	return h.Sum(nil)[:fingerprintLen]
}

// separator is the shortest key that is above a and not above b, for a < b.
func separator(a, b *Certified) []byte {
	x, y := a.place(), b.place()
	for i := range y {
		if x[i] != y[i] {
			return y[:i+1]
		}
	}
	return y
}

func hashOfID(raw []byte) (proto.Hash, error) {
	id, err := proto.ParseCID(raw)
	if err != nil {
		return proto.Hash{}, err
	}
	return proto.CIDHash(id)
}
