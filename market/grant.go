package market

import (
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// Workers say in their claims what they grant a task at most; one that grants
// less than an offer asks for says only that, in a claim of no slots. So a
// submitter can tell a job that will find nobody before it exists.

// Grant is the most that a worker grants a task.
type Grant struct {
	Fuel   proto.Fuel
	Memory uint64 // bytes
}

func (g Grant) covers(fuel, memory uint64) bool { return uint64(g.Fuel) >= fuel && g.Memory >= memory }

// or is the larger of each.
func (g Grant) or(o Grant) Grant { return Grant{max(g.Fuel, o.Fuel), max(g.Memory, o.Memory)} }

// heardGrant is what a worker said, and when.
type heardGrant struct {
	Grant
	at time.Time
}

// GrantKept is for how long a worker's word about its limits counts.
const GrantKept = 10 * time.Minute

// grantOf is what a claim says of limits; false when it says nothing, as those
// of earlier versions.
func grantOf(c *proto.Claim) (Grant, bool) {
	return Grant{proto.Fuel(c.MaxFuel), c.MaxMemory}, c.MaxFuel > 0 && c.MaxMemory > 0
}

// heardGrant keeps what a claim for an own job says. Of too many the one heard
// longest ago gives way, but not the most that was said: whoever comes with many
// identities cannot make a large worker forgotten.
func (m *Machine) heardGrant(from peer.ID, c *proto.Claim) {
	g, said := grantOf(c)
	if !said {
		return
	}
	if _, known := m.grants[from]; !known && len(m.grants) >= maxGrants {
		var old peer.ID
		for p, g := range m.grants {
			if old == "" || g.at.Before(m.grants[old].at) || g.at.Equal(m.grants[old].at) && p < old {
				old = p
			}
		}
		gone := m.grants[old]
		if gone.fresh(m.now) {
			if !m.dropped.fresh(m.now) {
				m.dropped = heardGrant{}
			}
			m.dropped = heardGrant{m.dropped.or(gone.Grant), m.now}
		}
		delete(m.grants, old)
	}
	m.grants[from] = heardGrant{g, m.now}
}

func (g heardGrant) fresh(now time.Time) bool { return !g.at.IsZero() && now.Sub(g.at) < GrantKept }

// Grants is what this node knows of the limits that workers grant.
type Grants struct {
	Workers int   // that said so within GrantKept
	Able    int   // of them, that grant what was asked for
	Most    Grant // of each limit the largest that is granted
	Memory  uint64
	Fuel    proto.Fuel // most that is granted with the memory asked for; Memory: with the fuel
}

// Grants looks for workers that grant a task's limits.
func (m *Machine) Grants(now time.Time, fuel proto.Fuel, memory uint64) (out Grants) {
	look := func(g heardGrant) bool {
		if !g.fresh(now) {
			return false
		}
		out.Workers++
		out.Most = out.Most.or(g.Grant)
		if g.covers(uint64(fuel), memory) {
			out.Able++
		}
		if g.Memory >= memory {
			out.Fuel = max(out.Fuel, g.Fuel)
		}
		if g.Fuel >= fuel {
			out.Memory = max(out.Memory, g.Memory)
		}
		return true
	}
	for _, g := range m.grants {
		look(g)
	}
	look(m.dropped)
	return out
}

// whyGrants says which limits workers grant, when that may be why j waits.
func (m *Machine) whyGrants(j *job) string {
	g := m.Grants(m.now, j.limits.Fuel, j.limits.Memory)
	switch {
	case g.Workers == 0:
		return fmt.Sprintf("No worker has said so far which limits it grants; the job asks for %d fuel and %d bytes of memory for a task.", j.limits.Fuel, j.limits.Memory)
	case g.Able < j.k:
		return fmt.Sprintf("%d of the %d workers that said which limits they grant allow %d fuel (--fuel) and %d bytes of memory (--memory) for a task; the most that any grants is %d fuel and %d bytes.",
			g.Able, g.Workers, j.limits.Fuel, j.limits.Memory, g.Most.Fuel, g.Most.Memory)
	}
	return ""
}

// below says which of an offer's limits are more than this worker grants, "" when
// none is.
func (w *workside) below(o *proto.Offer) string {
	switch {
	case proto.Fuel(o.FuelLimit) > w.cfg.MaxFuel:
		return fmt.Sprintf("it asks for %d fuel, the limit is %d", o.FuelLimit, w.cfg.MaxFuel)
	case o.MemoryLimit > w.cfg.MaxMemory:
		return fmt.Sprintf("it asks for %d bytes of memory, the limit is %d", o.MemoryLimit, w.cfg.MaxMemory)
	}
	return ""
}

// grantsOnly is a claim of no slots: it says what this worker grants and asks
// for nothing.
func (m *Machine) grantsOnly(b *bid) *proto.Claim {
	return &proto.Claim{
		Offer: b.offer.Id, Submitter: []byte(b.from), ExpiresUnixMs: uint64(m.now.Add(proto.LeaseDuration).UnixMilli()),
		Round: b.round, MaxFuel: uint64(m.work.cfg.MaxFuel), MaxMemory: m.work.cfg.MaxMemory,
	}
}
