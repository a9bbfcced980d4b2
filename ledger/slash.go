package ledger

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// Reasons of a Void.
const (
	VoidSkipped uint32 = 1 // the owner signed Skip for the slot
	VoidSlashed uint32 = 2 // an offence in this slot was slashed before
	VoidExpired uint32 = 3 // the owner's event for it was not certified in its time
)

const (
	// maxOffences bounds what an account's state remembers. Later offences
	// are not punished: after the second there is nothing left to burn.
	maxOffences = 64
	slashPpm    = 50_000 // of staked + unbonding, the first time
)

// Offence is what Evidence proves.
type Offence struct {
	Account peer.ID // who signed both
	Slot    *proto.Slot
	Votes   bool // two votes of a witness in one round, not two events
	signer  peer.ID
	code    uint64 // names the offence within the account
}

// NewEvidence is the body of an objection or Slash that shows two marshalled
// Envelopes of one slot with two ids: events by an account's key, or Prepares
// or Commits of one round by a witness. The order of the two does not matter.
func NewEvidence(net *proto.Network, first, second []byte) ([]byte, error) {
	a, err := proto.Inspect(first, proto.KindEvent, proto.KindPrepare, proto.KindCommit)
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	b, err := proto.Inspect(second, proto.KindEvent, proto.KindPrepare, proto.KindCommit)
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	if bytes.Compare(a.ID.Bytes(), b.ID.Bytes()) > 0 {
		first, second = second, first
	}
	raw, err := goproto.Marshal(&proto.Evidence{First: first, Second: second})
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	_, err = CheckEvidence(net, raw)
	return raw, err
}

// CheckEvidence checks a marshalled Evidence without any state. Whether the
// key was the account's at that slot is checked with the state, by Slash.
func CheckEvidence(net *proto.Network, raw []byte) (Offence, error) {
	return checkEvidence(net, raw, true)
}

func checkEvidence(net *proto.Network, raw []byte, check bool) (Offence, error) {
	o, err := readEvidence(net, raw, check)
	if err != nil {
		return o, fmt.Errorf("evidence: %w", err)
	}
	return o, nil
}

func readEvidence(net *proto.Network, raw []byte, check bool) (Offence, error) {
	var o Offence
	if len(raw) > proto.KindEvidence.Cap() {
		return o, proto.CodeTooLarge.Errorf("%d bytes, at most %d", len(raw), proto.KindEvidence.Cap())
	}
	ev := new(proto.Evidence)
	if err := goproto.Unmarshal(raw, ev); err != nil {
		return o, proto.CodeMalformed.Errorf("%v", err)
	}
	if len(ev.ProtoReflect().GetUnknown()) > 0 {
		return o, proto.CodeMalformed.Errorf("unknown fields")
	}
	s, err := proto.Inspect(ev.First, proto.KindEvent, proto.KindPrepare, proto.KindCommit)
	if err != nil {
		return o, err
	}
	if s.Kind == proto.KindEvent {
		return eventEvidence(net, ev, check)
	}
	return voteEvidence(net, ev, s.Kind, check)
}

func eventEvidence(net *proto.Network, ev *proto.Evidence, check bool) (Offence, error) {
	a, err := decode(net, ev.First, check)
	if err != nil {
		return Offence{}, err
	}
	b, err := decode(net, ev.Second, check)
	if err != nil {
		return Offence{}, err
	}
	switch {
	case madeByWitness(a.Event) || madeByWitness(b.Event):
		return Offence{}, proto.CodeInvalidEvent.Errorf("what witnesses make is not the account's offence")
	case a.Account != b.Account || a.Seq != b.Seq:
		return Offence{}, proto.CodeInvalidEvent.Errorf("two slots")
	case a.Seq == 0:
		return Offence{}, proto.CodeInvalidEvent.Errorf("an account may be opened with another Open as long as none is certified")
	case a.Signer != b.Signer:
		return Offence{}, proto.CodeInvalidEvent.Errorf("two signers")
	case bytes.Compare(a.ID.Bytes(), b.ID.Bytes()) >= 0:
		return Offence{}, proto.CodeInvalidEvent.Errorf("want two events, ordered by id")
	case a.Seq>>63 != 0:
		return Offence{}, proto.CodeInvalidEvent.Errorf("seq %d", a.Seq)
	}
	return Offence{Account: a.Account, Slot: AccountSlot(a.Account, a.Seq), signer: a.Signer, code: a.Seq}, nil
}

// offencesInVotes has the codes of offences by votes above those by events.
const offencesInVotes = uint64(1) << 63

