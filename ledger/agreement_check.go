package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Checks of what arrives, cheap ones first: sizes and shape, who may say it,
// whether it is new, and only then signatures.

// openSigned and openUnchecked are proto's; tests put a cache in front of them.
var openSigned, openUnchecked = proto.Unseal, proto.Inspect

// slotOf checks a slot as received and returns it in its one form.
func (w *Witness) slotOf(s *proto.Slot) (*proto.Slot, error) {
	switch k := s.GetKind().(type) {
	case *proto.Slot_Account:
		id, err := proto.ParsePeer(k.Account.GetAccount())
		if err != nil {
			return nil, fmt.Errorf("slot: %w", err)
		}
		return AccountSlot(id, k.Account.Seq), nil
	case *proto.Slot_CheckpointEpoch:
		if w.cfg.Checkpoints == nil || k.CheckpointEpoch == 0 {
			return nil, proto.CodeInvalidEvent.Errorf("slot: no checkpoint %d here", k.CheckpointEpoch)
		}
		return checkpointSlot(k.CheckpointEpoch), nil
	}
	return nil, proto.CodeMalformed.Errorf("slot: neither a place nor a checkpoint")
}

// settled finds what a slot was decided for. It is nil with true when the
// event is pruned.
func (w *Witness) settled(slot *proto.Slot) (*proto.CertifiedEvent, bool) {
	a := slot.GetAccount()
	if a == nil {
		return w.cfg.Checkpoints.Certified(slot.GetCheckpointEpoch())
	}
	if c, ok := w.l.At(peer.ID(a.Account), a.Seq); ok {
		return c.Wire, true
	}
	return nil, a.Seq < w.l.next(peer.ID(a.Account))
}

func (w *Witness) decided(in *instance) (*proto.CertifiedEvent, bool) { return w.settled(in.slot) }

// tell answers a message for a decided slot.
func (s *step) tell(known *proto.CertifiedEvent) error {
	if known == nil {
		return proto.CodeNotFound.Errorf("the event is below the checkpoint")
	}
	s.answer(certifiedFrame(known))
	return nil
}

// instance finds or opens the agreement on an undecided slot.
func (s *step) instance(slot *proto.Slot, opener peer.ID) (*instance, error) {
	w := s.w
	if in := w.slots[slotKey(slot)]; in != nil {
		return in, nil
	}
	if opener != "" && (len(w.slots) >= maxLive || w.opened[opener] >= maxOpened) && !w.off.slots {
		return nil, proto.CodeBusy.Errorf("too many undecided slots")
	}
	in := newInstance(slot)
	if in.opener = opener; opener != "" {
		w.opened[opener]++
	}
	w.slots[in.key] = in
	in.expire = s.now.Add(8 * w.cfg.T)
	w.schedule(in)
	return in, nil
}

// wait remembers a peer that asks about the slot for itself.
func (s *step) wait(in *instance, id string) {
	x := waiting{s.from, id}
	if s.from != "" && len(in.waiters) < maxWaiters && !slices.Contains(in.waiters, x) {
		in.waiters = append(in.waiters, x)
	}
}

