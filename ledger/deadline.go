package ledger

import (
	"bytes"
	"container/heap"
	"time"

	"edgenet.dev/proto"
)

// deadline is an entry of the heap of open holds, soonest first. It counts
// only while its hold is open and has this deadline still.
type deadline struct {
	at uint64 // Unix milliseconds
	id proto.Hash
}

func (d deadline) before(o deadline) bool {
	return d.at < o.at || d.at == o.at && bytes.Compare(d.id[:], o.id[:]) < 0
}

// deadlines follows from the open holds. Entries that do not count any more
// are dropped when they are the soonest; there are never more of them than
// Hold and Extend events.
type deadlines []deadline

func (h deadlines) Len() int           { return len(h) }
func (h deadlines) Less(i, j int) bool { return h[i].before(h[j]) }
func (h deadlines) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *deadlines) Push(x any)        { *h = append(*h, x.(deadline)) }
func (h *deadlines) Pop() any {
	x := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return x
}

func (h *hold) due() deadline { return deadline{h.deadline, h.id} }

func (s *state) watch(h *hold) { heap.Push(&s.deadlines, h.due()) }

// rewatch begins anew with all open holds.
func (s *state) rewatch() {
	s.deadlines = nil
	for _, holds := range s.open {
		for id := range holds {
			s.watch(s.holds[id])
		}
	}
}

// soonest is the open hold that is over first, or nil. ended lists holds that
// were found closed on the way.
func (s *state) soonest() (first *hold, ended []proto.Hash) {
	for len(s.deadlines) > 0 {
		d := s.deadlines[0]
		h := s.holds[d.id]
		if h != nil && !h.closed && h.deadline == d.at {
			return h, ended
		}
		if h == nil || h.closed {
			ended = append(ended, d.id)
		}
		heap.Pop(&s.deadlines)
	}
	return nil, ended
}

// CheckDeadline refuses a Hold or Extend whose deadline lies further ahead than
// the genesis allows: a payer could not get back what it set aside, and nobody
// else could be paid from it, for as long as it says. No rule of the set reads
// a clock; witnesses ask before they prepare, with slack for clocks that are
// behind, and authors before they sign.
func CheckDeadline(net *proto.Network, ev *proto.Event, now time.Time, slack time.Duration) error {
	ms := max(ev.GetHold().GetDeadlineUnixMs(), ev.GetExtend().GetDeadlineUnixMs())
	if most := now.Add(net.MaxHold()); proto.UnixMs(ms).After(most.Add(slack)) {
		return proto.CodeInvalidEvent.Errorf("the hold would last until %s, and the network allows %s: until %s",
			proto.UnixMs(ms).UTC().Format(time.RFC3339), net.MaxHold(), most.UTC().Format(time.RFC3339))
	}
	return nil
}

// over is the first millisecond at which the hold can be closed.
func (l *Ledger) over(h *hold) time.Time {
	return proto.UnixMs(h.deadline).Add(l.net.Grace() + time.Millisecond)
}
