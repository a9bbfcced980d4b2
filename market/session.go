package market

import (
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

type sessionState uint8

const (
	sessionOpening sessionState = iota // hold asked for
	sessionServing
	sessionClosing // lanes asked for Done
	sessionGone
)

// session is one hold and the workers paid from it. It outlives the job that
// opened it by Linger, so that the next job with the same module starts
// without offer and hold.
type session struct {
	id       proto.JobID    // the job that opened it
	module   string         // CID bytes; "" for a hold of an earlier run
	priority proto.Priority // what its workers claimed for, at a price of its own
	fuel     proto.Fuel
	memory   uint64
	wall     time.Duration
	hold     cid.Cid
	deadline time.Time
	budget   proto.Credit
	extends  int // of the hold
	state    sessionState
	restored bool
	dirty    bool

	leases []*lease // everyone who claimed; those with a lane are in lanes too
	lanes  []*lease // by lane index
	cursor int      // where the search for a worker starts

	jobs   map[proto.JobID]*job // unfinished
	served []*job               // finished, told when the session is settled
	ready  jobHeap              // jobs with work to place
	stuck  []*job               // jobs that could not be placed though workers were free
	live   int                  // executions under way or awaiting a verdict

	needHold  bool
	asked     time.Time // deadline asked for
	holdWhy   string    // why the last request failed
	request   *request
	scale     uint // halvings of caps after the balance did not cover them
	holdAfter time.Time

	owing   bool // a lane's total is above its last voucher
	unpaid  int  // tasks since the last vouchers
	lastPay time.Time

	settling   *settlement
	refusals   int // Settles in a row that changed nothing
	unsettled  int // tasks since the last Settle
	since      time.Time
	lastSettle time.Time
	finishing  time.Time // last time a lane was asked for Done

	again, linger, pay, settle, finish, renew, retry *timer
}

// lease is one worker's place in a session: its claim and, once certified,
// its lane.
type lease struct {
	s        *session
	cp       *counterpart
	worker   peer.ID
	payee    peer.ID
	operator string
	site     string
	rank     proto.Hash // rendezvous order
	price    proto.Credit
	slots    int // claimed
	share    int // percent of a core that its executions get
	parallel int // executions that it runs at once
	foreign  int // assignments of other submitters that it held when it claimed
	claimed  time.Time
	window   int // slots, or fewer after refusals
	expires  time.Time
	lane     int // -1 until certified
	dead     bool
	blocked  time.Time // takes nothing before
	refusals int       // in a row, nothing done between

	cap, amount, settled, reserved proto.Credit
	unpaid                         proto.Credit // results that came and that no task was finished with
	fuel                           proto.Fuel
	upto                           uint64
	base                           proto.Credit // first cap, had there been work for it
	want, wantFor                  proto.Credit // cap to be added, for executions of at most
	owing, done, released          bool

	inflight int // assigned, not committed
	kept     int // committed, awaiting a verdict
	fill     bool
	over     uint64 // executions that ended
	progress time.Time
	asked    time.Time // for Done, last time
	head     *replica
	tail     *replica
	check    *timer

	batch  []*proto.Assignment
	aborts []aborted
}

type aborted struct {
	ref  proto.Ref
	code proto.Code
}

func (m *Machine) newSession(id proto.JobID) *session {
	s := &session{id: id, jobs: map[proto.JobID]*job{}}
	dirty := func() { m.mark(s) }
	s.again = m.timers.make(dirty)
	s.pay = m.timers.make(dirty)
	s.settle = m.timers.make(dirty)
	s.retry = m.timers.make(dirty)
	s.finish = m.timers.make(dirty)
	s.linger = m.timers.make(func() { m.closeSession(s) })
	s.renew = m.timers.make(func() { m.renewLeases(s) })
	m.sessions = append(m.sessions, s)
	return s
}

// dropSession forgets a session whose hold is closed or out of reach.
func (m *Machine) dropSession(s *session) {
	s.state = sessionGone
	m.stop(s.again, s.pay, s.settle, s.retry, s.finish, s.linger, s.renew)
	if s.request != nil {
		delete(m.reqs, s.request.id)
	}
	if s.hold.Defined() {
		delete(m.byHold, s.hold)
	}
	for i, o := range m.sessions {
		if o == s {
			m.sessions = append(m.sessions[:i], m.sessions[i+1:]...)
			break
		}
	}
	for _, l := range s.leases {
		m.stop(l.check)
		for i, o := range l.cp.leases {
			if o == l {
				l.cp.leases = append(l.cp.leases[:i], l.cp.leases[i+1:]...)
				break
			}
		}
		if len(l.cp.leases) == 0 {
			delete(m.peers, l.worker)
		}
	}
	for _, j := range s.served {
		j.past = slices.DeleteFunc(j.past, func(o *session) bool { return o == s })
		m.touch(j)
	}
	s.served = nil
}

func (m *Machine) addLease(s *session, worker peer.ID) *lease {
	l := &lease{s: s, cp: m.counterpart(worker), worker: worker, lane: -1}
	l.check = m.timers.make(func() { m.checkLease(l) })
	l.cp.leases = append(l.cp.leases, l)
	s.leases = append(s.leases, l)
	return l
}

func (s *session) lease(worker peer.ID) *lease {
	for _, l := range s.leases {
		if l.worker == worker {
			return l
		}
	}
	return nil
}

// fitting is a session that may serve j: same module, limits within what its
// workers claimed for.
func (m *Machine) fitting(j *job) *session {
	for _, s := range m.sessions {
		if s.state <= sessionServing && !s.restored && s.extends < maxExtends && s.module == string(j.module) && s.priority == j.rec.Job.Options.Priority &&
			j.limits.Fuel <= s.fuel && j.limits.Memory <= s.memory && j.limits.Wall >= s.wall && m.now.Before(s.deadline) {
			return s
		}
	}
	return nil
}

func (m *Machine) join(j *job, s *session) {
	if j.sess == s {
		return
	}
	j.sess = s
	j.past = append(j.past, s)
	s.jobs[j.rec.Job.ID] = j
	m.stop(s.linger)
	m.wake(j)
	m.mark(s)
}

// leave takes a final job out of its session.
func (m *Machine) leave(j *job, s *session) {
	s.ready.remove(j)
	j.stuck = false // its entry in s.stuck is skipped later
	delete(s.jobs, j.rec.Job.ID)
	s.served = append(s.served, j)
	j.sess = nil
	if len(s.jobs) == 0 {
		m.at(s.linger, m.now.Add(m.cfg.Linger))
	}
	m.mark(s)
}

// wake puts j among the jobs with work to place when it has any.
func (m *Machine) wake(j *job) {
	if j.sess == nil || j.ready >= 0 || j.rec.State.Final() || !j.waits() {
		return
	}
	j.stuck, j.starved = false, false
	j.sess.ready.push(j)
	m.mark(j.sess)
}

// wakeAll gives every job of s another look, parked tasks too: its workers or
// lanes changed.
func (m *Machine) wakeAll(s *session) {
	s.stuck = s.stuck[:0]
	for _, j := range sortedJobs(s.jobs) {
		for _, t := range j.parked {
			if t.rec == nil {
				j.retry = append(j.retry, t)
			}
		}
		j.parked = nil
		m.wake(j)
	}
	m.mark(s)
}

// can reports whether l takes new work at all, slots and money aside.
func (m *Machine) can(l *lease) bool {
	return !l.cp.lost && !l.dead && !l.done && m.now.Before(l.expires)
}

// usable counts the workers of s that j's replicas may be spread over.
func (m *Machine) usable(s *session, j *job) int {
	var chosen []*lease
	for _, l := range s.leases {
		if m.can(l) && !m.clash(l, chosen) {
			chosen = append(chosen, l)
		}
	}
	return len(chosen)
}

// spare reports whether somebody claimed who has no lane yet.
func (m *Machine) spare(s *session) bool {
	if len(s.lanes) == len(s.leases) {
		return false
	}
	return slices.ContainsFunc(s.leases, func(l *lease) bool { return l.lane < 0 && m.can(l) })
}

// clash reports whether l shares operator or site with one of others where
// the network wants replicas apart.
func (m *Machine) clash(l *lease, others []*lease) bool {
	for _, o := range others {
		if o == l || m.alike(l, o) {
			return true
		}
	}
	return false
}

func (m *Machine) alike(a, b *lease) bool {
	return m.cfg.Diversity && (a.operator != "" && a.operator == b.operator || a.site != "" && a.site == b.site)
}

func (m *Machine) renewLeases(s *session) {
	if s.state > sessionServing {
		return
	}
	for _, j := range sortedJobs(s.jobs) {
		if j.waits() {
			m.offer(j)
			break
		}
	}
	if len(s.jobs) > 0 {
		m.at(s.renew, m.now.Add(20*time.Second))
	}
}

// jobHeap holds jobs in the order they are served.
type jobHeap []*job

func (h jobHeap) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].ready, h[j].ready = i, j
}

func (h jobHeap) fix(i int) {
	for i > 0 && h[i].before(h[(i-1)/2]) {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	for {
		c := 2*i + 1
		if c >= len(h) {
			return
		}
		if c+1 < len(h) && h[c+1].before(h[c]) {
			c++
		}
		if !h[c].before(h[i]) {
			return
		}
		h.swap(i, c)
		i = c
	}
}

func (h *jobHeap) push(j *job) {
	j.ready = len(*h)
	*h = append(*h, j)
	h.fix(j.ready)
}

func (h *jobHeap) remove(j *job) {
	i := j.ready
	if i < 0 {
		return
	}
	last := len(*h) - 1
	h.swap(i, last)
	(*h)[last] = nil
	*h = (*h)[:last]
	j.ready = -1
	if i < last {
		h.fix(i)
	}
}
