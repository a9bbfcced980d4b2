package market

import (
	"cmp"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// Blocked is whose work, and which modules, the operator keeps from this worker,
// whatever else it takes. The maps are not to be changed afterwards.
type Blocked struct {
	Submitters map[peer.ID]bool
	Modules    map[cid.Cid]bool
}

// TurnedAway is an output: an offer was not answered, or an assignment was
// refused, because the operator blocks its submitter or else its module.
type TurnedAway struct{ Submitter bool }

func (TurnedAway) isOutput() {}

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

// turnAway notes that something was refused for a reason of Blocked.
func (m *Machine) turnAway(why string) {
	if why == blockedSubmitter || why == blockedModule {
		m.send(TurnedAway{Submitter: why == blockedSubmitter})
	}
}

// expel gives back what is blocked now. It stops in the middle what runs: the
// operator wants it off the machine. What is done is the submitter's to pay for.
func (m *Machine) expel() {
	w := &m.work
	var all []*exec
	for _, c := range w.customers {
		for _, x := range c.execs {
			if x.phase <= execRunning && w.cfg.Blocked.why(c.id, x.module) != "" {
				all = append(all, x)
			}
		}
	}
	slices.SortFunc(all, func(a, b *exec) int { return cmp.Compare(a.seq, b.seq) })
	for _, x := range all {
		why := w.cfg.Blocked.why(x.c.id, x.module)
		m.drop(x)
		m.refuse(x.c.id, x.ref, proto.CodeBlocked, why)
		m.turnAway(why)
	}
}
