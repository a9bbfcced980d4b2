package market

import (
	"cmp"
	"slices"

	"github.com/ipfs/go-cid"

	"edgenet.dev/proto"
)

// restore takes over from an earlier run. Final tasks stay as they are;
// unfinished jobs go on under a higher round, so no attempt number is used
// twice. Holds of the earlier run take no new work: it is unknown what their
// workers still do. They are settled for what was accepted, and closed as
// their workers come back.
func (m *Machine) restore(in Restore) {
	if len(m.order) > 0 || len(m.sessions) > 0 {
		return
	}
	m.restoreCosts(in.Costs)
	m.restoreStandings(in.Standings)
	m.restoreWorths(in.Worths)
	recs := slices.Clone(in.Jobs)
	slices.SortStableFunc(recs, func(a, b JobRecord) int {
		if c := a.Job.Created.Compare(b.Job.Created); c != 0 {
			return c
		}
		return slices.Compare(a.Job.ID[:], b.Job.ID[:])
	})
	for _, rec := range recs {
		if _, twice := m.jobs[rec.Job.ID]; !twice {
			m.addJob(rec)
		}
	}
	totals := map[cid.Cid]map[uint32]ReplicaRecord{}
	used := map[proto.JobID]map[cid.Cid]bool{}
	tasks := slices.Clone(in.Tasks)
	slices.SortStableFunc(tasks, func(a, b TaskRecord) int {
		if c := slices.Compare(a.ID.Job[:], b.ID.Job[:]); c != 0 {
			return c
		}
		return cmp.Compare(a.ID.Index, b.ID.Index)
	})
	for _, rec := range tasks {
		for _, r := range rec.Replicas {
			if !r.Agreed && !r.Trial && !r.Partial || !r.Hold.Defined() {
				continue
			}
			if totals[r.Hold] == nil {
				totals[r.Hold] = map[uint32]ReplicaRecord{}
			}
			if r.LaneAmount > totals[r.Hold][r.Lane].LaneAmount {
				totals[r.Hold][r.Lane] = r
			}
			if used[rec.ID.Job] == nil {
				used[rec.ID.Job] = map[cid.Cid]bool{}
			}
			used[rec.ID.Job][r.Hold] = true
		}
		m.restoreTask(rec)
	}
	m.restoreHolds(in.Holds, totals)
	for _, j := range slices.Clone(m.order) {
		for _, s := range m.sessions {
			if s.id == j.rec.Job.ID || used[j.rec.Job.ID][s.hold] {
				j.past = append(j.past, s)
			}
		}
		m.resume(j)
	}
}

func (m *Machine) restoreTask(rec TaskRecord) {
	j := m.jobs[rec.ID.Job]
	if j == nil || int(rec.ID.Index) >= len(j.tasks) || j.tasks[rec.ID.Index] != nil {
		return
	}
	for _, r := range rec.Replicas {
		j.spent += r.Paid
		if r.Agreed || r.Trial {
			j.fuel += r.Fuel
		}
	}
	if !rec.State.Final() {
		if j.tried == nil {
			j.tried = map[uint32]TaskRecord{}
		}
		j.tried[rec.ID.Index] = rec
		return
	}
	j.tasks[rec.ID.Index] = &task{job: j, index: rec.ID.Index, state: rec.State, rec: &rec}
	m.count(j, &rec)
}

// restoreHolds rebuilds the lanes of open holds. A lane's totals are the
// highest that were saved, be it with the hold or with a task.
func (m *Machine) restoreHolds(holds []HoldRecord, totals map[cid.Cid]map[uint32]ReplicaRecord) {
	holds = slices.Clone(holds)
	slices.SortStableFunc(holds, func(a, b HoldRecord) int { return cmp.Compare(a.Hold.KeyString(), b.Hold.KeyString()) })
	for _, rec := range holds {
		if rec.Closed || !rec.Hold.Defined() || len(rec.Lanes) > maxLanes {
			continue
		}
		s := m.byHold[rec.Hold]
		if s == nil {
			s = m.newSession(rec.Job)
			s.restored, s.state = true, sessionClosing
			s.hold, s.deadline, s.budget = rec.Hold, rec.Deadline, rec.Budget
			m.byHold[s.hold] = s
		} else if !s.restored {
			continue
		}
		for i, lr := range rec.Lanes {
			if i < len(s.lanes) { // an extension that was certified late
				s.lanes[i].cap = max(s.lanes[i].cap, lr.Cap)
				continue
			}
			m.restoreLane(s, uint32(i), lr, totals[rec.Hold][uint32(i)])
		}
		m.mark(s)
	}
}

func (m *Machine) restoreLane(s *session, i uint32, lr LaneRecord, last ReplicaRecord) {
	l := m.addLease(s, lr.Worker)
	if len(l.cp.leases) == 1 {
		l.cp.lost = true // until node reports a stream
	}
	l.lane, l.payee, l.cap, l.dead = int(i), lr.Payee, lr.Cap, true
	l.amount, l.fuel, l.upto = lr.Amount, lr.Fuel, lr.Upto
	l.settled, l.done = lr.Settled, lr.Done
	if last.LaneAmount > l.amount {
		l.amount, l.fuel, l.upto = last.LaneAmount, last.LaneFuel, last.LaneUpto
		l.done = false
	}
	l.owing = l.amount > 0
	s.lanes = append(s.lanes, l)
}

// resume continues an unfinished job, or files a finished one for the views.
func (m *Machine) resume(j *job) {
	for _, s := range j.past {
		s.served = append(s.served, j)
	}
	if j.rec.State.Final() {
		j.open = 0
		m.retire(j)
		return
	}
	j.rec.State = Queued
	j.rec.Round++
	m.send(SaveJob{Record: j.rec}) // before any attempt of the new round leaves
	m.touch(j)
	m.begin(j)
}