// propose takes a Propose.
func (s *step) propose(raw []byte) (*proto.Slot, error) {
	w := s.w
	sg, err := openUnchecked(raw, proto.KindPropose)
	if err != nil {
		return nil, err
	}
	slot, err := w.slotOf(sg.Payload.GetPropose().GetSlot())
	if err != nil {
		return nil, err
	}
	direct := sg.Signer == s.from || !w.net.IsWitness(s.from)
	if known, ok := w.settled(slot); ok {
		s.second(slot, sg.Payload.GetPropose().GetBody())
		return slot, s.tell(known)
	}
	in := w.slots[slotKey(slot)]
	if in != nil && in.same(raw) {
		if direct {
			s.wait(in, in.cand.body.id)
			s.again(in)
		}
		return slot, s.run(in)
	}
	c, err := s.openPropose(raw)
	if err != nil {
		return slot, err
	}
	if err := s.attach(sg.Payload.GetPropose().Attachments); err != nil {
		return slot, err
	}
	if known, ok := w.settled(slot); ok {
		return slot, s.tell(known)
	}
	if c.round == 0 {
		// Only a body that could be certified opens a slot.
		if err := w.judgeBody(s.now, c.body, true); err != nil {
			return slot, err
		}
	}
	if in, err = s.instance(slot, s.from); err != nil {
		return slot, err
	}
	if direct {
		s.wait(in, c.body.id)
	}
	for _, r := range c.reports {
		s.adopt(in, r)
	}
	if c.round == 0 {
		s.keep(in, c.body)
		s.start(in)
	}
	if in.cand == nil && c.round >= in.round || in.cand != nil && (c.round > in.cand.round ||
		c.round == in.cand.round && in.cand.err != nil && in.prepared == "") {
		in.cand = c
	}
	if err := s.run(in); err != nil {
		return slot, err
	}
	if in.cand == c && c.err != nil && w.slots[in.key] == in {
		return slot, c.err
	}
	if _, ok := w.settled(slot); !ok && in.prepared != c.body.id && c.round == 0 {
		return slot, proto.CodeConflict.Errorf("another event may have the place; the witnesses decide")
	}
	return slot, nil
}

// second reads what is proposed for a place that is decided.
func (s *step) second(slot *proto.Slot, raw []byte) {
	account := peer.ID(slot.GetAccount().GetAccount())
	if account == "" || s.w.accused(account, slot.GetAccount().Seq) {
		return
	}
	// The id first: mostly it is what was decided, and costs no check of a signature.
	if x, err := openUnchecked(raw, proto.KindEvent); err != nil || s.w.l.known(x.ID) {
		return
	}
	if b, err := openBody(s.w.net, newInstance(slot), raw, true); err == nil {
		s.overruled(slot, b)
	}
}

// again repeats this witness's Commit to the one that asks.
func (s *step) again(in *instance) {
	if in.own.commit != nil && len(s.w.rest) > 0 {
		s.answer(&proto.VoteFrame{Body: &proto.VoteFrame_Commit{Commit: in.own.commit}})
	}
}

// openPropose checks everything about a Propose that needs no state but the
// slot's: signatures, who leads, the reports.
func (s *step) openPropose(raw []byte) (*candidate, error) {
	w := s.w
	sg, err := openUnchecked(raw, proto.KindPropose)
	if err != nil {
		return nil, err
	}
	p := sg.Payload.GetPropose()
	slot, err := w.slotOf(p.Slot)
	if err != nil {
		return nil, err
	}
	in := w.slots[slotKey(slot)]
	if in == nil {
		in = newInstance(slot)
	}
	leader := w.leader(in, p.Round)
	switch {
	case p.Round > maxRound:
		return nil, proto.CodeMalformed.Errorf("propose: round %d", p.Round)
	case p.Round < in.round && len(p.Justification) > 0:
		return nil, proto.CodeExpired.Errorf("propose: round %d is over", p.Round)
	case leader != "" && sg.Signer != leader:
		return nil, proto.CodeInvalidEvent.Errorf("propose: round %d is led by %s, not by %s", p.Round, leader, sg.Signer)
	case p.Round == 0 && len(p.Justification) > 0 || len(p.Justification) > len(w.net.Witnesses):
		return nil, proto.CodeInvalidEvent.Errorf("propose: %d reports in round %d", len(p.Justification), p.Round)
	case len(p.Attachments) > maxMissing:
		return nil, proto.CodeTooLarge.Errorf("propose: %d attachments, at most %d", len(p.Attachments), maxMissing)
	}
	if _, err := openSigned(w.net.ID, raw, proto.KindPropose); err != nil {
		return nil, err
	}
	c := &candidate{round: p.Round, raw: raw}
	if c.body, err = openBody(w.net, in, p.Body, true); err != nil {
		return nil, fmt.Errorf("propose: %w", err)
	}
	if err := c.body.bring(p.Changes); err != nil {
		return nil, fmt.Errorf("propose: %w", err)
	}
	if leader == "" && (c.body.made || sg.Signer != c.body.signer) {
		return nil, proto.CodeInvalidEvent.Errorf("propose: round 0 is led by the account's owner, not by %s", sg.Signer)
	}
	if p.Round == 0 {
		return c, nil
	}
	seen := map[peer.ID]bool{}
	for _, raw := range p.Justification {
		r, err := s.openReport(raw)
		if err != nil {
			return nil, fmt.Errorf("propose: %w", err)
		}
		if r.round != p.Round || seen[r.by] || !sameSlot(r.slot, slot) {
			return nil, proto.CodeInvalidEvent.Errorf("propose: reports of other rounds, or two by one witness")
		}
		seen[r.by] = true
		c.reports = append(c.reports, r)
	}
	if len(c.reports) < w.net.Quorum() {
		return nil, proto.CodeInvalidEvent.Errorf("propose: %d reports, want %d", len(c.reports), w.net.Quorum())
	}
	return c, nil
}

