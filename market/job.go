package market

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// job is a job of this node. Tasks that were never started have no *task, so
// that a large job costs nothing until it runs.
type job struct {
	rec    JobRecord
	seq    uint64
	k      int
	maxPay proto.Credit // of one replica at the price cap
	limits proto.Limits
	module []byte // CID bytes
	sess   *session
	past   []*session // every session that ever served it
	tasks  []*task
	next   int     // tasks below were started or restored
	retry  []*task // started, replicas missing
	parked []*task // started, no worker in the session may take them
	// disputed tasks wait for budget, to escalate or for a higher fuel limit.
	disputed []*task
	// tried are tasks not started in this run whose trials an earlier one paid.
	tried   map[uint32]TaskRecord
	floor   proto.Fuel // the least that new tasks start with: trials below ran out
	learned bool       // something of its module's cost, not saved yet
	open    int        // tasks not final
	live    int        // executions under way or awaiting a verdict
	updated time.Time
	noted   bool
	gone    bool // forgotten

	spent    proto.Credit // Σ pay of verified replicas
	reserved proto.Credit // worst case of started tasks
	fuel     proto.Fuel

	done, failed, verified, running int

	bid      offering
	deadline *timer
	queue    *timer // until the first task runs; nil without such a limit
	ready    int    // place in the session's ready heap, -1 outside
	stuck    bool   // in the session's stuck list
	starved  bool   // waits for its own budget to be freed

	lost      []LostTry // the newest
	lostTries int
}

type task struct {
	job      *job
	index    uint32
	state    TaskState
	level    int          // replicas wanted now
	fuel     proto.Fuel   // limit of its executions now
	pay      proto.Credit // of one of them at the price cap
	reps     []*replica
	trials   []ReplicaRecord // paid before, with lower limits
	cost     proto.Credit    // of those, with fee
	short    bool            // waits for budget for a higher limit
	lost     int             // executions lost
	silent   int             // of those, without a word from a worker that is not known
	attempts uint32
	reserved proto.Credit
	queued   bool      // in retry or parked
	repeat   time.Time // workers that lost it already may have it from then on; zero: nobody else was looked for
	rec      *TaskRecord
}

type phase uint8

const (
	phaseAssigned phase = iota
	phaseCommitted
	phaseRevealed
	phaseResulted
	phaseLost
)

// replica is one execution of a task on one worker.
type replica struct {
	task    *task
	lease   *lease
	attempt uint32
	number  uint32 // i of k
	phase   phase
	sent    time.Time    // to the worker
	running bool         // the worker says that it runs
	prompt  bool         // it ran soon after it was sent
	began   time.Time    // when it said so
	waits   bool         // the worker said that it does not run yet
	price   proto.Credit // of the assignment
	epoch   uint64       // of the assignment
	held    proto.Credit // reserved on the lane for it
	commit  proto.Hash
	code    proto.Code // why it was lost
	refused bool       // before it ran

	status proto.Status
	exit   int32
	output proto.Hash
	size   uint64
	log    proto.Hash
	fuel   proto.Fuel // of a lost one that it may be paid for in part, see partial.go

	// The lease's list of executions with a deadline, in order of deadline.
	prev, next *replica
	listed     bool
	due        time.Time
	ahead      uint64 // lease.over at which everything assigned before it is over
}

func (t *task) id() proto.TaskID { return proto.TaskID{Job: t.job.rec.Job.ID, Index: t.index} }

func (r *replica) ref() proto.Ref { return proto.Ref{Task: r.task.id(), Attempt: r.attempt} }

func (t *task) live() (n int) {
	for _, r := range t.reps {
		if r.phase != phaseLost {
			n++
		}
	}
	return n
}

