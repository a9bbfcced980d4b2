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
