package node

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// A worker that floods pushes out its own results only, and memory stays
// within its budget.
func TestPendingResultsPerWorker(t *testing.T) {
	p := newPendingResults()
	honest, flood := peer.ID("honest"), peer.ID("flood")
	p.put(honest, proto.Ref{}, &pendingResult{output: []byte("x")})
	for i := range uint32(3 * maxPendingRefs) {
		p.put(flood, proto.Ref{Attempt: i}, &pendingResult{output: make([]byte, 64<<10)})
	}
	w := p.m[flood]
	if w.bytes > maxPendingBytes || len(w.order) > maxPendingRefs || len(w.m) > maxPendingRefs {
		t.Errorf("flood holds %d bytes in %d results", w.bytes, len(w.m))
	}
	if _, ok := p.take(flood, proto.Ref{Attempt: 0}); ok {
		t.Error("the flood's first result is still here")
	}
	if _, ok := p.take(flood, proto.Ref{Attempt: 3*maxPendingRefs - 1}); !ok {
		t.Error("the flood's last result is gone")
	}
	if r, ok := p.take(honest, proto.Ref{}); !ok || string(r.output) != "x" {
		t.Error("the honest worker's result is gone")
	}
	if p.m[honest] != nil {
		t.Error("an empty budget is kept")
	}
}
