//go:build !js

package node

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// LookAtBlocks has nodes look so often at what is blocked. Call it before they
// start.
func LookAtBlocks(t *testing.T, every time.Duration) {
	was := blocksEvery
	blocksEvery = every
	t.Cleanup(func() { blocksEvery = was })
}

// Dial connects the host alone, which asks nobody but the gater.
func (n *Node) Dial(ctx context.Context, to peer.AddrInfo) error {
	n.clearBackoff(to.ID)
	return n.host.Connect(ctx, to)
}

// Redials are the peers that the node would dial by itself.
func (n *Node) Redials() (out []peer.ID) {
	for _, c := range n.candidates() {
		out = append(out, c.ID)
	}
	return out
}

// LookOnce looks at the list's file as it is done every now and then.
func (n *Node) LookOnce(ctx context.Context) error { return n.blocks.look(ctx, false) }
