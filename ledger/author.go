package ledger

import (
	"fmt"
	"slices"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// intent is the account's own signed event that is not certified yet.
type intent struct {
	seq uint64
	raw []byte
}

// Draft makes the account's next event, to be signed with proto.Seal as
// Payload_Event: seq, prev and post follow from the effective state. body is a
// *proto.Open, *proto.Transfer, *proto.Receive, *proto.Hold, *proto.Extend,
// *proto.Settle, Stake, Unstake, Withdraw or *proto.Rotate; an account's first
// event is Open. Sign with the account's key (see Signer), a Rotate with
// recovery set with its recovery key. The epoch is that of the newest
// checkpoint: see Epoch. Errors carry CodeInsufficient
// (with need and have in credits), CodeConflict (a signed event is not
// certified yet: see Intent), CodeNotFinal (a source is not certified here),
// CodeTooLarge or CodeInvalidEvent.
func (l *Ledger) Draft(account peer.ID, epoch, authorTimeUnixMs uint64, body any) (*proto.Event, error) {
	ev := &proto.Event{Account: []byte(account), Epoch: epoch, AuthorTimeUnixMs: authorTimeUnixMs, Post: new(proto.Post)}
	switch b := body.(type) {
	case *proto.Open:
		ev.Body = &proto.Event_Open{Open: b}
	case *proto.Transfer:
		ev.Body = &proto.Event_Transfer{Transfer: b}
	case *proto.Receive:
		ev.Body = &proto.Event_Receive{Receive: b}
	case *proto.Hold:
		ev.Body = &proto.Event_Hold{Hold: b}
	case *proto.Extend:
		ev.Body = &proto.Event_Extend{Extend: b}
	case *proto.Settle:
		ev.Body = &proto.Event_Settle{Settle: b}
	case Stake:
		ev.Body = &proto.Event_Stake{Stake: &proto.Amount{Amount: uint64(b)}}
	case Unstake:
		ev.Body = &proto.Event_Unstake{Unstake: &proto.Amount{Amount: uint64(b)}}
	case Withdraw:
		ev.Body = &proto.Event_Withdraw{Withdraw: &proto.Amount{Amount: uint64(b)}}
	case *proto.Rotate:
		ev.Body = &proto.Event_Rotate{Rotate: b}
	default:
		return nil, proto.CodeInvalidEvent.Errorf("draft: %T is no body of an owner's event", body)
	}
	name := kindName(ev)
	_, open := body.(*proto.Open)
	if in := l.intents[account]; in != nil && (in.seq > 0 || !open) {
		return nil, proto.CodeConflict.Errorf("%s: the event at seq %d is signed and not certified yet", name, in.seq)
	}
	t := newTx(l.net, &l.s)
	if !open && t.account(account).head() == nil {
		return nil, proto.CodeInvalidEvent.Errorf("%s: account %s is not opened", name, account)
	}
	if err := l.checkEpoch(epoch); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	ev, err := l.finish(t, account, ev)
	if err != nil {
		return nil, err
	}
	if n := payloadSize(ev); n > MaxAuthorEvent {
		return nil, proto.CodeTooLarge.Errorf("%s: %d bytes, at most %d; make several events", name, n, MaxAuthorEvent)
	}
	return ev, nil
}

// finish fills in the place of an event and the state after it.
func (l *Ledger) finish(t *tx, account peer.ID, ev *proto.Event) (*proto.Event, error) {
	name := kindName(ev)
	if head := t.account(account).head(); head != nil {
		ev.Seq, ev.Prev = head.Seq+1, head.ID.Bytes()
	}
	ev.Post = new(proto.Post)
	if _, err := validate(ev); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	e, err := t.delta(account, ev)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	ev.Post = e.post.wire()
	if n := payloadSize(ev); n > proto.KindEvent.Cap() {
		return nil, proto.CodeTooLarge.Errorf("%s: %d bytes, at most %d", name, n, proto.KindEvent.Cap())
	}
	return ev, nil
}

func payloadSize(ev *proto.Event) int {
	return goproto.Size(&proto.Payload{Body: &proto.Payload_Event{Event: ev}})
}

// Epoch is that of the newest certified checkpoint here; 0 is the genesis.
func (l *Ledger) Epoch() uint64 { return l.s.newest }

// checkEpoch judges freshness against the newest certified checkpoint. Only
// authors and those who prepare ask: it depends on when one asks. An epoch
// ahead may only be unknown here yet.
func (l *Ledger) checkEpoch(epoch uint64) error {
	code := proto.CodeInvalidEvent
	switch n := l.s.newest; {
	case epoch > n && epoch-n > epochLead:
		code = proto.CodeNotFinal
	case n < passedAt(epoch):
		return nil
	}
	return code.Errorf("epoch %d is more than %d away from that of the newest checkpoint, %d", epoch, epochLead, l.s.newest)
}

// passedAt is the first checkpoint after which an epoch is too old.
func passedAt(epoch uint64) uint64 { return epoch + epochLead + 1 }

// dated reports an event that does something else when it is certified late:
// its epoch starts a timer or picks a rate. Others may be certified at any time
// after they were fresh.
func dated(ev *proto.Event) bool {
	for _, s := range slices.Concat(ev.GetOpen().GetSources(), ev.GetReceive().GetSources()) {
		if s.GetBonus() > 0 {
			return true
		}
	}
	return ev.GetUnstake() != nil || ev.GetRotate() != nil && !ev.GetRotate().Recovery
}

// SplitSettle divides a Settle into several that each fit an event: many Done
// envelopes do not. Final stays with the last. Payments are cumulative, so
// they may be settled in any number of events.
func SplitSettle(s *proto.Settle) []*proto.Settle {
	// An event's other fields, post state included, stay below this.
	room := MaxAuthorEvent - 1280
	var out []*proto.Settle
	part := &proto.Settle{Hold: s.Hold}
	size := 0
	for _, p := range s.Pays {
		n := goproto.Size(p) + 4
		if len(part.Pays) > 0 && (size+n > room || len(part.Pays) == MaxPays) {
			out = append(out, part)
			part, size = &proto.Settle{Hold: s.Hold}, 0
		}
		part.Pays, size = append(part.Pays, p), size+n
	}
	part.Final = s.Final
	return append(out, part)
}

// Attachments lists the certified events that a witness may lack when it
// judges ev: its prev and sources, without those that this ledger lacks.
func (l *Ledger) Attachments(ev *proto.Event) []*proto.CertifiedEvent {
	var out []*proto.CertifiedEvent
	seen := map[proto.Hash]bool{}
	add := func(raw []byte) {
		id, err := proto.ParseCID(raw)
		if err != nil {
			return
		}
		if c, ok := l.Get(id); ok && !seen[c.hash] {
			seen[c.hash] = true
			out = append(out, c.Wire)
		}
	}
	add(ev.GetPrev())
	for _, s := range slices.Concat(ev.GetOpen().GetSources(), ev.GetReceive().GetSources()) {
		add(s.GetEvent())
	}
	return out
}

// NewPropose is the payload with which an account proposes its signed event
// raw for its place, to be signed by the account.
func NewPropose(raw []byte, attachments []*proto.CertifiedEvent) (*proto.Payload, error) {
	s, err := proto.Inspect(raw, proto.KindEvent)
	if err != nil {
		return nil, fmt.Errorf("propose: %w", err)
	}
	ev := s.Payload.GetEvent()
	return &proto.Payload{Body: &proto.Payload_Propose{Propose: &proto.Propose{
		Slot: AccountSlot(peer.ID(ev.Account), ev.Seq), Body: raw, Attachments: attachments,
	}}}, nil
}

// SaveIntent stores a signed event durably before it is sent anywhere, with
// the caller's own records in the same batch. From then on no other event is
// drafted for the account until one at its seq is certified: after a restart
// the very same bytes are proposed again. Saving the same event again only
// writes the caller's records; another one is CodeConflict. An Open may be
// replaced by another Open, which is no offence: one that became too old to be
// certified could not be skipped, and the account never be opened.
func (l *Ledger) SaveIntent(raw []byte, own ...Record) error {
	c, err := decode(l.net, raw, true)
	if err != nil {
		return fmt.Errorf("intent: %w", err)
	}
	if in := l.intents[c.Account]; in != nil && (in.seq != c.Seq || c.Seq > 0 && string(in.raw) != string(raw)) {
		return proto.CodeConflict.Errorf("intent: the event at seq %d is signed and not certified yet", in.seq)
	}
	if _, err := newTx(l.net, &l.s).judge(c); err != nil {
		return fmt.Errorf("intent: %w", err)
	}
	notes, kept, err := l.keepNotes(c)
	if err != nil {
		return fmt.Errorf("intent: %w", err)
	}
	if err := l.store.Append(slices.Concat([]Record{{intentKey(c.Account), raw}}, own, notes)...); err != nil {
		return fmt.Errorf("intent: %w", err)
	}
	kept()
	l.intents[c.Account] = &intent{c.Seq, slices.Clone(raw)}
	return nil
}

// Intent returns the account's signed event that is not certified yet, as
// SaveIntent stored it, or false. Adding any certified event at its seq ends
// it.
func (l *Ledger) Intent(account peer.ID) (raw []byte, ok bool) {
	in := l.intents[account]
	if in == nil {
		return nil, false
	}
	return slices.Clone(in.raw), true
}

func (l *Ledger) loadIntents() error {
	return l.store.Scan([]byte{spaceIntent}, func(_, value []byte) error {
		c, err := decode(l.net, value, false)
		if err != nil {
			return fmt.Errorf("intent: %w", err)
		}
		l.intents[c.Account] = &intent{c.Seq, slices.Clone(value)}
		return nil
	})
}
