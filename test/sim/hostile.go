package sim

import (
	"maps"
	"slices"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// hostiles are the bad witnesses. They hold their real keys, work together,
// see what reaches either of them, and follow no rule.
type hostiles struct {
	w     *world
	ids   []peer.ID
	style style
	slots map[string]*target
	order []string // of slots, oldest first

	receipts []*proto.SignedReceipt // that somebody accused
	lies     []bool                 // which of them do lie
	overlong bool                   // their probe reports are on accounts that are not
}

// style is what they like best in a run; all of them lie when it helps.
type style int

const (
	equivocate style = iota // vote for everything, differently to everybody
	withhold                // say nothing, or to few
	lie                     // false reports, proposals, heads and refusals
	everything
	styles
)

// target is what they know of a slot.
type target struct {
	slot     *proto.Slot
	bodies   map[string][]byte
	prepares map[uint32]map[string]map[peer.ID][]byte
	reports  map[uint32]map[peer.ID][]byte
	changes  map[string][]byte // of checkpoints, by body
	top      uint32
	forged   string // id of a body of theirs that is of another time
}

func newHostiles(w *world) *hostiles {
	b := &hostiles{w: w, style: style(w.rnd.IntN(int(styles))), slots: map[string]*target{}}
	for _, i := range w.rnd.Perm(witnesses)[:hostile] {
		b.ids = append(b.ids, w.net.Witnesses[i])
	}
	b.overlong = w.chance(0.2)
	return b
}

func (b *hostiles) is(id peer.ID) bool { return slices.Contains(b.ids, id) }

func (b *hostiles) target(slot *proto.Slot) *target {
	name := slotName(slot)
	t := b.slots[name]
	if t == nil {
		t = &target{
			slot: slot, bodies: map[string][]byte{}, prepares: map[uint32]map[string]map[peer.ID][]byte{},
			reports: map[uint32]map[peer.ID][]byte{}, changes: map[string][]byte{},
		}
		b.slots[name] = t
		if b.order = append(b.order, name); len(b.order) > 200 {
			delete(b.slots, b.order[0])
			b.order = b.order[1:]
		}
	}
	return t
}

// hear learns from a frame and answers it as suits.
func (b *hostiles) hear(n *node, from peer.ID, f *proto.VoteFrame) {
	if b.is(from) {
		return
	}
	if q := f.GetHeadRequest(); q != nil {
		if b.style == lie || b.style == everything {
			r := &proto.HeadReport{Account: q.Account, Nonce: q.Nonce} // knows of nothing
			n.vote(b.w.index[from], &proto.VoteFrame{Body: &proto.VoteFrame_HeadReport{
				HeadReport: b.w.seal(n.self.id, &proto.Payload{Body: &proto.Payload_HeadReport{HeadReport: r}}),
			}})
		}
		return
	}
	t := b.learn(f)
	if t == nil {
		return
	}
	if b.collude(t); len(t.bodies) == 0 {
		return
	}
	often := map[style]float64{equivocate: 0.6, withhold: 0.05, lie: 0.3, everything: 0.4}[b.style]
	if !b.w.chance(often) {
		return
	}
	if f.GetPropose() != nil && b.style != equivocate && b.w.chance(0.3) {
		n.vote(b.w.index[from], &proto.VoteFrame{Body: &proto.VoteFrame_Error{Error: &proto.VoteError{
			Code: uint32(proto.CodeInvalidEvent), Reason: "no", Slot: t.slot, Refused: bodyOf(f.GetPropose()),
		}}})
	}
	b.act(t)
}

// learn keeps what a frame says.
func (b *hostiles) learn(f *proto.VoteFrame) *target {
	var raw []byte
	switch x := f.Body.(type) {
	case *proto.VoteFrame_Propose:
		raw = x.Propose
	case *proto.VoteFrame_Prepare:
		raw = x.Prepare
	case *proto.VoteFrame_Report:
		raw = x.Report
	default:
		return nil
	}
	s, err := proto.Inspect(raw, proto.KindPropose, proto.KindPrepare, proto.KindReport)
	if err != nil {
		return nil
	}
	switch p := s.Payload.Body.(type) {
	case *proto.Payload_Propose:
		t := b.target(p.Propose.Slot)
		t.keep(p.Propose.Body)
		t.top = max(t.top, p.Propose.Round)
		return t
	case *proto.Payload_Prepare:
		t := b.target(p.Prepare.Slot)
		t.prepared(p.Prepare.Round, string(p.Prepare.Id), s.Signer, raw)
		t.top = max(t.top, p.Prepare.Round)
		return t
	case *proto.Payload_Report:
		t := b.target(p.Report.Slot)
		t.keep(p.Report.Body)
		t.top = max(t.top, p.Report.Round)
		if t.reports[p.Report.Round] == nil {
			t.reports[p.Report.Round] = map[peer.ID][]byte{}
		}
		t.reports[p.Report.Round][s.Signer] = raw
		return t
	}
	return nil
}

// bodyOf names what a Propose proposes.
func bodyOf(raw []byte) []byte {
	s, err := proto.Inspect(raw, proto.KindPropose)
	if err == nil {
		s, err = proto.Inspect(s.Payload.GetPropose().Body, proto.KindEvent, proto.KindCheckpoint)
	}
	if err != nil {
		return nil
	}
	return s.ID.Bytes()
}

func (t *target) keep(raw []byte) string {
	s, err := proto.Inspect(raw, proto.KindEvent, proto.KindCheckpoint)
	if err != nil {
		return ""
	}
	id := string(s.ID.Bytes())
	if len(t.bodies) < 8 {
		t.bodies[id] = raw
	}
	return id
}

// proposal keeps a checkpoint with what travels beside it.
func (t *target) proposal(raw, changes []byte) string {
	id := t.keep(raw)
	t.changes[id] = changes
	return id
}

// collude signs an event for the next place of an account of theirs that no
// honest witness may prepare: of an epoch in which a timer has run out, of one
// after which the account could sign nothing more, or one that would have begun
// a timer long ago.
func (b *hostiles) collude(t *target) {
	account := peer.ID(t.slot.GetAccount().GetAccount())
	if !b.is(account) || t.forged != "" || b.w.nodes[b.w.index[account]].down {
		return
	}
	l := b.w.nodes[b.w.index[account]].l
	kind := b.w.rnd.IntN(3)
	var body any = &proto.Transfer{To: []byte(b.w.nodes[b.w.rnd.IntN(len(b.w.nodes))].self.id), Amount: 1}
	if kind == 2 {
		body = ledger.Unstake(1)
	}
	ev, err := l.Draft(account, l.Epoch(), 0, body)
	if err != nil || ev.Seq != t.slot.GetAccount().Seq {
		return
	}
	switch kind {
	case 0:
		ev.Epoch += 3 + b.w.rnd.Uint64N(200)
	case 1:
		ev.Epoch += 1 << 40
	default:
		ev.Epoch -= min(ev.Epoch, lead+1)
		ev.Post.UnbondEpoch = ev.Epoch
	}
	t.forged = t.keep(b.w.seal(l.Signer(account, l.Epoch()), &proto.Payload{Body: &proto.Payload_Event{Event: ev}}))
}

func (t *target) prepared(round uint32, id string, by peer.ID, raw []byte) {
	if t.prepares[round] == nil {
		t.prepares[round] = map[string]map[peer.ID][]byte{}
	}
	if t.prepares[round][id] == nil {
		t.prepares[round][id] = map[peer.ID][]byte{}
	}
	t.prepares[round][id][by] = raw
}

// toSome sends as one of them to about half of the honest witnesses.
func (b *hostiles) toSome(by peer.ID, f *proto.VoteFrame) {
	n := b.w.nodes[b.w.index[by]]
	if n.down {
		return
	}
	for _, i := range b.w.honest() {
		if b.w.chance(0.5) {
			n.vote(i, f)
		}
	}
}

// act is one lie about a slot.
func (b *hostiles) act(t *target) {
	rnd := b.w.rnd
	by := b.ids[rnd.IntN(len(b.ids))]
	ids := slices.Sorted(maps.Keys(t.bodies))
	id := ids[rnd.IntN(len(ids))]
	round := t.top
	if round > 0 && b.w.chance(0.3) {
		round = uint32(rnd.IntN(int(round) + 1))
	}
	k := rnd.IntN(4)
	if b.style == equivocate {
		k = rnd.IntN(2)
	}
	switch k {
	case 0:
		raw := b.w.seal(by, &proto.Payload{Body: &proto.Payload_Prepare{Prepare: &proto.Prepare{Slot: t.slot, Round: round, Id: []byte(id)}}})
		t.prepared(round, id, by, raw)
		b.toSome(by, &proto.VoteFrame{Body: &proto.VoteFrame_Prepare{Prepare: raw}})
	case 1:
		raw := b.w.seal(by, &proto.Payload{Body: &proto.Payload_Commit{Commit: &proto.Commit{Slot: t.slot, Round: round, Id: []byte(id)}}})
		b.toSome(by, &proto.VoteFrame{Body: &proto.VoteFrame_Commit{Commit: raw}})
	case 2:
		if raw := b.falseReport(t, by, round+uint32(rnd.IntN(2))); raw != nil {
			b.toSome(by, &proto.VoteFrame{Body: &proto.VoteFrame_Report{Report: raw}})
		}
	case 3:
		b.falsePropose(t, id)
	}
}

// falseReport hides locks or shows an old one.
func (b *hostiles) falseReport(t *target, by peer.ID, round uint32) []byte {
	if round == 0 {
		return nil
	}
	r := &proto.Report{Slot: t.slot, Round: round}
	for lr := range round {
		for _, id := range slices.Sorted(maps.Keys(t.prepares[lr])) {
			votes := t.prepares[lr][id]
			if t.bodies[id] == nil || len(votes) < b.w.net.Quorum() || b.w.chance(0.5) {
				continue
			}
			r.LockRound, r.LockId, r.Body, r.LockPqc = lr, []byte(id), t.bodies[id], nil
			for _, p := range slices.Sorted(maps.Keys(votes))[:b.w.net.Quorum()] {
				r.LockPqc = append(r.LockPqc, votes[p])
			}
		}
	}
	if ids := slices.Sorted(maps.Keys(t.bodies)); r.LockId == nil && b.w.chance(0.5) {
		r.Body = t.bodies[ids[b.w.rnd.IntN(len(ids))]]
	}
	return b.w.seal(by, &proto.Payload{Body: &proto.Payload_Report{Report: r}})
}

// falsePropose leads a round of theirs with the reports that suit them.
func (b *hostiles) falsePropose(t *target, id string) {
	for round := max(1, t.top) - 1; round <= t.top; round++ {
		leader := b.leader(t.slot, round)
		if round == 0 || !b.is(leader) {
			continue
		}
		var list [][]byte
		from := append(slices.Sorted(maps.Keys(t.reports[round])), b.ids...)
		b.w.rnd.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
		seen := map[peer.ID]bool{}
		for _, p := range from {
			if len(list) == b.w.net.Quorum() || seen[p] {
				continue
			}
			seen[p] = true
			if b.is(p) {
				list = append(list, b.falseReport(t, p, round))
			} else {
				list = append(list, t.reports[round][p])
			}
		}
		if len(list) < b.w.net.Quorum() {
			continue
		}
		raw := b.w.seal(leader, &proto.Payload{Body: &proto.Payload_Propose{Propose: &proto.Propose{
			Slot: t.slot, Round: round, Body: t.bodies[id], Changes: t.changes[id], Justification: list,
		}}})
		b.toSome(leader, &proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: raw}})
		if id == t.forged && t.slot.GetAccount() != nil {
			b.w.out.Early++
		} else if id == t.forged {
			b.w.out.Endless++
		}
	}
}

