package market

import (
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// levels are the numbers of replicas tried in turn while they disagree.
var levels = [...]int{2, 3, 5, 7}

func nextLevel(n int) int {
	for _, l := range levels {
		if l > n {
			return l
		}
	}
	return 0
}

// threshold is the number of equal results that a task of redundancy k needs
// among n replicas.
func threshold(k, n int) int { return max(k, n/2+1) }

func (m *Machine) commitSeen(in CommitSeen) {
	r := m.replica(in.From, in.Ref)
	if r == nil || r.phase != phaseAssigned || r.task.job.k == 1 {
		return
	}
	l := r.lease
	l.inflight--
	l.kept++
	l.over++
	l.progress, l.refusals = m.now, 0
	m.widen(r)
	r.phase, r.commit = phaseCommitted, in.Hash
	m.began(r.task.job)
	m.unwatch(r)
	m.mark(l.s)
	m.reveal(r.task)
}

// reveal asks for the results once every replica of the level committed. A
// worker sees all commitments first, so none can copy another's result.
func (m *Machine) reveal(t *task) {
	live, waiting := 0, false
	for _, r := range t.reps {
		if r.phase != phaseLost {
			live++
			if r.phase == phaseAssigned {
				return
			}
			waiting = waiting || r.phase == phaseCommitted
		}
	}
	if live < t.level || !waiting {
		return
	}
	t.state = Verifying
	list := make([]Commitment, 0, live)
	for _, r := range t.reps {
		if r.phase != phaseLost {
			list = append(list, Commitment{Worker: r.lease.worker, Hash: r.commit})
		}
	}
	for _, r := range t.reps {
		if r.phase == phaseCommitted {
			r.phase = phaseRevealed
			m.watch(r)
			m.send(SendReveal{To: r.lease.worker, Ref: r.ref(), Commits: list})
		}
	}
}

func (m *Machine) resultSeen(in ResultSeen) {
	r := m.replica(in.From, in.Ref)
	if r == nil {
		if !m.agreed(in.From, in.Ref) {
			m.after = append(m.after, ResultDropped{Ref: in.Ref, Worker: in.From})
		}
		return
	}
	if r.phase == phaseResulted {
		return // came twice; the first one counts
	}
	if reason := m.fault(r, in); reason != "" {
		m.lose(r, proto.CodeBadReceipt, reason)
		m.after = append(m.after, ResultDropped{Ref: in.Ref, Worker: in.From})
		return
	}
	l, t, rc := r.lease, r.task, in.Receipt
	if r.phase == phaseAssigned { // redundancy 1 commits to nothing
		l.inflight--
		l.kept++
		l.over++
		m.widen(r)
	}
	l.progress, l.refusals = m.now, 0
	m.unwatch(r)
	m.began(t.job)
	r.phase = phaseResulted
	r.status, r.exit, r.size, r.fuel = proto.Status(rc.Status), rc.ExitCode, rc.OutputSize, proto.Fuel(rc.Fuel)
	r.output, _ = proto.ToHash(rc.OutputHash) // length was checked by fault
	r.log, _ = proto.ToHash(rc.LogHash)
	// From here the worst case is known: keep only what it can still cost.
	pay := proto.PayFor(r.fuel, r.price)
	l.reserved -= r.held - pay
	r.held = pay
	saved := t.pay - pay
	t.reserved -= saved
	t.job.reserved -= saved
	m.mark(l.s)
	m.judge(t)
}

// dropResult tells node that r's result, if it brought one, is of no use.
func (m *Machine) dropResult(r *replica) {
	if r.phase == phaseResulted {
		m.after = append(m.after, ResultDropped{Ref: r.ref(), Worker: r.lease.worker})
	}
}

// agreed reports whether the result of an execution is part of an agreed one.
func (m *Machine) agreed(worker peer.ID, ref proto.Ref) bool {
	j := m.jobs[ref.Task.Job]
	if j == nil || int(ref.Task.Index) >= len(j.tasks) {
		return false
	}
	t := j.tasks[ref.Task.Index]
	return t != nil && t.rec != nil && slices.ContainsFunc(t.rec.Replicas, func(r ReplicaRecord) bool {
		return r.Agreed && r.Worker == worker && r.Attempt == ref.Attempt
	})
}

// fault says what is wrong with a result, "" when nothing is.
func (m *Machine) fault(r *replica, in ResultSeen) string {
	t, rc := r.task, in.Receipt
	spec := &t.job.rec.Job
	id := t.id()
	if rc == nil {
		return "no receipt"
	}
	if t.job.k > 1 && r.phase != phaseRevealed {
		return "result came before it was asked for"
	}
	payee := r.lease.payee
	if payee == "" {
		payee = r.lease.worker
	}
	named := peer.ID(rc.Payee)
	if named == "" {
		named = r.lease.worker
	}
	in1 := spec.Inputs[t.index].Hash
	switch {
	case peer.ID(rc.Worker) != r.lease.worker:
		return "receipt names another worker"
	case peer.ID(rc.Submitter) != m.cfg.Self:
		return "receipt names another submitter"
	case string(rc.Job) != string(id.Job[:]) || rc.Task != id.Index || rc.Replica != r.number:
		return "receipt names another task"
	case string(rc.Module) != string(t.job.module) || rc.MeterVersion != proto.MeterVersion:
		return "receipt names another module"
	case string(rc.InputHash) != string(in1[:]):
		return "receipt names another input"
	case proto.Credit(rc.Price) != r.price:
		return "receipt names another price"
	case named != payee:
		return "receipt names another payee"
	case proto.Fuel(rc.Fuel) > t.fuel:
		return fmt.Sprintf("receipt claims %d fuel, limit is %d", rc.Fuel, t.fuel)
	case !proto.Status(rc.Status).Votable():
		return "receipt has a status that cannot vote"
	case proto.Fuel(rc.FuelLimit) != t.fuel || rc.MemoryLimit != t.job.limits.Memory || rc.OutputLimit != t.job.limits.Output || rc.Epoch != r.epoch:
		return "receipt does not name the limits and the epoch of its assignment"
	case len(rc.OutputHash) != 32 || len(rc.LogHash) != 0 && len(rc.LogHash) != 32:
		return "receipt has a malformed hash"
	case rc.OutputSize > t.job.limits.Output:
		return "output is above its limit"
	}
	if t.job.k > 1 && !m.off.commit && proto.CommitHash(id, r.lease.worker, in.Raw) != r.commit {
		return "receipt does not match the commitment"
	}
	return ""
}

func (r *replica) agrees(o *replica) bool {
	return r.status == o.status && r.exit == o.exit && r.output == o.output && r.fuel == o.fuel
}

// judge decides a task once all replicas of its level have results.
func (m *Machine) judge(t *task) {
	var got []*replica
	for _, r := range t.reps {
		if r.phase == phaseResulted {
			got = append(got, r)
		}
	}
	if len(got) < t.level {
		return
	}
	var best *replica
	votes := 0
	for _, r := range got {
		n := 0
		for _, o := range got {
			if r.agrees(o) {
				n++
			}
		}
		if n > votes {
			best, votes = r, n
		}
	}
	if votes >= threshold(t.job.k, t.level) || m.off.majority {
		if best.status == proto.StatusOutOfFuel && t.fuel < t.job.limits.Fuel {
			m.grow(t, best)
			return
		}
		m.accept(t, best)
		return
	}
	m.escalate(t)
}

// escalate asks for more replicas of a task whose results differ.
func (m *Machine) escalate(t *task) {
	j := t.job
	next := nextLevel(t.level)
	if next == 0 {
		m.finishTask(t, Failed, proto.CodeNoQuorum, fmt.Sprintf("no %d of %d replicas agreed", threshold(j.k, t.level), t.level))
		return
	}
	more := proto.Credit(next-t.level) * t.pay
	if !m.affords(j, more) {
		if j.running > len(j.disputed)+1 { // other tasks will free what they reserved
			j.disputed = append(j.disputed, t)
			return
		}
		m.finishTask(t, Failed, proto.CodeBudget, fmt.Sprintf(
			"replicas disagree and %d more may cost up to %s credits, but %s of %s credits are spent or reserved",
			next-t.level, withFee(more, m.cfg.FeePPM), withFee(j.spent+j.reserved, m.cfg.FeePPM), j.rec.Job.Options.MaxCredits))
		return
	}
	t.reserved += more
	j.reserved += more
	t.level = next
	t.state = Running
	m.again(t)
}

// howEnded says how a module failed and, where a limit did it, which one.
func howEnded(status proto.Status, exit int32, fuel proto.Fuel, output uint64) string {
	text := "the module ended with " + status.String()
	switch status {
	case proto.StatusExitNonZero:
		return fmt.Sprintf("the module ended with exit code %d", exit)
	case proto.StatusOutOfFuel:
		return fmt.Sprintf("%s: all of its %d fuel is used up, raise the limit (--fuel, fuelLimit) above that", text, fuel)
	case proto.StatusBadOutput:
		return fmt.Sprintf("%s: the output is larger than %d bytes, or outside the module's memory", text, output)
	case proto.StatusStackLimit:
		return text + ": calls are nested too deeply"
	case proto.StatusTrap:
		return text + ": unreachable code, a division by zero, an access outside its memory or a panic; its log may say which"
	}
	return text
}

// accept files the agreed result and promises pay to those who found it.
//
// The outputs are ResultAccepted for each, SaveTask, and at the end of the
// Step or up to 50 ms later SaveHold and SendPay. A crash
//   - before SaveTask is durable: the task is not final, no voucher covers it;
//     it runs again under a new round and is paid once, then;
//   - after SaveTask, before SaveHold or SendPay: the task stays final, and
//     Restore raises the lane to the totals in the replica records;
//   - after SendPay: vouchers are cumulative, so sending the totals again
//     promises nothing twice.
func (m *Machine) accept(t *task, best *replica) {
	j := t.job
	rec := &TaskRecord{
		ID: t.id(), State: Done, Status: best.status, ExitCode: best.exit, Verified: j.k > 1,
		Output: best.output, Size: best.size, Log: best.log, Fuel: best.fuel, Replicas: t.trials,
	}
	if best.status != proto.StatusOK || best.exit != 0 {
		rec.State, rec.Code = Failed, proto.CodeTaskFailed
		rec.Reason = howEnded(best.status, best.exit, t.fuel, j.limits.Output)
	}
	was := j.spent
	for _, r := range t.reps {
		rr := r.record()
		if r.phase == phaseResulted {
			agrees := r.agrees(best)
			if agrees {
				m.saves = append(m.saves, ResultAccepted{Ref: r.ref(), Worker: r.lease.worker})
			}
			m.verdict(r, agrees, &rr)
			rr.Agreed = agrees
		}
		m.belied(r)
		rec.Replicas = append(rec.Replicas, rr)
	}
	// What the task adds to the job's cost, so that tasks add up to it: the fee
	// is rounded once, over the sum.
	rec.Cost = t.cost + withFee(j.spent, m.cfg.FeePPM) - withFee(was, m.cfg.FeePPM)
	rec.Replicas = slices.Clip(rec.Replicas)
	for _, r := range t.reps { // none is under way: the level was full
		r.prev, r.next = nil, nil
	}
	if best.status == proto.StatusOK || best.status == proto.StatusExitNonZero {
		m.learn(j, j.rec.Job.Inputs[t.index].Size, best.fuel)
	}
	m.recordTask(t, rec)
}

// verdict ends an execution that brought a result: one that agrees with the
// accepted one is promised its pay.
func (m *Machine) verdict(r *replica, agrees bool, rr *ReplicaRecord) {
	j, l := r.task.job, r.lease
	m.release(r)
	if !agrees {
		m.unpaid(r)
		rr.Code = proto.CodeMinority
		j.noteLost(r, proto.CodeMinority, "its result differs from the one that the others agreed on", m.now)
		if j.k > 1 {
			m.after = append(m.after, ResultOutvoted{Ref: r.ref(), Worker: l.worker})
		}
		m.brokePromise(l.worker, brokeVote)
		m.dropResult(r)
		m.abort(l, r.ref(), proto.CodeMinority)
		m.note(l.worker, r.ref(), proto.CodeMinority, "outvoted: its result differs from the agreed one")
		return
	}
	m.keptPromise(l.worker)
	l.fuel += r.fuel
	l.upto++
	j.fuel += r.fuel
	m.credit(r, proto.PayFor(r.fuel, r.price), rr)
	rr.State, rr.Code = Done, proto.CodeOK
}

// credit adds pay for r, which is released, to what its lane's next voucher says.
func (m *Machine) credit(r *replica, pay proto.Credit, rr *ReplicaRecord) {
	l := r.lease
	l.amount += pay
	l.owing = true
	r.task.job.spent += pay
	rr.Paid = pay
	rr.Hold, rr.Lane, rr.LaneAmount, rr.LaneFuel, rr.LaneUpto = l.s.hold, uint32(l.lane), l.amount, l.fuel, l.upto
	m.owe(l.s)
}
