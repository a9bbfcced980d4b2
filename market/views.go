package market

import (
	"slices"

	"edgenet.dev/proto"
)

// Job shows a job; false when it is unknown or long over.
func (m *Machine) Job(id proto.JobID) (JobView, bool) {
	j := m.jobs[id]
	if j == nil {
		return JobView{}, false
	}
	return m.view(j), true
}

// Jobs shows all jobs, the newest first.
func (m *Machine) Jobs() []JobView {
	out := make([]JobView, 0, len(m.order))
	for i := len(m.order) - 1; i >= 0; i-- {
		out = append(out, m.view(m.order[i]))
	}
	return out
}

func (m *Machine) view(j *job) JobView {
	failed := j.failed
	if j.rec.State.Final() {
		failed = len(j.rec.Job.Inputs) - j.done // tasks that never started, too
	}
	return JobView{
		Record: j.rec, Done: j.done, Failed: failed, Verified: j.verified, Running: j.running,
		Fuel: j.fuel, Cost: withFee(j.spent, m.cfg.FeePPM), Settled: m.jobSettled(j), Updated: j.updated,
		Lost: j.lost, LostTries: j.lostTries,
	}
}

// Tasks shows the tasks of a job in order; nil when it is unknown.
func (m *Machine) Tasks(id proto.JobID) []TaskView {
	j := m.jobs[id]
	if j == nil {
		return nil
	}
	out := make([]TaskView, len(j.tasks))
	for i, t := range j.tasks {
		switch {
		case t == nil:
			// Never started: waits like its job, or ended with it.
			rec := TaskRecord{ID: proto.TaskID{Job: id, Index: uint32(i)}, State: Queued}
			if j.rec.State.Final() {
				rec.State, rec.Code, rec.Reason = j.rec.State, j.rec.Code, j.rec.Reason
			} else if j.rec.State == Offered {
				rec.State = Offered
			}
			out[i] = TaskView{rec}
		case t.rec != nil:
			out[i] = TaskView{*t.rec}
		default:
			out[i] = TaskView{t.view()}
		}
	}
	return out
}

func (t *task) view() TaskRecord {
	rec := TaskRecord{ID: t.id(), State: t.state, Cost: t.cost, Replicas: slices.Clone(t.trials)}
	for _, r := range t.reps {
		rr := r.record()
		switch r.phase {
		case phaseAssigned:
			rr.State = Assigned
			if r.running {
				rr.State = Running
			}
		case phaseCommitted, phaseRevealed, phaseResulted:
			rr.State = Verifying
		}
		rec.Replicas = append(rec.Replicas, rr)
	}
	return rec
}

// Waiting is the number of executions that were taken and wait for their input or a
// slot.
func (m *Machine) Waiting() int { return m.work.fetching + m.work.held - m.work.running }

// Busy is the number of executions this node runs for others now.
func (m *Machine) Busy() int { return m.work.running }
