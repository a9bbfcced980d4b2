package sim

import (
	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

func isReply(f *proto.VoteFrame) bool { return false }

func (n *node) extra(o ledger.Output) {}

func (o *owner) file() {}

func (o *owner) claimed(from peer.ID, f *proto.VoteFrame) {}

// closable: holds whose payer vanished are closed by the witnesses.
const closable = false
