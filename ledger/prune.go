package ledger

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// Prune makes the certified checkpoint that is lag epochs behind the newest
// the base of the store, and drops the events at or below its frontier. What
// stays: every account's head, the events of open holds, and the chains of own
// accounts with the sources that they claimed. Peers that miss a few events
// can get them for lag epochs; later they need the checkpoint's state.
//
// The state at the frontier is computed from the events here and must be what
// the checkpoint says; otherwise nothing changes and the error is
// CodeConflict: this store is damaged, or a quorum of witnesses is bad.
// CodeMissing means that events or changes below the frontier are not here;
// reconciliation brings them, or the state. All of it is one durable batch.
func (l *Ledger) Prune(lag uint64, own ...peer.ID) (moved bool, err error) {
	l.own = own
	if l.s.newest < lag || l.s.newest-lag <= l.base || l.s.light != "" { // a light ledger has no base
		return false, nil
	}
	epoch := l.s.newest - lag
	cut, err := l.frontier(epoch)
	if err != nil {
		return false, err
	}
	for id, next := range cut {
		if l.next(id) < next {
			return false, proto.CodeMissing.Errorf("checkpoint %d: events of %s are not known here", epoch, id)
		}
	}
	st, err := l.stateAt(epoch, cut)
	if err != nil {
		return false, err
	}
	h := l.checkpoints[epoch]
	all, err := l.standings(epoch, st, cut, h.news)
	if err != nil {
		return false, err
	}
	leaves := append(st.leaves(), all.leaves()...)
	if err := l.matches(h, st, leaves); err != nil {
		return false, err
	}
	return true, l.install(h, leaves, l.worthKeeping(st, cut, own))
}

// matches compares a state with what a checkpoint says about it.
func (l *Ledger) matches(h *CheckpointHeader, s *state, leaves []leaf) error {
	want := &proto.Checkpoint{Epoch: h.Body.Epoch, Prev: h.Body.Prev, ChangesHash: h.Body.ChangesHash, TimeUnixMs: h.Body.TimeUnixMs, Rewarded: h.Body.Rewarded}
	s.summarise(l.net, want)
	fillRoots(want, leaves)
	if !goproto.Equal(want, h.Body) {
		return proto.CodeConflict.Errorf("checkpoint %d: the state here is another one", h.Body.Epoch)
	}
	return nil
}

// worthKeeping lists the events at or below the cut that stay.
func (l *Ledger) worthKeeping(st *state, cut map[peer.ID]uint64, own []peer.ID) map[proto.Hash]*Certified {
	kept := map[proto.Hash]*Certified{}
	keep := func(c *Certified) {
		if c != nil && c.Seq < cut[c.Account] {
			kept[c.hash] = c
		}
	}
	for id, next := range cut {
		keep(l.s.accounts[id].at(next - 1))
	}
	for _, holds := range st.open {
		for id := range holds {
			for _, c := range st.holds[id].events {
				keep(c)
			}
		}
	}
	for _, id := range own {
		a := l.s.accounts[id]
		if a == nil {
			continue
		}
		for _, c := range a.chain {
			keep(c)
			for _, s := range slices.Concat(c.Event.GetOpen().GetSources(), c.Event.GetReceive().GetSources()) {
				if p, err := pointOf(s); err == nil {
					keep(l.s.events[p.source])
				}
			}
		}
	}
	return kept
}

