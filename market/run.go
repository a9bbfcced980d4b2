package market

import (
	"cmp"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// Executions under way: their deadlines, refusals and losses.

const blockMost = 15 * time.Second

// answerLimit is for how long an assignment is valid, and within what time a
// worker has to send a result that it committed to.
func (m *Machine) answerLimit() time.Duration { return proto.DefaultWall + m.cfg.RunSlack }

// runLimit is how long r may take from its start, fetching and compiling
// included. A worker that throttles itself takes longer, as its claim says.
func (m *Machine) runLimit(r *replica) time.Duration {
	return proto.Stretch(r.task.job.limits.Wall+m.cfg.RunSlack, r.lease.share)
}

func (m *Machine) limit(r *replica) time.Duration {
	switch {
	case r.phase >= phaseRevealed:
		return m.answerLimit()
	case m.unheard(r):
		return min(m.acceptLimit(r), m.runLimit(r))
	}
	return m.runLimit(r)
}

// A worker says at once that it took an assignment. Who says nothing is given up
// long before its time to run is over, and a stranger sooner than one who is known.
const (
	acceptWait   = 10 * time.Second
	strangerWait = 3 * time.Second
	uploadRate   = 32 << 10 // bytes a second, that an assignment's input may need to get there
)

// unheard reports whether r's worker has not said yet that it took it.
func (m *Machine) unheard(r *replica) bool {
	return r.phase == phaseAssigned && !r.running && !r.waits && !m.off.silence
}

func (m *Machine) acceptLimit(r *replica) time.Duration {
	size := min(r.task.job.rec.Job.Inputs[r.task.index].Size, proto.MaxInline)
	wait := acceptWait
	if m.class(r.lease.worker) != classGood && !m.off.crowd {
		wait = strangerWait
	}
	return wait + time.Duration(uint64(r.lease.inflight)*size/uploadRate)*time.Second
}

// watch gives r a deadline. The list of its lease is sorted by deadline; most
// are the same time away when they are set, so the place is near the end.
func (m *Machine) watch(r *replica) {
	m.unwatch(r)
	l := r.lease
	r.due, r.listed = m.now.Add(m.limit(r)), true
	r.prev = l.tail
	for r.prev != nil && r.prev.due.After(r.due) {
		r.prev = r.prev.prev
	}
	if r.prev != nil {
		r.next, r.prev.next = r.prev.next, r
	} else {
		r.next, l.head = l.head, r
	}
	if r.next != nil {
		r.next.prev = r
	} else {
		l.tail = r
	}
	m.sooner(l.check, l.head.due)
}

func (m *Machine) unwatch(r *replica) {
	if !r.listed {
		return
	}
	l := r.lease
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		l.head = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else {
		l.tail = r.prev
	}
	r.prev, r.next, r.listed = nil, nil, false
}

// checkLease looks at the executions of l whose deadline passed. A worker may
// queue assignments, so one that waits there is lost only when the worker got
// nothing done for a whole limit, or when everything assigned before it is long
// over.
func (m *Machine) checkLease(l *lease) {
	if again := m.stalled.Add(stallGrace); m.now.Before(again) {
		m.at(l.check, again)
		return
	}
	for l.head != nil && !l.head.due.After(m.now) {
		r := l.head
		limit := m.limit(r)
		switch {
		case r.phase > phaseAssigned:
			m.loseSilent(r, brokeWord, proto.CodeTimeout, fmt.Sprintf("it did not send the result it had committed to within %s", limit))
		case r.running:
			m.loseSilent(r, brokeWord, proto.CodeRunTimeout, fmt.Sprintf("no result within %s of its start", limit))
		case m.unheard(r) && m.now.Sub(later(l.progress, r.sent)) >= limit:
			l.dead = true // until it claims again
			broke := uint64(brokeWord)
			if limit < acceptWait { // it may just be slow to reach
				broke = brokeTry
			}
			m.loseSilent(r, broke, proto.CodeTimeout, fmt.Sprintf("it did not answer the assignment within %s", limit))
		case m.now.Sub(l.progress) >= limit && !m.unheard(r) || l.over > r.ahead+uint64(l.window):
			m.loseSilent(r, brokeWord, proto.CodeQueueTimeout, fmt.Sprintf("it was not started there within %s", limit))
		default:
			m.watch(r)
		}
	}
	if l.head != nil {
		m.at(l.check, l.head.due)
	}
	if m.now.Before(l.blocked) {
		m.sooner(l.check, l.blocked)
	}
	m.mark(l.s)
}

// This node itself may have stood still: paused, suspended, waiting for a disk.
// What workers said meanwhile is still on its way to the machine, so nobody is
// given up for silence until it had the time to arrive.
const (
	stallLeast = time.Second // by which a timer is late after a standstill
	stallGrace = 2 * time.Second
	stallPause = 10 * time.Second // between two graces, so that a slow node gives up workers, too
)

func (m *Machine) noteStall(now time.Time) {
	if at, waits := m.Next(); waits && now.Sub(at) >= stallLeast && now.Sub(m.stalled) >= stallPause && !m.off.incident {
		m.stalled = now
	}
}

// release takes r out of its worker's accounts.
func (m *Machine) release(r *replica) {
	l := r.lease
	if r.phase == phaseAssigned {
		l.inflight--
		l.over++
	} else {
		l.kept--
	}
	if r.phase == phaseResulted {
		// Its result had freed what it cannot cost; in its place another execution
		// may cost the worst case again, or the task ends and frees all of it.
		freed := r.task.pay - r.held
		r.task.reserved += freed
		r.task.job.reserved += freed
	}
	l.reserved -= r.held
	r.held = 0
	m.unwatch(r)
	r.task.job.live--
	l.s.live--
	m.mark(l.s)
}

// unpaid notes that r, which is released, brought a result that is not paid for:
// its worker counts it as earned, so its lane has that much less room.
func (m *Machine) unpaid(r *replica) {
	if r.phase == phaseResulted {
		r.lease.unpaid += proto.PayFor(r.fuel, r.price)
	}
}

// used is what a lane has no room for any more: what was promised, and what its
// worker may still ask for.
func (l *lease) used() proto.Credit { return l.amount + l.unpaid }

// loseSilent gives up on an execution of which nothing was heard any more.
func (m *Machine) loseSilent(r *replica, broke uint64, code proto.Code, reason string) {
	if r.phase != phaseLost {
		m.lostToStranger(r)
	}
	m.broke(r, broke)
	m.lose(r, code, reason)
}

// lostToStranger counts a try that one who is not known let pass without a word.
func (m *Machine) lostToStranger(r *replica) {
	if !m.off.standing && m.class(r.lease.worker) != classGood {
		r.task.silent++
	}
}

// maxLost is how many times as many tries as may be lost otherwise a task has when
// strangers let them pass: a crowd that hangs up is through with it in no time.
const maxLost = 16

// spent reports whether t was lost so often that it fails. Tries that strangers
// let pass without a word, or by hanging up, do not use up the others.
func (m *Machine) spent(t *task) bool {
	return t.lost-t.silent > m.cfg.MaxAttempts || t.lost > maxLost*m.cfg.MaxAttempts || t.attempts >= 0xffff
}

// lose gives up on one execution and asks for another in its place.
func (m *Machine) lose(r *replica, code proto.Code, reason string) {
	if r.phase == phaseLost {
		return
	}
	t := r.task
	switch code {
	case proto.CodeWorkerGone:
		m.broke(r, brokeReply)
	case proto.CodeLocalFailure, proto.CodeInternal:
		m.broke(r, brokeTry)
	case proto.CodeBadReceipt:
		m.brokePromise(r.lease.worker, brokeVote)
	}
	m.dropResult(r)
	m.release(r)
	r.phase, r.code = phaseLost, code
	t.lost++
	t.repeat = time.Time{}
	t.job.noteLost(r, code, reason, m.now)
	m.touch(t.job)
	m.note(r.lease.worker, r.ref(), code, "execution lost: %s", reason)
	if code != proto.CodeWorkerGone && code != proto.CodeLocalFailure {
		m.abort(r.lease, r.ref(), code)
	}
	if m.spent(t) {
		m.finishTask(t, Failed, code, fmt.Sprintf("%d executions were lost, the last one because: %s", t.lost, reason))
		return
	}
	m.again(t)
}

// again queues t for another replica.
func (m *Machine) again(t *task) {
	if t.rec != nil {
		return
	}
	if !t.queued {
		t.queued = true
		t.job.retry = append(t.job.retry, t)
	}
	m.wake(t.job)
}

func (m *Machine) acceptedSeen(in AcceptedSeen) {
	waits := make(map[proto.Ref]bool, len(in.Waiting))
	for _, ref := range in.Waiting {
		waits[ref] = true
	}
	for _, ref := range in.Refs {
		switch r := m.replica(in.From, ref); {
		case r == nil:
		case waits[ref]:
			r.waits = true
			m.watch(r) // for its start now
		default:
			m.started(r)
		}
	}
}

// promptly is how soon after it was sent an assignment runs at a worker that could
// have had more.
const promptly = time.Second

// widen lets a worker have one more at once when it could do with more: up to what
// it claimed, after refusals, and beyond that while what it gets runs promptly. It
// may have been busy with others' work when it claimed.
func (m *Machine) widen(r *replica) {
	l := r.lease
	if l.inflight >= l.window/2 && (l.window < l.slots || r.prompt && l.window < maxBatch) {
		l.window++
	}
}

// started notes that r runs: its own time counts from here.
func (m *Machine) started(r *replica) {
	if r.running || r.phase != phaseAssigned {
		return
	}
	r.running, r.began, r.prompt = true, m.now, m.now.Sub(r.sent) <= promptly
	if r.task.state == Assigned {
		r.task.state = Running
	}
	m.watch(r)
	m.began(r.task.job)
}

func (m *Machine) refusedSeen(in RefusedSeen) {
	r := m.replica(in.From, in.Ref)
	if r == nil || r.phase == phaseResulted { // what was delivered cannot be refused
		return
	}
	l := r.lease
	reason := cmp.Or(proto.Clip(in.Reason, 256), in.Code.String())
	code := in.Code
	if r.phase != phaseAssigned { // it ran: that is a loss, whatever it is called
		code = proto.CodeOK
	}
	switch code {
	case proto.CodeBusy:
		l.window = max(1, l.inflight-1)
		m.block(l, 100*time.Millisecond)
	case proto.CodePaused, proto.CodeShutdown, proto.CodeExpired, proto.CodePrice, proto.CodeType, proto.CodeLimits, proto.CodeBlocked:
		l.dead = true // until it claims again
		m.block(l, 100*time.Millisecond)
	case proto.CodeNoLane:
		m.block(l, time.Second)
	default:
		if in.Code == proto.CodeOK {
			in.Code = proto.CodeLocalFailure
		}
		if in.Code == proto.CodeRunTimeout {
			r.fuel = m.plausible(r, in.Fuel)
		}
		l.progress = m.now
		if len(in.Log)+len(in.Output) > 0 { // once for each assignment: a lost one is not heard again
			m.send(SaveLost{Task: r.task.id(), Log: in.Log, Output: in.Output})
		}
		m.lose(r, in.Code, reason)
		return
	}
	// It never ran, so it does not count as a lost execution.
	t := r.task
	m.release(r)
	r.phase, r.code, r.refused = phaseLost, in.Code, true
	t.dropRefused()
	t.job.noteLost(r, in.Code, reason, m.now)
	m.touch(t.job)
	m.note(in.From, in.Ref, in.Code, "assignment refused: %s", reason)
	if t.attempts >= 0xffff {
		m.finishTask(t, Failed, in.Code, "refused too often")
		return
	}
	m.again(t)
}

// dropRefused keeps a task that is refused again and again from growing.
func (t *task) dropRefused() {
	kept := t.reps[:0]
	for _, r := range t.reps {
		if !r.refused {
			kept = append(kept, r)
		}
	}
	clear(t.reps[len(kept):])
	t.reps = kept
}

// block gives l nothing for a while, longer with each time that it refused and
// got nothing done between. The refusals of one batch count once.
func (m *Machine) block(l *lease, base time.Duration) {
	if m.now.Before(l.blocked) {
		return
	}
	l.refusals++
	if l.dead { // it had claimed what it refuses
		m.brokePromise(l.worker, brokeReply)
	}
	l.blocked = m.now.Add(backOff(base, l.refusals, blockMost))
	m.sooner(l.check, l.blocked)
}

func (m *Machine) workerLost(w peer.ID) {
	c := m.peers[w]
	if c == nil || c.lost {
		return
	}
	c.lost = true
	for _, l := range c.leases {
		l.batch, l.aborts = nil, nil
		for _, j := range sortedJobs(l.s.jobs) {
			m.loseWorker(j, l)
		}
		if len(l.s.jobs) > 0 {
			m.wakeAll(l.s) // jobs may now have too few workers
		}
		m.mark(l.s)
		for _, j := range l.s.served {
			m.touch(j)
		}
	}
}

// loseWorker gives up j's executions on l. Results already received stay.
func (m *Machine) loseWorker(j *job, l *lease) {
	for i := 0; i < j.next; i++ {
		t := j.tasks[i]
		if t == nil || t.rec != nil {
			continue
		}
		for _, r := range t.reps {
			if r.lease == l && r.phase < phaseResulted {
				m.lostToStranger(r)
				m.lose(r, proto.CodeWorkerGone, "the connection to its worker broke")
				break
			}
		}
	}
}

func (m *Machine) workerBack(w peer.ID) {
	c := m.peers[w]
	if c == nil {
		return
	}
	c.lost = false
	for _, l := range c.leases {
		l.asked = time.Time{}
		m.wakeAll(l.s)
	}
}
