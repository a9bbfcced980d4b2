package market

import (
	"testing"
	"time"
)

// Whoever comes while a job waits hears of it at once. Many newcomers do not make
// many offers: everybody answers each.
func TestNewcomersHearOffers(t *testing.T) {
	s := newSim(t, 1, 4, nil)
	m := s.nodes[0].m
	s.job(0, "a", 1, Options{Redundancy: 2})
	now := s.now
	offers := func(outs []Output) (n int) {
		for _, o := range outs {
			if _, ok := o.(PublishOffer); ok {
				n++
			}
		}
		return n
	}
	if n := offers(m.Step(now, Neighbours{Workers: 1, Joined: true})); n != 0 {
		t.Fatalf("%d offers right after the first", n)
	}
	now = now.Add(earlyPause)
	if n := offers(m.Step(now, Tick{})); n != 1 {
		t.Fatalf("%d offers for a newcomer", n)
	}
	total := 0
	for range 100 {
		now = now.Add(10 * time.Millisecond)
		total += offers(m.Step(now, Neighbours{Workers: 1, Joined: true}))
	}
	if total < 2 || total > earlyOffers {
		t.Errorf("%d offers for a hundred newcomers in a second", total)
	}
}
