package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// Witness votes on slots. It keeps no vote in memory: what it once signed is
// what the store says, before and after a restart.
//
// Records, under the byte 'v' and one more byte, by slot and round:
//
//	b slot id    -> marshalled Envelope of a body seen for the slot
//	p slot round -> marshalled Prepare
//	c slot round -> marshalled Commit
//	l slot       -> marshalled Report: the round entered and the lock
//
// They go away with the batch that stores the certified event, which answers
// every later message for the slot.
type Witness struct {
	net   *proto.Network
	self  peer.ID
	l     *Ledger
	store Store
}

// NewWitness makes the witness self, which the genesis must name. Its votes
// live in the ledger's own store, so that one batch can hold both. Networks of
// several witnesses need rounds and recovery, which this version refuses.
func NewWitness(net *proto.Network, self peer.ID, l *Ledger, store Store) (*Witness, error) {
	switch {
	case !net.IsWitness(self):
		return nil, proto.CodeNotWitness.Errorf("witness: the genesis does not name %s", self)
	case len(net.Witnesses) != 1:
		return nil, fmt.Errorf("witness: the genesis names %d witnesses; this version supports one, several come later", len(net.Witnesses))
	case store != l.store || net.ID != l.net.ID:
		return nil, errors.New("witness: votes and events want one store and one network")
	}
	return &Witness{net, self, l, store}, nil
}

// Votes of a slot as they are stored.
type votes struct {
	slot *proto.Slot
	key  []byte
}

func slotKey(s *proto.Slot) []byte {
	if a := s.GetAccount(); a != nil {
		b := append([]byte{'a'}, a.Account...)
		return binary.BigEndian.AppendUint64(b, a.Seq)
	}
	return binary.BigEndian.AppendUint64([]byte{'c'}, s.GetCheckpointEpoch())
}

func (v votes) record(kind byte, suffix ...byte) []byte {
	return slices.Concat([]byte{spaceVote, kind}, v.key, suffix)
}

func (v votes) round(kind byte, round uint32) []byte {
	return v.record(kind, binary.BigEndian.AppendUint32(nil, round)...)
}

// Handle judges a Propose envelope as received and answers with the
// certified event, or with a VoteError: CodeMissing names attachments to send
// along, CodeConflict means that another body has the slot, and other codes
// say what is wrong with the proposal. The same body always gets the same
// certificate. sign seals a payload with the witness's key; what it signs is
// durable before it is called. An error is a fault of this machine, and then
// nothing may be answered. No rule reads now yet: refusing an event by the
// clock would block its account for good until owners can give up a slot.
func (w *Witness) Handle(now time.Time, raw []byte, sign func(*proto.Payload) ([]byte, error)) (*proto.VoteFrame, error) {
	_ = now
	c, p, err := w.open(raw)
	if err != nil {
		return refuse(err), nil
	}
	if known, ok := w.l.At(c.Account, c.Seq); ok {
		return w.certified(known, c)
	}
	v := votes{p.Slot, slotKey(p.Slot)}
	prepared := new(proto.Prepare)
	switch value, err := w.store.Get(v.round('p', 0)); {
	case err != nil:
		return nil, fmt.Errorf("witness: %w", err)
	case value != nil:
		if err := goproto.Unmarshal(value, prepared); err != nil {
			return nil, fmt.Errorf("witness: prepare record: %w", err)
		}
		if string(prepared.Id) != string(c.ID.Bytes()) {
			return refuse(proto.CodeConflict.Errorf("another event has seq %d of %s", c.Seq, c.Account)), nil
		}
		// Judged before the first signature; a vote is never recomputed.
	default:
		if frame, err := w.judge(c, p); frame != nil || err != nil {
			return frame, err
		}
		prepared = &proto.Prepare{Slot: p.Slot, Id: c.ID.Bytes()}
		if err := w.lock(v, c, prepared, p.Body); err != nil {
			return nil, err
		}
	}
	cert, err := w.vote(v, prepared, sign)
	if err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	c.Wire = &proto.CertifiedEvent{Event: p.Body, Certificate: cert}
	if _, err := w.l.AddVerified(w.votesDone(v, c), c); err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	known, ok := w.l.At(c.Account, c.Seq)
	if !ok {
		return nil, fmt.Errorf("witness: event %s was prepared and does not follow its prev", c.ID)
	}
	return w.certified(known, c)
}

