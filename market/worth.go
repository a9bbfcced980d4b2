package market

import (
	"cmp"
	"fmt"
	"maps"
	"math"
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
// worthHalf, so that the ratio stays and its weight goes. Pay comes after the work,
// when other replicas have ended, too: what is due counts as earned at first, and
// fades by half in dueHalf.
type worth struct {
	earned proto.Credit
	took   time.Duration
	at     time.Time
	due    proto.Credit
	dueAt  time.Time
	kept   bool // on disk
}

// WorthRecord is what work of a submitter, work with a module or, when it names
// neither, all work was worth to this worker, as it was at AtMs.
type WorthRecord struct {
	Payer   peer.ID `json:",omitempty"`
	Module  cid.Cid
	Earned  proto.Credit
	TookMs  uint64 // slot time
	AtMs    uint64 // Unix time
	Due     proto.Credit
	DueAtMs uint64
}

const (
	maxWorths = 1024
	worthHalf = 6 * time.Hour
	dueHalf   = 5 * time.Minute
	// Somebody is judged by no less time than this.
	worthLeast = 10 * time.Second
	// worthShare is how much of a submitter's time tells something of its modules:
	// anybody may run them, and so nobody spoils those of others.
	worthShare = time.Minute
	worthWorst = 8                // a slot's time counts so often at most
	worthsKept = 10 * time.Second // between two times that they are saved
)

func (w *worth) fade(now time.Time) {
	if gone := now.Sub(w.dueAt); w.due > 0 && gone >= dueHalf/64 {
		w.due = proto.Credit(float64(w.due) * math.Exp2(-gone.Seconds()/dueHalf.Seconds()))
		w.dueAt = now
	}
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

// worthOf finds or makes what is remembered of a submitter or module.
func (m *Machine) worthOf(k worthKey) *worth {
	w := &m.work
	x := w.worths[k]
	if x == nil {
		if len(w.worths) >= maxWorths {
			m.forgetWorth()
		}
		x = &worth{at: m.now}
		w.worths[k] = x
	}
	x.fade(m.now)
	w.booked[k] = true
	return x
}

func (x *worth) add(earned proto.Credit, took time.Duration) {
	x.earned = min(x.earned+min(earned, 1<<50), 1<<60)
	x.took = min(x.took+min(took, 24*time.Hour), 1<<60)
}

// paid books what a submitter promised.
func (m *Machine) paid(p peer.ID, amount proto.Credit) {
	x := m.worthOf(worthKey{payer: p})
	x.due -= min(x.due, amount)
	x.add(amount, 0)
	m.work.worth.fade(m.now)
	m.work.worth.add(amount, 0)
	m.keepWorths()
}

// tookSlot books what an execution took, and what it earned when its submitter pays.
func (m *Machine) tookSlot(p peer.ID, module cid.Cid, took time.Duration, earned proto.Credit) {
	x := m.worthOf(worthKey{payer: p})
	share := min(took, worthShare-min(x.took, worthShare))
	if x.due == 0 {
		x.dueAt = m.now
	}
	x.due = min(x.due+min(earned, 1<<50), 1<<60)
	x.add(0, took)
	m.work.worth.fade(m.now)
	m.work.worth.add(0, took)
	if share > 0 && !m.work.builtin(module) {
		m.worthOf(worthKey{module: module}).add(proto.Credit(float64(earned)*share.Seconds()/took.Seconds()), share)
	}
	m.keepWorths()
}

// keepWorths saves from time to time what changed, of those that took long enough
// to count. A crash costs what changed since the last time.
func (m *Machine) keepWorths() {
	w := &m.work
	if m.now.Before(w.booksKept.Add(worthsKept)) {
		return
	}
	w.booksKept = m.now
	for _, k := range slices.SortedFunc(maps.Keys(w.booked), worthKey.compare) {
		if x := w.worths[k]; x != nil && x.took >= worthLeast {
			x.kept = true
			m.saves = append(m.saves, SaveWorth{Record: x.record(k)})
		}
	}
	clear(w.booked)
	if w.worth.took >= worthLeast {
		m.saves = append(m.saves, SaveWorth{Record: w.worth.record(worthKey{})})
	}
}

func (w *worth) record(k worthKey) WorthRecord {
	ms := func(t time.Time) uint64 { return uint64(max(0, t.UnixMilli())) }
	return WorthRecord{
		Payer: k.payer, Module: k.module, Earned: w.earned, TookMs: uint64(w.took / time.Millisecond), AtMs: ms(w.at),
		Due: w.due, DueAtMs: ms(w.dueAt),
	}
}

// restoreWorths takes over what an earlier run saved. What faded since to too
// little to count is forgotten, and so are those for whom there is no place.
func (m *Machine) restoreWorths(recs []WorthRecord) {
	w := &m.work
	at := func(ms uint64) time.Time {
		if t := proto.UnixMs(ms); t.Before(m.now) {
			return t
		}
		return m.now // the clock went back
	}
	for _, r := range recs {
		k := worthKey{r.Payer, r.Module}
		x := worth{
			earned: min(r.Earned, 1<<60), took: min(proto.Millis(r.TookMs), 1<<60), at: at(r.AtMs),
			due: min(r.Due, 1<<60), dueAt: at(r.DueAtMs), kept: true,
		}
		x.fade(m.now)
		switch {
		case x.took < worthLeast || k != (worthKey{}) && len(w.worths) >= maxWorths:
			m.saves = append(m.saves, SaveWorth{Record: WorthRecord{Payer: k.payer, Module: k.module}})
		case k == worthKey{}:
			w.worth = x
		default:
			w.worths[k] = &x
		}
	}
}

// notDue takes back what a submitter does not want.
func (m *Machine) notDue(p peer.ID, amount proto.Credit) {
	if x := m.work.worths[worthKey{payer: p}]; x != nil {
		x.due -= min(x.due, amount)
	}
}

// forgetWorth makes room: of those that took little time, which need not be
// remembered, the oldest goes first.
func (m *Machine) forgetWorth() {
	w := &m.work
	var old worthKey
	var least *worth
	for k, x := range w.worths {
		if least == nil || cmp.Or(first(x.took < worthLeast, least.took < worthLeast), x.at.Compare(least.at), k.compare(old)) < 0 {
			old, least = k, x
		}
	}
	delete(w.worths, old)
	delete(w.booked, old)
	if least.kept {
		m.saves = append(m.saves, SaveWorth{Record: WorthRecord{Payer: old.payer, Module: old.module}})
	}
}

func (k worthKey) compare(o worthKey) int {
	return cmp.Or(cmp.Compare(k.payer, o.payer), cmp.Compare(k.module.KeyString(), o.module.KeyString()))
}

// perSecond is in µcredits.
func (w worth) perSecond() float64 { return float64(w.earned+w.due) / max(w.took.Seconds(), 1e-9) }

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

// dearest is dear for work of a submitter with a module: who is known here is judged
// by its own work, others by what came of the module, unless it is a built-in one,
// which everybody uses.
func (m *Machine) dearest(from peer.ID, module cid.Cid) int {
	if x := m.work.worths[worthKey{payer: from}]; x != nil {
		if x.fade(m.now); x.took >= worthLeast {
			return m.dear(worthKey{payer: from})
		}
	}
	if m.work.builtin(module) {
		return 1
	}
	return m.dear(worthKey{module: module})
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
		s := fmt.Sprintf("For %s: %s credits in %s of a slot", who, x.earned+x.due, x.took.Round(100*time.Millisecond))
		if n := m.dear(k); n > 1 {
			s += fmt.Sprintf(", %.0f %% of what that time is usually worth here: its time counts %d times, so others come first", 100*x.perSecond()/w.worth.perSecond(), n)
		}
		out = append(out, s+".")
	}
	return out
}
