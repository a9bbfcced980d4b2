package market

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// What a worker's time was worth to it, by submitter and by module. Work that
// ends without pay, because guests run into their time limit or because nobody
// pays for what came out, costs its submitter nothing; a worker that remembers
// prefers others. Local, and it fades.

// worthKey is a submitter or a module.
type worthKey struct {
	payer  peer.ID
	module cid.Cid
}

// worth is what was earned in the time that it took; both fade by half in
// worthHalf, so that the ratio stays and its weight goes.
type worth struct {
	earned proto.Credit
	took   time.Duration
	at     time.Time
}

const (
	maxWorths = 1024
	worthHalf = 6 * time.Hour
	// Somebody is judged by no less time than this: pay comes after the work.
	worthLeast = 10 * time.Second
	worthWorst = 8 // a slot's time counts so often at most
)

func (w *worth) fade(now time.Time) {
	gone := now.Sub(w.at)
	if gone < worthHalf/64 {
		return
	}
	w.at = now
	n := min(gone/worthHalf, 62)
	w.earned, w.took = w.earned>>n, w.took>>n
	rest := gone % worthHalf
	w.earned -= proto.Credit(float64(w.earned) * float64(rest) / float64(2*worthHalf))
	w.took -= time.Duration(float64(w.took) * float64(rest) / float64(2*worthHalf))
}

// book adds to what a submitter or module is worth, and to what all are.
func (m *Machine) book(k worthKey, earned proto.Credit, took time.Duration) {
	w := &m.work
	x := w.worths[k]
	if x == nil {
		if len(w.worths) >= maxWorths {
			w.forgetWorth()
		}
		x = &worth{at: m.now}
		w.worths[k] = x
	}
	for _, x := range []*worth{x, &w.worth} {
		if x == &w.worth && k.payer == "" {
			continue // it is counted with the submitter
		}
		x.fade(m.now)
		x.earned = min(x.earned+min(earned, 1<<50), 1<<60)
		x.took = min(x.took+min(took, 24*time.Hour), 1<<60)
	}
}

// forgetWorth makes room: of those that took little time, which need not be
// remembered, the oldest goes first.
func (w *workside) forgetWorth() {
	var old worthKey
	var least *worth
	for k, x := range w.worths {
		if least == nil || cmp.Or(first(x.took < worthLeast, least.took < worthLeast), x.at.Compare(least.at), k.compare(old)) < 0 {
			old, least = k, x
		}
	}
	delete(w.worths, old)
}

func (k worthKey) compare(o worthKey) int {
	return cmp.Or(cmp.Compare(k.payer, o.payer), cmp.Compare(k.module.KeyString(), o.module.KeyString()))
}

// perSecond is in µcredits.
func (w worth) perSecond() float64 { return float64(w.earned) / max(w.took.Seconds(), 1e-9) }

// dear is how often a slot's time counts for work of a submitter or module: once,
// and more the less it is worth beside what this worker's time is usually worth.
func (m *Machine) dear(k worthKey) int {
	w := &m.work
	x := w.worths[k]
	if x == nil || m.off.worth {
		return 1
	}
	x.fade(m.now)
	w.worth.fade(m.now)
	if x.took < worthLeast {
		return 1
	}
	usual, own := w.worth.perSecond(), x.perSecond()
	switch {
	case usual == 0: // nobody pays, so nobody comes first
		return 1
	case own*worthWorst <= usual:
		return worthWorst
	}
	return max(1, int(usual/own))
}

// dearest is dear for work of a submitter with a module.
func (m *Machine) dearest(from peer.ID, module cid.Cid) int {
	return max(m.dear(worthKey{payer: from}), m.dear(worthKey{module: module}))
}

// WhyServed says what this worker's time was worth to it, the worst first: whose
// work it prefers to whose, and why.
func (m *Machine) WhyServed() []string {
	w := &m.work
	keys := make([]worthKey, 0, len(w.worths))
	for k, x := range w.worths {
		if x.took >= time.Second {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b worthKey) int {
		return cmp.Or(cmp.Compare(m.dear(b), m.dear(a)), cmp.Compare(w.worths[b].took, w.worths[a].took), a.compare(b))
	})
	var out []string
	for _, k := range keys[:min(len(keys), 20)] {
		x, who := w.worths[k], ""
		if who = "submitter " + k.payer.String(); k.payer == "" {
			who = "module " + k.module.String()
		}
		s := fmt.Sprintf("For %s: %s credits in %s of a slot", who, x.earned, x.took.Round(100*time.Millisecond))
		if n := m.dear(k); n > 1 {
			s += fmt.Sprintf(", %.0f %% of what that time is usually worth here: its time counts %d times, so others come first", 100*x.perSecond()/w.worth.perSecond(), n)
		}
		out = append(out, s+".")
	}
	return out
}
