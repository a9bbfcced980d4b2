package ledger

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// AuthorConfig is what an account's owner needs to speak with the witnesses.
type AuthorConfig struct {
	// Sign seals a payload with the account's key, as proto.Seal does.
	Sign func(*proto.Payload) ([]byte, error)
	// Resend is the time between repetitions; it doubles up to 8 times. 0
	// means 1 s.
	Resend time.Duration
}

func (c AuthorConfig) withDefaults() AuthorConfig {
	if c.Resend == 0 {
		c.Resend = time.Second
	}
	return c
}

// Proposal brings one place of an account's chain to a decision: it proposes
// a signed event, or a Skip, to every witness until there is a certificate for
// the place. It shares the ledger's lock and reads no clock.
type Proposal struct {
	l       *Ledger
	cfg     AuthorConfig
	slot    *proto.Slot
	id      string // CID bytes; "" for a Skip
	said    string // CID bytes of the event or of the Skip's envelope
	raw     []byte
	attach  []*proto.CertifiedEvent
	frame   *proto.VoteFrame
	commits map[peer.ID]*ballot
	refused map[peer.ID]error
	won     *Certified
	err     error
	resend  time.Time
	pause   time.Duration
}

// NewProposal proposes a signed event, which SaveIntent should have made
// durable.
func NewProposal(l *Ledger, raw []byte, cfg AuthorConfig) (*Proposal, error) {
	c, err := decode(l.net, raw, true)
	if err != nil {
		return nil, fmt.Errorf("propose: %w", err)
	}
	p := newProposal(l, AccountSlot(c.Account, c.Seq), cfg)
	p.id, p.raw, p.attach = string(c.ID.Bytes()), slices.Clone(raw), l.Attachments(c.Event)
	p.said = p.id
	return p, p.build()
}

// NewSkip gives up a place: raw is the marshalled Envelope of Skip. The
// witnesses certify a body that they voted for before, or Void.
func NewSkip(l *Ledger, raw []byte, cfg AuthorConfig) (*Proposal, error) {
	o, err := openObjection(l.net, raw, true)
	if err != nil {
		return nil, fmt.Errorf("skip: %w", err)
	}
	if o.kind != proto.KindSkip {
		return nil, proto.CodeMalformed.Errorf("skip: %s where a skip was expected", o.kind)
	}
	p := newProposal(l, AccountSlot(o.account, o.seq), cfg)
	p.frame = &proto.VoteFrame{Body: &proto.VoteFrame_Skip{Skip: slices.Clone(raw)}}
	p.said = string(proposed(p.frame))
	return p, nil
}

func newProposal(l *Ledger, slot *proto.Slot, cfg AuthorConfig) *Proposal {
	cfg = cfg.withDefaults()
	return &Proposal{
		l: l, cfg: cfg, slot: slot, commits: map[peer.ID]*ballot{}, refused: map[peer.ID]error{}, resend: atOnce, pause: cfg.Resend,
	}
}

func (p *Proposal) build() error {
	m, err := NewPropose(p.raw, p.attach)
	if err != nil {
		return err
	}
	env, err := p.cfg.Sign(m)
	if err != nil {
		return fmt.Errorf("propose: %w", err)
	}
	p.frame = &proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: env}}
	return nil
}

// Next is when Tick has something to do: at once in the beginning, never once
// there is a Result.
func (p *Proposal) Next() time.Time {
	if _, _, ok := p.Result(); ok {
		return time.Time{}
	}
	return p.resend
}

// Tick sends the proposal again when it is time.
func (p *Proposal) Tick(now time.Time) []Output {
	if next := p.Next(); next.IsZero() || now.Before(next) {
		return nil
	}
	p.resend = now.Add(p.pause)
	p.pause = min(2*p.pause, 8*p.cfg.Resend)
	return []Output{Send{p.l.net.Witnesses, p.frame}}
}

// Result is known once the place is decided: the event that has it, which may
// be another than the one proposed, and which is in the ledger. An error says
// that so many witnesses refuse the event that an honest one is among them; it
// carries their code.
func (p *Proposal) Result() (won *Certified, err error, ok bool) {
	if p.won == nil && p.err == nil {
		a := p.slot.GetAccount()
		if c, ok := p.l.At(peer.ID(a.Account), a.Seq); ok {
			p.won = c
		}
	}
	return p.won, p.err, p.won != nil || p.err != nil
}

