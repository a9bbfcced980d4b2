package ledger

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"time"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// instance is the agreement on one slot that is not decided here.
type instance struct {
	slot    *proto.Slot
	key     string
	account peer.ID // "" for a checkpoint
	seq     uint64  // or epoch

	// Durable before anything that follows from it is sent.
	round     uint32
	prepared  string // id, in this round
	committed string // id, in this round
	lock      *lock
	entered   *proto.Report  // as sent on entering round; nil in round 0
	made      *proto.Propose // that this witness led round with
	bodies    map[string]*body
	skipped   *objection
	lists     map[peer.ID]*objection // other witnesses' claim lists; they repeat them
	cert      *proto.CertifiedEvent  // certified, but its prev is missing here

	// Of this run only: others repeat what they said.
	heard   map[peer.ID]*heard
	own     own
	emit    own2
	cand    *candidate // newest Propose of a round that is not over
	waiters []waiting
	opener  peer.ID
	stored  bool // the store has records of it
	past    map[uint32]string

	timer  time.Time // end of the round; zero until something is to be decided
	resend time.Time
	relay  time.Time // when the round's Propose is forwarded
	expire time.Time // when an instance that nothing speaks for is forgotten
	wake   time.Time // earliest of these, as in the heap
}

// waiting is a peer to be told what a slot was decided for. Who proposed that
// body counts Commits itself.
type waiting struct {
	peer peer.ID
	id   string // proposed; "" when it asked with a Skip
}

// told lists the waiting peers that count Commits for id, or those that do not.
func (in *instance) told(id string, count bool) []peer.ID {
	var out []peer.ID
	for _, x := range in.waiters {
		if (x.id == id) == count {
			out = append(out, x.peer)
		}
	}
	return out
}

func (in *instance) everyone() []peer.ID {
	var out []peer.ID
	for _, x := range in.waiters {
		if !slices.Contains(out, x.peer) {
			out = append(out, x.peer)
		}
	}
	return out
}

// lock is the newest prepared quorum that this witness committed on.
type lock struct {
	round uint32
	id    string
	pqc   map[peer.ID][]byte // Prepare envelopes; its own is nil until signed
}

// heard is what one witness said about a slot: the newest of each kind.
type heard struct {
	prepare, commit, older *ballot
	report                 *report
	top                    uint32 // highest round it was seen in
}

type ballot struct {
	round uint32
	id    string
	raw   []byte // envelope; nil until this witness signed its own
}

// report is a checked Report.
type report struct {
	slot       *proto.Slot
	by         peer.ID
	round      uint32
	raw        []byte
	lock       *lock
	body       *body
	objections []*objection
}

// candidate is a checked Propose.
type candidate struct {
	round   uint32
	raw     []byte
	body    *body
	reports []*report
	err     error
	judged  judgement // with err
}

// judgement is what a refusal rests on: it is worth another look when one of
// these has moved, and a clock does after T.
type judgement struct {
	events int
	epoch  uint64
	at     time.Time
}

func (s *step) judgement() judgement {
	return judgement{s.w.l.Len(), s.w.l.s.newest, s.now}
}

// stale reports whether a later judgement may differ.
func (j judgement) stale(now judgement, t time.Duration) bool {
	return j.events != now.events || j.epoch != now.epoch || !now.at.Before(j.at.Add(t))
}

// own is this run's signed messages of the current round.
type own struct{ report, propose, prepare, commit []byte }

// own2 says which of them are to be sent.
type own2 struct{ report, propose, prepare, commit bool }

var everything = own2{true, true, true, true}

func newInstance(slot *proto.Slot) *instance {
	in := &instance{slot: slot, key: slotKey(slot), bodies: map[string]*body{}, heard: map[peer.ID]*heard{}}
	if a := slot.GetAccount(); a != nil {
		in.account, in.seq = peer.ID(a.Account), a.Seq
	} else {
		in.seq = slot.GetCheckpointEpoch()
	}
	return in
}

