package market

import (
	"container/heap"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// Driving the simulated network, and the laws its runs are held against.

func (s *sim) job(n int, tag string, tasks int, o Options) proto.JobID {
	h := proto.HashOf([]byte(tag))
	job := Job{ID: proto.JobID(h[:16]), Type: "text", Module: proto.CIDOf([]byte("module")), Options: o, Created: s.now}
	for i := range tasks {
		job.Inputs = append(job.Inputs, InputRef{Hash: proto.HashOf(fmt.Appendf(nil, "%s %d", tag, i)), Size: 8})
	}
	node := s.nodes[n]
	node.jobs[job.ID] = JobRecord{Job: job, State: Queued}
	node.step(Submit{Job: job})
	return job.ID
}

// until runs the network until ok holds; it fails after limit of virtual time.
func (s *sim) until(limit time.Duration, ok func() bool) {
	end := s.now.Add(limit)
	for !ok() {
		if len(s.queue) == 0 || s.queue[0].at.After(end) {
			s.t.Helper()
			s.dump()
			s.t.Fatalf("not reached within %s", limit)
		}
		e := heap.Pop(&s.queue).(simEvent)
		if e.at.After(s.now) {
			s.now = e.at
		}
		e.do()
	}
}

func (s *sim) sleep(d time.Duration) {
	end := s.now.Add(d)
	s.after(d, func() {})
	s.until(d, func() bool { return !s.now.Before(end) })
}

func (s *sim) dump() {
	for _, n := range s.nodes {
		for _, v := range n.m.Jobs() {
			s.t.Logf("%s job %s: %s %s done %d failed %d running %d settled %v cost %s why %v", n.name(), v.Record.Job.ID,
				v.Record.State, v.Record.Code, v.Done, v.Failed, v.Running, v.Settled, v.Cost, n.m.Why(v.Record.Job.ID))
		}
		for _, ss := range n.m.sessions {
			for _, l := range ss.leases {
				s.t.Logf("  lane %d window %d inflight %d kept %d lost %v dead %v done %v released %v cap %d amount %d reserved %d settled %d",
					l.lane, l.window, l.inflight, l.kept, l.cp.lost, l.dead, l.done, l.released, l.cap, l.amount, l.reserved, l.settled)
			}
		}
		s.t.Logf("%s notes %v", n.name(), n.notes)
	}
}

func (s *sim) final(ids ...proto.JobID) func() bool {
	return func() bool {
		for _, id := range ids {
			if !s.view(id).Record.State.Final() {
				return false
			}
		}
		return true
	}
}

func (s *sim) settled(ids ...proto.JobID) func() bool {
	return func() bool {
		for _, id := range ids {
			if !s.view(id).Settled {
				return false
			}
		}
		return true
	}
}

func (s *sim) view(id proto.JobID) JobView {
	for _, n := range s.nodes {
		if _, own := n.jobs[id]; own && !n.dead {
			v, _ := n.m.Job(id)
			return v
		}
	}
	return JobView{}
}

// reservations checks that what tasks reserve is what they may still cost, and
// that a job's reservation is their sum.
func reservations(m *Machine) error {
	for _, j := range m.order {
		var sum proto.Credit
		for _, t := range j.tasks {
			if t == nil {
				continue
			}
			var want proto.Credit
			if t.rec == nil {
				missing := t.level
				for _, r := range t.reps {
					if r.phase == phaseResulted {
						want += r.held
						missing--
					}
				}
				want += proto.Credit(missing) * t.pay
				if t.short {
					want = 0
				}
			}
			if t.reserved != want {
				return fmt.Errorf("task %s reserves %d, it may cost %d", t.id(), t.reserved, want)
			}
			sum += t.reserved
		}
		if j.reserved != sum {
			return fmt.Errorf("job %s reserves %d, its tasks %d", j.rec.Job.ID, j.reserved, sum)
		}
	}
	return nil
}

type delivered struct {
	ref    proto.Ref
	worker peer.ID
}

// results checks that each result that came is accepted or dropped once, and
// none is left when its job is over.
func (n *simNode) results(in Input, outs []Output) {
	if r, ok := in.(ResultSeen); ok {
		n.kept[delivered{r.Ref, r.From}] = true
	}
	for _, o := range outs {
		var d delivered
		switch o := o.(type) {
		case ResultAccepted:
			d = delivered{o.Ref, o.Worker}
		case ResultOutvoted:
			if !n.kept[delivered{o.Ref, o.Worker}] {
				n.s.t.Fatalf("%T of %s by %s, which is not kept", o, o.Ref.Task, n.s.byID[o.Worker].name())
			}
			continue
		case ResultDropped:
			d = delivered{o.Ref, o.Worker}
		default:
			continue
		}
		if !n.kept[d] {
			n.s.t.Fatalf("%T of %s by %s, which is not kept", o, d.ref.Task, n.s.byID[d.worker].name())
		}
		delete(n.kept, d)
	}
	for d := range n.kept {
		if v, ok := n.m.Job(d.ref.Task.Job); ok && v.Record.State.Final() {
			n.s.t.Fatalf("result of %s is still kept, its job is over", d.ref.Task)
		}
	}
}

// check holds the whole run against the laws: every agreeing replica is paid
// once, nobody else is, no job passes its max credits.
func (s *sim) check() {
	s.t.Helper()
	for _, n := range s.nodes {
		owed := map[peer.ID]proto.Credit{}
		perJob := map[proto.JobID]proto.Credit{}
		for id, rec := range n.tasks {
			workers := map[peer.ID]bool{}
			for _, r := range rec.Replicas {
				if (r.Agreed || r.Trial || r.Partial) != (r.Paid > 0) || r.Agreed && r.Trial || r.Partial && (r.Agreed || r.Trial || rec.State == Done) {
					s.t.Fatalf("task %s: agreed %v, paid %d", id, r.Agreed, r.Paid)
				}
				if r.Trial || r.Partial {
					owed[r.Worker] += r.Paid
					perJob[id.Job] += r.Paid
				}
				if !r.Agreed {
					continue
				}
				if workers[r.Worker] {
					s.t.Fatalf("task %s pays one worker twice", id)
				}
				workers[r.Worker] = true
				owed[r.Worker] += r.Paid
				perJob[id.Job] += r.Paid
				if s.byID[r.Worker].liar {
					s.t.Fatalf("task %s pays a liar", id)
				}
			}
			k := normal(n.jobs[id.Job].Job.Options, n.m.cfg.MaxRun).Redundancy
			if rec.State == Done && (len(workers) < k || rec.Verified != (k > 1)) {
				s.t.Fatalf("task %s done by %d workers of %d, verified %v", id, len(workers), k, rec.Verified)
			}
		}
		for id, cost := range perJob {
			if max := normal(n.jobs[id].Job.Options, n.m.cfg.MaxRun).MaxCredits; withFee(cost, s.feePPM) > max {
				s.t.Fatalf("job %s cost %d of %d", id, cost, max)
			}
		}
		got := map[peer.ID]proto.Credit{}
		for _, h := range s.ledger {
			if h.owner == n.id {
				for _, l := range h.rec.Lanes {
					got[l.Worker] += l.Settled
				}
			}
		}
		for w, amount := range owed {
			if got[w] != amount {
				s.t.Fatalf("worker %s was paid %d for records of %d", s.byID[w].name(), got[w], amount)
			}
		}
		for w, amount := range got {
			if owed[w] != amount {
				s.t.Fatalf("worker %s was paid %d for records of %d", s.byID[w].name(), amount, owed[w])
			}
		}
	}
}