// Handle takes a frame from a witness.
func (p *Proposal) Handle(now time.Time, from peer.ID, f *proto.VoteFrame) ([]Output, error) {
	if _, _, ok := p.Result(); ok {
		return nil, nil
	}
	switch b := f.GetBody().(type) {
	case *proto.VoteFrame_Commit:
		return p.commit(b.Commit)
	case *proto.VoteFrame_Certified:
		return p.certified(b.Certified)
	case *proto.VoteFrame_Error:
		return p.refusal(from, b.Error)
	}
	return nil, nil // Prepares and the like are between witnesses
}

func (p *Proposal) commit(raw []byte) ([]Output, error) {
	by, slot, round, id, err := vote(p.l.net, proto.KindCommit, raw)
	if err != nil || !sameSlot(slot, p.slot) || string(id) != p.id {
		return nil, err
	}
	if old := p.commits[by]; old == nil || round > old.round {
		p.commits[by] = &ballot{round, p.id, raw}
	}
	var all [][]byte
	for _, b := range p.commits {
		all = append(all, b.raw)
	}
	own, err := proto.ParseCID([]byte(p.id))
	if err != nil {
		return nil, err
	}
	cert, ok := Certify(p.l.net, p.slot, own, all)
	if !ok {
		return nil, nil
	}
	return p.certified(&proto.CertifiedEvent{Event: p.raw, Certificate: cert})
}

func (p *Proposal) certified(wire *proto.CertifiedEvent) ([]Output, error) {
	c, err := Verify(p.l.net, wire)
	if err != nil {
		return nil, err
	}
	added, refused, err := p.l.add(nil, []*Certified{c})
	if err != nil {
		return nil, err
	}
	var outs []Output
	if len(added) > 0 {
		outs = append(outs, Added{added})
	}
	if refused == nil && sameSlot(AccountSlot(c.Account, c.Seq), p.slot) {
		p.won = c
	}
	return outs, refused
}

// refusal counts final refusals and sends what a witness says it lacks.
func (p *Proposal) refusal(from peer.ID, e *proto.VoteError) ([]Output, error) {
	code := proto.Code(e.Code)
	// An error about no slot may be the answer to something else that this peer
	// sent, evidence say, unless it is about the two of them.
	general := e.Slot == nil && (code == proto.CodeNotWitness || code == proto.CodeWrongNetwork)
	if !p.l.net.IsWitness(from) || !general && (e.Slot == nil || !sameSlot(e.Slot, p.slot) || string(e.Refused) != p.said) {
		return nil, nil // the last: a late answer to what was proposed before
	}
	switch code {
	case proto.CodeMissing:
		if !p.extend(e.Missing) {
			return nil, nil
		}
		if err := p.build(); err != nil {
			return nil, err
		}
		return []Output{Send{[]peer.ID{from}, p.frame}}, nil
	case proto.CodeMalformed, proto.CodeBadSignature, proto.CodeWrongNetwork, proto.CodeTooLarge, proto.CodeUnknownKind,
		proto.CodeNotFound, proto.CodeInsufficient, proto.CodeNotWitness, proto.CodeInvalidEvent:
		p.refused[from] = code.Errorf("%s", proto.Clip(e.Reason, 256))
		if len(p.refused) > p.l.net.F() {
			p.err = p.refused[from]
		}
	}
	return nil, nil // everything else passes
}

// extend attaches more events; false when there is none to add.
func (p *Proposal) extend(missing [][]byte) bool {
	if p.raw == nil || len(missing) > maxMissing {
		return false
	}
	before := len(p.attach)
	for _, raw := range missing {
		id, err := proto.ParseCID(raw)
		if err != nil {
			continue
		}
		c, ok := p.l.Get(id)
		if ok && len(p.attach) < maxMissing && !slices.ContainsFunc(p.attach, func(x *proto.CertifiedEvent) bool { return x == c.Wire }) {
			p.attach = append(p.attach, c.Wire)
		}
	}
	return len(p.attach) > before
}

// Recovery asks a quorum of witnesses where an account's chain ends: to be
// done before anything is signed after a restart, in a fresh tab or from a
// backup, because a second body for a place is equivocation.
type Recovery struct {
	l       *Ledger
	account peer.ID
	nonce   []byte
	cfg     AuthorConfig
	heads   map[peer.ID]*Certified // nil value: the witness knows no event
	above   map[string]*body
	resend  time.Time
	pause   time.Duration
}

