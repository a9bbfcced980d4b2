package ledger

import (
	"encoding/binary"
	"slices"
	"time"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Evidence from the moment in which this witness has it to the Slash that
// punishes it. It is durable, and dropped once it changes nothing any more.

func evidenceKey(o *objection) []byte {
	return binary.BigEndian.AppendUint64(append([]byte{spaceVote, 'x'}, o.account...), o.code)
}

func (w *Witness) loadEvidence(value []byte) error {
	o, err := openObjection(w.net, slices.Clone(value), false)
	if err != nil {
		return err
	}
	w.evidence[o.account] = append(w.evidence[o.account], o)
	w.offences++
	w.again = append(w.again, o.account) // its next place is opened, or it is spent
	return nil
}

// accused reports whether an offence of an account waits for its Slash, or none
// of its can be added.
func (w *Witness) accused(account peer.ID, code uint64) bool {
	list := w.evidence[account]
	return len(list) >= maxAccused || slices.ContainsFunc(list, func(o *objection) bool { return o.code == code })
}

// accuse keeps evidence that a Slash can use and opens the account's next
// slot. It returns nil when the evidence changes nothing.
func (s *step) accuse(o *objection) (*instance, error) {
	w := s.w
	slot := AccountSlot(o.account, w.l.next(o.account))
	if slot.GetAccount().Seq == 0 || w.accused(o.account, o.code) || w.made(newInstance(slot), o) == nil || !s.room(o.account) {
		return nil, nil
	}
	if len(w.unsaved) > 2*maxEvidence { // the disk fails all the time
		return nil, nil
	}
	in, err := s.instance(slot, "")
	if err != nil {
		return nil, err
	}
	w.evidence[o.account] = append(w.evidence[o.account], o)
	w.offences++
	w.unsaved = append(w.unsaved, Record{evidenceKey(o), o.raw})
	s.start(in)
	w.schedule(in)
	return in, nil
}

// accusation is the first evidence against an account that its next place can
// use. What no place can use is forgotten: a Slash punished it, or the key that
// signed it is out of use.
func (s *step) accusation(account peer.ID) *objection {
	w := s.w
	next := newInstance(AccountSlot(account, w.l.next(account)))
	for len(w.evidence[account]) > 0 {
		o := w.evidence[account][0]
		if w.made(next, o) != nil {
			return o
		}
		s.spend(o)
	}
	return nil
}

func (s *step) spend(o *objection) {
	w := s.w
	w.evidence[o.account] = slices.DeleteFunc(w.evidence[o.account], func(x *objection) bool { return x == o })
	if len(w.evidence[o.account]) == 0 {
		delete(w.evidence, o.account)
	}
	w.offences--
	w.unsaved = append(w.unsaved, Record{evidenceKey(o), nil})
}

// room makes room for evidence against an account. When there is none, what is
// against the one with the least to lose goes, if that is less: accounts cost
// next to nothing, and theirs must not keep a Slash from others.
func (s *step) room(account peer.ID) bool {
	w := s.w
	if w.offences < maxEvidence {
		return true
	}
	var least peer.ID
	for p := range w.evidence {
		if a, b := w.atStake(p), w.atStake(least); least == "" || a < b || a == b && p < least {
			least = p
		}
	}
	if w.atStake(least) >= w.atStake(account) {
		return false
	}
	for _, o := range slices.Clone(w.evidence[least]) {
		s.spend(o)
	}
	in := w.slots[slotKey(AccountSlot(least, w.l.next(least)))]
	if in != nil && in.round == 0 && in.prepared == "" && !in.contested() { // it was for the evidence only
		in.timer, in.resend, in.expire = time.Time{}, time.Time{}, s.now.Add(8*w.cfg.T)
		w.schedule(in)
	}
	return true
}

// ruined reports that a Slash would change nothing: the account is frozen and
// has nothing to lose. A witness that goes on to vote twice would fill its chain
// with them.
func (w *Witness) ruined(account peer.ID) bool {
	a := w.l.s.accounts[account]
	return a != nil && a.post.frozen() && w.atStake(account) == 0
}

// atStake is what a Slash can take from an account.
func (w *Witness) atStake(account peer.ID) uint64 {
	if a := w.l.s.accounts[account]; a != nil {
		return a.post.staked + a.post.unbonding
	}
	return 0
}

// equivocated turns two bodies of one owner into evidence.
func (s *step) equivocated(slot *proto.Slot, a, b *body) *instance {
	if s.w.accused(a.c.Account, a.c.Seq) {
		return nil
	}
	e := evidenceOf(a.raw, b.raw)
	raw, err := s.w.cfg.Sign(&proto.Payload{Body: &proto.Payload_Evidence{Evidence: e}})
	if err != nil {
		s.broken = err
		return nil
	}
	o, err := openObjection(s.w.net, raw, false)
	if err != nil {
		return nil
	}
	in, _ := s.accuse(o)
	if in != nil {
		s.outs = append(s.outs, Misconduct{o.account, slot, e})
	}
	return in
}

// overruled looks at another body for a place that is decided: the decision
// ends the agreement, but not what a second event of the same owner proves.
func (s *step) overruled(slot *proto.Slot, b *body) {
	w := s.w
	account := peer.ID(slot.GetAccount().GetAccount())
	known, _ := w.settled(slot)
	if account == "" || known == nil || b.c == nil || b.made || b.c.Seq == 0 || w.accused(account, b.c.Seq) {
		return
	}
	if x := w.l.s.accounts[account]; x == nil || x.post.wasSlashed(b.c.Seq) {
		return // nothing follows from another one
	}
	a, err := openBody(w.net, newInstance(slot), known.Event, false)
	if err != nil || a.made || a.id == b.id || a.signer != b.signer {
		return
	}
	if s.equivocated(slot, a, b) != nil {
		w.again = append(w.again, account) // opened when this step ends
	}
}
