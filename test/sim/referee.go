package sim

import (
	"errors"
	"fmt"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// referee sees everything and knows what must never happen.
type referee struct {
	w        *world
	slots    map[string]string                    // what was certified, by slot
	commits  map[string]map[ballot]map[string]int // honest commits by slot, round and id
	votes    map[voteKey]string                   // of honest witnesses
	pending  map[string]*proto.Slot               // has to be decided
	prepared map[string]bool                      // by an honest witness
	ended    map[cid.Cid][]cid.Cid                // events that closed a hold
	checked  map[*proto.CertifiedEvent]*ledger.Certified
	deadline map[cid.Cid]time.Time // of holds, grace included
	order    []cid.Cid             // of deadline
	payer    map[cid.Cid]peer.ID

	wrong       map[proto.Hash]*wrongFound // receipts that honest witnesses found wrong
	minted      uint64                     // by bonuses
	bonuses     map[bonusKey]uint64
	certifiedAt map[uint64]time.Time // checkpoints, by epoch
	newest      uint64               // of these
}

type ballot struct{ round uint32 }

type voteKey struct {
	by    peer.ID
	kind  proto.Kind
	slot  string
	round uint32
}

func newReferee(w *world) *referee {
	return &referee{
		w: w, slots: map[string]string{}, commits: map[string]map[ballot]map[string]int{}, votes: map[voteKey]string{},
		pending: map[string]*proto.Slot{}, prepared: map[string]bool{}, ended: map[cid.Cid][]cid.Cid{}, checked: map[*proto.CertifiedEvent]*ledger.Certified{},
		deadline: map[cid.Cid]time.Time{}, payer: map[cid.Cid]peer.ID{},
		wrong: map[proto.Hash]*wrongFound{}, bonuses: map[bonusKey]uint64{}, certifiedAt: map[uint64]time.Time{},
	}
}

// verify is ledger.Verify, once per event: nodes share what it made.
func (r *referee) verify(wire *proto.CertifiedEvent) (*ledger.Certified, error) {
	if c := r.checked[wire]; c != nil {
		return c, nil
	}
	c, err := ledger.Verify(r.w.net, wire)
	if err == nil {
		r.checked[wire], r.checked[c.Wire] = c, c
	}
	return c, err
}

// decide records what a slot was certified for.
func (r *referee) decide(slot *proto.Slot, id string, how string) bool {
	key := slotName(slot)
	delete(r.pending, key)
	switch old, ok := r.slots[key]; {
	case ok && old != id:
		r.w.fail(fmt.Errorf("two certificates for one slot, %v: %s", slot, how))
	case ok:
		return false
	}
	r.slots[key] = id
	return true
}

// certified sees an event become effective at a node.
func (r *referee) certified(n *node, c *ledger.Certified) {
	if n.hostile() {
		return
	}
	if r.checked[c.Wire] == nil {
		r.checked[c.Wire] = c
	}
	if !r.decide(ledger.AccountSlot(c.Account, c.Seq), string(c.ID.Bytes()), fmt.Sprintf("event at node %d", n.i)) {
		return
	}
	w := r.w
	kind, _, _ := n.l.Describe(c)
	w.out.Kinds[kind]++
	w.note('e', n.i, int(c.Seq))
	r.timely(n, c)
	r.mint(c)
	if i, ok := w.index[c.Account]; ok && w.nodes[i].light {
		w.out.Lights++
	}
	end := func(raw []byte) {
		id, err := proto.ParseCID(raw)
		if err != nil {
			w.fail(err)
			return
		}
		if r.ended[id] = append(r.ended[id], c.ID); len(r.ended[id]) > 1 {
			w.fail(fmt.Errorf("hold %s is closed twice", id))
		}
	}
	over := func(id cid.Cid, unixMs uint64) {
		if _, ok := r.deadline[id]; !ok {
			r.order = append(r.order, id)
			r.payer[id] = c.Account
		}
		if at := time.UnixMilli(int64(unixMs)).Add(grace); unixMs > 0 && at.After(r.deadline[id]) {
			r.deadline[id] = at
		}
	}
	switch {
	case c.Event.GetSlash() != nil:
		w.out.Slashed++
		if i, ok := w.index[c.Account]; !ok || w.nodes[i].own.part != doubler && !w.nodes[i].hostile() {
			w.fail(fmt.Errorf("the honest node %d is slashed", i))
		}
	case c.Event.GetVoid() != nil:
		w.out.Voids++
	case c.Event.GetHold() != nil:
		over(c.ID, c.Event.GetHold().DeadlineUnixMs)
	case c.Event.GetExtend() != nil:
		if id, err := proto.ParseCID(c.Event.GetExtend().Hold); err == nil {
			over(id, c.Event.GetExtend().DeadlineUnixMs)
		}
	case c.Event.GetClose() != nil:
		w.out.Closes++
		w.out.Paid += len(c.Event.GetClose().Payouts)
		r.payouts(n, c.Event.GetClose())
		end(c.Event.GetClose().Hold)
	case c.Event.GetSettle().GetFinal():
		w.out.Finals++
		end(c.Event.GetSettle().Hold)
	}
	if w.cfg.Forge && w.out.Took == 0 && c.Event.GetTransfer() != nil {
		r.forge(n, c)
	}
}

// timely wants an event that its owner made not to be of a time to come, and one
// whose epoch starts a timer or picks a rate to be certified in its time. A lock
// may make that one epoch later.
func (r *referee) timely(n *node, c *ledger.Certified) {
	if ev := c.Event; ev.GetClose() != nil || ev.GetSlash() != nil || ev.GetVoid() != nil {
		return
	}
	dated := c.Event.GetUnstake() != nil || c.Bonus() > 0 || c.Event.GetRotate() != nil && !c.Event.GetRotate().Recovery
	if e := c.Event.Epoch; e > r.newest+lead || dated && e+lead+1 < r.newest {
		r.w.fail(fmt.Errorf("an event of node %d at seq %d of epoch %d is certified after checkpoint %d", r.w.index[c.Account], c.Seq, e, r.newest))
	}
}

func (r *referee) checkpoint(n *node, wire *proto.CertifiedEvent) {
	s, err := proto.Inspect(wire.Event, proto.KindCheckpoint)
	if err != nil {
		r.w.fail(err)
		return
	}
	c := s.Payload.GetCheckpoint()
	e := c.Epoch
	r.newest = max(r.newest, e)
	if at := time.UnixMilli(int64(c.TimeUnixMs)); at.After(r.w.now.Add(epoch)) {
		r.w.fail(fmt.Errorf("epoch %d ends %s from now", e, at.Sub(r.w.now)))
	}
	if r.decide(ledger.CheckpointSlot(e), string(s.ID.Bytes()), fmt.Sprintf("checkpoint at node %d", n.i)) {
		r.certifiedAt[e] = r.w.now
		r.judged(n)
	}
}

// sent sees what honest nodes send. With the hostile witnesses counted for
// every body, f+1 honest commits of one round are enough for a certificate,
// whether anybody makes it or not.
func (r *referee) sent(n *node, f *proto.VoteFrame) {
	if n.wit == nil {
		return
	}
	var raw []byte
	kind := proto.KindPrepare
	switch b := f.Body.(type) {
	case *proto.VoteFrame_Prepare:
		raw = b.Prepare
	case *proto.VoteFrame_Commit:
		raw, kind = b.Commit, proto.KindCommit
	default:
		return
	}
	s, err := proto.Inspect(raw, kind)
	if err != nil {
		r.w.fail(err)
		return
	}
	if s.Signer != n.self.id {
		return // somebody else's, passed on
	}
	slot, round, id := s.Payload.GetPrepare().GetSlot(), s.Payload.GetPrepare().GetRound(), s.Payload.GetPrepare().GetId()
	if c := s.Payload.GetCommit(); c != nil {
		slot, round, id = c.Slot, c.Round, c.Id
	}
	name := slotName(slot)
	r.w.out.Rounds = max(r.w.out.Rounds, int(round))
	key := voteKey{s.Signer, kind, name, round}
	old, again := r.votes[key]
	if again && old != string(id) {
		r.w.fail(fmt.Errorf("the honest witness %d votes twice in round %d", n.i, round))
	}
	if again {
		return
	}
	r.votes[key] = string(id)
	if kind == proto.KindPrepare {
		r.prepared[name] = true
		if _, ok := r.slots[name]; !ok && slot.GetAccount() != nil {
			r.pending[name] = slot // an honest witness works on it
		}
		return
	}
	if r.commits[name] == nil {
		r.commits[name] = map[ballot]map[string]int{}
	}
	if r.commits[name][ballot{round}] == nil {
		r.commits[name][ballot{round}] = map[string]int{}
	}
	r.commits[name][ballot{round}][string(id)]++
	first := ""
	for _, ids := range r.commits[name] {
		for id, votes := range ids {
			if votes < r.w.net.Quorum()-hostile {
				continue
			}
			if first != "" && first != id {
				r.w.fail(fmt.Errorf("two certificates are possible for slot %v", slot))
			}
			first = id
		}
	}
	if old, ok := r.slots[name]; ok && first != "" && old != first {
		r.w.fail(fmt.Errorf("a second certificate is possible for slot %v", slot))
	}
}

// proposed says that a slot has to be decided.
func (r *referee) proposed(slot *proto.Slot) {
	if name := slotName(slot); r.slots[name] == "" {
		r.pending[name] = slot
	}
}

// refused says that nothing has to be decided any more: so many witnesses refuse
// the event that an honest one is among them, and no honest one works on it.
func (r *referee) refused(slot *proto.Slot) {
	if name := slotName(slot); !r.prepared[name] {
		delete(r.pending, name)
	}
}

// audit checks a node's books.
func (r *referee) audit(n *node) {
	a := n.l.Audit()
	if !a.Conserved() {
		r.w.fail(fmt.Errorf("node %d: %+v is not conserved", n.i, a))
	}
	if most := ledger.MintCap(r.w.net); a.Minted > most {
		r.w.fail(fmt.Errorf("node %d: %s credits are minted, %s may ever be", n.i, a.Minted, most))
	}
	total := a.Genesis + a.Minted
	for _, part := range []proto.Credit{a.Avail, a.Held, a.Staked, a.Unbonding, a.Receivable, a.Burned} {
		if part > total {
			r.w.fail(fmt.Errorf("node %d: %+v has a negative part", n.i, a))
		}
	}
}

// due lists the open holds that are over by every honest clock.
func (r *referee) due() []cid.Cid {
	var out []cid.Cid
	for _, id := range r.order {
		if r.w.now.Add(-10 * time.Minute).After(r.deadline[id]) {
			out = append(out, id)
		}
	}
	return out
}

// unsettled says what has still to happen after the faults stopped: every
// proposal is decided, every hold that was due is closed, all honest nodes
// have one state.
func (r *referee) unsettled(due []cid.Cid) error {
	if n := len(r.pending); n > 0 {
		for _, s := range r.pending {
			a := s.GetAccount()
			return fmt.Errorf("%d proposals are open, one of node %d at seq %d", n, r.w.index[peer.ID(a.GetAccount())], a.GetSeq())
		}
	}
	for _, id := range due {
		if len(r.ended[id]) != 1 {
			return fmt.Errorf("hold %s of node %d, due at %s, was closed %d times", id, r.w.index[r.payer[id]], r.deadline[id].Sub(r.w.begin), len(r.ended[id]))
		}
	}
	full := r.full()
	if full == nil {
		return errors.New("all honest witnesses are down")
	}
	want := full.l.StateHash()
	for i, n := range r.w.nodes {
		if n.hostile() {
			continue
		}
		if n.down {
			return fmt.Errorf("node %d is down", i)
		}
		if n.l.Pending() > 0 {
			return fmt.Errorf("node %d lacks what %d events build on", i, n.l.Pending())
		}
		switch {
		case n.light:
			if err := n.knows(full); err != nil {
				return err
			}
			continue
		case n.l.StateHash() != want || n.l.Epoch() != full.l.Epoch():
			return fmt.Errorf("node %d has another state", i)
		}
		for _, x := range r.w.nodes {
			if a, b := n.l.Reputation(x.self.id), full.l.Reputation(x.self.id); a != b {
				return fmt.Errorf("node %d knows %+v of node %d, node %d knows %+v", i, a, x.i, full.i, b)
			}
		}
	}
	return nil
}

// final looks at the whole run.
func (r *referee) final() {
	w := r.w
	r.paid()
	if at := r.certifiedAt[r.full().l.Epoch()]; w.now.Sub(at) > 3*epoch/2 {
		w.fail(fmt.Errorf("there was no checkpoint for %s", w.now.Sub(at)))
	}
	for _, n := range w.nodes {
		if n.own.liar && r.full().l.Reputation(n.self.id).Invalid > 0 {
			w.out.Liars++
		}
		if !n.hostile() && !n.light {
			r.audit(n)
			r.judged(n)
			h := n.l.StateHash()
			w.trace.Write(h[:])
		}
	}
}

// forge certifies a second event for a place, as no quorum may.
func (r *referee) forge(n *node, c *ledger.Certified) {
	w := r.w
	ev := &proto.Event{
		Account: c.Event.Account, Seq: c.Event.Seq, Prev: c.Event.Prev, Epoch: c.Event.Epoch, AuthorTimeUnixMs: 1,
		Body: c.Event.Body, Post: c.Event.Post,
	}
	raw := w.seal(c.Signer, &proto.Payload{Body: &proto.Payload_Event{Event: ev}})
	s, err := proto.Inspect(raw, proto.KindEvent)
	if err != nil {
		w.fail(err)
		return
	}
	cert := new(proto.Certificate)
	for _, p := range w.net.Witnesses[:w.net.Quorum()] {
		cert.Commits = append(cert.Commits, w.seal(p, &proto.Payload{Body: &proto.Payload_Commit{Commit: &proto.Commit{
			Slot: ledger.AccountSlot(c.Account, c.Seq), Id: s.ID.Bytes(),
		}}}))
	}
	wire := &proto.CertifiedEvent{Event: raw, Certificate: cert}
	for i := range w.nodes {
		w.send(n.i, i, 'f', w.loss, func(x *node) { x.take([]*proto.CertifiedEvent{wire}) })
	}
}
