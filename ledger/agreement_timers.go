package ledger

import (
	"container/heap"
	"time"
)

// Next is when Tick has something to do: maybe in the past, which means at
// once. It is zero when nothing is due until something arrives.
func (w *Witness) Next() time.Time {
	for len(w.wakes) > 0 {
		x := w.wakes[0]
		if in := w.slots[x.key]; in != nil && in.wake.Equal(x.at) {
			break
		}
		heap.Pop(&w.wakes)
	}
	var next time.Time
	if len(w.wakes) > 0 {
		next = w.wakes[0].at
	}
	soon := func(at time.Time) {
		if at.Before(w.pause) {
			at = w.pause
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	if h := w.soonest(); h != nil && !w.off.close {
		soon(w.l.over(h))
	}
	if len(w.again)+len(w.ended)+len(w.unheard)+len(w.unsaved) > 0 {
		soon(atOnce)
	}
	if w.cfg.Checkpoints != nil {
		epoch, at := w.cfg.Checkpoints.Due()
		if at.IsZero() { // which would mean never
			at = atOnce
		}
		if w.slots[slotKey(checkpointSlot(epoch))] == nil && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// wake is an entry of the heap of timers. It counts only while its instance
// still wants to be woken at that time.
type wake struct {
	at  time.Time
	key string
}

type wakes []wake

func (h wakes) Len() int { return len(h) }
func (h wakes) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].key < h[j].key
}
func (h wakes) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *wakes) Push(x any)   { *h = append(*h, x.(wake)) }
func (h *wakes) Pop() any {
	x := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return x
}

// wakeAt sets the instance's next timer.
func (w *Witness) wakeAt(in *instance, at time.Time) {
	if in.wake.Equal(at) || w.slots[in.key] != in {
		return
	}
	if in.wake = at; !at.IsZero() {
		heap.Push(&w.wakes, wake{at, in.key})
	}
}

// schedule wakes the instance at the earliest of its timers.
func (w *Witness) schedule(in *instance) {
	at := in.timer
	for _, t := range []time.Time{in.resend, in.relay, in.expire} {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	w.wakeAt(in, at)
}