// attach takes in certified events that came along.
func (s *step) attach(list []*proto.CertifiedEvent) error {
	var cs []*Certified
	for _, a := range list {
		if x, err := openUnchecked(a.GetEvent(), proto.KindEvent); err == nil && s.w.l.known(x.ID) {
			continue
		}
		c, err := Verify(s.w.net, a)
		if err != nil {
			return fmt.Errorf("attachment: %w", err)
		}
		cs = append(cs, c)
	}
	if len(cs) == 0 {
		return nil
	}
	var broken *fault
	if err := s.union(nil, cs...); errors.As(err, &broken) {
		return err
	}
	return nil
}

// vote takes a Prepare or Commit.
func (s *step) vote(kind proto.Kind, raw []byte) (*proto.Slot, error) {
	w := s.w
	sg, err := openUnchecked(raw, kind)
	if err != nil {
		return nil, err
	}
	if !w.net.IsWitness(sg.Signer) {
		return nil, proto.CodeNotWitness.Errorf("%s by %s, who is no witness", kind, sg.Signer)
	}
	if sg.Signer == w.self {
		return nil, nil
	}
	wire, b := sg.Payload.GetPrepare().GetSlot(), &ballot{raw: raw}
	if p := sg.Payload.GetPrepare(); p != nil {
		b.round, b.id = p.Round, string(p.Id)
	} else {
		c := sg.Payload.GetCommit()
		wire, b.round, b.id = c.GetSlot(), c.GetRound(), string(c.GetId())
	}
	slot, err := w.slotOf(wire)
	if err != nil {
		return nil, err
	}
	if _, err := proto.ParseCID([]byte(b.id)); err != nil || b.round > maxRound {
		return slot, proto.CodeMalformed.Errorf("%s in round %d for %x", kind, b.round, b.id)
	}
	key := slotKey(slot)
	if known, ok := w.settled(slot); ok {
		if w.late(key, sg.Signer, kind) || known == nil {
			return slot, nil
		}
		return slot, s.tell(known)
	}
	in := w.slots[key]
	if in != nil {
		if in.cert != nil {
			return slot, s.tell(in.cert)
		}
		if h := in.heard[sg.Signer]; h != nil && (h.prepare != nil && bytes.Equal(h.prepare.raw, raw) || h.commit != nil && bytes.Equal(h.commit.raw, raw)) {
			return slot, nil
		}
	}
	if _, err := openSigned(w.net.ID, raw, kind); err != nil {
		return slot, err
	}
	if in, err = s.instance(slot, sg.Signer); err != nil {
		return slot, err
	}
	if other := in.record(kind, sg.Signer, b); other != nil {
		s.outs = append(s.outs, Misconduct{sg.Signer, slot, evidenceOf(other.raw, raw)})
	}
	if in.resend.IsZero() && len(in.heard) > w.net.F() { // an honest one is at work
		in.resend, in.expire = s.now.Add(w.cfg.T), s.now.Add(64*w.cfg.T)
	}
	return slot, s.run(in)
}

// evidenceOf puts two envelopes that were read before in the order that evidence
// has.
func evidenceOf(a, b []byte) *proto.Evidence {
	kinds := []proto.Kind{proto.KindEvent, proto.KindPrepare, proto.KindCommit}
	x, xerr := openUnchecked(a, kinds...)
	y, yerr := openUnchecked(b, kinds...)
	if xerr == nil && yerr == nil && bytes.Compare(x.ID.Bytes(), y.ID.Bytes()) > 0 {
		a, b = b, a
	}
	return &proto.Evidence{First: a, Second: b}
}

