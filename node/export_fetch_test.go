package node

import (
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/network"
)

// ServeNoBlobs lets who asks this node for blobs wait for ever, and counts them.
func (n *Node) ServeNoBlobs() (asked func() int64) {
	var count atomic.Int64
	n.host.SetStreamHandler(n.net.ID.Protocol("blob"), func(network.Stream) { count.Add(1) })
	return count.Load
}
