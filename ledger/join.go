package ledger

import (
	"bytes"
	"fmt"
	"slices"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// Checkpoints in a reconciliation. Each side says in every turn which is its
// newest checkpoint and at which its set begins; who has newer ones sends them,
// and gives again what the other side says it lacks of older ones. When one
// side lacks events that the other has pruned, it asks for the state at that
// base, puts it under what it has, and both compare again. That is also how a
// new node joins: it never sees what happened before the checkpoint.

// joining is this part of a session.
type joining struct {
	greeted bool                       // checkpoints were offered
	send    []*CheckpointHeader        // to be sent
	wanted  map[uint64]bool            // asked for in this session
	partial *proto.CertifiedCheckpoint // comes in parts
	tell    bool                       // the other side lacks what is pruned here
	want    bool                       // ask for the state
	asked   bool                       // for the state, and it has not come yet
	serving bool                       // leaves are to be sent
	served  uint64                     // base that was served: each once per session
	epoch   uint64                     // that leaves belong to
	leaves  []served                   // to be sent
	got     []*proto.StateLeaf         // received
}

// served is a leaf with the events that go with it.
type served struct {
	leaf
	events []*Certified
}

func (j *joining) idle() bool {
	return len(j.send) == 0 && !j.tell && !j.want && !j.asked && !j.serving
}

// partSize is how much of one leaf or list of changes a frame carries.
const partSize = 48 << 10

// meet reads what a turn's last frame says about checkpoints.
func (s *Sync) meet(in *proto.SyncFrame) error {
	j := &s.join
	if err := s.flush(); err != nil {
		return err
	}
	if in.Newest < s.l.s.newest && !j.greeted {
		j.greeted = true
		for _, e := range s.l.epochs() {
			if e > in.Newest {
				j.send = append(j.send, s.l.checkpoints[e])
			}
		}
	}
	if len(in.WantCheckpoints) > maxWanted {
		return proto.CodeTooLarge.Errorf("sync: %d checkpoints asked for, at most %d", len(in.WantCheckpoints), maxWanted)
	}
	for _, e := range in.WantCheckpoints {
		if h := s.l.checkpoints[e]; h != nil && h.changes != nil && !slices.Contains(j.send, h) {
			j.send = append(j.send, h)
		}
	}
	if in.Pruned && in.Base > s.l.base && !j.asked {
		j.want = true
	}
	if in.WantState && s.l.base > j.served {
		leaves, err := s.l.serve()
		if err != nil {
			return err
		}
		j.serving, j.served, j.epoch, j.leaves = true, s.l.base, s.l.base, leaves
		if base := s.l.checkpoints[s.l.base]; !slices.Contains(j.send, base) {
			j.send = append([]*CheckpointHeader{base}, j.send...)
		}
	}
	if j.asked && in.Done {
		return proto.CodeMalformed.Errorf("sync: done without the state that was asked for")
	}
	return nil
}

const maxWanted = 64

// greet writes this side's part of a turn's last frame.
func (s *Sync) greet(last *proto.SyncFrame) {
	j := &s.join
	last.Base, last.Newest = s.l.base, s.l.s.newest
	last.Pruned, last.WantState = j.tell, j.want
	if j.want {
		j.asked = true
	}
	j.tell, j.want = false, false
	for e := s.l.base + 1; e <= s.l.s.newest && len(last.WantCheckpoints) < maxWanted; e++ {
		if h := s.l.checkpoints[e]; (h == nil || h.changes == nil) && !j.wanted[e] {
			if j.wanted == nil {
				j.wanted = map[uint64]bool{}
			}
			j.wanted[e] = true
			last.WantCheckpoints = append(last.WantCheckpoints, e)
		}
	}
}

// epochs lists the known checkpoints.
func (l *Ledger) epochs() []uint64 {
	var out []uint64
	for e := range l.checkpoints {
		out = append(out, e)
	}
	slices.Sort(out)
	return out
}

// headers packs checkpoints into frames, behind those in out. Changes that are
// too long for one follow in checkpoints without a body.
func (s *Sync) headers(out []*proto.SyncFrame) []*proto.SyncFrame {
	j := &s.join
	for len(j.send) > 0 && len(out)+1+maxChangesSize/partSize < syncBurst {
		w := j.send[0].Wire
		j.send = j.send[1:]
		rest := w.Changes
		first := rest[:min(len(rest), partSize)]
		rest = rest[len(first):]
		out = append(out, &proto.SyncFrame{Checkpoints: []*proto.CertifiedCheckpoint{
			{Checkpoint: w.Checkpoint, Certificate: w.Certificate, Changes: first},
		}})
		for len(rest) > 0 {
			part := rest[:min(len(rest), partSize)]
			rest = rest[len(part):]
			out = append(out, &proto.SyncFrame{Checkpoints: []*proto.CertifiedCheckpoint{{Changes: part}}})
		}
	}
	return out
}

// take reads a frame that carries checkpoints or state.
func (s *Sync) take(in *proto.SyncFrame) error {
	j := &s.join
	for _, c := range in.Checkpoints {
		switch {
		case len(c.GetCheckpoint()) > 0:
			if err := s.flush(); err != nil {
				return err
			}
			j.partial = c
		case j.partial == nil:
			return proto.CodeMalformed.Errorf("sync: changes of no checkpoint")
		case len(j.partial.Changes)+len(c.GetChanges()) > maxChangesSize:
			return proto.CodeTooLarge.Errorf("sync: changes of more than %d bytes", maxChangesSize)
		default:
			j.partial.Changes = append(j.partial.Changes, c.Changes...)
		}
	}
	if len(in.Leaves) == 0 && !in.LastLeaf {
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	h := s.l.checkpoints[in.StateEpoch]
	switch {
	case !j.asked:
		return proto.CodeMalformed.Errorf("sync: state that was not asked for")
	case h == nil || len(j.got) > 0 && in.StateEpoch != j.epoch:
		return proto.CodeMalformed.Errorf("sync: state of epoch %d, whose checkpoint did not come", in.StateEpoch)
	}
	j.epoch = in.StateEpoch
	j.got = append(j.got, in.Leaves...)
	if !in.LastLeaf {
		return nil
	}
	leaves := j.got
	j.got, j.asked = nil, false
	if h.Body.Epoch > s.l.base {
		if err := s.l.installState(h, leaves); err != nil {
			return err
		}
	}
	s.restart()
	s.ask = []span{{}}
	return nil
}

// flush adds the checkpoint whose parts have come.
func (s *Sync) flush() error {
	c := s.join.partial
	if c == nil {
		return nil
	}
	s.join.partial = nil
	_, err := s.l.AddCheckpoint(c)
	return err
}

// serve lists the base's state with the events that belong to it.
func (l *Ledger) serve() ([]served, error) {
	leaves, err := l.storedLeaves()
	if err != nil {
		return nil, err
	}
	out := make([]served, len(leaves))
	for i, x := range leaves {
		out[i].leaf = x
		need, err := x.events()
		if err != nil {
			return nil, err
		}
		for _, id := range need {
			if c := l.s.events[id]; c != nil {
				out[i].events = append(out[i].events, c)
			}
		}
	}
	return out, nil
}

// events lists those that a record needs beside it.
func (l leaf) events() ([]proto.Hash, error) {
	switch l.tree {
	case treeAccounts:
		a, err := l.account()
		return []proto.Hash{a.head}, err
	case treeHolds:
		_, ids, err := l.hold()
		return ids, err
	}
	return nil, nil
}

// state packs leaves into frames, behind those in out. A leaf that is too long
// for one goes in parts of the same key.
func (s *Sync) state(out []*proto.SyncFrame) []*proto.SyncFrame {
	j := &s.join
	if !j.serving || len(j.send) > 0 {
		return out
	}
	frame, size := &proto.SyncFrame{StateEpoch: j.epoch}, 0
	put := func(x *proto.StateLeaf) {
		n := goproto.Size(x) + 8
		if len(frame.Leaves) > 0 && size+n > syncFill {
			out = append(out, frame)
			frame, size = &proto.SyncFrame{StateEpoch: j.epoch}, 0
		}
		frame.Leaves, size = append(frame.Leaves, x), size+n
	}
	for len(j.leaves) > 0 && len(out) < syncBurst {
		x := &j.leaves[0]
		part := &proto.StateLeaf{Tree: uint32(x.tree), Key: x.key, Value: x.value[:min(len(x.value), partSize)]}
		x.value = x.value[len(part.Value):]
		for size := len(part.Value); len(x.value) == 0 && len(x.events) > 0; x.events = x.events[1:] {
			if size += goproto.Size(x.events[0].Wire) + 8; size > syncFill-100 && len(part.Value)+len(part.Events) > 0 {
				break
			}
			part.Events = append(part.Events, x.events[0].Wire)
		}
		put(part)
		if len(x.value)+len(x.events) == 0 {
			j.leaves = j.leaves[1:]
		}
	}
	if len(j.leaves) == 0 {
		frame.LastLeaf, j.serving = true, false
		// They compare anew, and drop what they had in mind to send.
		s.told, s.given = map[peer.ID]bool{}, map[peer.ID]uint64{}
	}
	if len(frame.Leaves) > 0 || frame.LastLeaf {
		out = append(out, frame)
	}
	return out
}

// installState makes a certified checkpoint's state, as a peer gave it, the
// base of this ledger: every leaf must lead to the checkpoint's roots, and
// every event is verified. What is here above its frontier stays.
func (l *Ledger) installState(h *CheckpointHeader, parts []*proto.StateLeaf) error {
	if h.changes == nil {
		return proto.CodeMissing.Errorf("checkpoint %d: its changes are not known here", h.Body.Epoch)
	}
	var leaves []leaf
	wires := map[proto.Hash]*proto.CertifiedEvent{}
	for _, p := range parts {
		x := leaf{byte(p.GetTree()), p.GetKey(), p.GetValue()}
		if n := len(leaves); n > 0 && leaves[n-1].tree == x.tree && bytes.Equal(leaves[n-1].key, x.key) {
			leaves[n-1].value = slices.Concat(leaves[n-1].value, x.value)
		} else {
			if n > 0 && compareLeaves(leaves[n-1], x) > 0 || p.GetTree() > 255 {
				return proto.CodeMalformed.Errorf("checkpoint %d: state out of order", h.Body.Epoch)
			}
			leaves = append(leaves, x)
		}
		for _, w := range p.GetEvents() {
			s, err := proto.Inspect(w.GetEvent(), proto.KindEvent)
			if err != nil {
				return fmt.Errorf("checkpoint %d: %w", h.Body.Epoch, err)
			}
			id, err := proto.CIDHash(s.ID)
			if err != nil {
				return err
			}
			wires[id] = w
		}
	}
	roots := new(proto.Checkpoint)
	fillRoots(roots, leaves)
	for _, tree := range trees {
		got, n := rootField(roots, tree)
		want, m := rootField(h.Body, tree)
		if !bytes.Equal(*got, *want) || *n != *m {
			return proto.CodeMalformed.Errorf("checkpoint %d: the state that came is not the one that is certified", h.Body.Epoch)
		}
	}
	next := map[peer.ID]uint64{}
	kept := map[proto.Hash]*Certified{}
	for _, x := range leaves {
		need, err := x.events()
		if err != nil {
			return err
		}
		if x.tree == treeAccounts {
			a, err := x.account()
			if err != nil {
				return err
			}
			next[a.id] = a.seq + 1
		}
		for _, id := range need {
			if kept[id] = l.s.events[id]; kept[id] != nil {
				continue
			}
			if kept[id], err = l.verifyKept(wires[id]); err != nil {
				return fmt.Errorf("checkpoint %d: event %s: %w", h.Body.Epoch, id.CID(), err)
			}
		}
	}
	for _, id := range l.own {
		if a := l.s.accounts[id]; a != nil {
			for _, c := range a.chain {
				if c.Seq < next[id] {
					kept[c.hash] = c
				}
			}
		}
	}
	st, err := stateOf(l.net, h.Body, leaves, kept)
	if err != nil {
		return err
	}
	if err := l.matches(h, &st, leaves); err != nil {
		return err
	}
	return l.install(h, leaves, kept)
}

func (l *Ledger) verifyKept(wire *proto.CertifiedEvent) (*Certified, error) {
	if disabled.signatures {
		c, err := decode(l.net, wire.GetEvent(), false)
		if err == nil {
			c.Wire = wire
		}
		return c, err
	}
	return Verify(l.net, wire)
}
