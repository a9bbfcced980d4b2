package node

import (
	"time"

	"edgenet.dev/proto"
)

// Retain makes one pass with these bounds.
func (n *Node) Retain(keep time.Duration, limit uint64) error {
	return n.jobs.retainOnce(time.Now(), keep, limit, map[proto.JobID]uint64{})
}

// StoredKeys counts the records of the state store.
func (n *Node) StoredKeys() (count int) {
	for _, table := range []string{"job/", "task/", "receipt/", "blob/"} {
		_ = n.kv.scan(table, func(string, []byte) error { count++; return nil })
	}
	return count
}

// HasBlob reports whether the state store has b.
func (n *Node) HasBlob(b []byte) bool {
	_, err := n.kv.get(blobKey(proto.HashOf(b)))
	return err == nil
}
