package market

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// offering is a job's search for workers.
type offering struct {
	active    bool // an offer is out and workers are missing
	round     uint32
	out       *proto.Offer // as published last
	claims    map[peer.ID]*proto.Claim
	shunned   map[peer.ID]bool // claimed and were not taken: they silence others
	strangers int              // claimed before those who are known, whom they silenced
	backoff   time.Duration
	sent      time.Time // the newest offer
	early     int       // offers that went out before they were due, for newcomers
	again     *timer
	window    *timer
}

const maxReoffer = 10 * time.Second

// Bounds of offers that go out before they are due: everybody who hears one
// answers it anew.
const (
	earlyOffers = 8
	earlyPause  = 200 * time.Millisecond
)

func (m *Machine) initOffering(j *job) {
	j.bid.claims, j.bid.shunned = map[peer.ID]*proto.Claim{}, map[peer.ID]bool{}
	j.bid.again = m.timers.make(func() { m.reoffer(j) })
	j.bid.window = m.timers.make(func() { m.choose(j) })
}

// wanted is the number of workers after which claimants fall silent: enough
// for one escalation and, for larger jobs, one per eight executions.
func (j *job) wanted() int { return wantedWorkers(j.k, len(j.tasks)) }

func wantedWorkers(k, tasks int) int {
	n := max(nextLevel(k), k)
	return max(n, min((tasks*k+7)/8, 16))
}

func (j *job) slotsWanted() int { return min(len(j.tasks)*j.k, 1024) }

// waits reports whether work of j could not be placed so far.
func (j *job) waits() bool {
	return len(j.retry)+len(j.parked) > 0 || j.next < len(j.tasks)
}

// offer gets j more workers: those that claimed and have no lane yet, else by
// announcing it, unless it is announced already.
func (m *Machine) offer(j *job) {
	if j.rec.State.Final() {
		return
	}
	if s := j.sess; s != nil && s.state == sessionServing && m.spare(s) {
		s.needHold = true
		return
	}
	if j.bid.active {
		return
	}
	j.bid.active = true
	j.bid.backoff = m.cfg.Reoffer
	m.publish(j)
}

func (m *Machine) publish(j *job) {
	spec, b := &j.rec.Job, &j.bid
	due := spec.Created.Add(spec.Options.Timeout)
	b.round++
	wanted := j.wanted()
	if j.sess != nil {
		wanted += m.usable(j.sess, j) // they answer again and must not silence others
	}
	wanted += len(b.shunned)
	wanted += b.strangers
	b.out = &proto.Offer{
		Id: spec.ID[:], Type: spec.Type, Module: j.module, MeterVersion: proto.MeterVersion, Tasks: uint32(len(j.tasks)),
		FuelLimit: uint64(j.limits.Fuel), MemoryLimit: j.limits.Memory, PriceCap: uint64(m.price(j)),
		Redundancy: uint32(j.k), SlotsWanted: uint32(j.slotsWanted()), WorkersWanted: uint32(wanted),
		DeadlineUnixMs: uint64(due.UnixMilli()), Priority: uint32(spec.Options.Priority),
		Round: j.rec.Round<<16 | b.round&0xffff, ModuleSize: spec.ModuleSize,
		WallMs: uint64(j.limits.Wall / time.Millisecond),
	}
	m.send(PublishOffer{Offer: b.out})
	b.sent = m.now
	m.at(b.again, m.now.Add(b.backoff))
	if j.rec.State == Queued {
		j.rec.State = Offered
		m.touch(j)
	}
}

// reoffer offers again while workers are missing, ever more slowly.
func (m *Machine) reoffer(j *job) {
	if j.rec.State.Final() {
		return
	}
	if j.sess != nil && len(j.parked) == 0 && m.usable(j.sess, j) >= j.k {
		j.bid.active = false
		return
	}
	if j.sess == nil {
		if s := m.fitting(j); s != nil && m.usable(s, j) >= j.k {
			j.bid.active = false
			m.join(j, s)
			return
		}
	}
	j.bid.backoff = min(j.bid.backoff*3/2, maxReoffer)
	m.publish(j)
}

// newcomers offers again what waits for workers, for those that were not there
// when it was offered.
func (m *Machine) newcomers() {
	for _, j := range sortedJobs(m.jobs) {
		b := &j.bid
		if j.rec.State.Final() || !b.active || b.window.armed() || b.early == earlyOffers {
			continue
		}
		if at := later(m.now, b.sent.Add(earlyPause)); at.Before(b.again.at) {
			b.early++
			m.at(b.again, at)
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// withdraw ends the search. Workers hear of it only when the job is over:
// they answer each round once, so an offer that found its workers needs no
// second message.
func (m *Machine) withdraw(j *job) {
	b := &j.bid
	m.stop(b.window)
	if !b.active {
		return
	}
	if j.rec.State.Final() {
		m.stop(b.again)
		b.active = false
		m.send(PublishWithdrawal{Offer: b.out, Withdrawal: &proto.Withdrawal{Offer: j.rec.Job.ID[:], Code: uint32(j.rec.Code)}})
		b.claims = nil
		return
	}
	if len(j.parked) == 0 {
		m.stop(b.again)
		b.active = false
	}
}