// leader is the agreement's, computed here from its description.
func (b *hostiles) leader(slot *proto.Slot, round uint32) peer.ID {
	key := append([]byte{'a'}, slotName(slot)...)
	if slot.GetAccount() == nil {
		key = append([]byte{'c'}, slotName(slot)[len("checkpoint"):]...)
	}
	h := proto.HashOf(key)
	var v uint64
	for _, x := range h[:8] {
		v = v<<8 | uint64(x)
	}
	n := uint64(len(b.w.net.Witnesses))
	return b.w.net.Witnesses[(v%n+uint64(round))%n]
}

// lead proposes checkpoints in rounds of theirs: ones that do not add up, two
// different ones, and in later rounds one that would be the last for long.
func (b *hostiles) lead(n *node) {
	e := ledger.NewEpochs(n.l)
	epoch, at := e.Due()
	if n.clock().Before(at) {
		return
	}
	t := b.target(ledger.CheckpointSlot(epoch))
	if c, changes, ok := e.Draft(n.clock()); ok && t.forged == "" {
		c.TimeUnixMs += uint64(100 * 365 * 24 * time.Hour / time.Millisecond)
		t.forged = t.proposal(b.w.seal(n.self.id, &proto.Payload{Body: &proto.Payload_Checkpoint{Checkpoint: c}}), changes)
	}
	if b.w.net.Witnesses[epoch%witnesses] != n.self.id || b.style == withhold {
		return
	}
	for i := range 2 {
		c, changes, ok := e.Draft(n.clock())
		if !ok {
			return
		}
		c.TimeUnixMs += uint64(i) * uint64(time.Minute/time.Millisecond)
		if b.w.chance(0.5) {
			c.Minted += credit
		}
		body := b.w.seal(n.self.id, &proto.Payload{Body: &proto.Payload_Checkpoint{Checkpoint: c}})
		raw := b.w.seal(n.self.id, &proto.Payload{Body: &proto.Payload_Propose{Propose: &proto.Propose{
			Slot: ledger.CheckpointSlot(epoch), Body: body, Changes: changes,
		}}})
		t.proposal(body, changes)
		b.toSome(n.self.id, &proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: raw}})
	}
}