func voteEvidence(net *proto.Network, ev *proto.Evidence, kind proto.Kind, check bool) (Offence, error) {
	var by [2]peer.ID
	var slot [2]*proto.Slot
	var round [2]uint32
	var voted, id [2][]byte
	for i, raw := range [][]byte{ev.First, ev.Second} {
		s, err := unseal(net, raw, kind, check)
		if err != nil {
			return Offence{}, err
		}
		id[i] = s.ID.Bytes()
		by[i] = s.Signer
		if p := s.Payload.GetPrepare(); p != nil {
			slot[i], round[i], voted[i] = p.Slot, p.Round, p.Id
		} else {
			c := s.Payload.GetCommit()
			slot[i], round[i], voted[i] = c.GetSlot(), c.GetRound(), c.GetId()
		}
		if hasUnknown(s.Payload) {
			return Offence{}, proto.CodeMalformed.Errorf("unknown fields")
		}
	}
	switch {
	case by[0] != by[1] || !net.IsWitness(by[0]):
		return Offence{}, proto.CodeNotWitness.Errorf("votes by %s and %s", by[0], by[1])
	case !sameSlot(slot[0], slot[1]) || round[0] != round[1]:
		return Offence{}, proto.CodeInvalidEvent.Errorf("two slots or rounds")
	case bytes.Equal(voted[0], voted[1]):
		return Offence{}, proto.CodeInvalidEvent.Errorf("both votes are for one id")
	case bytes.Compare(id[0], id[1]) >= 0:
		return Offence{}, proto.CodeInvalidEvent.Errorf("want two votes, ordered by id")
	}
	h := proto.HashOf(binary.BigEndian.AppendUint32(append([]byte(kind.String()+"\x00"), slotKey(slot[0])...), round[0]))
	code := binary.BigEndian.Uint64(h[:8]) | offencesInVotes
	return Offence{Account: by[0], Slot: slot[0], Votes: true, signer: by[0], code: code}, nil
}

func unseal(net *proto.Network, raw []byte, kind proto.Kind, check bool) (*proto.Signed, error) {
	if !check {
		return openUnchecked(raw, kind)
	}
	return openSigned(net.ID, raw, kind)
}

// wasSlashed reports whether an offence was punished.
func (p *post) wasSlashed(code uint64) bool {
	for b := p.slashed; len(b) >= 8; b = b[8:] {
		if binary.BigEndian.Uint64([]byte(b[:8])) == code {
			return true
		}
	}
	return false
}

// slash punishes an offence: a share of the stake is burned the first time
// and all of it later, and the account is frozen until its recovery key speaks.
func (t *tx) slash(account peer.ID, b *proto.Slash, e *effect) error {
	o, err := checkEvidence(t.net, b.Evidence, !t.trusted)
	if err != nil {
		return err
	}
	p := &e.post
	switch {
	case o.Account != account:
		return proto.CodeInvalidEvent.Errorf("evidence against %s", o.Account)
	case p.wasSlashed(o.code) && !t.base.off.has(guardSlashOnce):
		return proto.CodeInvalidEvent.Errorf("this offence was slashed before")
	case len(p.slashed) >= 8*maxOffences:
		return proto.CodeInvalidEvent.Errorf("%d offences were slashed, there is nothing left", maxOffences)
	case !o.Votes && (o.signer != p.signer(account) || o.code < p.keySeq) && !t.base.off.has(guardOldKey):
		// A key that a Rotate put out of use can sign anything at will.
		return proto.CodeInvalidEvent.Errorf("the evidence is signed by %s, who is not the account's key in this slot", o.signer)
	}
	total, err := sum(p.staked, p.unbonding)
	if err != nil {
		return err
	}
	burn := total
	if p.slashed == "" {
		burn = mulDiv(total, slashPpm, 1_000_000)
	}
	fromStake := min(burn, p.staked)
	p.staked -= fromStake
	p.unbonding -= burn - fromStake
	p.flags |= flagFrozen
	p.slashed = string(binary.BigEndian.AppendUint64([]byte(p.slashed), o.code))
	e.burned, err = sum(e.burned, burn)
	return err
}

// void checks the proof that the slot was given up.
func (t *tx) void(account peer.ID, ev *proto.Event, e *effect) error {
	b := ev.GetVoid()
	switch b.Reason {
	case VoidSkipped:
		return t.checkSkip(account, ev, b.Skip, e)
	case VoidExpired:
		return t.checkExpired(account, ev, b.Skip, e)
	case VoidSlashed:
		if len(b.Skip) > 0 || !e.post.wasSlashed(ev.Seq) {
			return proto.CodeInvalidEvent.Errorf("no offence at seq %d was slashed", ev.Seq)
		}
		return nil
	}
	return proto.CodeInvalidEvent.Errorf("void for reason %d", b.Reason)
}

