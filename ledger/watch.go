package ledger

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	goproto "google.golang.org/protobuf/proto"
)

// The holds of others that have a lane for a light ledger's account.

// Watch keeps a hold that VerifyLane found good, when it has a lane for this
// account, until Unwatch: the same hold with more Extends replaces what was
// kept. What it returns knows what witnesses said of the lane. CodeBusy means
// that MaxWatched are kept. A full ledger has all holds and keeps nothing more.
// Signatures are not checked again: that takes long, and the caller has a lock.
func (l *Ledger) Watch(wire *proto.CertifiedEvent, extends []*proto.CertifiedEvent) (HoldState, error) {
	h, err := verifyHold(l.net, wire, extends, false)
	if err != nil {
		return HoldState{}, err
	}
	mine := slices.ContainsFunc(h.lanes, func(x Lane) bool { return x.Worker == l.s.light })
	if l.s.light == "" || h.payer == l.s.light || !mine {
		return h.state(l.net), nil
	}
	old, again := l.light.watched[h.id]
	if again && old.events >= len(h.events) {
		return l.lightState(l.s.holds[h.id]), nil
	}
	if !again && len(l.light.watched) >= MaxWatched {
		return HoldState{}, proto.CodeBusy.Errorf("watch: %d lanes of this account are not settled yet", MaxWatched)
	}
	raw, err := goproto.Marshal(&proto.CertifiedEvents{Events: append([]*proto.CertifiedEvent{wire}, extends...)})
	if err != nil {
		return HoldState{}, fmt.Errorf("watch: %w", err)
	}
	if err := l.store.Append(Record{watchKey(h.id), raw}); err != nil {
		return HoldState{}, fmt.Errorf("ledger: %w", err)
	}
	err = l.watch(h)
	return l.lightState(h), err
}

func (l *Ledger) watch(h *hold) error {
	lane := slices.IndexFunc(h.lanes, func(x Lane) bool { return x.Worker == l.s.light })
	if lane < 0 {
		return proto.CodeNoLane.Errorf("watch: hold %s has no lane for this account", h.id.CID())
	}
	if old := l.s.holds[h.id]; old != nil {
		h.closed, h.deadline = old.closed, max(h.deadline, old.deadline)
		if lane < len(old.lanes) && old.lanes[lane].Worker == l.s.light {
			x, was := &h.lanes[lane], old.lanes[lane]
			x.Paid, x.Fuel, x.Done = was.Paid, was.Fuel, was.Done
		}
	}
	l.light.watched[h.id] = watched{lane: uint32(lane), events: len(h.events)}
	h.events = nil // in the store
	l.s.holds[h.id] = h
	return nil
}

// Unwatch forgets another account's hold.
func (l *Ledger) Unwatch(hold cid.Cid) error {
	id, err := proto.CIDHash(hold)
	if err != nil || l.s.light == "" {
		return err
	}
	if _, ok := l.light.watched[id]; !ok {
		return nil
	}
	if err := l.store.Append(Record{watchKey(id), nil}); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	delete(l.light.watched, id)
	delete(l.s.holds, id)
	return nil
}

// Watched lists the holds that Watch keeps.
func (l *Ledger) Watched() []HoldState {
	if l.s.light == "" {
		return nil
	}
	var out []HoldState
	for _, id := range slices.SortedFunc(maps.Keys(l.light.watched), compareHashes) {
		out = append(out, l.lightState(l.s.holds[id]))
	}
	return out
}

// lightState is a hold as Hold tells it.
func (l *Ledger) lightState(h *hold) HoldState {
	st := h.state(l.net)
	if l.light != nil {
		st.Forgotten = l.light.watched[h.id].gone
	}
	return st
}

func compareHashes(a, b proto.Hash) int { return bytes.Compare(a[:], b[:]) }

func watchKey(id proto.Hash) []byte { return append([]byte{spaceWatch}, id[:]...) }

func (l *Ledger) loadWatched() error {
	return l.store.Scan([]byte{spaceWatch}, func(_, value []byte) error {
		var list proto.CertifiedEvents
		if err := goproto.Unmarshal(value, &list); err != nil || len(list.Events) == 0 {
			return fmt.Errorf("a watched hold: %v", err)
		}
		h, err := verifyHold(l.net, list.Events[0], list.Events[1:], false)
		if err != nil {
			return err
		}
		return l.watch(h)
	})
}

// laneSaid brings a watched lane up to date. Nothing moves back: payments are
// cumulative, and witnesses may be behind each other.
func (l *Ledger) laneSaid(at laneRef, v laneReport) {
	w, ok := l.light.watched[at.hold]
	h := l.s.holds[at.hold]
	if !ok || h == nil || w.lane != at.lane {
		return
	}
	x := h.lanes[at.lane]
	x.Paid, x.Fuel = max(x.Paid, proto.Credit(v.paid)), max(x.Fuel, proto.Fuel(v.fuel))
	x.Done = x.Done || v.done
	if v.worker != "" { // not this account: the payer left out an Extend before the one that made its lane
		x.Worker = v.worker
	}
	closed, deadline := h.closed || v.closed, max(h.deadline, v.deadline)
	if x == h.lanes[at.lane] && closed == h.closed && deadline == h.deadline {
		return // mostly: a hold may have a thousand lanes
	}
	h = h.clone()
	h.lanes[at.lane], h.closed, h.deadline = x, closed, deadline
	l.s.holds[at.hold] = h
}
