package node

import (
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// pendingResults keeps receipts, outputs and logs between a worker's result
// and the market's word on it. Each worker has a budget of its own, so that
// one that floods can push out nothing but its own results.
type pendingResults struct {
	mu sync.Mutex
	m  map[peer.ID]*workerResults
}

type workerResults struct {
	m     map[proto.Ref]*pendingResult
	order []proto.Ref // oldest first; may name results that were taken
	bytes int
}

type pendingResult struct {
	receipt *proto.SignedReceipt
	output  []byte
	log     []byte
}

func (r *pendingResult) size() int { return len(r.output) + len(r.log) + 1024 }

// Bounds per worker: more than a lease has in flight.
const (
	maxPendingBytes = 64 << 20
	maxPendingRefs  = 8192
)

func newPendingResults() *pendingResults {
	return &pendingResults{m: map[peer.ID]*workerResults{}}
}

func (p *pendingResults) put(worker peer.ID, ref proto.Ref, r *pendingResult) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.m[worker]
	if w == nil {
		w = &workerResults{m: map[proto.Ref]*pendingResult{}}
		p.m[worker] = w
	}
	w.remove(ref)
	w.m[ref] = r
	w.order = append(w.order, ref)
	w.bytes += r.size()
	for len(w.order) > 1 && (w.bytes > maxPendingBytes || len(w.order) > maxPendingRefs) {
		w.remove(w.order[0])
		w.order = w.order[1:]
	}
}

func (p *pendingResults) take(worker peer.ID, ref proto.Ref) (*pendingResult, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.m[worker]
	if w == nil {
		return nil, false
	}
	r, ok := w.m[ref]
	w.remove(ref)
	if len(w.m) == 0 {
		delete(p.m, worker)
	}
	return r, ok
}

func (w *workerResults) remove(ref proto.Ref) {
	if r := w.m[ref]; r != nil {
		w.bytes -= r.size()
		delete(w.m, ref)
	}
}
