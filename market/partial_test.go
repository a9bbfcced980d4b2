package market

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"edgenet.dev/proto"
)

// lateSim has a submitter and workers that say after ten seconds that their time
// ran out, each after so much fuel; 0: it comes to a result.
func lateSim(t *testing.T, used ...proto.Fuel) (*sim, Options) {
	s := newSim(t, 21, 1+len(used), func(i int, c *Config) {
		c.Worker.Enabled = i > 0
	})
	s.run = 10 * time.Second
	for i, fuel := range used {
		s.nodes[1+i].late = fuel
	}
	return s, Options{Redundancy: 1, Fuel: 30_000_000, Run: 10 * time.Second, Priority: proto.PriorityNormal}
}

// parts are what each worker was paid in part for one task.
func parts(s *sim, id proto.JobID) map[int]proto.Credit {
	out := map[int]proto.Credit{}
	for i, n := range s.nodes {
		for _, r := range s.nodes[0].m.Tasks(id)[0].Replicas {
			if r.Worker == n.id && r.Partial {
				out[i] += r.Paid
			}
		}
	}
	return out
}

// A task whose time runs out everywhere pays its workers for what they used of
// it: nobody for more than another one used, all of them no more than a result
// would have cost; also after a crash right when it was decided.
func TestTimeoutsArePaidInPart(t *testing.T) {
	for _, k := range []int{1, 2, 3} {
		for _, crash := range []bool{false, true} {
			s, o := lateSim(t, 6_000_000, 12_000_000, 20_000_000)
			o.Redundancy = k
			s.observe = func(n *simNode, _ Input, outs []Output) {
				for i, out := range outs {
					if save, ok := out.(SaveTask); ok && crash && save.Record.State.Final() {
						crash = false
						n.cut = i + 2 // after the record is on disk, before any voucher
						s.after(time.Second, func() { s.restart(n) })
					}
				}
			}
			id := s.job(0, "endless", 1, o)
			s.until(10*time.Minute, s.settled(id))
			v := s.view(id)
			// 10 ms of the reference CPU cost 10⁷ fuel: a credit for 60 Gfuel.
			most := proto.Credit(k) * proto.PayFor(o.Fuel, proto.OneCredit) / 3
			want := map[int]proto.Credit{1: min(100, most), 2: min(200, most), 3: min(200, most)}
			if got := parts(s, id); v.Record.State != Failed || v.Record.Code != proto.CodeRunTimeout || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("redundancy %d: %s, %s, paid in part %v, want %v", k, v.Record.State, v.Record.Code, got, want)
			}
			if task := s.nodes[0].m.Tasks(id)[0]; task.Cost != v.Cost || v.Cost < want[1]+want[2]+want[3] {
				t.Errorf("the task costs %s, its job %s", task.Cost, v.Cost)
			}
			s.check()
		}
	}
}

// Who stays alone with a timeout is paid nothing, nor is one that others belie;
// and that one is trusted less then.
func TestLoneTimeoutPaysNothing(t *testing.T) {
	s, o := lateSim(t, 20_000_000)
	id := s.job(0, "alone", 1, o)
	s.until(10*time.Minute, s.settled(id))
	if v := s.view(id); v.Record.Code != proto.CodeRunTimeout || v.Cost != 0 {
		t.Errorf("%s, cost %s", v.Record.Code, v.Cost)
	}
	s.check()

	// Two that say so do not help each other either when a third has the result.
	s, o = lateSim(t, 20_000_000, 20_000_000, 0, 0)
	s.nodes[0].m.off.crowd = true // the known ones get all the work otherwise
	for i := range 8 {
		id = s.job(0, fmt.Sprint("belied", i), 1, o)
		s.until(10*time.Minute, s.settled(id))
		if v := s.view(id); v.Record.State != Done || len(parts(s, id)) > 0 {
			t.Errorf("%s, paid in part %v", v.Record.State, parts(s, id))
		}
	}
	for i, want := range map[int]class{1: classBad, 2: classBad} {
		if got := s.nodes[0].m.class(s.nodes[i].id); got != want {
			t.Errorf("worker %d that says each time that there was too little is class %d, want %d", i, got, want)
		}
	}
	s.check()

	// What is said before it can be true counts for as much as can.
	s, o = lateSim(t, proto.MaxFuel, proto.MaxFuel)
	s.run, o.Fuel, o.MaxCredits = 10*time.Millisecond, 60_000_000_000, 100*proto.OneCredit
	id = s.job(0, "at once", 1, o)
	s.until(10*time.Minute, s.settled(id))
	for i, paid := range parts(s, id) {
		if most := proto.PayFor(12_000_000, proto.OneCredit); paid > most { // the link's two milliseconds, too
			t.Errorf("worker %d is paid %s for a hundredth of a second", i, paid)
		}
	}
	s.check()
}

