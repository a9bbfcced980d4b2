package ledger

import (
	"bytes"
	"container/heap"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Bounds of what a witness keeps in memory.
const (
	maxLive       = 1 << 14 // undecided slots
	maxOpened     = 1 << 10 // undecided slots that one peer opened
	maxWaiters    = 4       // peers told directly when a slot is decided
	maxRound      = 1 << 20
	maxObjections = 4 // of one report, beside claim lists
	maxBodies     = 6
	maxRecent     = 4096 // decided slots of which late votes need no answer
	maxAccused    = 4    // of an account, until a Slash punished them
	maxMissing    = MaxSources + 1
)

// maxEvidence bounds the offences that a witness keeps until a Slash punished
// them. Tests make it small.
var maxEvidence = 4096

// DefaultVoteTimeout is T when WitnessConfig leaves it open.
const DefaultVoteTimeout = 2 * time.Second

// WitnessConfig is what a witness needs beside its ledger.
type WitnessConfig struct {
	// Sign seals a payload with the witness's key, as proto.Seal does. Whatever
	// it is asked to sign is durable already, and it must sign equal payloads
	// equally.
	Sign func(*proto.Payload) ([]byte, error)
	// T is how long a witness waits for round 0 and between repetitions of its
	// newest messages. Round r waits T·2^r, at most 4 T. 0 means
	// DefaultVoteTimeout.
	T time.Duration
	// Fetch says that the driver looks into the outputs of claims: for a claim
	// that rests on receipts a Fetch is put out, and it counts once Fetched says
	// that its outputs can be had. Without it nobody looks.
	Fetch bool
	// Reexecute says that the driver executes accused work again: for a receipt
	// that its submitter brings a Reexecute is put out. Without it this witness
	// reports no wrong work.
	Reexecute bool
	// Checkpoints judges and makes the bodies of checkpoint slots. With nil
	// those slots are refused.
	Checkpoints Checkpoints
}

// Checkpoints is what the agreement asks about checkpoint slots. Everything is
// a function of the ledger and of now.
type Checkpoints interface {
	// Due is the next epoch without a certified checkpoint and the earliest
	// time at which one may be proposed.
	Due() (epoch uint64, at time.Time)
	// Draft makes the next checkpoint from the events that this witness holds
	// and the marshalled FrontierChanges that it names. ok is false when there
	// is nothing to propose yet.
	Draft(now time.Time) (c *proto.Checkpoint, changes []byte, ok bool)
	// Valid judges another witness's checkpoint (rule 4). What it says of the
	// clock may only turn from an error to nil as time goes by. An error that
	// carries proto.CodeNotFinal says that events are missing here.
	Valid(now time.Time, c *proto.Checkpoint, changes []byte) error
	// Certified finds a certified checkpoint: its envelope and certificate.
	Certified(epoch uint64) (*proto.CertifiedEvent, bool)
	// Install unites a certified checkpoint with the set and writes own in the
	// same durable batch. changes is nil when this witness never saw them. An
	// error that carries a code means that it cannot be installed yet.
	Install(own []Record, body, changes []byte, cert *proto.Certificate) error
}

// Output is what a witness or an author wants done, in order.
type Output interface{ output() }

// Send is a frame for the /vote streams of some peers: witnesses, or peers
// that asked and wait for the answer.
type Send struct {
	To    []peer.ID
	Frame *proto.VoteFrame
}

// Added lists events that became effective in this call, each after its prev
// and sources: to be published on the credits topic.
type Added struct{ Events []*Certified }

// CheckpointAdded is a checkpoint that was certified and installed.
type CheckpointAdded struct{ Wire *proto.CertifiedEvent }

// Misconduct is portable proof that By signed two things of which an honest peer
// signs one: two votes of a witness in one round, two events of an account for
// one place.
type Misconduct struct {
	By       peer.ID
	Slot     *proto.Slot
	Evidence *proto.Evidence
}

func (Send) output()            {}
func (Added) output()           {}
func (CheckpointAdded) output() {}
func (Misconduct) output()      {}

// Witness agrees with the other witnesses on one body per slot: the ten rules
// of the package. It reads no clock and does no I/O but
// Store.Append; it is not safe for concurrent use. What it returns may be sent
// at once: everything behind it is durable.
type Witness struct {
	net   *proto.Network
	self  peer.ID
	rest  []peer.ID // the other witnesses
	l     *Ledger
	store Store
	cfg   WitnessConfig

	slots    map[string]*instance
	opened   map[peer.ID]int
	wakes    wakes
	evidence map[peer.ID][]*objection                // by account, what no Slash punished yet
	offences int                                     // in evidence
	claims   map[proto.Hash]map[uint32]claimed       // best one by hold and lane
	touched  map[proto.Hash]bool                     // holds that have records here
	ended    []proto.Hash                            // of these, maybe: closed ones
	over     map[peer.ID]map[proto.Hash]finishedHold // by payer
	fetches  map[string]*fetching                    // by claim
	pause    time.Time                               // after a failed write, until when holds wait
	again    []peer.ID                               // accounts whose next place may be to be opened
	base     uint64                                  // of the ledger, when touched was looked through
	unheard  []Output                                // of steps that failed later, see fail
	unsaved  []Record                                // of evidence, oldest first: the next write has them
	recent   map[string]map[peer.ID]bool
	order    []string // of recent, oldest first
	off      countermeasures
}

// countermeasures lets tests switch single rules off.
type countermeasures struct {
	rule2, rule3, rule5               bool
	close, closeFirst, slots, durable bool
	epochs                            bool // of owners' events are within epochLead of the newest
	maxHold                           bool // a hold's deadline lies no further ahead than the genesis allows
}

// NewWitness makes the witness self, which the genesis must name. Its votes
// live in the ledger's own store, so that one batch can hold both; votes of an
// earlier run are read from it and repeated at the first Tick.
func NewWitness(net *proto.Network, self peer.ID, l *Ledger, store Store, cfg WitnessConfig) (*Witness, error) {
	switch {
	case !net.IsWitness(self):
		return nil, proto.CodeNotWitness.Errorf("witness: the genesis does not name %s", self)
	case store != l.store || net.ID != l.net.ID:
		return nil, errors.New("witness: votes and events want one store and one network")
	case cfg.Sign == nil || cfg.T < 0:
		return nil, errors.New("witness: a way to sign and a waiting time that is not negative are needed")
	}
	if cfg.T == 0 {
		cfg.T = DefaultVoteTimeout
	}
	w := &Witness{
		net: net, self: self, l: l, store: store, cfg: cfg, slots: map[string]*instance{}, opened: map[peer.ID]int{},
		evidence: map[peer.ID][]*objection{}, recent: map[string]map[peer.ID]bool{},
		claims: map[proto.Hash]map[uint32]claimed{}, touched: map[proto.Hash]bool{}, base: l.base,
		over: map[peer.ID]map[proto.Hash]finishedHold{}, fetches: map[string]*fetching{},
	}
	for _, p := range net.Witnesses {
		if p != self {
			w.rest = append(w.rest, p)
		}
	}
	if err := w.load(); err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	return w, nil
}

// Live is the number of slots that this witness knows as undecided.
func (w *Witness) Live() int { return len(w.slots) }

// Handle takes one frame as received from a peer. What is wrong with it is
// answered with a VoteError to that peer; a proposal, a skip and a head request
// get their answer at once or when the slot is decided, a claim gets a
// ClaimReply at once or after Fetched. An error is a fault of
// this machine (its disk, its key), and then nothing may be sent.
func (w *Witness) Handle(now time.Time, from peer.ID, f *proto.VoteFrame) ([]Output, error) {
	s := &step{w: w, now: now, from: from}
	if err := s.holdsOver(); err != nil {
		return s.fail(err)
	}
	var slot *proto.Slot
	var err error
	switch b := f.GetBody().(type) {
	case *proto.VoteFrame_Propose:
		slot, err = s.propose(b.Propose)
	case *proto.VoteFrame_Prepare:
		slot, err = s.vote(proto.KindPrepare, b.Prepare)
	case *proto.VoteFrame_Commit:
		slot, err = s.vote(proto.KindCommit, b.Commit)
	case *proto.VoteFrame_Report:
		slot, err = s.report(b.Report)
	case *proto.VoteFrame_Skip:
		slot, err = s.skip(b.Skip)
	case *proto.VoteFrame_Evidence:
		err = s.proof(b.Evidence)
	case *proto.VoteFrame_HeadRequest:
		err = s.headRequest(b.HeadRequest)
	case *proto.VoteFrame_Certified:
		err = s.certified(b.Certified)
	case *proto.VoteFrame_WorkClaim:
		err = s.workClaim(b.WorkClaim)
	case *proto.VoteFrame_ProbeReport:
		err = s.probes(b.ProbeReport)
	case *proto.VoteFrame_WrongWorks:
		err = s.wrongWorks(b.WrongWorks)
	case *proto.VoteFrame_Accused:
		err = s.accused(b.Accused)
	case *proto.VoteFrame_Error:
		s.missing(b.Error) // errors are never answered with errors
	default:
		err = proto.CodeMalformed.Errorf("a witness takes proposals, votes, skips, evidence, claims and head requests")
	}
	var broken *fault
	switch {
	case errors.As(err, &broken):
		return s.fail(err)
	case err != nil:
		answer := refuse(err, slot)
		answer.GetError().Refused = proposed(f)
		s.answer(answer)
	}
	return s.end()
}

// end opens the places that this step found to be wanted.
func (s *step) end() ([]Output, error) {
	for len(s.w.again) > 0 {
		account := s.w.again[0]
		s.w.again = s.w.again[1:]
		if err := s.pursue(account); err != nil {
			var broken *fault
			if !errors.As(err, &broken) {
				continue // what it builds on has yet to come
			}
			s.w.again = append(s.w.again, account)
			return s.fail(err)
		}
	}
	if err := s.forgetHolds(); err != nil {
		return s.fail(err)
	}
	if recs := slices.Concat(s.w.unsaved, s.recs); len(recs) > 0 { // which no instance wrote
		if err := s.w.store.Append(recs...); err != nil {
			return s.fail(&fault{err})
		}
		s.w.unsaved, s.recs = nil, nil
	}
	outs := append(s.w.unheard, s.outs...)
	s.w.unheard = nil
	return outs, nil
}

// fail is the end of a step on a machine that is broken: nothing of it may be
// sent, and all of it is repeated later. What it made durable before is not, nor
// what the witness remembers as told: that the next step tells.
func (s *step) fail(err error) ([]Output, error) {
	for _, o := range s.outs {
		switch o.(type) {
		case Added, CheckpointAdded, Fetch, Misconduct:
			s.w.unheard = append(s.w.unheard, o)
		}
	}
	var broken *fault
	if errors.As(err, &broken) {
		err = broken.error
	}
	s.w.pause = s.now.Add(s.w.cfg.T)
	return nil, fmt.Errorf("witness: %w", err)
}

// Tick does what is due at now: repeats messages, ends rounds, proposes
// checkpoints. Call it when Next says so; calling it more often does no harm.
func (w *Witness) Tick(now time.Time) ([]Output, error) {
	s := &step{w: w, now: now}
	var broken *fault
	if err := s.holdsOver(); err != nil {
		return s.fail(err)
	}
	if err := s.dueCheckpoint(); errors.As(err, &broken) {
		return s.fail(err)
	}
	for len(w.wakes) > 0 && !w.wakes[0].at.After(now) {
		x := heap.Pop(&w.wakes).(wake)
		in := w.slots[x.key]
		if in == nil || !in.wake.Equal(x.at) {
			continue
		}
		in.wake = time.Time{}
		s.expired = false
		if err := s.tick(in); errors.As(err, &broken) {
			// Nothing of this call may be sent; it is all repeated later.
			w.wakeAt(in, now.Add(w.cfg.T))
			return s.fail(err)
		}
	}
	return s.end()
}

// fault is an error of this machine.
type fault struct{ error }

func (f *fault) Unwrap() error { return f.error }

// step is one call of Handle or Tick.
type step struct {
	w       *Witness
	now     time.Time
	from    peer.ID // "" in Tick
	outs    []Output
	recs    []Record
	expired bool  // a timer ended in this step
	broken  error // a body could not be signed
}

func (s *step) send(to []peer.ID, f *proto.VoteFrame) {
	if len(to) > 0 {
		s.outs = append(s.outs, Send{to, f})
	}
}

func (s *step) answer(f *proto.VoteFrame) {
	if s.from != "" {
		s.send([]peer.ID{s.from}, f)
	}
}

// proposed names what a frame wants to be decided: a slot's owner may have said
// something else for it meanwhile, which an answer that comes late is not about.
func proposed(f *proto.VoteFrame) []byte {
	var s *proto.Signed
	var err error
	switch b := f.GetBody().(type) {
	case *proto.VoteFrame_Propose:
		if s, err = openUnchecked(b.Propose, proto.KindPropose); err == nil {
			s, err = openUnchecked(s.Payload.GetPropose().GetBody(), proto.KindEvent, proto.KindCheckpoint)
		}
	case *proto.VoteFrame_Skip:
		s, err = openUnchecked(b.Skip, proto.KindSkip)
	default:
		return nil
	}
	if err != nil {
		return nil
	}
	return s.ID.Bytes()
}

func refuse(err error, slot *proto.Slot) *proto.VoteFrame {
	e := &proto.VoteError{Code: uint32(proto.CodeOf(err)), Reason: proto.Clip(err.Error(), 256), Slot: slot}
	var lacks *missingError
	if errors.As(err, &lacks) {
		e.Code = uint32(proto.CodeMissing)
		for _, h := range lacks.ids[:min(len(lacks.ids), maxMissing)] {
			e.Missing = append(e.Missing, h.CID().Bytes())
		}
	}
	return &proto.VoteFrame{Body: &proto.VoteFrame_Error{Error: e}}
}

// tick repeats an instance's newest messages and lets its timers end.
func (s *step) tick(in *instance) error {
	w := s.w
	if known, ok := w.decided(in); ok {
		if known != nil {
			s.send(in.everyone(), certifiedFrame(known))
		}
		return s.drop(in)
	}
	if !in.expire.IsZero() && !s.now.Before(in.expire) {
		w.forget(in) // nobody but one peer ever spoke of it
		return nil
	}
	restarted := in.stored && in.resend.IsZero()
	if restarted && in.contested() {
		s.start(in)
	}
	if !in.relay.IsZero() && !s.now.Before(in.relay) {
		in.relay = time.Time{}
		s.forward(in)
	}
	if restarted || !in.resend.IsZero() && !s.now.Before(in.resend) {
		in.resend = s.now.Add(w.cfg.T)
		if w.waits(in) {
			in.resend = s.now.Add(waitingResend * w.cfg.T)
		}
		in.emit = everything
		s.forward(in)
		s.askFor(in)
		if err := s.flush(in); err != nil {
			return err
		}
	}
	return s.run(in)
}

// forward repeats the round's Propose to witnesses that have not voted for it:
// the proposer may have reached this witness only.
func (s *step) forward(in *instance) {
	if in.cand == nil || in.cand.round != in.round || in.prepared == "" {
		return
	}
	var silent []peer.ID
	for _, p := range s.w.rest {
		if h := in.heard[p]; h == nil || h.prepare == nil || h.prepare.round < in.round {
			silent = append(silent, p)
		}
	}
	s.send(silent, &proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: in.cand.raw}})
}

