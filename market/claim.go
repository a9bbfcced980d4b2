package market

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

const (
	maxSlots = 1024 // of one claim that are used
)

// claimSeen hears a claim: for an own offer it brings a worker, for another's
// it tells how many competitors answered already.
func (m *Machine) claimSeen(in ClaimSeen) {
	c := in.Claim
	if c == nil || in.From == m.cfg.Self {
		return
	}
	id, err := proto.ToJobID(c.Offer)
	if err != nil {
		return
	}
	if peer.ID(c.Submitter) != m.cfg.Self {
		m.rivalClaim(id, in.From, c)
		return
	}
	j := m.jobs[id]
	if j == nil || j.rec.State.Final() {
		return
	}
	m.heardGrant(in.From, c)
	if !m.acceptable(j, c) {
		return
	}
	if m.class(in.From) == classBad && j.bid.round <= shunned {
		if len(j.bid.shunned) < maxClaims { // the next offer asks for as many more
			j.bid.shunned[in.From] = true
		}
		return
	}
	if s := j.sess; s != nil {
		m.lateClaim(j, s, in.From, c)
		return
	}
	if _, known := j.bid.claims[in.From]; !known && len(j.bid.claims) >= maxClaims && !m.makeRoom(j, in.From) {
		return
	}
	j.bid.claims[in.From] = c
	m.touch(j)
	m.weigh(j)
}

func (m *Machine) acceptable(j *job, c *proto.Claim) bool {
	if c.Slots == 0 || proto.Credit(c.Price) > m.price(j) || c.ExpiresUnixMs <= uint64(m.now.UnixMilli()) ||
		c.Round > j.rec.Round<<16|j.bid.round || len(c.Operator) > proto.MaxLabel || len(c.Site) > proto.MaxLabel {
		return false
	}
	if g, said := grantOf(c); said && !g.covers(uint64(j.limits.Fuel), j.limits.Memory) {
		return false
	}
	if len(c.Payee) > 0 {
		if _, err := proto.ParsePeer(c.Payee); err != nil {
			return false
		}
	}
	return true
}

// shunned is how many offers of a job go out before a worker may have it that
// broke more than it kept.
const shunned = 3

// makeRoom gives up the claim of a stranger for that of somebody known.
func (m *Machine) makeRoom(j *job, w peer.ID) bool {
	if m.class(w) != classGood {
		return false
	}
	for _, old := range slices.Sorted(maps.Keys(j.bid.claims)) {
		if m.class(old) != classGood {
			delete(j.bid.claims, old)
			return true
		}
	}
	return false
}

// rendezvous is the order of workers for a job that nobody chooses.
func rendezvous(id proto.JobID, w peer.ID) proto.Hash {
	return proto.HashOf(append(id[:len(id):len(id)], w...))
}

type claimant struct {
	worker peer.ID
	claim  *proto.Claim
	class  class
	least  proto.Credit // what a lower price counts as
	tenths uint64       // of a full reputation
	rank   float64      // in weighted rendezvous order
}

// shareOf is the percent of a core that executions of a claim's worker get.
func shareOf(c *proto.Claim) int {
	if c.CpuPercent == 0 || c.CpuPercent > 100 {
		return 100
	}
	return int(c.CpuPercent)
}

// free reports whether a claim's worker could start something at once.
func (c claimant) free() bool { return c.claim.Held < max(1, c.claim.Parallel) }

// dear is what a claim's price counts as: full without a reputation, and a
// twentieth less for each tenth of one. So the best worker may ask for almost
// twice what a new one does, and among near equals nobody always comes first.
// Whoever works for next to nothing gains nothing by that over half the price.
func (c claimant) dear() uint64 { return max(c.claim.Price, uint64(c.least)) * (20 - c.tenths) }

// tenths of a full reputation that a worker has.
func (m *Machine) tenths(w peer.ID) uint64 { return min(m.ppm[w], 1_000_000) / 100_000 }

// ranked are j's claims that hold now: who is known, then strangers; among these
// by price and reputation, then by reputation, then the fast and the free ones
// first, then in rendezvous order weighted by reputation and stake. Strangers
// have a share of the first places, however many are known.
func (m *Machine) ranked(j *job) []claimant {
	var out []claimant
	for _, w := range slices.Sorted(maps.Keys(j.bid.claims)) {
		if c := j.bid.claims[w]; c.ExpiresUnixMs > uint64(m.now.UnixMilli()) {
			out = append(out, claimant{w, c, m.class(w), m.price(j) / 2, m.tenths(w), weighted(rendezvous(j.rec.Job.ID, w), m.weight(w))})
		}
	}
	slices.SortStableFunc(out, func(a, b claimant) int {
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.dear(), b.dear()), cmp.Compare(b.tenths, a.tenths),
			cmp.Compare(shareOf(b.claim), shareOf(a.claim)), first(a.free(), b.free()), cmp.Compare(a.rank, b.rank))
	})
	return mixed(out, m.strangersShare())
}

// mixed gives one place in so many to those who are not known.
func mixed(cs []claimant, every int) []claimant {
	at, _ := slices.BinarySearchFunc(cs, classNew, func(c claimant, k class) int { return cmp.Compare(c.class, k) })
	known, others := cs[:at], cs[at:]
	out := make([]claimant, 0, len(cs))
	for len(known) > 0 && len(others) > 0 {
		if (len(out)+1)%every == 0 {
			out, others = append(out, others[0]), others[1:]
		} else {
			out, known = append(out, known[0]), known[1:]
		}
	}
	return append(append(out, known...), others...)
}