// lateTask is a task without a result, with executions whose time ran out.
func lateTask(t *rapid.T) (m *Machine, task *task) {
	m, err := New(Config{Self: simPeer(0), FeePPM: 10_000, Diversity: rapid.SampledFrom([]bool{true, true, false}).Draw(t, "diversity")})
	if err != nil {
		t.Fatal(err)
	}
	k := rapid.SampledFrom([]int{1, 2, 3}).Draw(t, "redundancy")
	amount := func(what string, among ...proto.Credit) proto.Credit { return rapid.SampledFrom(among).Draw(t, what) }
	j := &job{k: k, rec: JobRecord{Job: Job{Options: Options{Redundancy: k, MaxCredits: amount("budget", 100_000, 100_000, 100_000, 700, 3)}}}}
	task = &lateT{job: j, level: k, fuel: 60_000_000_000}
	task.pay = proto.PayFor(task.fuel, 1000)
	s := &session{state: sessionServing}
	leases := map[int]*lease{}
	for range rapid.SampledFrom([]int{0, 1, 2, 3, 4, 6, 8}).Draw(t, "executions") {
		w := rapid.SampledFrom([]int{1, 2, 3, 4}).Draw(t, "worker")
		l := leases[w]
		if l == nil {
			l = &lease{
				s: s, worker: simPeer(w), lane: w, operator: rapid.SampledFrom([]string{"", "a", "a"}).Draw(t, "operator"),
				cap: amount("cap", 100_000, 100_000, 200, 4), amount: amount("amount", 0, 100, 199),
				done: rapid.SampledFrom([]bool{false, false, false, false, true}).Draw(t, "done"),
			}
			leases[w] = l
		}
		task.reps = append(task.reps, &replica{
			task: task, lease: l, phase: phaseLost, price: amount("price", 1000, 1000, 400, 1),
			code: rapid.SampledFrom([]proto.Code{proto.CodeRunTimeout, proto.CodeRunTimeout, proto.CodeRunTimeout, proto.CodeLocalFailure}).Draw(t, "code"),
			fuel: rapid.SampledFrom([]proto.Fuel{0, 1, 5_000_000_000, 20_000_000_000, 40_000_000_000, task.fuel}).Draw(t, "fuel"),
		})
	}
	return m, task
}

type lateT = task

// The laws of partial pay: nothing is paid above a lane, a budget, or what a
// result would have cost; nobody for more than another one says; once for each
// worker; and whatever a worker says, it gets no more than what others used.
func TestNobodyGainsByATimeout(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, task := lateTask(t)
		j := task.job
		pays := m.partial(task)
		all := sum(pays)
		if all > proto.Credit(j.k)*task.pay {
			t.Fatalf("%d in all, a result costs %d", all, proto.Credit(j.k)*task.pay)
		}
		if all > 0 && withFee(all, m.cfg.FeePPM) > j.rec.Job.Options.MaxCredits {
			t.Fatalf("%d of a budget of %d", all, j.rec.Job.Options.MaxCredits)
		}
		of := map[*lease]bool{}
		for i, r := range task.reps {
			if pays[i] == 0 {
				continue
			}
			var seen proto.Fuel
			for _, o := range task.reps {
				if o.lease != r.lease && o.code == proto.CodeRunTimeout && !m.alike(o.lease, r.lease) {
					seen = max(seen, o.fuel)
				}
			}
			if l := r.lease; of[l] || l.done || l.amount+pays[i] > l.cap || r.code != proto.CodeRunTimeout || seen == 0 || pays[i] > proto.PayFor(min(seen, r.fuel), r.price) {
				t.Fatalf("execution %d is paid %d", i, pays[i])
			}
			of[r.lease] = true
		}
		if len(task.reps) == 0 {
			return
		}
		// One that says something else gets no more than what others vouch for.
		liar := task.reps[rapid.IntRange(0, len(task.reps)-1).Draw(t, "liar")]
		var seen proto.Fuel
		for _, o := range task.reps {
			if o.lease != liar.lease && o.code == proto.CodeRunTimeout {
				seen = max(seen, o.fuel)
			}
		}
		liar.fuel = max(liar.fuel, proto.Fuel(rapid.Uint64Range(0, uint64(task.fuel)).Draw(t, "lie")))
		for i, pay := range m.partial(task) {
			if r := task.reps[i]; r == liar && (seen == 0 && pay > 0 || pay > proto.PayFor(seen, r.price)) {
				t.Fatalf("the lie of %d pays %d, others used %d", liar.fuel, pay, seen)
			}
		}
	})
}