// certified answers a proposal for a slot that is decided.
func (w *Witness) certified(known, proposed *Certified) (*proto.VoteFrame, error) {
	if known.hash != proposed.hash {
		return refuse(proto.CodeConflict.Errorf("event %s has seq %d of %s", known.ID, known.Seq, known.Account)), nil
	}
	return &proto.VoteFrame{Body: &proto.VoteFrame_Certified{Certified: known.Wire}}, nil
}

// open checks a proposal without looking at any state.
func (w *Witness) open(raw []byte) (*Certified, *proto.Propose, error) {
	s, err := proto.Unseal(w.net.ID, raw, proto.KindPropose)
	if err != nil {
		return nil, nil, err
	}
	p := s.Payload.GetPropose()
	slot := p.GetSlot().GetAccount()
	if slot == nil {
		return nil, nil, proto.CodeInvalidEvent.Errorf("propose: checkpoints are not supported yet")
	}
	if p.Round != 0 || len(p.Justification) != 0 {
		return nil, nil, proto.CodeInvalidEvent.Errorf("propose: round %d; a single witness has round 0 only", p.Round)
	}
	if string(s.Signer) != string(slot.Account) {
		return nil, nil, proto.CodeInvalidEvent.Errorf("propose: round 0 is led by the account's owner, not by %s", s.Signer)
	}
	c, err := decode(w.net, p.Body, true)
	if err != nil {
		return nil, nil, fmt.Errorf("propose: %w", err)
	}
	if c.Account != s.Signer || c.Seq != slot.Seq {
		return nil, nil, proto.CodeInvalidEvent.Errorf("propose: the body belongs to another slot")
	}
	return c, p, nil
}

// judge is the full check of an unjustified proposal (rule 4): attachments,
// prev and sources certified, the event's own rule, freshness.
func (w *Witness) judge(c *Certified, p *proto.Propose) (refusal *proto.VoteFrame, err error) {
	if len(p.Attachments) > MaxSources+1 {
		return refuse(proto.CodeTooLarge.Errorf("propose: %d attachments, at most %d", len(p.Attachments), MaxSources+1)), nil
	}
	var cs []*Certified
	for _, a := range p.Attachments {
		if s, err := proto.Inspect(a.GetEvent(), proto.KindEvent); err == nil && w.l.known(s.ID) {
			continue
		}
		x, err := Verify(w.net, a)
		if err != nil {
			return refuse(fmt.Errorf("attachment: %w", err)), nil
		}
		cs = append(cs, x)
	}
	if _, _, err := w.l.add(nil, cs); err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	if err := w.l.checkEpoch(c.Event.Epoch); err != nil {
		return refuse(err), nil
	}
	if _, err := newTx(w.net, &w.l.s).judge(c); err != nil {
		return refuse(err), nil
	}
	return nil, nil
}

// lock makes the vote durable. One witness is its own quorum, so its Prepare
// is the PQC and its Commit follows without another choice: both, the lock and
// the body go into one batch. The PQC's signature can be made again at will.
func (w *Witness) lock(v votes, c *Certified, prepared *proto.Prepare, body []byte) error {
	id := c.ID.Bytes()
	var batch []Record
	for _, r := range []struct {
		key []byte
		m   goproto.Message
	}{
		{v.round('p', 0), prepared},
		{v.round('c', 0), &proto.Commit{Slot: v.slot, Id: id}},
		{v.record('l'), &proto.Report{Slot: v.slot, LockId: id}},
	} {
		value, err := goproto.Marshal(r.m)
		if err != nil {
			return fmt.Errorf("witness: %w", err)
		}
		batch = append(batch, Record{r.key, value})
	}
	batch = append(batch, Record{v.record('b', c.hash[:]...), body})
	if err := w.store.Append(batch...); err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	return nil
}