// Recovered is what a quorum said.
type Recovered struct {
	Head *Certified // nil when no witness knows an event of the account
	// Finish holds the owner's signed events above the head that witnesses have
	// seen, by seq: they must be proposed again before anything else is signed.
	Finish [][]byte
	// Skip is what to sign and hand to NewSkip, nil when it is not needed: this
	// ledger is older than the account, so something signed before may still
	// arrive at the witnesses.
	Skip *proto.Skip
}

// NewRecovery wants 16 or more random bytes (at most 64) so that old answers
// count for nothing.
func NewRecovery(l *Ledger, account peer.ID, nonce []byte, cfg AuthorConfig) (*Recovery, error) {
	if _, err := proto.ParsePeer([]byte(account)); err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	if len(nonce) < 16 || len(nonce) > 64 {
		return nil, errors.New("recover: want a nonce of 16 to 64 bytes")
	}
	cfg = cfg.withDefaults()
	return &Recovery{
		l: l, account: account, nonce: nonce, cfg: cfg, heads: map[peer.ID]*Certified{}, above: map[string]*body{}, resend: atOnce, pause: cfg.Resend,
	}, nil
}

// Next is when Tick has something to do; zero once enough witnesses answered.
func (r *Recovery) Next() time.Time {
	if len(r.heads) >= r.l.net.Quorum() {
		return time.Time{}
	}
	return r.resend
}

// Tick asks the witnesses that have not answered.
func (r *Recovery) Tick(now time.Time) []Output {
	if next := r.Next(); next.IsZero() || now.Before(next) {
		return nil
	}
	r.resend = now.Add(r.pause)
	r.pause = min(2*r.pause, 8*r.cfg.Resend)
	var to []peer.ID
	for _, w := range r.l.net.Witnesses {
		if _, ok := r.heads[w]; !ok {
			to = append(to, w)
		}
	}
	return []Output{Send{to, &proto.VoteFrame{Body: &proto.VoteFrame_HeadRequest{
		HeadRequest: &proto.HeadRequest{Account: []byte(r.account), Nonce: r.nonce},
	}}}}
}

// Handle takes a witness's signed HeadReport; other frames are ignored.
func (r *Recovery) Handle(_ time.Time, _ peer.ID, f *proto.VoteFrame) error {
	if f.GetHeadReport() == nil {
		return nil
	}
	by, head, above, err := VerifyHead(r.l.net, f.GetHeadReport(), r.account, r.nonce)
	if err != nil {
		return err
	}
	if _, ok := r.heads[by]; ok {
		return nil
	}
	r.heads[by] = head
	for _, raw := range above {
		c, err := decode(r.l.net, raw, false)
		if err == nil && !madeByWitness(c.Event) {
			r.above[string(c.ID.Bytes())] = &body{id: string(c.ID.Bytes()), raw: raw, c: c}
		}
	}
	return nil
}

// Result is known once a quorum answered. lost says that the owner knows its
// ledger to be older than what it may have signed, as after a restore; without
// it that is found out as far as it can be seen.
func (r *Recovery) Result(lost bool) (*Recovered, bool) {
	if len(r.heads) < r.l.net.Quorum() {
		return nil, false
	}
	out := new(Recovered)
	for _, w := range r.l.net.Witnesses {
		if h := r.heads[w]; h != nil && (out.Head == nil || h.Seq > out.Head.Seq) {
			out.Head = h
		}
	}
	next := uint64(0)
	if a := r.l.s.accounts[r.account]; a != nil && a.head() != nil && (out.Head == nil || a.head().Seq > out.Head.Seq) {
		out.Head = a.head() // this ledger knows a later one
	}
	if out.Head != nil {
		next = out.Head.Seq + 1
	}
	intent := ""
	if in := r.l.intents[r.account]; in != nil {
		if c, err := decode(r.l.net, in.raw, false); err == nil {
			intent = string(c.ID.Bytes())
		}
	}
	if out.Head != nil && !r.l.Has(out.Head.ID) && string(out.Head.ID.Bytes()) != intent {
		lost = true
	}
	var finish []*body
	for _, b := range r.above {
		if b.c.Seq >= next {
			finish = append(finish, b)
			lost = lost || b.id != intent
		}
	}
	slices.SortFunc(finish, func(a, b *body) int {
		if a.c.Seq != b.c.Seq {
			return int(a.c.Seq) - int(b.c.Seq)
		}
		return slices.Compare([]byte(a.id), []byte(b.id))
	})
	for _, b := range finish {
		out.Finish = append(out.Finish, b.raw)
	}
	if lost && len(finish) == 0 && next > 0 {
		out.Skip = &proto.Skip{Account: []byte(r.account), Seq: next}
	}
	return out, true
}