func (in *instance) hear(by peer.ID) *heard {
	h := in.heard[by]
	if h == nil {
		h = new(heard)
		in.heard[by] = h
	}
	return h
}

// contested reports whether there is something to decide.
func (in *instance) contested() bool {
	return len(in.bodies) > 0 || in.skipped != nil || in.round > 0
}

// record keeps a vote. It returns the witness's other vote of the same round
// when there is one.
func (in *instance) record(kind proto.Kind, by peer.ID, b *ballot) (other *ballot) {
	h := in.hear(by)
	h.top = max(h.top, b.round)
	newest := &h.prepare
	if kind == proto.KindCommit {
		newest = &h.commit
	}
	switch old := *newest; {
	case old == nil || b.round > old.round:
		if *newest = b; kind == proto.KindCommit {
			h.older = old
		}
	case b.round == old.round && b.id != old.id:
		return old
	case b.round < old.round && kind == proto.KindCommit && (h.older == nil || b.round > h.older.round):
		h.older = b
	}
	return nil
}

// leader names who may propose in a round; "" is the account's owner.
func (w *Witness) leader(in *instance, round uint32) peer.ID {
	n := uint64(len(w.net.Witnesses))
	switch {
	case round > 0:
		h := proto.HashOf([]byte(in.key))
		var v uint64
		for _, b := range h[:8] {
			v = v<<8 | uint64(b)
		}
		return w.net.Witnesses[(v%n+uint64(round))%n]
	case in.account == "":
		return w.net.Witnesses[in.seq%n]
	}
	return ""
}

// patience is how long a round may take. Doubling stops at 4 T, so that after
// a long partition a decision still takes a bounded time; a network slower
// than that needs a larger T. A single witness waits for nobody.
func (w *Witness) patience(in *instance) time.Duration {
	switch {
	case len(w.rest) == 0:
		return 0
	case w.waits(in):
		return waitingRounds * w.cfg.T
	}
	return w.cfg.T << min(in.round, 2)
}

// A round in which nothing can be proposed lasts waitingRounds T, and repeats
// its messages every waitingResend T.
const (
	waitingRounds = 16
	waitingResend = 4
)

// waits reports that all there is to the slot is a hold that is over by some
// clocks: its Close has to wait for the others, which may be minutes behind.
func (w *Witness) waits(in *instance) bool {
	return in.account != "" && in.round > 0 && in.lock == nil && in.cand == nil && in.prepared == "" && in.skipped == nil &&
		len(in.bodies) == 0 && len(w.evidence[in.account]) == 0 && len(w.lists(in)) < w.net.Quorum()
}

// idle reports that nothing is to be decided in the slot any more: a hold that
// was over has a later deadline now, say. It keeps its round, because votes
// below it must stay impossible, and begins no other until something comes.
func (w *Witness) idle(in *instance) bool {
	return w.waits(in) && w.firstOver(in.account) == nil && len(in.lists) == 0
}

// start begins the timer of rule 7 unless it runs.
func (s *step) start(in *instance) {
	in.expire = time.Time{}
	switch end := s.now.Add(s.w.patience(in)); {
	case in.timer.IsZero() && in.round == 0:
		in.timer = end
	case in.round > 0 && end.Before(in.timer): // there is something to decide now
		in.timer = end
	}
	if in.resend.IsZero() {
		in.resend = s.now.Add(s.w.cfg.T)
	}
}

// run applies the rules until none has anything to add.
func (s *step) run(in *instance) error {
	if err := s.flush(in); err != nil { // after a restart own votes have to be signed again
		return err
	}
	for s.w.slots[in.key] == in {
		if in.cert != nil {
			return s.finish(in)
		}
		if id, cert := in.certificate(s.w.net); cert != nil {
			return s.decide(in, id, cert)
		}
		again := s.rules(in)
		if err := s.flush(in); err != nil {
			return err
		}
		if !again {
			s.w.schedule(in)
			return nil
		}
	}
	return nil
}

