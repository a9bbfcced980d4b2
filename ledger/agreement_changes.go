package ledger

import (
	"bytes"
	"maps"
	"slices"

	"edgenet.dev/proto"
)

// A checkpoint's body names its changes by their hash; they travel beside it.
// Without them nobody can make the next checkpoint. Who prepares or commits one
// therefore has its changes, durable with the vote: so of a certified one f+1
// honest witnesses, who are locked on it, keep them in a record of kind 'f'
// until the checkpoint is in the ledger with them, which gives them to others.

// bring adds the changes that came beside a body.
func (b *body) bring(changes []byte) error {
	if b.check == nil || len(changes) == 0 {
		return nil
	}
	if h := proto.HashOf(changes); !bytes.Equal(h[:], b.check.ChangesHash) {
		return proto.CodeMalformed.Errorf("checkpoint %d: these are not its changes", b.check.Epoch)
	}
	b.changes = changes
	return nil
}

// complete reports whether a body's changes are here, and adds them when it
// came without them.
func (w *Witness) complete(in *instance, b *body) bool {
	if b.check == nil || len(b.changes) > 0 {
		return true
	}
	if old := in.bodies[b.id]; old != nil && len(old.changes) > 0 {
		b.changes = old.changes
		return true
	}
	changes, ok := w.l.changesNamed(b.check.ChangesHash)
	b.changes = changes
	return ok
}

// pin makes a body's changes durable with this witness's vote for it.
func (s *step) pin(in *instance, b *body) {
	if b.pinned || len(b.changes) == 0 {
		return
	}
	b.pinned = true
	s.recs = append(s.recs, in.changesRecord(b))
}

func (in *instance) changesRecord(b *body) Record { return Record{in.recordKey('f', b.id), b.changes} }

// spare is the body that makes room for another one: rather one whose changes
// no vote of this witness rests on, because others may be locked on such.
func (in *instance) spare() (spare *body) {
	for _, id := range slices.Sorted(maps.Keys(in.bodies)) {
		if id == in.prepared || id == in.committed || in.lock != nil && id == in.lock.id {
			continue
		}
		if b := in.bodies[id]; spare == nil || spare.pinned && !b.pinned {
			spare = b
		}
	}
	return spare
}

// bodyGone deletes what the store has of a body.
func (in *instance) bodyGone(b *body) []Record {
	out := []Record{{in.recordKey('b', b.id), nil}}
	if b.pinned {
		out = append(out, Record{in.recordKey('f', b.id), nil})
	}
	return out
}

// erase deletes the records of a slot that was decided elsewhere. A checkpoint
// may have come without its changes from there: then the ledger gets those that
// are here, in the same batch.
func (w *Witness) erase(in *instance) error {
	recs := in.allRecords()
	if recs == nil {
		return nil
	}
	if known, ok := w.decided(in); ok && known != nil && in.account == "" {
		s, err := proto.Inspect(known.Event, proto.KindCheckpoint)
		if err != nil {
			return err
		}
		if b := in.bodies[string(s.ID.Bytes())]; b != nil && len(b.changes) > 0 {
			return w.cfg.Checkpoints.Install(recs, known.Event, b.changes, known.Certificate)
		}
	}
	return w.store.Append(recs...)
}
