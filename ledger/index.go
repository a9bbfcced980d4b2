package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"sort"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// The set as reconciliation sees it: chains in the order of their accounts'
// keys. A chain has no gaps and each event names the one before it, so a
// chain's length and head stand for all of its events, pruned ones included.

// accountKey is an account's raw public key. The six constant bytes in front
// of every Ed25519 peer id are left out, which keeps the order.
func accountKey(id peer.ID) []byte { return []byte(id[len(id)-keyLen:]) }

const keyLen = 32

// idPrefix stands in front of the key in every Ed25519 peer id: an identity
// multihash of a protobuf with the key's type and 32 bytes.
const idPrefix = "\x00\x24\x08\x01\x12\x20"

// accountOfKey is the inverse of accountKey.
func accountOfKey(key []byte) (peer.ID, error) {
	return proto.ParsePeer(append([]byte(idPrefix), key...))
}

// rank is the number of chains before key.
func (l *Ledger) rank(key []byte) int {
	return sort.Search(len(l.s.order), func(n int) bool { return bytes.Compare(accountKey(l.s.order[n]), key) >= 0 })
}

// span is the ranks of from ≤ key < to; an empty to is the end.
func (l *Ledger) span(from, to []byte) (lo, hi int) {
	lo, hi = l.rank(from), len(l.s.order)
	if len(to) > 0 {
		hi = l.rank(to)
	}
	return lo, max(lo, hi)
}

// chainDigest is what fingerprints and head ids are made of.
func (a *account) chainDigest() []byte {
	b := make([]byte, 0, keyLen+8+len(proto.Hash{}))
	b = append(b, accountKey(a.id)...)
	b = binary.BigEndian.AppendUint64(b, a.next())
	return append(b, a.head().hash[:]...)
}

// fingerprintLen is how much of a fingerprint travels. The salt is drawn per
// session, so nobody can prepare a collision.
const fingerprintLen = 16

func (l *Ledger) fingerprint(salt []byte, lo, hi int) []byte {
	if disabled.fingerprints {
		return l.xorFingerprint(lo, hi)
	}
	h := sha256.New()
	h.Write(salt)
	for _, id := range l.s.order[lo:hi] {
		h.Write(l.s.accounts[id].chainDigest())
	}
	return h.Sum(nil)[:fingerprintLen]
}

// xorFingerprint is what fingerprints must not be: whoever chooses enough
// events finds a subset that it does not see.
func (l *Ledger) xorFingerprint(lo, hi int) []byte {
	out := make([]byte, fingerprintLen)
	for _, id := range l.s.order[lo:hi] {
		for _, c := range l.s.accounts[id].chain {
			for i := range out {
				out[i] ^= c.hash[i]
			}
		}
	}
	return out
}

// headID is what a listed chain is called in one session. Two chains with one
// name cost another session, which has another salt.
type headID [8]byte

// headIDLen is how many of its bytes differ; tests make it shorter.
var headIDLen = len(headID{})

func (a *account) headID(salt []byte) (out headID) {
	h := sha256.New()
	h.Write(salt)
	h.Write([]byte{1}) // not the fingerprint of a range of one chain
	h.Write(a.chainDigest())
	copy(out[:headIDLen], h.Sum(nil))
	return out
}

// separator is the shortest key that is above a and not above b, for a < b.
func separator(a, b peer.ID) []byte {
	x, y := accountKey(a), accountKey(b)
	for i := range y {
		if x[i] != y[i] {
			return y[:i+1]
		}
	}
	return y
}
