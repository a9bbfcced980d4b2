package ledger

import (
	"bytes"
	"slices"

	"edgenet.dev/proto"
	goproto "google.golang.org/protobuf/proto"
)

// Shape of a reconciliation.
const (
	syncSplit  = 16 // parts of a range that differs
	syncLeaf   = 32 // ranges up to this many events list their ids
	syncRounds = 64 // questions answered in one session
	syncFill   = 60 << 10
	// syncBurst bounds the frames of events in one answer (about 4 MiB), so
	// that neither side has to buffer a whole ledger.
	syncBurst   = 64
	syncAsk     = 1 << 16 // ranges queued for later turns
	maxSaltLen  = 32
	minSaltLen  = 8
	maxRangeKey = placeLen
)

// Sync is one side of a range-based set reconciliation: both sides end with
// the union of their sets. A session is a sequence of turns. The side whose
// turn it is sends some frames that hold events only, and then one without
// events, which asks (ranges, wanted ids), says done, or does neither when
// more events follow in its next turn; the other side's turn follows. The
// initiator's first turn comes from Step(nil). A session ends when both sides
// said done one after the other. It reads the ledger at each Step, so received
// events may be added in between.
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
	burst     int // frames of events in the other side's turn

	ask  []span   // ranges to compare, in order
	want [][]byte // ids to ask for
	push []span   // ranges that the other side lacks altogether
	give []proto.Hash
	seen map[proto.Hash]bool // given in this session
}

// span is a range of places; ids are listed when list is set.
type span struct {
	from, to []byte
	list     bool
}

// NewSync starts a session. The initiator draws the salt, 8 to 32 random
// bytes; the other side passes nil and takes the initiator's.
func NewSync(l *Ledger, salt []byte, initiator bool) *Sync {
	return &Sync{l: l, salt: salt, initiator: initiator, seen: map[proto.Hash]bool{}}
}

// Step takes one frame from the other side (nil for the initiator's first
// turn) and returns frames to send, of at most proto.MaxSyncFrame bytes each,
// and received events, to be given to Ledger.Add before the next Step. After
// done the session is over: send out and close. An error (with a proto.Code)
// is the other side's fault.
func (s *Sync) Step(in *proto.SyncFrame) (out []*proto.SyncFrame, received []*proto.CertifiedEvent, done bool, err error) {
	if s.finished {
		return nil, nil, true, proto.CodeMalformed.Errorf("sync: the session is over")
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
	if len(in.Events) > 0 {
		if len(in.Ranges) > 0 || len(in.Want) > 0 || in.Done {
			return nil, nil, false, proto.CodeMalformed.Errorf("sync: events come in frames of their own")
		}
		if s.burst++; s.burst > syncBurst+1 {
			return nil, nil, false, proto.CodeTooLarge.Errorf("sync: more than %d frames of events in one turn", syncBurst+1)
		}
		return nil, in.Events, false, nil
	}
	s.burst = 0
	if in.Done && len(in.Ranges)+len(in.Want) > 0 {
		return nil, nil, false, proto.CodeMalformed.Errorf("sync: a frame asks and is done")
	}
	if s.rounds++; s.rounds > syncRounds {
		return nil, nil, false, proto.CodeTooLarge.Errorf("sync: more than %d rounds", syncRounds)
	}
	if err := s.answer(in); err != nil {
		return nil, nil, false, err
	}
	if len(s.ask) > syncAsk {
		return nil, nil, false, proto.CodeTooLarge.Errorf("sync: more than %d ranges to compare", syncAsk)
	}
	idle := len(s.ask)+len(s.want)+len(s.push)+len(s.give) == 0
	if in.Done && s.saidDone && idle {
		s.finished = true
		return nil, nil, true, nil
	}
	out = s.turn()
	s.finished = in.Done && idle
	return out, nil, s.finished, nil
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
			if err := s.compare(theirs.Ids, lo, hi); err != nil {
				return err
			}
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
	for _, raw := range in.Want {
		h, err := hashOfID(raw)
		if err != nil {
			return err
		}
		s.offer(h)
	}
	return nil
}

// compare takes a listed range: what they lack is given, what is lacking here
// is asked for.
func (s *Sync) compare(ids [][]byte, lo, hi int) error {
	theirs := make(map[proto.Hash]bool, len(ids))
	for _, raw := range ids {
		h, err := hashOfID(raw)
		if err != nil {
			return err
		}
		if theirs[h] {
			return proto.CodeMalformed.Errorf("sync: an id is listed twice")
		}
		theirs[h] = true
		if s.l.s.events[h] == nil {
			s.want = append(s.want, raw)
		}
	}
	s.l.each(lo, hi, func(c *Certified) {
		if !theirs[c.hash] {
			s.offer(c.hash)
		}
	})
	return nil
}

// offer gives an event once per session, however often it is asked for.
func (s *Sync) offer(h proto.Hash) {
	if s.l.s.events[h] != nil && !s.seen[h] {
		s.seen[h] = true
		s.give = append(s.give, h)
	}
}

func (s *Sync) split(r span, lo, hi int) []span {
	parts := make([]span, 0, syncSplit)
	from := r.from
	for i := 1; i < syncSplit; i++ {
		at := lo + (hi-lo)*i/syncSplit
		cut := separator(s.l.nth(at-1), s.l.nth(at))
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
		case !x.list && (len(r.Fingerprint) != fingerprintLen || len(r.Ids) > 0):
			return nil, proto.CodeMalformed.Errorf("sync: a range has a fingerprint of %d bytes or lists ids beside it", len(r.Fingerprint))
		}
		out[i] = x
	}
	return out, nil
}

