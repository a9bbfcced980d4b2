package node

import "github.com/libp2p/go-libp2p/core/connmgr"

// A tab has no operator apart from the page, which decides by itself.
type blockFile struct{}

func (b *blocks) open() error { return nil }

func (b *blocks) run() {}

func (b *blocks) gater() connmgr.ConnectionGater { return nil }