// rules applies one rule that changes something.
func (s *step) rules(in *instance) bool {
	if r := in.ahead(s.w.net.F()); r > in.round { // rule 8
		s.enter(in, r)
		return true
	}
	if in.round > 0 && in.timer.IsZero() && in.reached() >= s.w.net.Quorum() && !s.w.idle(in) {
		// Only now: if a round could end before a quorum is in it, two groups of
		// witnesses could follow each other one round apart for ever.
		in.timer = s.now.Add(s.w.patience(in))
	}
	if s.lead(in) || s.prepare(in) || s.commit(in) {
		return true
	}
	if !s.expired && !in.timer.IsZero() && !s.now.Before(in.timer) && in.round < maxRound { // rule 7
		s.expired = true
		s.enter(in, in.round+1)
		return true
	}
	return false
}

// ahead is the highest round that f+1 witnesses have reached.
func (in *instance) ahead(f int) uint32 {
	var tops []uint32
	for _, h := range in.heard {
		if h.top > in.round {
			tops = append(tops, h.top)
		}
	}
	if len(tops) <= f {
		return in.round
	}
	slices.SortFunc(tops, func(a, b uint32) int { return cmp.Compare(b, a) })
	return tops[f]
}

// reached counts the witnesses that are in this round or above.
func (in *instance) reached() (n int) {
	for _, h := range in.heard {
		if h.top >= in.round {
			n++
		}
	}
	return n
}

// enter is rule 2: from the Report on there is no vote below its round.
func (s *step) enter(in *instance, round uint32) {
	w := s.w
	s.recs = append(s.recs, in.roundRecords()...)
	if w.off.rule2 && in.committed != "" {
		if in.past == nil {
			in.past = map[uint32]string{}
		}
		in.past[in.round] = in.committed
	}
	r := &proto.Report{Slot: in.slot, Round: round}
	mine := &report{slot: in.slot, by: w.self, round: round, lock: in.lock}
	if in.lock != nil {
		mine.body = in.bodies[in.lock.id]
		r.LockRound, r.LockId, r.LockPqc = in.lock.round, []byte(in.lock.id), in.lock.envelopes(w.net)
	} else {
		mine.body = in.favourite()
		mine.objections = append(s.objections(in), w.lists(in)...)
		for _, o := range mine.objections {
			r.Objections = append(r.Objections, o.raw)
		}
	}
	if mine.body != nil {
		r.Body = mine.body.raw
	}
	in.round, in.prepared, in.committed = round, "", ""
	in.entered, in.made, in.own = r, nil, own{}
	if in.cand != nil && in.cand.round < round {
		in.cand = nil
	}
	h := in.hear(w.self)
	h.report, h.top = mine, round
	in.emit.report = true
	in.timer = time.Time{}
	in.resend = s.now.Add(w.cfg.T)
	in.relay, in.expire = time.Time{}, time.Time{}
	s.recs = append(s.recs, in.stateRecord(w.net), in.enteredRecord())
}

// favourite is the body that a report without a lock names: one that this
// witness prepared or could.
func (in *instance) favourite() *body {
	if b := in.bodies[in.prepared]; b != nil {
		return b
	}
	for _, id := range slices.Sorted(maps.Keys(in.bodies)) {
		if !in.bodies[id].made {
			return in.bodies[id]
		}
	}
	return nil
}

// lead is rule 9, and round 0 of a checkpoint.
func (s *step) lead(in *instance) bool {
	w := s.w
	if w.leader(in, in.round) != w.self || in.prepared != "" || in.cand != nil {
		return false
	}
	if in.made != nil {
		if in.own.propose == nil {
			return false // flush signs it
		}
		p, err := s.openPropose(in.own.propose)
		if err == nil {
			in.cand = p
		}
		return err == nil
	}
	p := &proto.Propose{Slot: in.slot, Round: in.round}
	var b *body
	if in.round == 0 {
		if in.timer.IsZero() {
			return false
		}
		b = s.draftCheckpoint(in)
	} else {
		reports := in.reports(w.net)
		if len(reports) < w.net.Quorum() || in.own.report == nil {
			return false
		}
		for _, r := range reports {
			p.Justification = append(p.Justification, r.raw)
		}
		b = s.choose(in, reports)
	}
	if b == nil {
		return false
	}
	w.complete(in, b) // without them those who have them may still prepare it
	p.Body, p.Changes = b.raw, b.changes
	if b.c != nil {
		p.Attachments = w.l.Attachments(b.c.Event)
	}
	in.made = p
	in.emit.propose = true
	s.recs = append(s.recs, in.madeRecord())
	return true
}

