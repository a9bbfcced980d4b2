package market

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"edgenet.dev/proto"
)

// Commitments: results that wait until their submitter asks for them, which it
// does once all replicas of the task have committed. One that never asks must not
// keep the room of those that do.

// keptLeast is for how long a result waits at least. A submitter gives up on a
// replica that runs for longer than it may, so twice that is long enough.
const keptLeast = 10 * time.Minute

// maxKept bounds the commitments of all submitters.
func (w *workside) maxKept() int { return 8*w.cfg.InFlight + maxSent }

func (m *Machine) keptFor() time.Duration { return max(keptLeast, 2*(m.cfg.MaxRun+m.cfg.RunSlack)) }

// keep notes that x committed and waits. When there are too many, the oldest of
// the submitter gives way that paid least for each that it has waiting, of equals of
// the one with most: what is never asked for pays nothing, however many come with it.
func (m *Machine) keep(x *exec) {
	w, c := &m.work, x.c
	x.phase, x.kept = execCommitted, m.now
	w.kept++
	c.kept++
	if len(c.commits) > 2*c.kept+16 {
		c.oldest(len(c.commits))
	}
	c.commits = append(c.commits, x)
	for w.kept > w.maxKept() && !m.off.share {
		var most *customer
		for _, o := range w.customers {
			if o.kept > 0 && (most == nil || cmp.Or(cmp.Compare(m.paidPerKept(o), m.paidPerKept(most)), cmp.Compare(most.kept, o.kept), cmp.Compare(o.used, most.used)) < 0) {
				most = o
			}
		}
		m.giveUp(most.oldest(1)[0], "it was not asked for, and others' results need its place")
	}
	m.sooner(w.stale, m.now.Add(m.keptFor()))
}

// unkeep notes that x waits no more.
func (m *Machine) unkeep(x *exec) {
	m.work.kept--
	x.c.kept--
}

// oldest are up to n of the commitments that wait, the oldest first. Others are
// forgotten on the way.
func (c *customer) oldest(n int) (out []*exec) {
	i := 0
	for ; i < len(c.commits) && len(out) < n; i++ {
		if x := c.commits[i]; x.phase == execCommitted && c.execs[x.ref] == x {
			out = append(out, x)
		}
	}
	c.commits = append(out[:len(out):len(out)], c.commits[i:]...)
	return out
}

// paidPerKept is what a submitter paid here lately for each result that it has
// waiting, in µcredits.
func (m *Machine) paidPerKept(c *customer) float64 {
	w := m.work.worths[worthKey{payer: c.id}]
	if w == nil {
		return 0
	}
	w.fade(m.now)
	return float64(w.earned) / float64(c.kept)
}

func (m *Machine) giveUp(x *exec, why string) {
	m.refuse(x.c.id, x.ref, proto.CodeExpired, why)
	m.drop(x)
}

// dropStale gives up on what waits for too long.
func (m *Machine) dropStale() {
	var next time.Time
	for _, c := range slices.SortedFunc(maps.Values(m.work.customers), func(a, b *customer) int { return cmp.Compare(a.used, b.used) }) {
		for {
			old := c.oldest(1)
			if len(old) == 0 {
				break
			}
			if end := old[0].kept.Add(m.keptFor()); m.now.Before(end) {
				if next.IsZero() || end.Before(next) {
					next = end
				}
				break
			}
			m.giveUp(old[0], "it was not asked for in time")
		}
	}
	if !next.IsZero() {
		m.sooner(m.work.stale, next)
	}
}