// replica finds an execution by what its worker calls it; nil for anything
// unknown or over.
func (m *Machine) replica(from peer.ID, ref proto.Ref) *replica {
	j := m.jobs[ref.Task.Job]
	if j == nil || j.rec.State.Final() || int(ref.Task.Index) >= len(j.tasks) {
		return nil
	}
	t := j.tasks[ref.Task.Index]
	if t == nil || t.rec != nil {
		return nil
	}
	for _, r := range t.reps {
		if r.attempt == ref.Attempt && r.lease.worker == from && r.phase != phaseLost {
			return r
		}
	}
	return nil
}

// normal makes policy that came past every check harmless; most is the
// network's cap of a try.
func normal(o Options, most time.Duration) Options {
	o = o.WithTimes(most).WithDefaults()
	o.Redundancy = min(max(o.Redundancy, 1), proto.MaxRedundancy)
	if o.Timeout < 0 {
		o.Timeout = DefaultTimeout
	}
	o.Fuel = min(o.Fuel, proto.MaxFuel)
	if o.Run < 0 {
		o.Run = proto.DefaultWall
	}
	o.Run = min(o.Run, most)
	return o
}

func (m *Machine) addJob(rec JobRecord) *job {
	rec.Job.Options = normal(rec.Job.Options, m.cfg.MaxRun)
	o := rec.Job.Options
	j := &job{
		rec: rec, seq: m.seq, k: o.Redundancy,
		maxPay:  proto.PayFor(o.Fuel, m.terms().At(o.Priority, m.cfg.Price)),
		limits:  proto.Limits{Fuel: o.Fuel, Memory: o.Memory, Wall: o.Run}.WithDefaults(),
		tasks:   make([]*task, len(rec.Job.Inputs)),
		open:    len(rec.Job.Inputs),
		ready:   -1,
		updated: m.now,
	}
	if rec.Job.Module.Defined() {
		j.module = rec.Job.Module.Bytes()
	}
	m.seq++
	m.jobs[rec.Job.ID] = j
	m.order = append(m.order, j)
	return j
}

func (m *Machine) submit(spec Job) {
	if _, known := m.jobs[spec.ID]; known {
		return
	}
	if spec.Created.IsZero() {
		spec.Created = m.now
	}
	j := m.addJob(JobRecord{Job: spec, State: Queued})
	m.touch(j)
	m.begin(j)
}

// begin starts a new or restored job: in a session that fits, or by an offer.
func (m *Machine) begin(j *job) {
	spec := &j.rec.Job
	due := spec.Created.Add(spec.Options.Timeout)
	switch {
	case j.open == 0:
		m.finishJob(j)
		return
	case !m.now.Before(due):
		m.expire(j)
		return
	case m.Quote(*spec).Check(spec.Options) != nil: // node refuses it before there is a job; an older version did not
		m.failJob(j, Failed, proto.CodeBudget, m.Quote(*spec).Check(spec.Options).Error())
		return
	case !m.affords(j, proto.Credit(j.k)*j.maxPay): // restored with most of it spent
		m.outOfBudget(j)
		return
	}
	j.deadline = m.timers.make(func() { m.expire(j) })
	m.at(j.deadline, due)
	if spec.Options.Queue > 0 && !j.rec.Begun && j.done+j.failed == 0 {
		j.queue = m.timers.make(func() { m.waitedOut(j) })
		m.at(j.queue, spec.Created.Add(spec.Options.Queue))
	}
	m.initOffering(j)
	if s := m.fitting(j); s != nil {
		m.join(j, s)
		if m.usable(s, j) >= j.k {
			return
		}
	}
	m.offer(j)
}

func withFee(a proto.Credit, ppm uint64) proto.Credit { return a + proto.Fee(a, ppm) }

// affords reports whether worst-case pay of more fits the job's max credits
// beside what is spent and reserved, fee included.
func (m *Machine) affords(j *job, more proto.Credit) bool {
	return withFee(j.spent+j.reserved+more, m.cfg.FeePPM) <= j.rec.Job.Options.MaxCredits
}

func (m *Machine) cancel(id proto.JobID) {
	j := m.jobs[id]
	if j == nil || j.rec.State.Final() {
		return
	}
	m.failJob(j, Cancelled, proto.CodeCancelled, "cancelled by its owner")
}

