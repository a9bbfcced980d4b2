package node

import (
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// A tab has no operator apart from its page, which decides by itself: nothing is
// blocked there.
type blocks struct{}

func newBlocks(*Node) (*blocks, error) { return nil, nil }

func (*blocks) run()                                   {}
func (*blocks) gater() connmgr.ConnectionGater         { return nil }
func (*blocks) work() market.Blocked                   { return market.Blocked{} }
func (*blocks) hides(peer.ID) bool                     { return false }
func (*blocks) mutes(peer.ID) bool                     { return false }
func (*blocks) heard(*proto.Signed)                    {}
func (*blocks) refused(peer.ID)                        {}
func (*blocks) refusal(peer.ID, ...ma.Multiaddr) error { return nil }
func (*blocks) without(cs []candidate) []candidate     { return cs }
