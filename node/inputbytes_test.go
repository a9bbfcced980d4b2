package node

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// One submitter's inputs leave room for another's, and what is forgotten is free
// again.
func TestInputBytesAreShared(t *testing.T) {
	w := alone(t).work
	key := func(from string, i int) execKey {
		k := execKey{from: peer.ID(from)}
		k.ref.Task.Index = uint32(i)
		return k
	}
	big := input{inline: make([]byte, proto.MaxInline)}
	for i := range 2 * inputBytesShare / proto.MaxInline {
		w.keepInput(key("many", i), big)
	}
	if w.inputBytes != inputBytesShare {
		t.Fatalf("one submitter has %d bytes here, its share is %d", w.inputBytes, inputBytesShare)
	}
	w.keepInput(key("other", 0), big)
	if w.execs[key("other", 0)] == nil {
		t.Error("another's input found no room")
	}
	for i := range inputBytesShare / proto.MaxInline {
		w.forget(peer.ID("many"), key("many", i).ref)
	}
	if w.inputBytes != proto.MaxInline || len(w.inputsOf) != 1 {
		t.Errorf("%d bytes of %d submitters are left", w.inputBytes, len(w.inputsOf))
	}
}