func (m *Machine) expire(j *job) {
	if j.rec.State.Final() {
		return
	}
	if len(j.past) == 0 && j.next == 0 {
		m.failJob(j, Expired, proto.CodeNoWorkers, fmt.Sprintf(
			"%d of the %d workers that a task needs claimed the job within %s", len(j.bid.claims), j.k, j.rec.Job.Options.Timeout))
		return
	}
	m.failJob(j, Expired, proto.CodeTimeout, fmt.Sprintf("not finished within %s", j.rec.Job.Options.Timeout))
}

// waitedOut ends a job that no worker runs in the time for that.
func (m *Machine) waitedOut(j *job) {
	if j.rec.State.Final() || j.rec.Begun {
		return
	}
	found := len(j.bid.claims)
	if j.sess != nil {
		found = m.usable(j.sess, j)
	}
	m.failJob(j, Expired, proto.CodeQueueTimeout, fmt.Sprintf(
		"no worker ran any of it within its queue timeout of %s; %d of the %d workers that a task needs answered: give it more time, or see what they are busy with",
		j.rec.Job.Options.Queue, found, j.k))
}

// began notes that a worker runs some of j: it waits in no queue any more.
func (m *Machine) began(j *job) {
	if j.rec.Begun {
		return
	}
	j.rec.Begun = true
	if j.queue != nil {
		m.stop(j.queue)
		m.saves = append(m.saves, SaveJob{Record: j.rec}) // or it would wait anew after a restart
	}
}

// failJob ends every task that is not final and with them the job. Tasks that
// never started get no record: they share the job's.
func (m *Machine) failJob(j *job, state TaskState, code proto.Code, reason string) {
	j.rec.State, j.rec.Code, j.rec.Reason = state, code, reason // finishTask must not end the job itself
	for _, i := range slices.Sorted(maps.Keys(j.tried)) {
		rec := j.tried[i]
		rec.State, rec.Code, rec.Reason = state, code, reason
		m.saves = append(m.saves, SaveTask{Record: rec})
	}
	j.tried = nil
	for _, t := range j.tasks[:min(j.next, len(j.tasks))] {
		if t == nil || t.rec != nil {
			continue
		}
		if state == Expired && t.level > j.k {
			m.finishTask(t, Failed, proto.CodeNoQuorum, fmt.Sprintf("replicas disagreed and no further worker came within %s", j.rec.Job.Options.Timeout))
			continue
		}
		m.finishTask(t, state, code, reason)
	}
	m.endJob(j)
}

// finishTask makes t final. Executions still under way are aborted.
func (m *Machine) finishTask(t *task, state TaskState, code proto.Code, reason string) {
	rec := &TaskRecord{ID: t.id(), State: state, Code: code, Reason: reason, Cost: t.cost, Replicas: slices.Clip(t.trials)}
	abort := code
	if state == Done || code == proto.CodeTaskFailed {
		abort = proto.CodeCancelled
	}
	for _, r := range t.reps {
		if r.phase != phaseLost {
			m.dropResult(r)
			m.release(r)
			m.unpaid(r)
			m.abort(r.lease, r.ref(), abort)
			r.code = abort
		}
	}
	t.job.reserved -= t.reserved
	t.reserved = 0
	was := t.job.spent
	for i, pay := range m.partial(t) {
		rr := t.reps[i].record()
		if pay > 0 {
			m.credit(t.reps[i], pay, &rr)
			rr.Partial = true
		}
		rec.Replicas = append(rec.Replicas, rr)
	}
	rec.Cost += withFee(t.job.spent, m.cfg.FeePPM) - withFee(was, m.cfg.FeePPM)
	m.recordTask(t, rec)
}