// install founds the ledger on a checkpoint: its leaves, the events at or
// below its frontier that are kept, and the events above it that are here.
// The batch is durable before memory changes.
func (l *Ledger) install(h *CheckpointHeader, leaves []leaf, kept map[proto.Hash]*Certified) error {
	st, err := stateOf(l.net, h.Body, leaves, kept)
	if err != nil {
		return err
	}
	st.adopt(&l.s)
	for e := h.Body.Epoch; e <= l.s.newest; e++ {
		st.grant(l.checkpoints[e])
	}
	var tail []*Certified
	for _, id := range l.s.order {
		for _, c := range l.s.accounts[id].chain {
			if a := st.accounts[id]; a == nil || c.Seq >= a.next() {
				tail = append(tail, c)
			}
		}
	}
	t := newTx(l.net, &st)
	t.trusted = true
	f := foldInto(t, tail, nil, nil)
	t.commit()

	var batch []Record
	old := map[string][]byte{}
	err = l.store.Scan([]byte{spaceState}, func(key, value []byte) error {
		old[string(key)] = bytes.Clone(value)
		return nil
	})
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	for _, x := range leaves {
		key := stateKey(x)
		if was, ok := old[string(key)]; !ok || !bytes.Equal(was, x.value) {
			batch = append(batch, Record{key, x.value})
		}
		delete(old, string(key))
	}
	for key := range old {
		batch = append(batch, Record{[]byte(key), nil})
	}
	for hash, c := range l.s.events {
		if st.events[hash] == nil {
			batch = append(batch, Record{eventKey(c.Account, c.Seq, hash), nil})
		}
	}
	for hash, c := range kept {
		if l.s.events[hash] == nil { // came with the state
			value, err := goproto.Marshal(c.Wire)
			if err != nil {
				return fmt.Errorf("ledger: event %s: %w", c.ID, err)
			}
			batch = append(batch, Record{eventKey(c.Account, c.Seq, hash), value})
		}
	}
	var finished []peer.ID
	for id, in := range l.intents {
		if a := st.accounts[id]; a != nil && in.seq < a.next() {
			finished = append(finished, id)
			batch = append(batch, Record{intentKey(id), nil})
		}
	}
	batch = append(batch, Record{metaBase, binary.BigEndian.AppendUint64(nil, h.Body.Epoch)})
	slices.SortFunc(batch, func(a, b Record) int { return bytes.Compare(a.Key, b.Key) })
	if err := l.store.Append(batch...); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	l.s, l.base, l.hash, l.proofs, l.served, l.stood = st, h.Body.Epoch, proto.Hash{}, nil, nil, nil
	for _, id := range finished {
		delete(l.intents, id)
	}
	// What waited may have waited for something below the frontier.
	var again []*Certified
	for _, hash := range l.queue {
		if w := l.pending[hash]; w != nil {
			l.forget(hash)
			again = append(again, w.c)
		}
	}
	for _, w := range f.waits {
		again = append(again, w.c)
	}
	_, _, err = l.add(nil, again)
	return err
}

func stateKey(l leaf) []byte { return append([]byte{spaceState, l.tree}, l.key...) }

// storedLeaves reads the base checkpoint's leaves, sorted.
func (l *Ledger) storedLeaves() ([]leaf, error) {
	var out []leaf
	err := l.store.Scan([]byte{spaceState}, func(key, value []byte) error {
		if len(key) < 2 {
			return proto.CodeMalformed.Errorf("a record of no tree")
		}
		out = append(out, leaf{key[1], bytes.Clone(key[2:]), bytes.Clone(value)})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return out, nil
}

// loadCheckpoints reads the certified checkpoints and the base's epoch.
func (l *Ledger) loadCheckpoints() error {
	err := l.store.Scan([]byte{spaceCheckpoint}, func(_, value []byte) error {
		wire := new(proto.CertifiedCheckpoint)
		if err := goproto.Unmarshal(value, wire); err != nil {
			return err
		}
		h, err := decodeCheckpoint(l.net, wire.Checkpoint, false)
		if err != nil {
			return err
		}
		h.Wire = wire
		if len(wire.Changes) > 0 || h.unchanged() {
			if err := h.attach(wire.Changes); err != nil {
				return err
			}
		}
		l.know(h)
		return nil
	})
	if err != nil {
		return err
	}
	raw, err := l.store.Get(metaBase)
	if err != nil || raw == nil {
		return err
	}
	if len(raw) != 8 || l.checkpoints[binary.BigEndian.Uint64(raw)] == nil {
		return fmt.Errorf("the base checkpoint is missing")
	}
	l.base = binary.BigEndian.Uint64(raw)
	return nil
}

// found builds the state at the base from the store's records and splits the
// store's events into those below its frontier and those above.
func (l *Ledger) found(all []*Certified) (tail []*Certified, err error) {
	if l.base == 0 {
		return all, nil
	}
	leaves, err := l.storedLeaves()
	if err != nil {
		return nil, err
	}
	next := map[peer.ID]uint64{}
	for _, x := range ofTree(leaves, treeAccounts) {
		a, err := x.account()
		if err != nil {
			return nil, err
		}
		next[a.id] = a.seq + 1
	}
	kept := map[proto.Hash]*Certified{}
	for _, c := range all {
		if c.Seq < next[c.Account] {
			kept[c.hash] = c
		} else {
			tail = append(tail, c)
		}
	}
	h := l.checkpoints[l.base]
	st, err := stateOf(l.net, h.Body, leaves, kept)
	if err != nil {
		return nil, err
	}
	if err := l.matches(h, &st, leaves); err != nil {
		return nil, err
	}
	st.adopt(&l.s)
	l.grants(&st, l.s.newest+1)
	l.s = st
	return tail, nil
}