// skip takes an owner's word that it gives up a place.
func (s *step) skip(raw []byte) (*proto.Slot, error) {
	w := s.w
	o, err := openObjection(w.net, raw, true)
	if err != nil {
		return nil, err
	}
	if o.kind != proto.KindSkip {
		return nil, proto.CodeMalformed.Errorf("%s where a skip was expected", o.kind)
	}
	slot := AccountSlot(o.account, o.seq)
	if known, ok := w.settled(slot); ok {
		return slot, s.tell(known)
	}
	if err := w.validSkip(o); err != nil {
		return slot, err
	}
	in, err := s.instance(slot, s.from)
	if err != nil {
		return slot, err
	}
	s.wait(in, "")
	s.object(in, o)
	return slot, s.run(in)
}

// proof takes evidence against an account.
func (s *step) proof(raw []byte) error {
	o, err := openObjection(s.w.net, raw, true)
	if err != nil {
		return err
	}
	if o.kind != proto.KindEvidence {
		return proto.CodeMalformed.Errorf("%s where evidence was expected", o.kind)
	}
	in, err := s.accuse(o)
	if in == nil || err != nil {
		return err
	}
	return s.run(in)
}

// certified takes an event or checkpoint that others certified.
func (s *step) certified(wire *proto.CertifiedEvent) error {
	w := s.w
	sg, err := openUnchecked(wire.GetEvent(), proto.KindEvent, proto.KindCheckpoint)
	if err != nil {
		return err
	}
	if sg.Kind == proto.KindCheckpoint {
		return s.certifiedCheckpoint(sg, wire)
	}
	if w.l.known(sg.ID) {
		return nil
	}
	c, err := Verify(w.net, wire)
	if err != nil {
		return err
	}
	if in := w.slots[slotKey(AccountSlot(c.Account, c.Seq))]; in != nil {
		in.cert = c.Wire
		err = s.finish(in)
		if w.slots[in.key] != in {
			s.send(in.everyone(), certifiedFrame(c.Wire))
		}
		return err
	}
	if err := s.union(nil, c); err != nil {
		return err
	}
	var lacks *missingError
	if _, err := newTx(w.net, &w.l.s).judge(c); errors.As(err, &lacks) && w.net.IsWitness(s.from) {
		return err // ask for what it builds on
	}
	return nil
}

func (s *step) certifiedCheckpoint(sg *proto.Signed, wire *proto.CertifiedEvent) error {
	w := s.w
	slot, err := w.slotOf(checkpointSlot(sg.Payload.GetCheckpoint().GetEpoch()))
	if err != nil {
		return err
	}
	if _, ok := w.settled(slot); ok {
		return nil
	}
	if err := checkCertificate(w.net, slot, sg.ID, wire.GetCertificate()); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if _, err := openSigned(w.net.ID, wire.Event, proto.KindCheckpoint); err != nil {
		return err
	}
	in, err := s.instance(slot, s.from)
	if err != nil {
		return err
	}
	in.cert = &proto.CertifiedEvent{Event: wire.Event, Certificate: &proto.Certificate{Commits: wire.Certificate.Commits}}
	return s.finish(in)
}

// headRequest answers an owner who wants to know where its chain ends.
func (s *step) headRequest(q *proto.HeadRequest) error {
	account, err := proto.ParsePeer(q.GetAccount())
	if err != nil {
		return err
	}
	r, err := s.w.Head(account, q.GetNonce())
	if err != nil {
		if proto.CodeOf(err) == proto.CodeInternal {
			return &fault{err}
		}
		return err
	}
	raw, err := s.w.cfg.Sign(&proto.Payload{Body: &proto.Payload_HeadReport{HeadReport: r}})
	if err != nil {
		return &fault{err}
	}
	s.answer(&proto.VoteFrame{Body: &proto.VoteFrame_HeadReport{HeadReport: raw}})
	return nil
}