// checkSkip wants the owner's word, by its key or its recovery key.
func (t *tx) checkSkip(account peer.ID, ev *proto.Event, raw []byte, e *effect) error {
	s, err := unseal(t.net, raw, proto.KindSkip, !t.trusted)
	if err != nil {
		return fmt.Errorf("void: %w", err)
	}
	k := s.Payload.GetSkip()
	switch {
	case t.base.off.has(guardSkip):
	case string(k.Account) != string(account) || k.Seq != ev.Seq || hasUnknown(s.Payload):
		return proto.CodeInvalidEvent.Errorf("void: the skip is for another slot")
	case s.Signer != e.post.signer(account) && (e.post.recoveryKey == "" || s.Signer != peer.ID(e.post.recoveryKey)):
		return proto.CodeBadSignature.Errorf("void: the skip is signed by %s", s.Signer)
	}
	return nil
}

// checkExpired wants an event that the owner signed for the slot, that its epoch
// binds to its time, and that the time is over. No honest owner signs another
// one for the slot, so nothing is lost that could still be certified.
func (t *tx) checkExpired(account peer.ID, ev *proto.Event, raw []byte, e *effect) error {
	c, err := decode(t.net, raw, !t.trusted)
	if err != nil {
		return fmt.Errorf("void: %w", err)
	}
	switch {
	case c.Account != account || c.Seq != ev.Seq || madeByWitness(c.Event):
		return proto.CodeInvalidEvent.Errorf("void: the expired event is for another slot")
	case c.Signer != e.post.signer(account):
		return proto.CodeBadSignature.Errorf("void: the expired event is signed by %s", c.Signer)
	case !dated(c.Event):
		return proto.CodeInvalidEvent.Errorf("void: a %s does not expire", kindName(c.Event))
	case t.base.newest < passedAt(c.Event.Epoch):
		return &missingError{[]proto.Hash{epochNeed(passedAt(c.Event.Epoch))}}
	}
	return nil
}

// draftExpired is the Void that ends a slot whose owner's event, a marshalled
// Envelope, has expired.
func (l *Ledger) draftExpired(account peer.ID, raw []byte) (*proto.Event, error) {
	return l.draftWitness(account, &proto.Event{Body: &proto.Event_Void{Void: &proto.Void{Reason: VoidExpired, Skip: raw}}})
}

// DraftVoid is the event that fills the account's next slot because its owner
// gave it up: skip is a marshalled Envelope of Skip for that slot, or nil when
// an offence in it was slashed before. A witness signs it with proto.Seal.
// Equal states and proofs give equal bytes, so every witness drafts the same
// event. Errors carry CodeInvalidEvent or CodeBadSignature.
func (l *Ledger) DraftVoid(account peer.ID, skip []byte) (*proto.Event, error) {
	v := &proto.Void{Reason: VoidSkipped, Skip: skip}
	if skip == nil {
		v.Reason = VoidSlashed
	}
	return l.draftWitness(account, &proto.Event{Body: &proto.Event_Void{Void: v}})
}

// DraftSlash is the event that punishes the offence that evidence (see
// NewEvidence) proves, in the next slot of the offender's chain. Errors say
// that it proves none or that it was punished before.
func (l *Ledger) DraftSlash(evidence []byte) (*proto.Event, error) {
	o, err := CheckEvidence(l.net, evidence)
	if err != nil {
		return nil, fmt.Errorf("slash: %w", err)
	}
	return l.draftWitness(o.Account, &proto.Event{Body: &proto.Event_Slash{Slash: &proto.Slash{Evidence: evidence}}})
}

// draftWitness fills in an event that a witness makes. Its epoch is that of
// the event before it: no rule of these kinds reads one, and any other choice
// could differ between witnesses.
func (l *Ledger) draftWitness(account peer.ID, ev *proto.Event) (*proto.Event, error) {
	t := newTx(l.net, &l.s)
	a := t.account(account)
	ev.Account, ev.Epoch = []byte(account), a.epoch
	return l.finish(t, account, ev)
}

// mulDiv is ⌊a·b/c⌋ for results that fit.
func mulDiv(a, b, c uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	if hi >= c {
		return 1<<64 - 1
	}
	q, _ := bits.Div64(hi, lo, c)
	return q
}
