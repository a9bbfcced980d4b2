package market

import (
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Blocked is whose work, and which modules, the operator keeps from this worker,
// whatever else it takes. The maps are not to be changed afterwards.
type Blocked struct {
	Submitters map[peer.ID]bool
	Modules    map[cid.Cid]bool
}

const (
	blockedSubmitter = "the operator of this worker blocks this submitter"
	blockedModule    = "the operator of this worker blocks this module"
)

// why says what of it is blocked, "" when nothing is.
func (b Blocked) why(submitter peer.ID, module cid.Cid) string {
	switch {
	case b.Submitters[submitter]:
		return blockedSubmitter
	case b.Modules[module]:
		return blockedModule
	}
	return ""
}
