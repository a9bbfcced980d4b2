package ledger

import (
	"encoding/binary"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Record is one key of a Store. A nil Value deletes the key; an empty one is
// stored.
type Record struct {
	Key, Value []byte
}

// Store keeps the ledger of one node. Back ends share one conformance suite,
// ledger/store/storetest.
type Store interface {
	// Append writes all records as one batch: when it returns nil they survive
	// a crash, when it returns an error none of them is visible now. (After an
	// error a crash may show all of them or none, never a part.) Later records
	// win over earlier ones with the same key.
	Append(batch ...Record) error
	// Get returns a copy of the value, or nil and no error when the key is
	// absent.
	Get(key []byte) ([]byte, error)
	// Scan calls fn for every key with the prefix, in byte order, until fn
	// returns an error, which it returns. The slices are valid during the call
	// only; fn must not use the store.
	Scan(prefix []byte, fn func(key, value []byte) error) error
	// Close releases the store. Every later call but Close fails.
	Close() error
}

// First byte of every key: what the record is.
const (
	spaceMeta   = 'm'
	spaceEvent  = 'e' // place -> marshalled CertifiedEvent
	spaceIntent = 'i' // account -> marshalled Envelope of Event
	spaceVote   = 'v' // see witness.go
	spaceNode   = 'n' // whatever the node keeps
	spaceNote   = 'w' // light: seq of an own event, payment that it claims -> marshalled Payable with who and what for
	spaceWatch  = 'h' // light: hold -> marshalled CertifiedEvents, the Hold and its Extends

	spaceCheckpoint = 'k' // epoch -> marshalled CertifiedCheckpoint
	spaceState      = 's' // tree, key -> leaf of the base checkpoint
)

var (
	metaNetwork = []byte{spaceMeta, 'n'}
	metaBase    = []byte{spaceMeta, 'b'} // epoch of the base checkpoint
	metaLight   = []byte{spaceMeta, 'l'} // a light ledger used the store: its events are not whole
)

// NodeKey is the key of a record that belongs to the node, not to the ledger.
// Such records may share a batch with events: see AddVerified and SaveIntent.
func NodeKey(name string) []byte { return append([]byte{spaceNode}, name...) }

// Length of a place: the account's raw public key, seq, id.
const placeLen = 32 + 8 + 32

// place orders the set: (account, seq, id). The six constant bytes in front
// of every Ed25519 peer id are left out, which keeps the order.
func place(account peer.ID, seq uint64, id proto.Hash) []byte {
	b := make([]byte, 0, placeLen)
	b = append(b, account[len(account)-32:]...)
	b = binary.BigEndian.AppendUint64(b, seq)
	return append(b, id[:]...)
}

func eventKey(account peer.ID, seq uint64, id proto.Hash) []byte {
	return append([]byte{spaceEvent}, place(account, seq, id)...)
}

func intentKey(account peer.ID) []byte { return append([]byte{spaceIntent}, account...) }

// IsVote reports whether a record is of a witness's agreement: without those
// that it wrote last, a witness must not vote.
func IsVote(key []byte) bool { return len(key) > 0 && key[0] == spaceVote }