// reports lists the current round's, in the order of the genesis.
func (in *instance) reports(net *proto.Network) []*report {
	var out []*report
	for _, p := range net.Witnesses {
		if h := in.heard[p]; h != nil && h.report != nil && h.report.round == in.round && h.report.raw != nil {
			out = append(out, h.report)
		}
	}
	return out
}

// prepare is rule 4.
func (s *step) prepare(in *instance) bool {
	c := in.cand
	if c == nil || c.round != in.round || in.prepared != "" {
		return false
	}
	if c.err != nil && !c.judged.stale(s.judgement(), s.w.cfg.T) {
		return false
	}
	if c.err = s.justified(in, c); c.err != nil {
		c.judged = s.judgement()
		return false
	}
	s.keep(in, c.body)
	s.pin(in, in.bodies[c.body.id])
	in.prepared = c.body.id
	in.hear(s.w.self).prepare = &ballot{round: in.round, id: in.prepared}
	in.emit.prepare = true
	if len(s.w.rest) > 0 {
		in.relay = s.now.Add(s.w.cfg.T / 4)
	}
	s.start(in)
	s.recs = append(s.recs, in.ballotRecord(proto.KindPrepare))
	return true
}

// commit is rule 5. It wants the body with its changes, too: so everyone who is
// locked can show what it is locked on.
func (s *step) commit(in *instance) bool {
	w := s.w
	round, id, pqc := in.preparedQuorum(w)
	if pqc == nil || in.bodies[id] == nil || !w.complete(in, in.bodies[id]) {
		return false
	}
	if round < in.round { // only with rule 2 switched off
		in.past[round] = id
		in.hear(w.self).older = &ballot{round: round, id: id}
		return true
	}
	s.pin(in, in.bodies[id])
	in.committed = id
	if !w.off.rule5 {
		in.lock = &lock{round, id, pqc}
	}
	in.hear(w.self).commit = &ballot{round: round, id: id}
	in.emit.commit = true
	s.start(in)
	s.recs = append(s.recs, in.stateRecord(w.net), in.ballotRecord(proto.KindCommit))
	return true
}

// preparedQuorum finds a PQC that this witness may still commit on.
func (in *instance) preparedQuorum(w *Witness) (round uint32, id string, pqc map[peer.ID][]byte) {
	for _, p := range w.net.Witnesses {
		h := in.heard[p]
		if h == nil || h.prepare == nil {
			continue
		}
		b := h.prepare
		switch {
		case b.round == in.round && in.committed == "":
		case b.round < in.round && w.off.rule2 && in.past[b.round] == "":
			if in.past == nil {
				in.past = map[uint32]string{}
			}
		default:
			continue
		}
		votes := map[peer.ID][]byte{}
		for by, x := range in.heard {
			if x.prepare != nil && x.prepare.round == b.round && x.prepare.id == b.id {
				votes[by] = x.prepare.raw
			}
		}
		if len(votes) >= w.net.Quorum() {
			return b.round, b.id, votes
		}
	}
	return 0, "", nil
}

// envelopes lists q Prepares in the order of the genesis.
func (k *lock) envelopes(net *proto.Network) [][]byte {
	var out [][]byte
	for _, p := range net.Witnesses {
		if raw := k.pqc[p]; raw != nil && len(out) < net.Quorum() {
			out = append(out, raw)
		}
	}
	return out
}

// same reports whether the slot's newest proposal is these bytes.
func (in *instance) same(raw []byte) bool { return in.cand != nil && bytes.Equal(in.cand.raw, raw) }
