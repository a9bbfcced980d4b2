package ledger

import (
	"bytes"
	"slices"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// Shape of a reconciliation.
const (
	syncSplit  = 16 // parts of a range that differs
	syncLeaf   = 32 // ranges up to this many chains list their heads
	syncRounds = 64 // questions answered in one session
	syncFill   = 60 << 10
	// syncBurst bounds the frames of events or state in one answer (about
	// 4 MiB), so that neither side has to buffer a whole ledger.
	syncBurst   = 64
	syncAsk     = 1 << 16 // ranges queued for later turns
	maxSaltLen  = 32
	minSaltLen  = 8
	maxRangeKey = keyLen
)

// Sync is one side of a range-based set reconciliation: both sides end with
// the union of their sets. A session is a sequence of turns. The side whose
// turn it is sends some frames that hold events, checkpoints or state only,
// and then one without, which asks (ranges, wanted heads, chains), says done,
// or does neither when more follows in its next turn; the other side's turn
// follows. The initiator's first turn comes from Step(nil). A session ends
// when both sides said done one after the other. It reads the ledger at each
// Step, so received events may be added in between.
//
// Ranges of accounts that differ are split until they are small; then one side
// lists its chains by short salted ids of their heads, and for those that the
// other side does not find among its own, both say how far their chains reach.
//
// In a frame's ranges, which ascend and do not overlap, an empty from in any
// but the first means the end of the range before it.
type Sync struct {
	l         *Ledger
	salt      []byte
	initiator bool
	started   bool
	finished  bool
	saidDone  bool
	rounds    int
	burst     int // frames that ask nothing in the other side's turn

	ask    []span   // ranges to compare, in order
	want   []headID // listed by the other side and not found here
	tell   []peer.ID
	push   []span // ranges that the other side lacks altogether
	give   []run
	told   map[peer.ID]bool   // asked for or told of in this session
	given  map[peer.ID]uint64 // seq up to which events were given
	listed map[headID]peer.ID
	join   joining
}

// span is a range of accounts; heads are listed when list is set.
type span struct {
	from, to []byte
	list     bool
}

// run is a part of a chain, from ≤ seq < to.
type run struct {
	account  peer.ID
	from, to uint64
}

// NewSync starts a session. The initiator draws the salt, 8 to 32 random
// bytes; the other side passes nil and takes the initiator's.
func NewSync(l *Ledger, salt []byte, initiator bool) *Sync {
	s := &Sync{l: l, salt: salt, initiator: initiator}
	s.restart()
	return s
}

// restart forgets what was compared so far.
func (s *Sync) restart() {
	s.ask, s.want, s.tell, s.push, s.give = nil, nil, nil, nil, nil
	s.told, s.given, s.listed = map[peer.ID]bool{}, map[peer.ID]uint64{}, map[headID]peer.ID{}
}

// Step takes one frame from the other side (nil for the initiator's first
// turn) and returns frames to send, of at most proto.MaxSyncFrame bytes each,
// and received events, to be given to Ledger.Add before the next Step. After
// done the session is over: send out and close. An error with a proto.Code
// is the other side's fault, one without is this machine's.
func (s *Sync) Step(in *proto.SyncFrame) (out []*proto.SyncFrame, received []*proto.CertifiedEvent, done bool, err error) {
	if s.finished {
		return nil, nil, true, proto.CodeMalformed.Errorf("sync: the session is over")
	}
	if in.GetCode() != 0 {
		s.finished = true
		return nil, nil, false, proto.Code(in.Code).Errorf("sync: the other side refuses: %s", proto.Code(in.Code))
	}
	if in == nil {
		if !s.initiator || s.started {
			return nil, nil, false, proto.CodeMalformed.Errorf("sync: a frame is missing")
		}
		s.started = true
		s.ask = []span{{}}
		out = s.turn()
		out[0].Salt = s.salt
		return out, nil, false, nil
	}
	if !s.started {
		if s.initiator {
			return nil, nil, false, proto.CodeMalformed.Errorf("sync: a frame came before the first turn")
		}
		if len(in.Salt) < minSaltLen || len(in.Salt) > maxSaltLen {
			return nil, nil, false, proto.CodeMalformed.Errorf("sync: salt of %d bytes, want %d to %d", len(in.Salt), minSaltLen, maxSaltLen)
		}
		s.started, s.salt = true, in.Salt
	} else if len(in.Salt) != 0 {
		return nil, nil, false, proto.CodeMalformed.Errorf("sync: a second salt")
	}
	if carries(in) {
		if asks(in) || in.Done {
			return nil, nil, false, proto.CodeMalformed.Errorf("sync: events come in frames of their own")
		}
		if s.burst++; s.burst > syncBurst+1 {
			return nil, nil, false, proto.CodeTooLarge.Errorf("sync: more than %d frames of events in one turn", syncBurst+1)
		}
		return nil, in.Events, false, s.take(in)
	}
	s.burst = 0
	if in.Done && asks(in) {
		return nil, nil, false, proto.CodeMalformed.Errorf("sync: a frame asks and is done")
	}
	if s.rounds++; s.rounds > syncRounds {
		return nil, nil, false, proto.CodeTooLarge.Errorf("sync: more than %d rounds", syncRounds)
	}
	if err := s.meet(in); err != nil {
		return nil, nil, false, err
	}
	if err := s.answer(in); err != nil {
		return nil, nil, false, err
	}
	if len(s.ask) > syncAsk {
		return nil, nil, false, proto.CodeTooLarge.Errorf("sync: more than %d ranges to compare", syncAsk)
	}
	if in.Done && s.saidDone { // what came up since is the next session's
		s.finished = true
		return nil, nil, true, nil
	}
	out = s.turn()
	s.finished = in.Done && s.saidDone
	return out, nil, s.finished, nil
}

// carries tells a frame that brings something from one that ends a turn.
func carries(in *proto.SyncFrame) bool {
	return len(in.Events)+len(in.Checkpoints)+len(in.Leaves) > 0 || in.LastLeaf
}

func asks(in *proto.SyncFrame) bool {
	return len(in.Ranges)+len(in.WantHeads)+len(in.Chains)+len(in.WantCheckpoints) > 0 || in.WantState || in.Pruned
}

func (s *Sync) idle() bool {
	return len(s.ask)+len(s.want)+len(s.tell)+len(s.push)+len(s.give) == 0 && s.join.idle()
}

// answer compares what the other side says with the set.
func (s *Sync) answer(in *proto.SyncFrame) error {
	ranges, err := parseRanges(in.Ranges)
	if err != nil {
		return err
	}
	for i, r := range ranges {
		lo, hi := s.l.span(r.from, r.to)
		theirs := in.Ranges[i]
		switch {
		case r.list:
			s.compare(theirs.Heads, lo, hi)
		case bytes.Equal(theirs.Fingerprint, s.l.fingerprint(s.salt, lo, hi)):
		case theirs.Count == 0:
			s.push = append(s.push, span{r.from, r.to, false})
		case hi-lo <= syncLeaf:
			s.ask = append(s.ask, span{r.from, r.to, true})
		case theirs.Count <= syncLeaf:
			s.ask = append(s.ask, r) // they will list
		default:
			s.ask = append(s.ask, s.split(r, lo, hi)...)
		}
	}
	partly := make(map[peer.ID]bool, len(in.Chains))
	for _, c := range in.Chains {
		id, err := accountOfKey(c.GetKey())
		if err != nil {
			return err
		}
		partly[id] = true
		switch mine := s.l.next(id); {
		case mine > c.Next:
			s.offer(id, c.Next)
		case mine < c.Next:
			s.say(id)
		}
	}
	for at := 0; at < len(in.WantHeads); at += len(headID{}) {
		if len(in.WantHeads)-at < len(headID{}) {
			return proto.CodeMalformed.Errorf("sync: half a head id")
		}
		if id, ok := s.listed[headID(in.WantHeads[at:])]; ok && !partly[id] {
			s.offer(id, 0)
		}
	}
	return nil
}

// next is the seq of an account's next event, 0 for an unknown account.
func (l *Ledger) next(id peer.ID) uint64 {
	if a := l.s.accounts[id]; a != nil {
		return a.next()
	}
	return 0
}

// compare takes a listed range. For a chain that is found on one side only the
// other side's chain of that account is longer, shorter or not there.
func (s *Sync) compare(heads []byte, lo, hi int) {
	theirs := make(map[headID]bool, len(heads)/len(headID{}))
	for at := 0; at < len(heads); at += len(headID{}) {
		theirs[headID(heads[at:])] = true
	}
	mine := map[headID]bool{}
	for _, id := range s.l.s.order[lo:hi] {
		h := s.l.s.accounts[id].headID(s.salt)
		mine[h] = true
		if !theirs[h] {
			s.say(id)
		}
	}
	for at := 0; at < len(heads); at += len(headID{}) {
		if h := headID(heads[at:]); !mine[h] {
			mine[h] = true // once
			s.want = append(s.want, h)
		}
	}
}

// say tells the other side once how far a chain reaches here.
func (s *Sync) say(id peer.ID) {
	if !s.told[id] {
		s.told[id] = true
		s.tell = append(s.tell, id)
	}
}

// offer gives a chain from a seq on; an event goes once per session, however
// often it is asked for.
func (s *Sync) offer(id peer.ID, from uint64) {
	a := s.l.s.accounts[id]
	if a == nil || len(a.chain) == 0 {
		return
	}
	from, to := max(from, s.given[id]), a.next()
	if from < a.chain[0].Seq {
		s.join.tell = true // their set must begin at the base here
		return
	}
	if from < to {
		s.given[id] = to
		s.give = append(s.give, run{id, from, to})
	}
}

func (s *Sync) split(r span, lo, hi int) []span {
	parts := make([]span, 0, syncSplit)
	from := r.from
	for i := 1; i < syncSplit; i++ {
		at := lo + (hi-lo)*i/syncSplit
		cut := separator(s.l.s.order[at-1], s.l.s.order[at])
		parts = append(parts, span{from: from, to: cut})
		from = cut
	}
	return append(parts, span{from: from, to: r.to})
}

func parseRanges(in []*proto.SyncRange) ([]span, error) {
	out := make([]span, len(in))
	for i, r := range in {
		x := span{from: r.GetFrom(), to: r.GetTo(), list: len(r.GetFingerprint()) == 0}
		if i > 0 {
			before := out[i-1].to
			if len(x.from) == 0 {
				x.from = before
			}
			if len(before) == 0 || bytes.Compare(x.from, before) < 0 {
				return nil, proto.CodeMalformed.Errorf("sync: ranges overlap")
			}
		}
		switch {
		case len(x.from) > maxRangeKey || len(x.to) > maxRangeKey:
			return nil, proto.CodeMalformed.Errorf("sync: a range key has more than %d bytes", maxRangeKey)
		case len(x.to) > 0 && bytes.Compare(x.from, x.to) >= 0:
			return nil, proto.CodeMalformed.Errorf("sync: an empty range")
		case !x.list && (len(r.Fingerprint) != fingerprintLen || len(r.Heads) > 0):
			return nil, proto.CodeMalformed.Errorf("sync: a range has a fingerprint of %d bytes or lists heads beside it", len(r.Fingerprint))
		case len(r.GetHeads())%len(headID{}) != 0:
			return nil, proto.CodeMalformed.Errorf("sync: half a head id")
		}
		out[i] = x
	}
	return out, nil
}

// turn makes this side's next turn: what it brings as far as the burst allows,
// then one frame that asks. What does not fit stays for the next turn.
func (s *Sync) turn() []*proto.SyncFrame {
	out := s.events(s.state(s.headers(nil)))
	last := new(proto.SyncFrame)
	s.greet(last)
	size := 0
	room := func(m int) bool {
		size += m + 4
		return size <= syncFill || size == m+4
	}
	slices.SortFunc(s.ask, func(a, b span) int { return bytes.Compare(a.from, b.from) })
	var end []byte
	for len(s.ask) > 0 {
		x := s.ask[0]
		r := s.question(x)
		if len(last.Ranges) > 0 && bytes.Equal(end, x.from) {
			r.From = nil
		}
		if !room(goproto.Size(r)) {
			break
		}
		last.Ranges = append(last.Ranges, r)
		end = x.to
		s.ask = s.ask[1:]
	}
	for len(s.want) > 0 && room(len(headID{})-4) {
		last.WantHeads = append(last.WantHeads, s.want[0][:]...)
		s.want = s.want[1:]
	}
	for len(s.tell) > 0 && room(keyLen+10) {
		id := s.tell[0]
		last.Chains = append(last.Chains, &proto.SyncChain{Key: accountKey(id), Next: s.l.next(id)})
		s.tell = s.tell[1:]
	}
	last.Done = !asks(last) && s.idle()
	s.saidDone = last.Done
	return append(out, last)
}

// question says what is here in a range.
func (s *Sync) question(x span) *proto.SyncRange {
	lo, hi := s.l.span(x.from, x.to)
	if x.list && hi-lo > 2*syncLeaf { // the set grew since
		x.list = false
	}
	r := &proto.SyncRange{From: x.from, To: x.to}
	if !x.list {
		r.Count = uint64(hi - lo)
		r.Fingerprint = s.l.fingerprint(s.salt, lo, hi)
		return r
	}
	for _, id := range s.l.s.order[lo:hi] {
		h := s.l.s.accounts[id].headID(s.salt)
		s.listed[h] = id
		r.Heads = append(r.Heads, h[:]...)
	}
	return r
}

// events packs what is to be given into frames, behind those in out.
func (s *Sync) events(out []*proto.SyncFrame) []*proto.SyncFrame {
	frame, size := new(proto.SyncFrame), 0
	for len(out) < syncBurst {
		if len(s.give) == 0 && !s.unfold() {
			break
		}
		r := &s.give[0]
		for a := s.l.s.accounts[r.account]; r.from < r.to && len(out) < syncBurst; r.from++ {
			c := a.at(r.from)
			if c == nil { // pruned meanwhile
				continue
			}
			n := goproto.Size(c.Wire) + 4
			if len(frame.Events) > 0 && size+n > syncFill {
				out = append(out, frame)
				frame, size = new(proto.SyncFrame), 0
			}
			frame.Events, size = append(frame.Events, c.Wire), size+n
		}
		if r.from == r.to {
			s.give = s.give[1:]
		}
	}
	if len(frame.Events) > 0 {
		out = append(out, frame)
	}
	return out
}

// unfold turns the next chain of what is pushed into a run.
func (s *Sync) unfold() bool {
	for len(s.push) > 0 {
		lo, hi := s.l.span(s.push[0].from, s.push[0].to)
		if lo == hi {
			s.push = s.push[1:]
			continue
		}
		id := s.l.s.order[lo]
		s.push[0].from = append(accountKey(id), 0)
		if s.offer(id, 0); len(s.give) > 0 {
			return true
		}
	}
	return false
}