// first orders what is so before what is not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// apart counts claimants that a task's replicas may be spread over.
func (m *Machine) apart(cs []claimant) (workers, slots int) {
	var chosen []*lease
	for _, c := range cs {
		l := &lease{operator: c.claim.Operator, site: c.claim.Site}
		slots += int(min(c.claim.Slots, maxSlots))
		if !m.clash(l, chosen) {
			chosen = append(chosen, l)
		}
	}
	return len(chosen), slots
}

// weigh decides whether the claims suffice: with all that were wanted the
// choice falls at once, with just enough a little later, for more may come; so
// it does when too few of them could start at once.
func (m *Machine) weigh(j *job) {
	all := m.ranked(j)
	workers, slots := m.apart(all)
	strangers := m.known(all) < j.k && len(m.ppm)+len(m.stakes)+len(m.standings) > 0 // somebody is known here, and may answer yet
	free, _ := m.apart(slices.DeleteFunc(all, func(c claimant) bool { return !c.free() }))
	switch {
	case workers < j.k:
	case !strangers && free >= j.k && workers >= j.wanted() && slots >= min(j.slotsWanted(), workers):
		m.choose(j)
	case !j.bid.window.armed():
		m.at(j.bid.window, m.now.Add(m.cfg.ClaimWindow))
	}
}

// known is how many of a task's replicas claimants can have who are known.
func (m *Machine) known(cs []claimant) int {
	n, _ := m.apart(slices.DeleteFunc(slices.Clone(cs), func(c claimant) bool { return c.class != classGood }))
	return n
}

// silenced reports whether somebody who is known here has not claimed: those who
// hear that enough others did, however little these are worth, say nothing.
func (m *Machine) silenced(cs []claimant) bool {
	claimed := map[peer.ID]bool{}
	for _, c := range cs {
		claimed[c.worker] = true
	}
	missing := func(w peer.ID) bool { return !claimed[w] && m.class(w) == classGood }
	for w := range m.standings {
		if missing(w) {
			return true
		}
	}
	for w := range m.stakes {
		if missing(w) {
			return true
		}
	}
	for w := range m.ppm {
		if missing(w) {
			return true
		}
	}
	return false
}

// choose turns the claims into leases of a session and asks for its hold. Where
// strangers were faster than those who are known, these are asked once more.
func (m *Machine) choose(j *job) {
	m.stop(j.bid.window)
	if j.sess != nil || j.rec.State.Final() {
		return
	}
	cs := m.ranked(j)
	if n, _ := m.apart(cs); n < j.k {
		return // some expired while the rest was awaited
	}
	if known := m.known(cs); known < j.k && j.bid.active && j.bid.strangers == 0 && m.silenced(cs) && !m.off.crowd {
		j.bid.strangers = len(cs) - known
		m.publish(j)
		m.at(j.bid.window, m.now.Add(m.cfg.ClaimWindow))
		return
	}
	s := m.fitting(j)
	if s == nil {
		s = m.newSession(j.rec.Job.ID)
		s.priority = j.rec.Job.Options.Priority
		s.module, s.fuel, s.memory, s.wall = string(j.module), j.limits.Fuel, j.limits.Memory, j.limits.Wall
	}
	for _, c := range cs[:min(len(cs), maxLanes)] {
		m.lateClaim(j, s, c.worker, c.claim)
	}
	clear(j.bid.claims)
	m.stop(j.bid.again)
	j.bid.active = false
	m.join(j, s)
}

// lateClaim adds a worker to a session, or renews its lease.
func (m *Machine) lateClaim(j *job, s *session, w peer.ID, c *proto.Claim) {
	l := s.lease(w)
	if l == nil {
		if len(s.leases) >= maxLanes {
			return
		}
		l = m.addLease(s, w)
		l.rank = rendezvous(s.id, w)
		l.payee = payeeOf(c.Payee, w)
	} else if l.payee != payeeOf(c.Payee, w) {
		return // its lane pays another account
	}
	fresh := !m.can(l) || l.lane < 0
	l.price, l.operator, l.site = proto.Credit(c.Price), c.Operator, c.Site
	l.slots = int(min(c.Slots, maxSlots))
	l.window, l.dead = l.slots, false // still blocked: a claim does not undo refusals
	l.share, l.parallel = shareOf(c), int(min(max(1, c.Parallel), maxSlots))
	l.foreign, l.claimed = max(0, int(min(c.Held, maxSlots))-l.cp.inflight()), m.now
	l.expires = proto.UnixMs(min(c.ExpiresUnixMs, uint64(m.now.Add(time.Hour).UnixMilli())))
	if l.cp.lost {
		m.workerBack(w)
	}
	if renew := l.expires.Add(-30 * time.Second); !s.renew.armed() {
		m.at(s.renew, renew)
	}
	if fresh {
		m.wakeAll(s)
	}
	// A lane locks credits, so once a session has its hold a newcomer is a spare
	// until work waits for it, see schedule and offer.
	if l.lane < 0 && s.state == sessionOpening && s.request == nil {
		s.needHold = true
	}
	m.mark(s)
}

// payeeOf spells the worker itself as "".
func payeeOf(payee []byte, w peer.ID) peer.ID {
	if peer.ID(payee) == w {
		return ""
	}
	return peer.ID(payee)
}
