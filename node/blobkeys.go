package node

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// Inputs and outputs are private to those whom an assignment names. A submitter
// gives the worker a key with each input that it has to fetch, and a worker gives
// the submitter one with each output: a function of a secret of this node, of the
// blob and of the peer, so that no key works for anybody else, nothing has to be
// kept for it, and it is the same after a restart. Modules are for anybody, because
// whoever hears an offer may want to see what it would run. Witnesses get what
// this node itself brings them: outputs that its claims are for, inputs of work
// that it accused.

// blobKeySize is the length of a key in bytes.
const blobKeySize = 16

// blobSecret is what this node's keys are made with. It follows from the
// identity and tells nothing about it.
func blobSecret(c Config) ([]byte, error) {
	raw, err := c.Key.Raw()
	if err != nil {
		return nil, fmt.Errorf("node: key: %w", err)
	}
	m := hmac.New(sha256.New, raw)
	m.Write([]byte("edgenet/blob/1"))
	return m.Sum(nil), nil
}

// keyFor lets id have the blob with hash h of this node.
func (n *Node) keyFor(h proto.Hash, id peer.ID) []byte {
	m := hmac.New(sha256.New, n.secret)
	m.Write([]byte(n.net.ID.String()))
	m.Write(h[:])
	m.Write([]byte(id))
	return m.Sum(nil)[:blobKeySize]
}

// mayHave reports whether id, which shows key, gets the blob with hash h.
func (n *Node) mayHave(id peer.ID, h proto.Hash, key []byte) bool {
	switch {
	case len(key) == blobKeySize && hmac.Equal(key, n.keyFor(h, id)), n.isModule(h):
		return true
	case n.net.IsWitness(id):
		_, claimed := n.claims.output(h)
		return claimed || n.evidence.accuses(h)
	}
	return false
}

func moduleKey(h proto.Hash) string { return "module/" + h.String() }

// isModule reports whether a blob is a module: one that every node carries, or
// that of a job of this node.
func (n *Node) isModule(h proto.Hash) bool {
	if n.builtins[h] != nil {
		return true
	}
	_, err := n.kv.get(moduleKey(h))
	return err == nil
}

// putModule keeps a job's module as a blob that is for anybody.
func (n *Node) putModule(h proto.Hash, raw []byte) error {
	if err := n.putBlob(h, raw); err != nil {
		return err
	}
	return n.kv.put(moduleKey(h), []byte{1})
}

// accuses reports whether this node brought witnesses a receipt for work on the
// input with hash h.
func (e *evidence) accuses(h proto.Hash) bool {
	return e.inputs.Contains(h)
}