// askFor asks witnesses that committed a body for what they certified.
func (s *step) askFor(in *instance) {
	by := map[string][]peer.ID{}
	for _, p := range s.w.rest {
		if h := in.heard[p]; h != nil && h.commit != nil {
			by[h.commit.id] = append(by[h.commit.id], p)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(by)) {
		if len(by[id]) > s.w.net.F() && in.committed == "" {
			if c, err := proto.ParseCID([]byte(id)); err == nil {
				if h, err := proto.CIDHash(c); err == nil {
					s.send(by[id], refuse(&missingError{[]proto.Hash{h}}, in.slot))
				}
			}
		}
	}
}

// missing answers a witness that lacks certified events.
func (s *step) missing(e *proto.VoteError) {
	if proto.Code(e.GetCode()) != proto.CodeMissing || len(e.Missing) > maxMissing || !s.w.net.IsWitness(s.from) {
		return
	}
	if e.Slot.GetAccount() == nil && e.Slot != nil && s.w.cfg.Checkpoints != nil {
		if known, ok := s.w.cfg.Checkpoints.Certified(e.Slot.GetCheckpointEpoch()); ok {
			s.answer(certifiedFrame(known))
		}
	}
	for _, raw := range e.Missing {
		if id, err := proto.ParseCID(raw); err == nil {
			if c, ok := s.w.l.Get(id); ok {
				s.answer(certifiedFrame(c.Wire))
			}
		}
	}
}

func certifiedFrame(c *proto.CertifiedEvent) *proto.VoteFrame {
	return &proto.VoteFrame{Body: &proto.VoteFrame_Certified{Certified: c}}
}

// dueCheckpoint opens the next checkpoint's slot when its time has come.
func (s *step) dueCheckpoint() error {
	if s.w.cfg.Checkpoints == nil {
		return nil
	}
	epoch, at := s.w.cfg.Checkpoints.Due()
	slot := checkpointSlot(epoch)
	if s.now.Before(at) || s.w.slots[slotKey(slot)] != nil {
		return nil
	}
	in, err := s.instance(slot, "")
	if err != nil {
		return err
	}
	s.start(in)
	return s.run(in)
}

func checkpointSlot(epoch uint64) *proto.Slot {
	return &proto.Slot{Kind: &proto.Slot_CheckpointEpoch{CheckpointEpoch: epoch}}
}

// late tells votes that merely arrived after the decision from those of a
// witness that still needs it: the first Prepare and Commit need no answer.
func (w *Witness) late(key string, by peer.ID, kind proto.Kind) bool {
	heard := w.recent[key]
	mark := by
	if kind == proto.KindPrepare {
		mark += "p"
	}
	if heard == nil || heard[mark] {
		return false
	}
	heard[mark] = true
	return true
}

func (w *Witness) remember(in *instance) {
	if w.recent[in.key] != nil || len(w.rest) == 0 {
		return
	}
	heard := map[peer.ID]bool{}
	for _, p := range w.rest {
		if h := in.heard[p]; h != nil && h.prepare != nil {
			heard[p+"p"] = true
		}
		if h := in.heard[p]; h != nil && h.commit != nil {
			heard[p] = true
		}
	}
	w.recent[in.key] = heard
	if w.order = append(w.order, in.key); len(w.order) > maxRecent {
		delete(w.recent, w.order[0])
		w.order = w.order[1:]
	}
}

func sortObjections(list []*objection) {
	slices.SortFunc(list, func(a, b *objection) int { return bytes.Compare(a.raw, b.raw) })
}
