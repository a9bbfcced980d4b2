package ledger

import (
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// The state at a cut, folded again from the base.

// maxChanges is MaxChanges; tests make it smaller.
var maxChanges = MaxChanges

// bounded is the state when only so many frontiers move: each event that can
// become effective does, until its account would be one too many. Where it
// begins changes with the epoch, so that no account waits for ever.
func (l *Ledger) bounded(before map[peer.ID]uint64, epoch uint64) (*state, []change, error) {
	var events []*Certified
	n := len(l.s.order)
	for i := range n {
		a := l.s.accounts[l.s.order[(i+int(epoch%uint64(n))*maxChanges)%n]]
		events = append(events, a.chain[a.kept:]...)
	}
	seen := map[peer.ID]bool{}
	st, err := l.refold(epoch, events, func(c *Certified) bool {
		if c.Seq < before[c.Account] || seen[c.Account] {
			return true
		}
		if len(seen) == maxChanges {
			return false
		}
		seen[c.Account] = true
		return true
	})
	if err != nil {
		return nil, nil, err
	}
	var moved []change
	for _, id := range st.order {
		if next := st.accounts[id].next(); next > before[id] {
			moved = append(moved, change{id, next - 1})
		}
	}
	return st, moved, nil
}

// refold applies events to a fresh copy of the base state, with the rewards of
// the checkpoints before epoch; allow is asked before an event that could
// become effective does.
func (l *Ledger) refold(epoch uint64, events []*Certified, allow func(*Certified) bool) (*state, error) {
	st, err := l.foundation()
	if err != nil {
		return nil, err
	}
	l.grants(&st, epoch)
	t := newTx(l.net, &st)
	t.trusted = true
	foldInto(t, events, nil, allow)
	t.commit()
	return &st, nil
}

// stateAt is the state with exactly the events below the cut of an epoch's
// checkpoint, which must be effective here. A cut that is not closed is
// refused.
func (l *Ledger) stateAt(epoch uint64, cut map[peer.ID]uint64) (*state, error) {
	if disabled.cut != nil {
		return disabled.cut(l, cut)
	}
	whole := true
	for e := epoch; e <= l.s.newest; e++ { // their rewards come after the cut
		h := l.checkpoints[e]
		whole = whole && h != nil && len(h.rewards) == 0
	}
	var events []*Certified
	for _, id := range l.s.order {
		a := l.s.accounts[id]
		whole = whole && a.next() == cut[id]
		for _, c := range a.chain[a.kept:] {
			if c.Seq < cut[id] {
				events = append(events, c)
			}
		}
	}
	if whole && len(cut) == len(l.s.order) {
		return &l.s, nil
	}
	st, err := l.refold(epoch, events, nil)
	if err != nil {
		return nil, err
	}
	for id, next := range cut {
		if a := st.accounts[id]; a == nil || a.next() != next {
			return nil, proto.CodeInvalidEvent.Errorf("checkpoint: the frontier is not closed: %s reaches above it", id)
		}
	}
	return st, nil
}

// foundation is a fresh copy of the base checkpoint's state.
func (l *Ledger) foundation() (state, error) {
	if l.base == 0 {
		st := newState(l.net)
		st.adopt(&l.s)
		return st, nil
	}
	leaves, err := l.storedLeaves()
	if err != nil {
		return state{}, err
	}
	kept := map[proto.Hash]*Certified{}
	for h, c := range l.s.events {
		if a := l.s.accounts[c.Account]; a.kept > 0 && c.Seq <= a.chain[a.kept-1].Seq {
			kept[h] = c
		}
	}
	st, err := stateOf(l.net, l.checkpoints[l.base].Body, leaves, kept)
	st.adopt(&l.s)
	return st, err
}

// adopt takes over what does not depend on the events: known checkpoints.
func (s *state) adopt(from *state) { s.figures, s.newest, s.off = from.figures, from.newest, from.off }
