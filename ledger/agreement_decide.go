package ledger

import (
	"slices"
	"time"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Rule 6: what happens once a quorum committed.

// certificate is rule 6's condition: q commits of one round for a body that is
// here.
func (in *instance) certificate(net *proto.Network) (string, *proto.Certificate) {
	type vote struct {
		round uint32
		id    string
	}
	count := map[vote]map[peer.ID][]byte{}
	for by, h := range in.heard {
		for _, b := range []*ballot{h.commit, h.older} {
			if b == nil || b.raw == nil || in.bodies[b.id] == nil {
				continue
			}
			v := vote{b.round, b.id}
			if count[v] == nil {
				count[v] = map[peer.ID][]byte{}
			}
			count[v][by] = b.raw
		}
	}
	var best *vote
	for v, by := range count {
		if len(by) >= net.Quorum() && (best == nil || v.round < best.round) {
			best = &v
		}
	}
	if best == nil {
		return "", nil
	}
	cert := new(proto.Certificate)
	for _, p := range net.Witnesses {
		if raw := count[*best][p]; raw != nil && len(cert.Commits) < net.Quorum() {
			cert.Commits = append(cert.Commits, raw)
		}
	}
	return best.id, cert
}

// decide is rule 6: the certificate is durable together with the event, and
// the votes are not needed any more.
func (s *step) decide(in *instance, id string, cert *proto.Certificate) error {
	in.cert = &proto.CertifiedEvent{Event: in.bodies[id].raw, Certificate: cert}
	var behind []peer.ID
	for _, p := range s.w.rest {
		if h := in.heard[p]; h == nil || h.commit == nil || h.commit.id != id {
			behind = append(behind, p)
		}
	}
	behind = append(behind, in.told(id, false)...)
	if in.committed != id || len(s.w.rest) == 0 {
		behind = append(behind, in.told(id, true)...)
	}
	if err := s.finish(in); err != nil {
		return err
	}
	slices.Sort(behind)
	s.send(slices.Compact(behind), certifiedFrame(in.cert))
	return nil
}

// finish unites a certified body with the set, or keeps its certificate until
// what it builds on has arrived.
func (s *step) finish(in *instance) error {
	w := s.w
	var err error
	if in.account == "" {
		s2, ierr := openSigned(w.net.ID, in.cert.Event, proto.KindCheckpoint)
		if ierr != nil {
			return ierr
		}
		var changes []byte
		if b := in.bodies[string(s2.ID.Bytes())]; b != nil {
			changes = b.changes
		}
		if w.cfg.Checkpoints == nil {
			return proto.CodeInvalidEvent.Errorf("checkpoints are not judged here")
		}
		if err = w.cfg.Checkpoints.Install(in.allRecords(), in.cert.Event, changes, in.cert.Certificate); err == nil {
			s.outs = append(s.outs, CheckpointAdded{in.cert})
			w.remember(in)
			w.forget(in)
			return nil
		}
		if proto.CodeOf(err) == proto.CodeInternal {
			return &fault{err}
		}
	} else {
		c, derr := decode(w.net, in.cert.Event, false)
		if derr != nil {
			return derr
		}
		c.Wire = in.cert
		_, err = newTx(w.net, &w.l.s).judge(c)
		if err == nil {
			if err = s.union(in.allRecords(), c); err == nil {
				s.ended(in)
			}
			return err
		}
		if err := s.union(nil, c); err != nil { // to wait in the ledger
			return err
		}
		if known, ok := w.decided(in); ok && known != in.cert {
			return s.drop(in)
		}
	}
	// Not yet. The certificate is repeated to whoever asks, and others are
	// asked for what is missing.
	if !in.stored || in.timer != (time.Time{}) {
		in.timer = time.Time{}
		if err := s.append(in, in.certRecord()); err != nil {
			return err
		}
	}
	in.expire, in.relay = time.Time{}, time.Time{}
	if in.resend.IsZero() || !s.now.Before(in.resend) {
		in.resend = s.now.Add(w.cfg.T)
	}
	s.send(w.rest[:min(len(w.rest), w.net.F()+1)], refuse(err, in.slot))
	w.schedule(in)
	return nil
}

// union adds certified events to the ledger, with records of the same batch.
func (s *step) union(own []Record, cs ...*Certified) error {
	added, refused, err := s.w.l.add(own, cs)
	if err != nil {
		return &fault{err}
	}
	if len(added) > 0 {
		s.outs = append(s.outs, Added{added})
	}
	for _, c := range added {
		if in := s.w.slots[slotKey(AccountSlot(c.Account, c.Seq))]; in != nil {
			s.w.wakeAt(in, s.now) // it is decided; Tick ends it
		}
	}
	return refused
}
