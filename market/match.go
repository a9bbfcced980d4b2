package market

import (
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

func sortedJobs(set map[proto.JobID]*job) []*job {
	return slices.SortedFunc(maps.Values(set), func(a, b *job) int {
		if a.before(b) {
			return -1
		}
		return 1
	})
}

// serve does everything a changed session has to do, in this order: place
// work, ask for money, send what was gathered, promise pay, settle.
func (m *Machine) serve(s *session) {
	if s.state == sessionGone {
		return
	}
	if s.state == sessionServing {
		m.schedule(s)
	}
	m.askHold(s)
	for _, l := range s.leases {
		m.flush(l)
	}
	m.promise(s)
	m.conclude(s)
}

type fed uint8

const (
	fedAll     fed = iota // nothing left to place
	fedFull               // workers have no free slots
	fedStuck              // something of this job is in the way
	fedStarved            // its own budget is
)

// schedule places work of the session's jobs in order until workers are full.
// A job that cannot use the workers that are free steps aside; a few such are
// looked at again each time, so a Step costs the same however many wait.
func (m *Machine) schedule(s *session) {
	for _, l := range s.leases {
		// A worker is refilled once a quarter of its window is free, so that a
		// batch of assignments shares one signature.
		l.fill = m.can(l) && l.lane >= 0 && l.window-l.inflight >= max(1, l.window/4) && !m.now.Before(l.blocked)
	}
	for tries := 0; tries < 4; {
		for n := 0; n < 2 && len(s.stuck) > 0; n++ {
			j := s.stuck[0]
			s.stuck = s.stuck[1:]
			if j.sess == s && j.stuck {
				j.stuck = false
				if j.ready < 0 {
					s.ready.push(j)
				}
			}
		}
		if len(s.ready) == 0 {
			return
		}
		j := s.ready[0]
		switch m.feed(s, j) {
		case fedAll:
			s.ready.remove(j)
		case fedFull:
			s.needHold = s.needHold || m.spare(s)
			return
		case fedStuck:
			s.ready.remove(j)
			if !j.stuck && j.sess == s {
				j.stuck = true
				s.stuck = append(s.stuck, j)
			}
			tries++
		case fedStarved:
			s.ready.remove(j)
			j.starved = true
		}
	}
	if len(s.ready) > 0 {
		m.sooner(s.again, m.now.Add(5*time.Millisecond))
	}
}

func (m *Machine) feed(s *session, j *job) fed {
	for n := min(len(j.retry), 32); n > 0; n-- {
		t := j.retry[0]
		j.retry = j.retry[1:]
		t.queued = false
		if t.rec == nil {
			m.refill(s, t)
		}
		if j.sess != s { // the last task failed and took the job along
			return fedAll
		}
	}
	for j.next < len(j.tasks) {
		if j.tasks[j.next] != nil {
			j.next++
			continue
		}
		// A task that is tried with little may come to need all it may use: room for
		// one such is always left.
		if !m.affords(j, proto.Credit(j.k)*j.maxPay) {
			if j.running == 0 {
				m.outOfBudget(j)
				return fedAll
			}
			return fedStarved
		}
		fuel := m.firstFuel(j, j.next)
		if slices.ContainsFunc(j.tried[uint32(j.next)].Replicas, ReplicaRecord.bad) {
			m.refill(s, m.startTask(j, fuel)) // not by just anybody
			if j.sess != s {
				return fedAll
			}
			continue
		}
		picks, able := m.pick(s, j, nil, j.k, fuel)
		if len(picks) < j.k {
			switch {
			case m.usable(s, j) < j.k:
				m.offer(j)
				return fedStuck
			case able < j.k || m.short: // a lane is not certified or has no room
				s.needHold = s.needHold || m.spare(s)
				return fedStuck
			}
			return fedFull
		}
		t := m.startTask(j, fuel)
		for i, l := range picks {
			m.assign(t, l, uint32(i))
		}
	}
	if len(j.retry) > 0 {
		return fedStuck
	}
	return fedAll
}

// startTask makes the next task of j, and j one that runs.
func (m *Machine) startTask(j *job, fuel proto.Fuel) *task {
	t := m.newTask(j, j.next, fuel)
	j.next++
	if j.rec.State != Running {
		j.rec.State = Running
		m.touch(j)
		m.withdraw(j)
	}
	return t
}

// refill replaces the missing replicas of a started task. It may go up to the
// whole window of a worker, where new tasks leave room, so that tasks waiting
// for each other's workers cannot lock each other out.
func (m *Machine) refill(s *session, t *task) {
	missing := t.level - t.live()
	if missing <= 0 {
		return
	}
	picks, able := m.pick(s, t.job, t, missing, t.fuel)
	for _, l := range picks {
		m.assign(t, l, t.freeNumber())
	}
	switch {
	case len(picks) == missing:
		return
	case able > len(picks):
		t.queued = true
		t.job.retry = append(t.job.retry, t)
	case t.repeat.IsZero() && t.lostOnce():
		// Others are looked for before somebody is asked again.
		t.repeat = m.now.Add(m.cfg.Reoffer)
		m.offer(t.job)
		fallthrough
	case m.now.Before(t.repeat):
		t.queued = true
		t.job.retry = append(t.job.retry, t)
		m.sooner(s.again, t.repeat)
	default:
		t.queued = true
		t.job.parked = append(t.job.parked, t)
		m.offer(t.job)
	}
}

// lostOnce reports whether some worker lost t that may have it once more.
func (t *task) lostOnce() bool {
	return slices.ContainsFunc(t.reps, func(r *replica) bool { return t.history(r.lease.worker) == tried })
}

func (t *task) freeNumber() uint32 {
	for n := uint32(0); ; n++ {
		if !slices.ContainsFunc(t.reps, func(r *replica) bool { return r.phase != phaseLost && r.number == n }) {
			return n
		}
	}
}

// history of a worker with a task.
type history uint8

const (
	unknown history = iota
	tried           // lost it once for no fault of the result
	barred          // holds a replica, or sent a bad one
)

func (t *task) history(w peer.ID) history {
	h := unknown
	if t == nil {
		return h
	}
	for _, r := range t.trials {
		if r.Worker == w && r.bad() {
			return barred
		}
	}
	for _, r := range t.reps {
		if r.lease.worker != w || r.refused {
			continue
		}
		if r.phase != phaseLost || r.code == proto.CodeBadReceipt {
			return barred
		}
		h = tried
	}
	return h
}

// pick chooses up to n workers for replicas of t (nil for a task not started):
// the least loaded first, in turn among equals. able counts the workers that
// might take one now or once they have room. Nobody is asked for a task twice
// before others were looked for.
func (m *Machine) pick(s *session, j *job, t *task, n int, fuel proto.Fuel) (picks []*lease, able int) {
	m.short = false
	picks, able = m.pickAmong(s, j, t, n, fuel, unknown)
	if able == 0 && t != nil && !t.repeat.IsZero() && !m.now.Before(t.repeat) {
		return m.pickAmong(s, j, t, n, fuel, tried)
	}
	return picks, able
}

func (m *Machine) pickAmong(s *session, j *job, t *task, n int, fuel proto.Fuel, want history) ([]*lease, int) {
	fresh := t == nil
	trust, known := m.trust(s, t, want)
	window := m.knownWindow(s)
	var buf [proto.MaxRedundancy]*lease
	picks, able := buf[:0], 0
	for len(picks) < n {
		var best *lease
		var load loaded
		able = len(picks)
		idle := 0 // of those able, free of other work
		for i := range s.leases {
			l := s.leases[(s.cursor+i)%len(s.leases)]
			if !m.can(l) || l.lane < 0 || m.clash(l, picks) || t.history(l.worker) != want || m.clashTask(l, t) {
				continue
			}
			class := m.class(l.worker)
			if class > trust {
				continue
			}
			able++
			if known && class != classGood && l.inflight+l.kept > 0 && !m.off.crowd {
				continue // one at a time, until it is known, too
			}
			at := m.load(l, window)
			if !at.elsewhere {
				idle++
			}
			if m.now.Before(l.blocked) || l.inflight >= l.window || fresh && (!l.fill || l.inflight+l.kept >= 4*l.window) {
				continue
			}
			if pay := proto.PayFor(fuel, l.price); l.used()+l.reserved+pay > l.cap {
				m.short = true
				m.wantCap(l, j, pay, !fresh)
				continue
			}
			if best == nil || at.before(load) {
				best, load = l, at
			}
		}
		// Work waits for workers that do nothing else rather than behind another
		// job's, which may be a long one.
		if best == nil || load.elsewhere && idle >= n-len(picks) {
			break
		}
		picks = append(picks, best)
	}
	if len(s.leases) > 0 {
		s.cursor = (s.cursor + 1) % len(s.leases)
	}
	return slices.Clone(picks), max(able, len(picks))
}

// trust is the class that a worker needs at least for t: the known ones while
// there are such and strangers lost it already, and who broke more than it kept
// only when there is nobody else.
func (m *Machine) trust(s *session, t *task, want history) (least class, known bool) {
	others := 0
	for _, l := range s.leases {
		if !m.can(l) || l.lane < 0 || t.history(l.worker) != want {
			continue
		}
		switch m.class(l.worker) {
		case classGood:
			known = true
			others++
		case classNew:
			others++
		}
	}
	need := 1
	if t != nil {
		need = max(1, t.level-t.live())
	}
	switch {
	case known && t != nil && t.lost > 1:
		return classGood, known
	case t == nil && others >= s.widest() || t != nil && others >= need:
		return classNew, known
	}
	return classBad, known
}

// widest is the redundancy of the session's job that has most.
func (s *session) widest() (k int) {
	for _, j := range s.jobs {
		k = max(k, j.k)
	}
	return k
}

// loaded is how much a worker has to do, as far as its submitter knows.
type loaded struct {
	elsewhere bool // all its slots have work that is not of this session
	queue     int  // executions per window, in 1024ths, weighted by its speed
}

func (a loaded) before(b loaded) bool {
	if a.elsewhere != b.elsewhere {
		return b.elsewhere
	}
	return a.queue < b.queue
}

// foreignFor is for how long a worker's word about other submitters' work
// counts.
const foreignFor = 10 * time.Second

// load of a lease, whose window counts for no more than known while its worker
// is not.
func (m *Machine) load(l *lease, known int) loaded {
	other := l.cp.inflight() - l.inflight
	busy := other
	if l.over == 0 && m.now.Sub(l.claimed) < foreignFor {
		busy += l.foreign
	}
	share := l.share
	if share == 0 {
		share = 100
	}
	queue, window := (l.inflight+other)*100, l.window
	if m.class(l.worker) != classGood { // the known ones get most, strangers a share to become known by
		queue = queue*m.strangersShare() + 100
		window = min(window, known)
	}
	return loaded{
		elsewhere: busy >= max(1, l.parallel),
		queue:     (queue + 100 - share) * 1024 / (window * share),
	}
}

// knownWindow is the most that a known worker of s may have under way. A key
// that nobody knows claims any number of slots, which makes its load no less.
func (m *Machine) knownWindow(s *session) int {
	most := 0
	for _, l := range s.leases {
		if l.window > most && m.class(l.worker) == classGood && m.can(l) {
			most = l.window
		}
	}
	if most == 0 || m.off.standing {
		return maxSlots
	}
	return most
}

// inflight is what the worker has to do for all sessions.
func (c *counterpart) inflight() (n int) {
	for _, l := range c.leases {
		n += l.inflight
	}
	return n
}

func (m *Machine) clashTask(l *lease, t *task) bool {
	if t == nil || !m.cfg.Diversity {
		return false
	}
	return slices.ContainsFunc(t.reps, func(r *replica) bool { return r.phase != phaseLost && m.alike(r.lease, l) })
}

func (m *Machine) assign(t *task, l *lease, number uint32) {
	j, spec := t.job, &t.job.rec.Job
	t.attempts++
	r := &replica{
		task: t, lease: l, number: number, price: l.price, epoch: m.epoch,
		attempt: j.rec.Round<<16 | t.attempts&0xffff,
		held:    proto.PayFor(t.fuel, l.price), sent: m.now,
		ahead: l.over + uint64(l.inflight),
	}
	t.reps = append(t.reps, r)
	l.inflight++
	l.reserved += r.held
	j.live++
	l.s.live++
	if l.inflight == 1 {
		l.progress = m.now
	}
	m.watch(r)
	in := &spec.Inputs[t.index]
	l.batch = append(l.batch, &proto.Assignment{
		Job: spec.ID[:], Task: t.index, Replica: number, Replicas: uint32(t.level), Module: j.module,
		MeterVersion: proto.MeterVersion, InputHash: in.Hash[:], InputSize: in.Size, Price: uint64(l.price),
		FuelLimit: uint64(t.fuel), MemoryLimit: j.limits.Memory, OutputLimit: j.limits.Output,
		WallMs: uint64(j.limits.Wall / time.Millisecond), Attempt: r.attempt, Priority: uint32(spec.Options.Priority), Epoch: m.epoch,
	})
}

// flush sends what was gathered for one worker.
func (m *Machine) flush(l *lease) {
	// Aborts first: they free what the worker set aside for new assignments.
	for len(l.aborts) > 0 {
		code := l.aborts[0].code
		var refs []proto.Ref
		for len(l.aborts) > 0 && l.aborts[0].code == code && len(refs) < maxBatch {
			refs = append(refs, l.aborts[0].ref)
			l.aborts = l.aborts[1:]
		}
		m.send(SendAbort{To: l.worker, Refs: refs, Code: code})
	}
	l.aborts = nil
	for len(l.batch) > 0 {
		n := min(len(l.batch), maxBatch)
		expires := m.now.Add(m.answerLimit())
		if expires.After(l.s.deadline) {
			expires = l.s.deadline
		}
		m.send(SendAssign{To: l.worker, Batch: &proto.AssignmentBatch{
			Worker: []byte(l.worker), Hold: l.s.hold.Bytes(), Lane: uint32(l.lane),
			ExpiresUnixMs: uint64(expires.UnixMilli()), Assignments: l.batch[:n:n],
		}})
		l.batch = l.batch[n:]
	}
	l.batch = nil
}

// abort tells a worker to drop an execution, unless it is out of reach.
func (m *Machine) abort(l *lease, ref proto.Ref, code proto.Code) {
	if !l.cp.lost {
		l.aborts = append(l.aborts, aborted{ref, code})
		m.mark(l.s)
	}
}

func (m *Machine) outOfBudget(j *job) {
	m.failJob(j, Failed, proto.CodeBudget, budgetSentence(j, m.cfg.FeePPM))
}
