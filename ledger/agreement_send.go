package ledger

import (
	"fmt"
	"slices"

	"edgenet.dev/proto"
)

// From what was decided to what is sent: durable, signed, sent, in this order.

// append writes records of an instance; on failure the instance is what the
// store says.
func (s *step) append(in *instance, recs ...Record) error {
	if err := s.w.store.Append(recs...); err != nil {
		if lerr := s.w.reload(in, s.now); lerr != nil {
			err = fmt.Errorf("%w, and then %w", err, lerr)
		}
		return &fault{err}
	}
	in.stored = true
	return nil
}

// flush makes what changed durable, signs what is not signed and sends what is
// new: in this order.
func (s *step) flush(in *instance) error {
	recs := slices.Concat(s.w.unsaved, s.recs)
	s.recs = nil
	if s.broken != nil {
		err := s.broken
		s.broken = nil
		return &fault{err}
	}
	if len(recs) > 0 && !s.w.off.durable {
		if err := s.append(in, recs...); err != nil {
			return err
		}
		s.w.unsaved = nil
	}
	me := in.hear(s.w.self)
	sign := func(to *[]byte, p *proto.Payload) error {
		if *to != nil {
			return nil
		}
		raw, err := s.w.cfg.Sign(p)
		if err != nil {
			return &fault{fmt.Errorf("sign: %w", err)}
		}
		*to = raw
		return nil
	}
	if in.entered != nil {
		if err := sign(&in.own.report, &proto.Payload{Body: &proto.Payload_Report{Report: in.entered}}); err != nil {
			return err
		}
		if me.report != nil {
			me.report.raw = in.own.report
		}
	}
	if in.made != nil {
		if err := sign(&in.own.propose, &proto.Payload{Body: &proto.Payload_Propose{Propose: in.made}}); err != nil {
			return err
		}
	}
	if in.prepared != "" {
		p := &proto.Prepare{Slot: in.slot, Round: in.round, Id: []byte(in.prepared)}
		if err := sign(&in.own.prepare, &proto.Payload{Body: &proto.Payload_Prepare{Prepare: p}}); err != nil {
			return err
		}
		me.prepare.raw = in.own.prepare
		if k := in.lock; k != nil && k.round == in.round && k.id == in.prepared {
			k.pqc[s.w.self] = in.own.prepare
		}
	}
	if in.committed != "" {
		c := &proto.Commit{Slot: in.slot, Round: in.round, Id: []byte(in.committed)}
		if err := sign(&in.own.commit, &proto.Payload{Body: &proto.Payload_Commit{Commit: c}}); err != nil {
			return err
		}
		me.commit.raw = in.own.commit
	}
	if b := me.older; b != nil && b.raw == nil { // only with rule 2 switched off
		c := &proto.Commit{Slot: in.slot, Round: b.round, Id: []byte(b.id)}
		if err := sign(&b.raw, &proto.Payload{Body: &proto.Payload_Commit{Commit: c}}); err != nil {
			return err
		}
		s.send(s.w.rest, &proto.VoteFrame{Body: &proto.VoteFrame_Commit{Commit: b.raw}})
	}
	s.repeat(in)
	return nil
}

// repeat sends own messages of the current round that are marked for it.
func (s *step) repeat(in *instance) {
	emit := in.emit
	in.emit = own2{}
	if emit.report && in.own.report != nil {
		s.send(s.w.rest, &proto.VoteFrame{Body: &proto.VoteFrame_Report{Report: in.own.report}})
	}
	if emit.propose && in.own.propose != nil {
		s.send(s.w.rest, &proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: in.own.propose}})
	}
	if emit.prepare && in.own.prepare != nil {
		s.send(s.w.rest, &proto.VoteFrame{Body: &proto.VoteFrame_Prepare{Prepare: in.own.prepare}})
	}
	if emit.commit && in.own.commit != nil {
		to := slices.Clone(s.w.rest)
		for _, p := range in.told(in.committed, true) {
			if len(to) > 0 && !slices.Contains(to, p) {
				to = append(to, p)
			}
		}
		s.send(to, &proto.VoteFrame{Body: &proto.VoteFrame_Commit{Commit: in.own.commit}})
	}
}
