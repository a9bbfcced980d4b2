package market

import (
	"fmt"

	"edgenet.dev/proto"
)

// Trials of a task under way: see estimate.go for what they are.

// firstFuel is the fuel limit that task i of j starts with.
func (m *Machine) firstFuel(j *job, i int) proto.Fuel {
	want := max(m.estimate(&j.rec.Job, j.rec.Job.Inputs[i].Size), j.floor)
	if old, ok := j.tried[uint32(i)]; ok { // an earlier run saw that this does not suffice
		for _, r := range old.Replicas {
			want = max(want, nextLimit(j.limits.Fuel, r.Fuel))
		}
	}
	return m.terms().at(j.rec.Job.Options.Priority).firstLimit(j.rec.Job.Options, want, j.spent+j.reserved)
}

// newTask makes task i of j, which starts with the given limit.
func (m *Machine) newTask(j *job, i int, fuel proto.Fuel) *task {
	t := &task{job: j, index: uint32(i), state: Assigned, level: j.k}
	if old, ok := j.tried[t.index]; ok {
		t.trials, t.cost = old.Replicas, old.Cost
		delete(j.tried, t.index)
	}
	m.setLimit(t, fuel)
	j.tasks[i] = t
	j.running++
	return t
}

// setLimit gives t's executions a fuel limit and reserves what they may cost.
func (m *Machine) setLimit(t *task, fuel proto.Fuel) {
	t.fuel, t.pay = fuel, proto.PayFor(fuel, m.price(t.job))
	t.reserved = proto.Credit(t.job.k) * t.pay
	t.job.reserved += t.reserved
}

// grow pays for a trial whose replicas agree that its fuel ran out, and tries t
// again with a higher limit.
//
// SaveTask is durable before any voucher, with the lanes' totals in it: after a
// crash the trial stays paid, and counts as spent.
func (m *Machine) grow(t *task, best *replica) {
	j := t.job
	was := j.spent
	for _, r := range t.reps {
		m.belied(r)
		rr := r.record()
		if r.phase != phaseResulted {
			if rr.bad() {
				t.trials = append(t.trials, rr)
			}
			continue
		}
		agrees := r.agrees(best)
		if agrees {
			m.dropResult(r)
		}
		m.verdict(r, agrees, &rr)
		rr.Trial = agrees
		t.trials = append(t.trials, rr)
	}
	t.cost += withFee(j.spent, m.cfg.FeePPM) - withFee(was, m.cfg.FeePPM)
	m.saves = append(m.saves, SaveTask{Record: TaskRecord{ID: t.id(), State: Running, Cost: t.cost, Replicas: t.trials}})
	for _, r := range t.reps {
		r.prev, r.next = nil, nil
	}
	j.reserved -= t.reserved
	t.reps, t.reserved, t.level, t.state = nil, 0, j.k, Running
	t.short = true
	j.floor = max(j.floor, nextLimit(j.limits.Fuel, t.fuel))
	m.afford(t)
	m.touch(j)
}

// bad reports whether r brought a result that was wrong. Its worker does not get
// the task again, whatever the limit and however often the submitter restarts.
func (r ReplicaRecord) bad() bool {
	return r.Code == proto.CodeMinority || r.Code == proto.CodeBadReceipt
}

// afford goes on with a task that waits for budget.
func (m *Machine) afford(t *task) {
	if !t.short {
		m.escalate(t)
		return
	}
	j := t.job
	next := nextLimit(j.limits.Fuel, t.fuel)
	if pay := proto.Credit(j.k) * proto.PayFor(next, m.price(j)); !m.affords(j, pay) {
		if j.running > len(j.disputed)+1 { // other tasks will free what they reserved
			j.disputed = append(j.disputed, t)
			return
		}
		m.finishTask(t, Failed, proto.CodeBudget, fmt.Sprintf(
			"it needs more than %d fuel, which may cost up to %s credits, but %s of %s credits are spent or reserved: raise max credits (--max-credits, maxCredits)",
			t.fuel, withFee(pay, m.cfg.FeePPM), withFee(j.spent+j.reserved, m.cfg.FeePPM), j.rec.Job.Options.MaxCredits))
		return
	}
	t.short = false
	m.setLimit(t, next)
	m.again(t)
}

// nextPay is what the next execution of j may cost at a worker's price: of a
// task that waits for one, else of one not started.
func (m *Machine) nextPay(j *job, price proto.Credit) proto.Credit {
	fuel := proto.Fuel(0)
	for _, list := range [][]*task{j.retry, j.parked} {
		for _, t := range list[:min(len(list), 32)] {
			if t.rec == nil {
				fuel = max(fuel, t.fuel)
			}
		}
	}
	if fuel == 0 && j.next < len(j.tasks) {
		fuel = m.firstFuel(j, j.next)
	}
	if fuel == 0 {
		fuel = j.limits.Fuel
	}
	return proto.PayFor(fuel, price)
}