// turn makes this side's next turn: events as far as the burst allows, then
// one frame without. What does not fit stays for the next turn.
func (s *Sync) turn() []*proto.SyncFrame {
	out := s.events()
	last := new(proto.SyncFrame)
	size := 0
	room := func(m int) bool {
		size += m + 4
		return size <= syncFill || size == m+4
	}
	slices.SortFunc(s.ask, func(a, b span) int { return bytes.Compare(a.from, b.from) })
	var end []byte
	for len(s.ask) > 0 {
		x := s.ask[0]
		lo, hi := s.l.span(x.from, x.to)
		if x.list && hi-lo > 2*syncLeaf { // the set grew since
			x.list = false
		}
		r := &proto.SyncRange{From: x.from, To: x.to, Count: uint64(hi - lo)}
		if len(last.Ranges) > 0 && bytes.Equal(end, x.from) {
			r.From = nil
		}
		if x.list {
			s.l.each(lo, hi, func(c *Certified) { r.Ids = append(r.Ids, c.ID.Bytes()) })
		} else {
			r.Fingerprint = s.l.fingerprint(s.salt, lo, hi)
		}
		if !room(goproto.Size(r)) {
			break
		}
		last.Ranges = append(last.Ranges, r)
		end = x.to
		s.ask = s.ask[1:]
	}
	for len(s.want) > 0 && room(len(s.want[0])) {
		last.Want = append(last.Want, s.want[0])
		s.want = s.want[1:]
	}
	last.Done = len(last.Ranges)+len(last.Want)+len(s.give)+len(s.push) == 0
	s.saidDone = last.Done
	return append(out, last)
}

// events packs what is to be given into frames.
func (s *Sync) events() []*proto.SyncFrame {
	var out []*proto.SyncFrame
	frame, size := new(proto.SyncFrame), 0
	put := func(c *Certified) {
		n := goproto.Size(c.Wire) + 4
		if len(frame.Events) > 0 && size+n > syncFill {
			out = append(out, frame)
			frame, size = new(proto.SyncFrame), 0
		}
		frame.Events, size = append(frame.Events, c.Wire), size+n
	}
	for len(s.give) > 0 && len(out) < syncBurst {
		if c := s.l.s.events[s.give[0]]; c != nil {
			put(c)
		}
		s.give = s.give[1:]
	}
	for len(s.push) > 0 && len(out) < syncBurst {
		x := s.push[0]
		lo, hi := s.l.span(x.from, x.to)
		for ; lo < hi && len(out) < syncBurst; lo++ {
			c := s.l.nth(lo)
			if !s.seen[c.hash] {
				s.seen[c.hash] = true
				put(c)
			}
		}
		if lo < hi {
			s.push[0].from = s.l.nth(lo).place()
			break
		}
		s.push = s.push[1:]
	}
	if len(frame.Events) > 0 {
		out = append(out, frame)
	}
	return out
}
