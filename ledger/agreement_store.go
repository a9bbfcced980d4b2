package ledger

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// Records of a witness: 'v', the slot, one byte for the kind, and for bodies
// the id.
//
//	b -> marshalled Envelope of a body seen for the slot
//	f -> marshalled FrontierChanges of a checkpoint's body that it voted for
//	l -> marshalled Report: the round that the witness is in, and its lock
//	r -> marshalled Report as sent on entering the round
//	o -> marshalled Propose that this witness led the round with
//	p -> marshalled Prepare of the round
//	c -> marshalled Commit of the round
//	s -> marshalled Envelope of Skip
//	d -> marshalled CertifiedEvent that cannot be effective yet
//
// They go away with the batch that stores the certified event, which answers
// every later message for the slot. 'v', 'x', account, offence holds the
// Envelope of Evidence against an account until a Slash used it.

// Lengths of an Ed25519 peer id and of slot keys.
const (
	peerLen       = 38
	accountKeyLen = 1 + peerLen + 8
	checkKeyLen   = 1 + 8
)

func slotKey(s *proto.Slot) string {
	if a := s.GetAccount(); a != nil {
		b := append([]byte{'a'}, a.Account...)
		return string(binary.BigEndian.AppendUint64(b, a.Seq))
	}
	return string(binary.BigEndian.AppendUint64([]byte{'c'}, s.GetCheckpointEpoch()))
}

// splitKey is the inverse: the slot, the kind and the rest of a record's key.
func splitKey(key []byte) (slot *proto.Slot, kind byte, rest []byte, err error) {
	n := 0
	switch {
	case len(key) > 1+accountKeyLen && key[1] == 'a':
		n = 1 + accountKeyLen
		id, perr := proto.ParsePeer(key[2 : 2+peerLen])
		if perr != nil {
			return nil, 0, nil, perr
		}
		slot = AccountSlot(id, binary.BigEndian.Uint64(key[2+peerLen:n]))
	case len(key) > 1+checkKeyLen && key[1] == 'c':
		n = 1 + checkKeyLen
		slot = checkpointSlot(binary.BigEndian.Uint64(key[2:n]))
	default:
		return nil, 0, nil, fmt.Errorf("record %x is of no slot", key)
	}
	return slot, key[n], key[n+1:], nil
}

func (in *instance) recordKey(kind byte, suffix string) []byte {
	b := make([]byte, 0, 2+len(in.key)+len(suffix))
	b = append(b, spaceVote)
	b = append(b, in.key...)
	b = append(b, kind)
	return append(b, suffix...)
}

// must marshals a message that this witness made: that cannot fail.
func must(m goproto.Message) []byte {
	raw, err := goproto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic("ledger: " + err.Error())
	}
	return raw
}

func (in *instance) bodyRecord(b *body) Record { return Record{in.recordKey('b', b.id), b.raw} }

func (in *instance) stateRecord(net *proto.Network) Record {
	r := &proto.Report{Slot: in.slot, Round: in.round}
	if k := in.lock; k != nil {
		r.LockRound, r.LockId, r.LockPqc = k.round, []byte(k.id), k.envelopes(net)
	}
	return Record{in.recordKey('l', ""), must(r)}
}

func (in *instance) enteredRecord() Record { return Record{in.recordKey('r', ""), must(in.entered)} }
func (in *instance) madeRecord() Record    { return Record{in.recordKey('o', ""), must(in.made)} }
func (in *instance) skipRecord() Record    { return Record{in.recordKey('s', ""), in.skipped.raw} }
func (in *instance) certRecord() Record    { return Record{in.recordKey('d', ""), must(in.cert)} }

func (in *instance) ballotRecord(kind proto.Kind) Record {
	if kind == proto.KindCommit {
		return Record{in.recordKey('c', ""), must(&proto.Commit{Slot: in.slot, Round: in.round, Id: []byte(in.committed)})}
	}
	return Record{in.recordKey('p', ""), must(&proto.Prepare{Slot: in.slot, Round: in.round, Id: []byte(in.prepared)})}
}

// roundRecords deletes what belongs to a round that ends.
func (in *instance) roundRecords() []Record {
	var out []Record
	if in.made != nil {
		out = append(out, Record{in.recordKey('o', ""), nil})
	}
	if in.prepared != "" {
		out = append(out, Record{in.recordKey('p', ""), nil})
	}
	if in.committed != "" {
		out = append(out, Record{in.recordKey('c', ""), nil})
	}
	return out
}

// allRecords deletes everything about the slot.
func (in *instance) allRecords() []Record {
	if !in.stored {
		return nil
	}
	out := in.roundRecords()
	for _, kind := range "lrsd" {
		out = append(out, Record{in.recordKey(byte(kind), ""), nil})
	}
	for _, id := range slices.Sorted(maps.Keys(in.bodies)) {
		out = append(out, in.bodyGone(in.bodies[id])...)
	}
	return out
}

// drop ends an instance whose slot was decided elsewhere.
func (s *step) drop(in *instance) error {
	if err := s.w.erase(in); err != nil {
		return &fault{err}
	}
	s.ended(in)
	return nil
}

// ended forgets an instance whose slot is decided.
func (s *step) ended(in *instance) {
	for _, id := range slices.Sorted(maps.Keys(in.bodies)) {
		s.overruled(in.slot, in.bodies[id])
	}
	s.w.remember(in)
	s.w.forget(in)
}

