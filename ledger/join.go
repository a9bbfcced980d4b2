package ledger

import (
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
// base once it has the base's certified checkpoint, puts it under what it has,
// and both compare again. That is also how a new node joins: it never sees what
// happened before the checkpoint.

// joining is this part of a session.
type joining struct {
	greeted bool                       // checkpoints were offered
	send    []*CheckpointHeader        // to be sent
	wanted  map[uint64]bool            // asked for in this session
	partial *proto.CertifiedCheckpoint // comes in parts
	tell    bool                       // the other side lacks what is pruned here
	theirs  uint64                     // base of the other side
	want    uint64                     // base whose state is to be asked for
	called  uint64                     // whose checkpoint was asked for to that end
	asked   uint64                     // that base, until the state has come
	state   *arrival                   // what has come of it
	serving bool                       // leaves are to be sent
	served  uint64                     // base that was served: each once per session
	leaves  []served                   // to be sent; shared with other sessions
	value   int                        // bytes sent of the first one's value
	events  int                        // sent of those beside it
}

// served is a leaf with the events that go with it.
type served struct {
	leaf
	events []*Certified
}

func (j *joining) idle() bool {
	return len(j.send) == 0 && !j.tell && j.want == 0 && j.asked == 0 && !j.serving
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
	switch {
	case in.Base < j.theirs:
		return proto.CodeMalformed.Errorf("sync: the other side's base went from %d back to %d", j.theirs, in.Base)
	case in.Base <= s.l.base:
		j.want = 0
	case j.asked == 0 && (in.Pruned || j.want > 0):
		if in.Done && in.Base == j.called && !s.l.complete(in.Base) {
			return proto.CodeMalformed.Errorf("sync: done without checkpoint %d, which the other side begins above", in.Base)
		}
		j.want = in.Base
	}
	j.theirs = in.Base
	if in.WantState && s.l.base > j.served {
		leaves, err := s.l.serve()
		if err != nil {
			return err
		}
		j.serving, j.served, j.leaves, j.value, j.events = true, s.l.base, leaves, 0, 0
		if base := s.l.checkpoints[s.l.base]; !slices.Contains(j.send, base) {
			j.send = append([]*CheckpointHeader{base}, j.send...)
		}
	}
	if j.asked > 0 && in.Done {
		return proto.CodeMalformed.Errorf("sync: done without the state that was asked for")
	}
	return nil
}

const maxWanted = 64

// greet writes this side's part of a turn's last frame.
func (s *Sync) greet(last *proto.SyncFrame) {
	j := &s.join
	last.Base, last.Newest = s.l.base, s.l.s.newest
	last.Pruned, j.tell = j.tell, false
	if j.wanted == nil {
		j.wanted = map[uint64]bool{}
	}
	ask := func(e uint64) {
		j.wanted[e] = true
		last.WantCheckpoints = append(last.WantCheckpoints, e)
	}
	// A base is anybody's word until its checkpoint is here, which says how much
	// may come.
	switch {
	case j.want > 0 && s.l.complete(j.want):
		last.WantState, j.asked, j.want = true, j.want, 0
	case j.want != j.called:
		j.called = j.want
		if j.want > 0 {
			ask(j.want)
		}
	}
	for e := s.l.base + 1; e <= s.l.s.newest && len(last.WantCheckpoints) < maxWanted; e++ {
		if !s.l.complete(e) && !j.wanted[e] {
			ask(e)
		}
	}
}

// complete reports whether an epoch's checkpoint is here with its changes.
func (l *Ledger) complete(epoch uint64) bool {
	h := l.checkpoints[epoch]
	return h != nil && h.changes != nil
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
	switch {
	case j.asked == 0:
		return proto.CodeMalformed.Errorf("sync: state that was not asked for")
	case j.state == nil && (in.StateEpoch < j.asked || !s.l.complete(in.StateEpoch)):
		return proto.CodeMalformed.Errorf("sync: state of epoch %d, whose checkpoint did not come", in.StateEpoch)
	case j.state == nil:
		j.state = newArrival(s.l, s.l.checkpoints[in.StateEpoch])
	case in.StateEpoch != j.state.h.Body.Epoch:
		return proto.CodeMalformed.Errorf("sync: state of epochs %d and %d at once", j.state.h.Body.Epoch, in.StateEpoch)
	}
	for _, p := range in.Leaves {
		if err := j.state.add(p); err != nil {
			return fmt.Errorf("checkpoint %d: %w", in.StateEpoch, err)
		}
	}
	if !in.LastLeaf {
		return nil
	}
	state := j.state
	j.state, j.asked = nil, 0
	if in.StateEpoch > s.l.base { // else it was pruned here meanwhile
		if err := state.install(); err != nil {
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

// serve lists the base's state with the events that belong to it. It is made
// once per base, however many sessions ask for it.
func (l *Ledger) serve() ([]served, error) {
	if l.served != nil {
		return l.served, nil
	}
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
	l.served = out
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
	frame, size := &proto.SyncFrame{StateEpoch: j.served}, 0
	put := func(x *proto.StateLeaf) {
		n := goproto.Size(x) + 8
		if len(frame.Leaves) > 0 && size+n > syncFill {
			out = append(out, frame)
			frame, size = &proto.SyncFrame{StateEpoch: j.served}, 0
		}
		frame.Leaves, size = append(frame.Leaves, x), size+n
	}
	for len(j.leaves) > 0 && len(out) < syncBurst {
		x := j.leaves[0]
		rest := x.value[j.value:]
		part := &proto.StateLeaf{Tree: uint32(x.tree), Key: x.key, Value: rest[:min(len(rest), partSize)]}
		j.value += len(part.Value)
		for size := len(part.Value); j.value == len(x.value) && j.events < len(x.events); j.events++ {
			w := x.events[j.events].Wire
			if size += goproto.Size(w) + 8; size > syncFill-100 && len(part.Value)+len(part.Events) > 0 {
				break
			}
			part.Events = append(part.Events, w)
		}
		put(part)
		if j.value == len(x.value) && j.events == len(x.events) {
			j.leaves, j.value, j.events = j.leaves[1:], 0, 0
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
