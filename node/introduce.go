package node

import (
	"context"
	"fmt"
	"sync"

	"go.uber.org/zap"
)

// Introduce dials peers, given as multiaddrs with /p2p/, that may have moved.
// It returns when all answered or did not; only malformed addresses are an
// error.
func (n *Node) Introduce(ctx context.Context, addrs []string) error {
	if err := n.isReady(); err != nil {
		return err
	}
	peers, err := parseRelays(n.self, addrs)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	ctx, cancel := n.until(ctx)
	defer cancel()
	var all sync.WaitGroup
	for _, p := range peers {
		all.Go(func() {
			n.peerbook.choose(p.ID)
			if err := n.host.Connect(ctx, p); err != nil {
				if times, ok := n.silent.tell(p.ID); ok {
					n.log.Info("peer does not answer", zap.Stringer("peer", p.ID), zap.Uint64("times", times), zap.Error(err))
				}
			}
		})
	}
	all.Wait()
	return nil
}