func (w *Witness) forget(in *instance) {
	if w.slots[in.key] != in {
		return
	}
	delete(w.slots, in.key)
	w.release(in)
	if w.over[in.account] != nil || len(w.evidence[in.account]) > 0 {
		w.again = append(w.again, in.account)
	}
}

func (w *Witness) release(in *instance) {
	if in.opener == "" {
		return
	}
	if w.opened[in.opener]--; w.opened[in.opener] == 0 {
		delete(w.opened, in.opener)
	}
	in.opener = ""
}

// atOnce is a time that is always past.
var atOnce = time.Unix(1, 0)

// load reads votes of an earlier run.
func (w *Witness) load() error {
	ins := map[string]*instance{}
	err := w.store.Scan([]byte{spaceVote}, func(key, value []byte) error {
		if len(key) > 1 && key[1] == 'x' {
			return w.loadEvidence(value)
		}
		if len(key) > 1 && key[1] == 'h' {
			return w.loadClaim(key, value)
		}
		slot, kind, rest, err := splitKey(key)
		if err != nil {
			return err
		}
		in := ins[slotKey(slot)]
		if in == nil {
			in = newInstance(slot)
			in.stored = true
			ins[in.key] = in
		}
		return w.read(in, kind, rest, slices.Clone(value))
	})
	if err != nil {
		return err
	}
	for id := range w.touched {
		if h := w.l.s.holds[id]; h == nil || h.closed {
			w.ended = append(w.ended, id)
		}
	}
	w.l.s.rewatch()
	for _, key := range slices.Sorted(maps.Keys(ins)) {
		in := ins[key]
		if _, ok := w.decided(in); ok {
			if err := w.erase(in); err != nil {
				return err
			}
			continue
		}
		w.restore(in)
		w.slots[key] = in
		w.wakeAt(in, atOnce)
	}
	return nil
}

// read takes in one record.
func (w *Witness) read(in *instance, kind byte, rest, value []byte) error {
	switch kind {
	case 'b':
		b, err := openBody(w.net, in, value, false)
		if err != nil {
			return err
		}
		in.bodies[string(rest)] = b
	case 'f':
		b := in.bodies[string(rest)]
		if b == nil {
			return fmt.Errorf("record %q of no body", kind)
		}
		b.pinned = true
		return b.bring(value)
	case 'l', 'r':
		r := new(proto.Report)
		if err := goproto.Unmarshal(value, r); err != nil {
			return err
		}
		if kind == 'r' {
			in.entered = r
			return nil
		}
		in.round = r.Round
		if len(r.LockId) > 0 {
			in.lock = &lock{r.LockRound, string(r.LockId), map[peer.ID][]byte{}}
			for _, raw := range r.LockPqc {
				s, err := proto.Inspect(raw, proto.KindPrepare)
				if err != nil {
					return err
				}
				in.lock.pqc[s.Signer] = raw
			}
		}
	case 'o':
		in.made = new(proto.Propose)
		return goproto.Unmarshal(value, in.made)
	case 'p':
		p := new(proto.Prepare)
		if err := goproto.Unmarshal(value, p); err != nil {
			return err
		}
		in.prepared = string(p.Id)
		in.hear(w.self).prepare = &ballot{round: p.Round, id: in.prepared}
	case 'c':
		c := new(proto.Commit)
		if err := goproto.Unmarshal(value, c); err != nil {
			return err
		}
		in.committed = string(c.Id)
		in.hear(w.self).commit = &ballot{round: c.Round, id: in.committed}
	case 's':
		o, err := openObjection(w.net, value, false)
		if err != nil {
			return err
		}
		in.skipped = o
	case 'd':
		in.cert = new(proto.CertifiedEvent)
		return goproto.Unmarshal(value, in.cert)
	default:
		return fmt.Errorf("record of unknown kind %q", kind)
	}
	return nil
}

// restore rebuilds what follows from the records.
func (w *Witness) restore(in *instance) {
	if in.entered != nil {
		r := &report{slot: in.slot, by: w.self, round: in.entered.Round}
		if len(in.entered.LockId) > 0 {
			r.lock = &lock{round: in.entered.LockRound, id: string(in.entered.LockId)}
		}
		if len(in.entered.Body) > 0 {
			r.body, _ = openBody(w.net, in, in.entered.Body, false)
		}
		for _, raw := range in.entered.Objections {
			if o, err := openObjection(w.net, raw, false); err == nil {
				r.objections = append(r.objections, o)
			}
		}
		h := in.hear(w.self)
		h.report, h.top = r, in.round
	}
}

// reload makes an instance what the store says, after a write failed.
func (w *Witness) reload(in *instance, now time.Time) error {
	w.forget(in)
	fresh := newInstance(in.slot)
	err := w.store.Scan(append([]byte{spaceVote}, in.key...), func(key, value []byte) error {
		_, kind, rest, err := splitKey(key)
		if err != nil {
			return err
		}
		fresh.stored = true
		return w.read(fresh, kind, rest, slices.Clone(value))
	})
	if err != nil || !fresh.stored {
		return err
	}
	w.restore(fresh)
	fresh.waiters = in.waiters
	w.slots[fresh.key] = fresh
	w.wakeAt(fresh, now.Add(w.cfg.T))
	return nil
}