// record is r as it was when its task became final without it.
func (r *replica) record() ReplicaRecord {
	out := ReplicaRecord{Worker: r.lease.worker, Attempt: r.attempt, State: Cancelled, Code: r.code}
	if r.phase == phaseLost {
		out.State, out.Fuel = Failed, r.fuel
	}
	if r.phase == phaseResulted {
		out.State, out.Status, out.Output, out.Fuel = Failed, r.status, r.output, r.fuel
	}
	return out
}

// recordTask files a final task and ends the job with its last one.
func (m *Machine) recordTask(t *task, rec *TaskRecord) {
	j := t.job
	m.saves = append(m.saves, SaveTask{Record: *rec})
	j.reserved -= t.reserved
	t.reserved = 0
	t.rec, t.reps, t.trials, t.state = rec, nil, nil, rec.State
	t.short = false
	j.running--
	m.count(j, rec)
	m.touch(j)
	m.wake(j)
	if len(j.disputed) > 0 && !j.rec.State.Final() {
		d := j.disputed[0]
		j.disputed = j.disputed[1:]
		if d.rec == nil {
			m.afford(d)
		}
	}
	if j.open == 0 && !j.rec.State.Final() {
		m.finishJob(j)
	}
}

func (m *Machine) count(j *job, rec *TaskRecord) {
	j.open--
	if rec.State == Done {
		j.done++
	} else {
		j.failed++
	}
	if rec.Verified {
		j.verified++
	}
	if rec.State != Done && j.rec.Code == proto.CodeOK {
		j.rec.Code, j.rec.Reason = rec.Code, fmt.Sprintf("task %d: %s", rec.ID.Index, rec.Reason)
	}
}

// finishJob ends a job all of whose tasks are final.
func (m *Machine) finishJob(j *job) {
	j.rec.State = Done
	if j.failed > 0 {
		j.rec.State = Failed
	}
	m.endJob(j)
}

func (m *Machine) endJob(j *job) {
	m.saves = append(m.saves, SaveJob{Record: j.rec})
	m.keepCost(j)
	m.keepStandings()
	m.stop(j.deadline, j.queue)
	m.withdraw(j)
	j.retry, j.parked = nil, nil
	if s := j.sess; s != nil {
		m.leave(j, s)
	}
	m.touch(j)
	m.retire(j)
}

// retire counts a final job and forgets the oldest ones above the bound;
// their records stay with node. Going well below the bound at once keeps the
// cost per job constant.
func (m *Machine) retire(j *job) {
	m.finished++
	m.finTasks += len(j.tasks)
	if m.finished <= maxFinished && m.finTasks <= maxFinTasks {
		return
	}
	m.order = slices.DeleteFunc(m.order, func(o *job) bool {
		if m.finished <= maxFinished*3/4 && m.finTasks <= maxFinTasks*3/4 || o == j || !o.rec.State.Final() {
			return false
		}
		m.forget(o)
		return true
	})
	for _, s := range m.sessions {
		s.served = slices.DeleteFunc(s.served, func(o *job) bool { return o.gone })
	}
}

// remove forgets one final job. One that is not settled still says what is owed
// to whom.
func (m *Machine) remove(id proto.JobID) {
	j := m.jobs[id]
	if j == nil || !m.jobSettled(j) {
		return
	}
	m.order = slices.DeleteFunc(m.order, func(o *job) bool { return o == j })
	m.forget(j)
	for _, s := range m.sessions {
		s.served = slices.DeleteFunc(s.served, func(o *job) bool { return o.gone })
	}
}

// forget drops a final job that is in order no more.
func (m *Machine) forget(j *job) {
	m.finished--
	m.finTasks -= len(j.tasks)
	delete(m.jobs, j.rec.Job.ID)
	j.gone, j.tasks, j.past = true, nil, nil
}

// before orders jobs for work: priority, then arrival.
func (j *job) before(o *job) bool {
	if c := cmp.Compare(o.rec.Job.Options.Priority, j.rec.Job.Options.Priority); c != 0 {
		return c < 0
	}
	return j.seq < o.seq
}