// vote signs what lock made durable: rules 4 to 6 in one go.
func (w *Witness) vote(v votes, prepared *proto.Prepare, sign func(*proto.Payload) ([]byte, error)) (*proto.Certificate, error) {
	id, err := proto.ParseCID(prepared.Id)
	if err != nil {
		return nil, err
	}
	prepare, err := sign(&proto.Payload{Body: &proto.Payload_Prepare{Prepare: prepared}})
	if err != nil {
		return nil, err
	}
	round, _, ok := PreparedQuorum(w.net, v.slot, id, [][]byte{prepare})
	if !ok {
		return nil, errors.New("the signed prepare is not this witness's")
	}
	commit, err := sign(&proto.Payload{Body: &proto.Payload_Commit{Commit: &proto.Commit{Slot: v.slot, Round: round, Id: prepared.Id}}})
	if err != nil {
		return nil, err
	}
	cert, ok := Certify(w.net, v.slot, id, [][]byte{commit})
	if !ok {
		return nil, errors.New("the signed commit is not this witness's")
	}
	return cert, nil
}

func (w *Witness) votesDone(v votes, c *Certified) []Record {
	return []Record{{v.round('p', 0), nil}, {v.round('c', 0), nil}, {v.record('l'), nil}, {v.record('b', c.hash[:]...), nil}}
}

func refuse(err error) *proto.VoteFrame {
	e := &proto.VoteError{Code: uint32(proto.CodeOf(err)), Reason: clip(err.Error(), 256)}
	var lacks *missingError
	if errors.As(err, &lacks) {
		e.Code = uint32(proto.CodeMissing)
		for _, h := range lacks.ids {
			e.Missing = append(e.Missing, h.CID().Bytes())
		}
	}
	return &proto.VoteFrame{Body: &proto.VoteFrame_Error{Error: e}}
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 { // never inside a rune
		n--
	}
	return s[:n]
}

// maxAbove bounds the bodies in a HeadReport.
const maxAbove = 8

// Head is the witness's answer to a HeadRequest, to be signed by it: the
// account's certified head, and the bodies that it has seen above the head and
// may have voted for, which the owner must finish before it signs another.
func (w *Witness) Head(account peer.ID, nonce []byte) (*proto.HeadReport, error) {
	if _, err := proto.ParsePeer([]byte(account)); err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	if len(nonce) > 64 {
		return nil, proto.CodeTooLarge.Errorf("head: nonce of %d bytes, at most 64", len(nonce))
	}
	r := &proto.HeadReport{Account: []byte(account), Nonce: nonce}
	if a := w.l.s.accounts[account]; a != nil && a.head() != nil {
		r.Head = a.head().Wire
	}
	prefix := append([]byte{spaceVote, 'b', 'a'}, account...)
	err := w.store.Scan(prefix, func(_, body []byte) error {
		if len(r.Above) < maxAbove {
			r.Above = append(r.Above, slices.Clone(body))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	return r, nil
}

// VerifyHead checks a marshalled Envelope of HeadReport: a witness signed it
// for this account and nonce, the head is certified, and the bodies are the
// account's own events above it. Head and Above are returned checked; head is
// nil when the account has no event.
func VerifyHead(net *proto.Network, raw []byte, account peer.ID, nonce []byte) (witness peer.ID, head *Certified, above [][]byte, err error) {
	s, err := proto.Unseal(net.ID, raw, proto.KindHeadReport)
	if err != nil {
		return "", nil, nil, fmt.Errorf("head report: %w", err)
	}
	if !net.IsWitness(s.Signer) {
		return "", nil, nil, proto.CodeNotWitness.Errorf("head report by %s, who is no witness", s.Signer)
	}
	r := s.Payload.GetHeadReport()
	if string(r.Account) != string(account) || string(r.Nonce) != string(nonce) {
		return "", nil, nil, proto.CodeMalformed.Errorf("head report answers another request")
	}
	next := uint64(0)
	if r.Head != nil {
		if head, err = Verify(net, r.Head); err != nil {
			return "", nil, nil, fmt.Errorf("head report: %w", err)
		}
		if head.Account != account {
			return "", nil, nil, proto.CodeMalformed.Errorf("head report: the head is another account's")
		}
		next = head.Seq + 1
	}
	if len(r.Above) > maxAbove {
		return "", nil, nil, proto.CodeTooLarge.Errorf("head report: %d bodies, at most %d", len(r.Above), maxAbove)
	}
	for _, b := range r.Above {
		c, err := decode(net, b, true)
		if err != nil {
			return "", nil, nil, fmt.Errorf("head report: %w", err)
		}
		if c.Account != account || c.Seq < next {
			return "", nil, nil, proto.CodeMalformed.Errorf("head report: a body is not above the head")
		}
	}
	return s.Signer, head, r.Above, nil
}
