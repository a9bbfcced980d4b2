package node

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// FetchBlob asks a peer for a blob as who was given no key for it.
func (n *Node) FetchBlob(ctx context.Context, from peer.ID, h proto.Hash) ([]byte, error) {
	return n.fetchBlob(ctx, from, h, nil, proto.MaxInput)
}

// FetchGrace has workers give up inputs that do not come sooner. Call it before
// nodes start.
func FetchGrace(t *testing.T, d time.Duration) {
	was := fetchGrace
	fetchGrace = d
	t.Cleanup(func() { fetchGrace = was })
}

// ServeNoBlobs lets who asks this node for blobs wait for ever, and counts them.
func (n *Node) ServeNoBlobs() (asked func() int64) {
	var count atomic.Int64
	n.host.SetStreamHandler(n.net.ID.Protocol("blob"), func(network.Stream) { count.Add(1) })
	return count.Load
}

// KeepBlobsBack lets who asks this node for blobs wait for a place, or tells it at
// once that there is none, until it is called again. waited says how many wait.
func (n *Node) KeepBlobsBack(busy bool) (waited func() int, end func()) {
	s := n.serving
	change := func(most, queueOf int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.most, s.queueOf, s.beat = most, queueOf, 100*time.Millisecond
		s.seat(time.Now())
	}
	if busy {
		change(0, 0)
	} else {
		change(0, maxWaitingOf)
	}
	return s.wants, func() { change(maxBlobStreams, maxWaitingOf) }
}

// wants counts who waits.
func (s *serving) wants() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}
