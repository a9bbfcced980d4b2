package ledger

import (
	"bytes"
	"fmt"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// report takes a Report.
func (s *step) report(raw []byte) (*proto.Slot, error) {
	w := s.w
	sg, err := openUnchecked(raw, proto.KindReport)
	if err != nil {
		return nil, err
	}
	slot, err := w.slotOf(sg.Payload.GetReport().GetSlot())
	if err != nil {
		return nil, err
	}
	if sg.Signer == w.self {
		return slot, nil
	}
	if known, ok := w.settled(slot); ok {
		return slot, s.tell(known)
	}
	in := w.slots[slotKey(slot)]
	if in != nil && in.cert != nil {
		return slot, s.tell(in.cert)
	}
	if in != nil {
		if h := in.heard[sg.Signer]; h != nil && h.report != nil && bytes.Equal(h.report.raw, raw) {
			return slot, nil
		}
	}
	r, err := s.openReport(raw)
	if err != nil {
		return slot, err
	}
	if in, err = s.instance(slot, sg.Signer); err != nil {
		return slot, err
	}
	lacks := s.adopt(in, r)
	if err := s.run(in); err != nil {
		return slot, err
	}
	return slot, lacks
}

// openReport checks a Report: a witness signed it, its lock is proven and
// shown, its objections are what they claim to be.
func (s *step) openReport(raw []byte) (*report, error) {
	w := s.w
	sg, err := openUnchecked(raw, proto.KindReport)
	if err != nil {
		return nil, err
	}
	if !w.net.IsWitness(sg.Signer) {
		return nil, proto.CodeNotWitness.Errorf("report by %s, who is no witness", sg.Signer)
	}
	m := sg.Payload.GetReport()
	slot, err := w.slotOf(m.Slot)
	if err != nil {
		return nil, err
	}
	in := w.slots[slotKey(slot)]
	if in == nil {
		in = newInstance(slot)
	}
	if h := in.heard[sg.Signer]; h != nil && h.report != nil && bytes.Equal(h.report.raw, raw) {
		return h.report, nil
	}
	if m.Round == 0 || m.Round > maxRound || len(m.LockPqc) > len(w.net.Witnesses) || len(m.Objections) > maxObjections+len(w.net.Witnesses) {
		return nil, proto.CodeMalformed.Errorf("report: round %d, %d prepares, %d objections", m.Round, len(m.LockPqc), len(m.Objections))
	}
	if _, err := openSigned(w.net.ID, raw, proto.KindReport); err != nil {
		return nil, err
	}
	r := &report{by: sg.Signer, round: m.Round, raw: raw, slot: slot}
	if len(m.Body) > 0 {
		if r.body, err = openBody(w.net, in, m.Body, true); err != nil {
			return nil, fmt.Errorf("report: %w", err)
		}
	}
	if len(m.LockId) > 0 {
		id, err := proto.ParseCID(m.LockId)
		if err != nil {
			return nil, fmt.Errorf("report: %w", err)
		}
		if m.LockRound >= m.Round || r.body == nil || r.body.id != string(m.LockId) {
			return nil, proto.CodeInvalidEvent.Errorf("report: a lock of a later round, or without its body")
		}
		round, pqc, ok := PreparedQuorum(w.net, slot, id, m.LockPqc)
		if !ok || round != m.LockRound {
			return nil, proto.CodeInvalidEvent.Errorf("report: the lock is not proven")
		}
		r.lock = &lock{round: m.LockRound, id: string(m.LockId), pqc: map[peer.ID][]byte{}}
		for _, raw := range pqc {
			if x, err := openUnchecked(raw, proto.KindPrepare); err == nil {
				r.lock.pqc[x.Signer] = raw
			}
		}
	} else if len(m.LockPqc) > 0 || m.LockRound != 0 {
		return nil, proto.CodeMalformed.Errorf("report: half a lock")
	}
	for _, raw := range m.Objections {
		o, err := openObjection(w.net, raw, true)
		if err != nil {
			return nil, fmt.Errorf("report: %w", err)
		}
		r.objections = append(r.objections, o)
	}
	return r, nil
}

// adopt keeps what a checked report says. It returns what this witness lacks
// to judge the report's body.
func (s *step) adopt(in *instance, r *report) (lacks error) {
	if r.by == s.w.self {
		return nil
	}
	h := in.hear(r.by)
	h.top = max(h.top, r.round)
	if h.report == nil || r.round > h.report.round {
		h.report = r
	}
	switch b := r.body; {
	case b == nil || in.bodies[b.id] != nil:
	case r.lock != nil: // vouched for by its quorum
		s.keep(in, b)
		s.start(in)
	case b.made: // carries its own proof; judged when it is proposed
	default:
		switch err := s.w.judgeBody(s.now, b, false); {
		case err == nil || s.w.expired(in, b) != nil:
			s.keep(in, b)
			s.start(in)
		case proto.CodeOf(err) == proto.CodeNotFinal:
			lacks = err
		}
	}
	for _, o := range r.objections {
		s.object(in, o)
	}
	return lacks
}
