package ledger

import (
	"maps"
	"slices"
	"time"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// body is something that may take a slot.
type body struct {
	id      string // CID bytes
	raw     []byte // envelope as received
	signer  peer.ID
	c       *Certified        // of an account's slot, without a certificate
	check   *proto.Checkpoint // of a checkpoint's slot
	changes []byte            // FrontierChanges that came with a checkpoint
	pinned  bool              // changes are in the store
	made    bool              // Close, Slash or Void: made by a witness
}

// openBody checks an envelope and that it is for the slot.
func openBody(net *proto.Network, in *instance, raw []byte, check bool) (*body, error) {
	if in.account == "" {
		s, err := proto.Inspect(raw, proto.KindCheckpoint)
		if check {
			s, err = openSigned(net.ID, raw, proto.KindCheckpoint)
		}
		if err != nil {
			return nil, err
		}
		c := s.Payload.GetCheckpoint()
		if !net.IsWitness(s.Signer) || c.GetEpoch() != in.seq || hasUnknown(s.Payload) {
			return nil, proto.CodeInvalidEvent.Errorf("checkpoint %d by %s", c.GetEpoch(), s.Signer)
		}
		return &body{id: string(s.ID.Bytes()), raw: raw, signer: s.Signer, check: c}, nil
	}
	c, err := decode(net, raw, check)
	if err != nil {
		return nil, err
	}
	if c.Account != in.account || c.Seq != in.seq {
		return nil, proto.CodeInvalidEvent.Errorf("event %s belongs to another slot", c.ID)
	}
	return &body{id: string(c.ID.Bytes()), raw: raw, signer: c.Signer, c: c, made: madeByWitness(c.Event)}, nil
}

// judgeBody is the full check of rule 4. Clocks count in every round, and so
// do epochs as far as they do any harm: one ahead always, one that has passed
// when the event is dated. Nothing but a lock, whose quorum judged its body,
// stands for that; reports do not, because one bad leader may choose them.
// first says that nothing justifies the body yet: then it has to be fresh.
func (w *Witness) judgeBody(now time.Time, b *body, first bool) error {
	if b.check != nil {
		return w.cfg.Checkpoints.Valid(now, b.check, b.changes)
	}
	if !b.made && !w.off.epochs { // a witness's own kinds have the epoch before them
		if err := w.l.checkEpoch(b.c.Event.Epoch); err != nil && (first || dated(b.c.Event) || proto.CodeOf(err) == proto.CodeNotFinal) {
			return err
		}
	}
	if !b.made && !w.off.maxHold {
		if err := CheckDeadline(w.net, b.c.Event, now, proto.ClockSlack); err != nil {
			return err
		}
	}
	_, err := newTx(w.net, &w.l.s).judge(b.c)
	return err
}

// justified is rule 3 with the conditions of rule 4.
func (s *step) justified(in *instance, c *candidate) error {
	w := s.w
	if !w.complete(in, c.body) {
		return proto.CodeNotFinal.Errorf("checkpoint %d: its changes are not known here", in.seq)
	}
	if c.round == 0 {
		if in.skipped != nil {
			return proto.CodeConflict.Errorf("the owner gave up this place")
		}
		for id, b := range in.bodies {
			if id != c.body.id && !b.made {
				return proto.CodeConflict.Errorf("another event may have the place; the witnesses decide")
			}
		}
		if x := w.firstOver(in.account); x != nil && !w.off.closeFirst {
			return proto.CodeConflict.Errorf("hold %s is over, and its Close comes first in this account: build on it", x.id.CID())
		}
		for _, o := range s.objections(in) {
			return proto.CodeConflict.Errorf("%s comes first in this account", o.kind)
		}
		return w.judgeBody(s.now, c.body, true)
	}
	if k := highest(c.reports); k != nil && !w.off.rule3 {
		if k.lock.id != c.body.id {
			return proto.CodeInvalidEvent.Errorf("propose: the highest lock is for another body")
		}
		return nil // its quorum judged it
	}
	if in.account != "" {
		want, err := w.expected(in, c.reports)
		if err != nil {
			return err
		}
		if want != nil && !goproto.Equal(want, c.body.c.Event) || want == nil && c.body.made {
			return proto.CodeInvalidEvent.Errorf("propose: not what the reports ask for")
		}
	}
	return w.judgeBody(s.now, c.body, false)
}

// highest is the report with the highest lock.
func highest(reports []*report) *report {
	var best *report
	for _, r := range reports {
		if r.lock != nil && (best == nil || r.lock.round > best.lock.round) {
			best = r
		}
	}
	return best
}

// choose is what a leader proposes with a quorum of reports: rule 9.
func (s *step) choose(in *instance, reports []*report) *body {
	w := s.w
	if k := highest(reports); k != nil {
		if b := in.bodies[k.lock.id]; b != nil {
			return b
		}
		return k.body
	}
	if in.account == "" {
		return s.chooseCheckpoint(in, reports)
	}
	want, err := w.expected(in, reports)
	if err != nil {
		return nil
	}
	if want != nil {
		return s.seal(in, &proto.Payload{Body: &proto.Payload_Event{Event: want}})
	}
	for _, id := range slices.Sorted(maps.Keys(in.bodies)) {
		if b := in.bodies[id]; !b.made && w.judgeBody(s.now, b, false) == nil {
			return b
		}
	}
	return nil
}

func (s *step) chooseCheckpoint(in *instance, reports []*report) *body {
	for _, id := range slices.Sorted(maps.Keys(in.bodies)) {
		if b := in.bodies[id]; s.w.judgeBody(s.now, b, false) == nil {
			return b
		}
	}
	return s.draftCheckpoint(in)
}

// draftCheckpoint makes this witness's own checkpoint for the slot.
func (s *step) draftCheckpoint(in *instance) *body {
	if in.account != "" || s.w.cfg.Checkpoints == nil {
		return nil
	}
	c, changes, ok := s.w.cfg.Checkpoints.Draft(s.now)
	if !ok || c.Epoch != in.seq {
		return nil
	}
	b := s.seal(in, &proto.Payload{Body: &proto.Payload_Checkpoint{Checkpoint: c}})
	if b != nil {
		b.changes = changes
	}
	return b
}

// seal signs a body that this witness made. It is no vote: it leaves the
// machine only inside a Propose that is durable.
func (s *step) seal(in *instance, p *proto.Payload) *body {
	raw, err := s.w.cfg.Sign(p)
	if err != nil {
		s.broken = err
		return nil
	}
	b, err := openBody(s.w.net, in, raw, false)
	if err != nil {
		return nil // more objections than an event holds
	}
	return b
}

// expected is the witness-made event that a set of reports asks for, or nil:
// in the order of rule 3, each only when its proof is there and the account's
// state allows it. Leader and followers compute it alike, so a leader cannot
// invent one.
func (w *Witness) expected(in *instance, reports []*report) (*proto.Event, error) {
	var list []*objection
	for _, r := range reports {
		for _, o := range r.objections {
			if o.account == in.account || o.kind == proto.KindClaimList {
				list = append(list, o)
			}
		}
	}
	if in.seq == 0 {
		return nil, nil // an account that is not open has nothing to lose
	}
	if len(list) == 0 {
		return w.voided(in, reports), nil
	}
	if w.l.next(in.account) < in.seq {
		return nil, proto.CodeNotFinal.Errorf("the event before this place is not known here")
	}
	sortObjections(list)
	for _, kind := range []proto.Kind{proto.KindEvidence, proto.KindClaimList, proto.KindSkip} {
		if kind == proto.KindClaimList {
			if ev := w.closing(in, list); ev != nil {
				return ev, nil
			}
			continue
		}
		for _, o := range list {
			if o.kind == kind {
				if ev := w.made(in, o); ev != nil {
					return ev, nil
				}
			}
		}
	}
	return w.voided(in, reports), nil
}

// voided is the Void that a report asks for by showing an event of the owner
// that has expired, or nil.
func (w *Witness) voided(in *instance, reports []*report) *proto.Event {
	var first *body
	for _, r := range reports {
		if b := r.body; b != nil && (first == nil || b.id < first.id) && w.expired(in, b) != nil {
			first = b
		}
	}
	if first == nil {
		return nil
	}
	return w.expired(in, first)
}

// expired is the Void that ends the slot because of a body, or nil.
func (w *Witness) expired(in *instance, b *body) *proto.Event {
	if b.c == nil || b.made || in.seq == 0 || w.off.epochs || !dated(b.c.Event) || w.l.s.newest < passedAt(b.c.Event.Epoch) {
		return nil
	}
	ev, err := w.l.draftExpired(in.account, b.raw)
	if err != nil || ev.Seq != in.seq {
		return nil
	}
	return ev
}

// made is the event with which an objection takes the account's next place, or
// nil when it does not.
func (w *Witness) made(in *instance, o *objection) *proto.Event {
	var ev *proto.Event
	var err error
	switch o.kind {
	case proto.KindEvidence:
		if ev, err = w.l.DraftSlash(must(o.evidence)); err != nil || w.ruined(o.account) {
			// An offence in this very place that was punished before leaves it void.
			ev, err = w.l.DraftVoid(o.account, nil)
		}
	case proto.KindSkip:
		ev, err = w.l.DraftVoid(o.account, o.raw)
	}
	if err != nil || ev == nil || ev.Seq != in.seq || string(ev.Account) != string(in.account) {
		return nil
	}
	return ev
}

// objection is a reason why an account's next event may not be its owner's.
type objection struct {
	kind     proto.Kind // Evidence, Skip or ClaimList
	raw      []byte     // envelope
	signer   peer.ID
	account  peer.ID // of a claim list the payer, whom only the state knows: empty
	seq      uint64
	evidence *proto.Evidence
	code     uint64     // of the offence in evidence
	hold     proto.Hash // of a claim list
}

// openObjection checks an envelope of Skip, Evidence or ClaimList.
func openObjection(net *proto.Network, raw []byte, check bool) (*objection, error) {
	kinds := []proto.Kind{proto.KindSkip, proto.KindEvidence, proto.KindClaimList}
	s, err := openUnchecked(raw, kinds...)
	if err == nil && check {
		s, err = openSigned(net.ID, raw, kinds...)
	}
	if err != nil {
		return nil, err
	}
	o := &objection{kind: s.Kind, raw: raw, signer: s.Signer}
	if k := s.Payload.GetSkip(); k != nil {
		o.account, err = proto.ParsePeer(k.Account)
		o.seq = k.Seq
		return o, err
	}
	if k := s.Payload.GetClaimList(); k != nil {
		if !net.IsWitness(s.Signer) {
			return nil, proto.CodeNotWitness.Errorf("claim list by %s, who is no witness", s.Signer)
		}
		id, err := proto.ParseCID(k.Hold)
		if err == nil {
			o.hold, err = proto.CIDHash(id)
		}
		return o, err
	}
	o.evidence = s.Payload.GetEvidence()
	offence, err := checkEvidence(net, must(o.evidence), check)
	o.account, o.seq, o.code = offence.Account, offence.Slot.GetAccount().GetSeq(), offence.code
	return o, err
}

// validSkip wants the owner's signature and a place that can be given up. An
// account is opened at seq 0: there the owner signs another Open instead.
func (w *Witness) validSkip(o *objection) error {
	switch next := w.l.next(o.account); {
	case o.seq == 0:
		return proto.CodeInvalidEvent.Errorf("skip: an account that is not open gives up nothing")
	case o.seq > next:
		return proto.CodeMissing.Errorf("skip: the events before seq %d are not known here", o.seq)
	case !w.l.MaySign(o.account, o.signer, w.l.Epoch()):
		return proto.CodeBadSignature.Errorf("skip of %s signed by %s", o.account, o.signer)
	}
	return nil
}

// objections are this witness's own against the owner taking the slot.
func (s *step) objections(in *instance) []*objection {
	w := s.w
	if in.account == "" {
		return nil
	}
	var out []*objection
	if in.skipped != nil {
		out = append(out, in.skipped)
	}
	if in.seq != w.l.next(in.account) {
		return out
	}
	if o := s.accusation(in.account); o != nil {
		out = append(out, o)
	}
	return out
}

// object keeps an objection that came with a report or on its own.
func (s *step) object(in *instance, o *objection) {
	switch {
	case o.kind == proto.KindClaimList:
		s.adoptList(in, o)
	case o.account != in.account:
	case o.kind == proto.KindSkip && in.skipped == nil && o.seq == in.seq && s.w.validSkip(o) == nil:
		in.skipped = o
		s.recs = append(s.recs, in.skipRecord())
		s.start(in)
	case o.kind == proto.KindEvidence:
		_, _ = s.accuse(o)
	}
}

// keep stores a body for the slot, and finds equivocation.
func (s *step) keep(in *instance, b *body) {
	if old := in.bodies[b.id]; old != nil {
		if len(old.changes) == 0 {
			old.changes = b.changes
		}
		return
	}
	for _, id := range slices.Sorted(maps.Keys(in.bodies)) {
		if x := in.bodies[id]; x.c != nil && b.c != nil && !x.made && !b.made && x.signer == b.signer && in.seq > 0 {
			s.equivocated(in.slot, x, b)
		}
	}
	if len(in.bodies) >= maxBodies {
		if old := in.spare(); old != nil {
			s.recs = append(s.recs, in.bodyGone(old)...)
			delete(in.bodies, old.id)
		}
	}
	in.bodies[b.id] = b
	s.recs = append(s.recs, in.bodyRecord(b))
}
