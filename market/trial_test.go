package market

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"pgregory.net/rapid"

	"edgenet.dev/proto"
)

// TestHoldGrowsWithTheTask: a task that needs far more fuel than estimated
// starts with a small hold, which is extended, and all who ran a trial are
// paid. The next job knows, and a restart forgets nothing.
func TestHoldGrowsWithTheTask(t *testing.T) {
	s := newSim(t, 11, 5, nil)
	s.need = 3_000_000_000
	var first, extended int
	var held proto.Credit
	s.observe = func(_ *simNode, _ Input, outs []Output) {
		for _, o := range outs {
			if r, ok := o.(RequestHold); ok {
				if got := s.nodes[0].m.Requested(r.Job); got != r.Req {
					t.Errorf("the job waits for request %d, not %d", got, r.Req)
				}
				held += r.Budget
				if first++; r.Hold.Defined() {
					first--
					extended++
				}
			}
		}
	}
	o := Options{Redundancy: 2}
	id := s.job(0, "heavy", 1, o)
	s.until(30*time.Second, s.settled(id))
	if got := s.nodes[0].m.Requested(id); got != 0 {
		t.Errorf("a job that is over waits for request %d", got)
	}
	v, tasks := s.view(id), s.nodes[0].m.Tasks(id)
	if v.Verified != 1 || first != 1 || extended == 0 || held > o.WithDefaults().MaxCredits {
		t.Fatalf("%+v; %d holds, %d extensions, %s held", v, first, extended, held)
	}
	trials, agreed := 0, 0
	var paid proto.Credit
	for _, r := range tasks[0].Replicas {
		paid += r.Paid
		if r.Trial {
			trials++
		}
		if r.Agreed {
			agreed++
			if r.Fuel != s.need {
				t.Errorf("a replica used %d", r.Fuel)
			}
		}
	}
	if trials < 4 || agreed != 2 || v.Cost != withFee(paid, s.feePPM) || tasks[0].Cost != v.Cost {
		t.Fatalf("%d trials, %d agreed, paid %s, cost %s and %s", trials, agreed, paid, v.Cost, tasks[0].Cost)
	}
	// 3 Gfuel at 1 credit for 60, twice; trials add little.
	if v.Cost > 150_000 {
		t.Errorf("cost %s", v.Cost)
	}
	s.check()

	runs := 0
	for range 2 {
		before := 0
		for _, n := range s.nodes {
			before += n.runs
		}
		again := s.job(0, fmt.Sprint("again", runs), 1, o)
		s.until(30*time.Second, s.settled(again))
		runs = -before
		for _, n := range s.nodes {
			runs += n.runs
		}
		if runs != 2 {
			t.Errorf("%d executions of a task whose cost is known", runs)
		}
		s.crash(s.nodes[0])
		s.restart(s.nodes[0])
	}
	s.check()
}

// TestTrialsOfABatchKeepItsBudget: tasks that all turn out dear spend no more
// than the budget, those that got nothing say why, and nothing hangs.
func TestTrialsOfABatchKeepItsBudget(t *testing.T) {
	s := newSim(t, 12, 5, nil)
	s.need = 20_000_000_000
	id := s.job(0, "dear", 12, Options{Redundancy: 2, MaxCredits: 4 * proto.OneCredit})
	s.until(9*time.Minute, s.settled(id))
	v := s.view(id)
	if v.Done < 3 || v.Failed == 0 || v.Record.Code != proto.CodeBudget || v.Cost > 4*proto.OneCredit {
		t.Fatalf("%+v", v)
	}
	for _, task := range s.nodes[0].m.Tasks(id) {
		if task.State != Done && task.Code != proto.CodeBudget {
			t.Errorf("%+v", task)
		}
	}
	s.check()
}

// TestTrialSurvivesCrash: the submitter dies at every output in turn of a task
// that needs several trials; each trial that was promised pay is paid once and
// counts as spent.
func TestTrialSurvivesCrash(t *testing.T) {
	for at := 1; at < 120; at++ {
		s := newSim(t, uint64(at), 4, nil)
		s.need = 500_000_000
		left := at
		var crashed bool
		s.observe = func(n *simNode, _ Input, outs []Output) {
			if n != s.nodes[0] || crashed || len(outs) == 0 {
				return
			}
			if left > len(outs) {
				left -= len(outs)
				return
			}
			crashed = true
			n.cut = left
			s.after(50*time.Millisecond, func() { s.restart(n) })
		}
		id := s.job(0, "heavy", 2, Options{Redundancy: 2})
		s.until(time.Minute, s.settled(id))
		if v := s.view(id); v.Verified != 2 {
			t.Fatalf("crash at output %d: %+v", at, v)
		}
		s.check()
		var spent proto.Credit
		for _, task := range s.nodes[0].m.Tasks(id) {
			for _, r := range task.Replicas {
				spent += r.Paid
			}
		}
		if v := s.view(id); v.Cost != withFee(spent, s.feePPM) {
			t.Fatalf("crash at output %d: cost %s of %s paid", at, v.Cost, spent)
		}
		if !crashed {
			return
		}
	}
}

// TestExtendInFlightSurvivesRestart: an extension that is certified after its
// payer died is closed with the rest of the hold.
func TestExtendInFlightSurvivesRestart(t *testing.T) {
	s := newSim(t, 13, 4, nil)
	s.need, s.certify = 500_000_000, 80*time.Millisecond
	died := false
	s.observe = func(n *simNode, _ Input, outs []Output) {
		for _, o := range outs {
			if r, ok := o.(RequestHold); ok && r.Hold.Defined() && !died {
				died = true
				s.after(10*time.Millisecond, func() { s.crash(n) })
				s.after(30*time.Millisecond, func() { s.restart(n) })
			}
		}
	}
	id := s.job(0, "heavy", 1, Options{Redundancy: 2})
	s.until(time.Minute, s.settled(id))
	s.until(time.Minute, func() bool {
		for _, h := range s.ledger {
			if !h.rec.Closed {
				return false
			}
		}
		return true
	})
	if v := s.view(id); !died || v.Verified != 1 || len(s.ledger) != 2 {
		t.Fatalf("died %v, %+v, %d holds", died, v, len(s.ledger))
	}
	s.check()
}

// TestEstimate: it covers what it saw, follows what changes, and is kept for a
// bounded number of modules.
func TestEstimate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c CostRecord
		base := proto.Fuel(rapid.Uint64Range(0, 1<<30).Draw(t, "base"))
		per := proto.Fuel(rapid.Uint64Range(0, 5000).Draw(t, "per byte"))
		var largest uint64
		for range rapid.IntRange(1, 40).Draw(t, "runs") {
			size := rapid.Uint64Range(0, 1<<20).Draw(t, "size")
			largest = max(largest, size)
			c.learn(size, base+per*proto.Fuel(size))
		}
		if c.Runs < 3 {
			return
		}
		for _, size := range []uint64{largest, largest / 2} {
			real := base + per*proto.Fuel(size)
			if got := margin * line(c.Base, c.Slope, size); got < real/2 {
				t.Fatalf("%d bytes take %d, estimated are %d: %+v", size, real, got, c)
			}
		}
	})
	m, err := New(Config{Self: simPeer(1)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxCosts + 10 {
		m.now = simStart.Add(time.Duration(i) * time.Second)
		j := &job{rec: JobRecord{Job: Job{Module: proto.CIDOf(fmt.Append(nil, i))}}}
		m.learn(j, 10, 5_000_000)
	}
	if len(m.costs) != maxCosts || m.costs[proto.CIDOf([]byte("0"))] != nil || m.costs[proto.CIDOf([]byte("20"))] == nil {
		t.Fatalf("%d are kept, or not the newest", len(m.costs))
	}
}

// TestWorstCoversTrials: a job that needs its whole limit costs no more than
// was quoted.
func TestWorstCoversTrials(t *testing.T) {
	s := newSim(t, 14, 4, nil)
	s.need = proto.DefaultFuel
	for i, o := range []Options{{Redundancy: 2}, {Redundancy: 1}, {Redundancy: 2, MaxCredits: 1_010_000}, {Redundancy: 2, MaxCredits: 1_100_000}} {
		s.nodes[0].m.costs = map[cid.Cid]*CostRecord{} // nothing is known
		q := s.nodes[0].m.Quote(Job{Type: "text", Module: proto.CIDOf([]byte("module")), Options: o, Inputs: inputs(1, 8)})
		id := s.job(0, fmt.Sprint("full ", i), 1, o)
		s.until(time.Minute, s.settled(id))
		if v := s.view(id); v.Done != 1 || v.Cost > q.Worst || v.Cost < q.Worst-8 {
			t.Errorf("%+v: cost %s, quoted were %s; %+v", o, v.Cost, q.Worst, v)
		}
	}
	s.check()
	q := Terms{Price: proto.OneCredit}.Quote(Job{Options: Options{MaxCredits: 1}, Inputs: inputs(1, 8)}, asLimit)
	if err := q.Check(Options{MaxCredits: 1}); !errors.Is(err, proto.CodeBudget.Err()) {
		t.Error(err)
	}
}

// TestLiarGetsATaskOnce: a worker that was outvoted in a trial does not get the
// next try of the same task, nor does it after its submitter's restart.
func TestLiarGetsATaskOnce(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		outvoted, after := 0, 0
		for seed := range uint64(10) {
			s := newSim(t, 30+seed, 5, nil)
			s.need = 3_000_000_000
			liar := s.nodes[1]
			liar.liar = true
			caught := false
			s.observe = func(n *simNode, _ Input, outs []Output) {
				if n != s.nodes[0] {
					return
				}
				for i, o := range outs {
					switch o := o.(type) {
					case SendAssign:
						if caught && o.To == liar.id {
							t.Errorf("restart %v, seed %d: the liar gets the task again", restarts, seed)
						}
					case SaveTask:
						if caught || o.Record.State.Final() {
							break
						}
						if caught = slices.ContainsFunc(o.Record.Replicas, func(r ReplicaRecord) bool { return r.Worker == liar.id && r.Code == proto.CodeMinority }); !caught {
							break
						}
						if outvoted++; restarts {
							n.cut = i + 2
							s.after(50*time.Millisecond, func() { s.restart(n) })
						}
					}
				}
			}
			id := s.job(0, fmt.Sprint("heavy ", seed), 1, Options{Redundancy: 2})
			s.until(time.Minute, s.settled(id))
			if v := s.view(id); v.Verified != 1 {
				t.Fatalf("restart %v, seed %d: %+v", restarts, seed, v)
			} else if caught {
				after += int(v.Record.Round)
			}
			s.check()
		}
		if outvoted == 0 || restarts && after == 0 {
			t.Errorf("restart %v: outvoted %d times, %d restarts", restarts, outvoted, after)
		}
	}
}

// TestHoldStaysWithinTheWorst: what is put on hold for a job whose trial did not
// suffice is what its replicas need, not as much for every worker that is there:
// a balance that covers the quoted worst does the job, and so does a budget of as
// much.
func TestHoldStaysWithinTheWorst(t *testing.T) {
	for _, budget := range []string{"ample", "tight"} {
		t.Run(budget, func(t *testing.T) {
			s := newSim(t, 12, 6, nil)
			s.need = 3_000_000_000
			o := Options{Redundancy: 2}
			quote := s.nodes[0].m.Quote(Job{Module: proto.CIDOf([]byte("module")), Options: o, Inputs: inputs(1, 8)})
			balance := quote.Worst + quote.Hold // lanes of the first hold that are not used again
			if budget == "tight" {
				balance = quote.Worst + quote.Hold/2
				o.MaxCredits = balance
			}
			var held proto.Credit
			s.refuseHold = func(r RequestHold) (proto.Code, bool) {
				if held+r.Budget > balance {
					return proto.CodeInsufficient, true
				}
				held += r.Budget
				return 0, false
			}
			id := s.job(0, "heavy", 1, o)
			s.until(30*time.Second, s.settled(id))
			if v := s.view(id); v.Verified != 1 {
				t.Fatalf("%s of %s held, quoted %+v: %+v", held, balance, quote, v.Record)
			}
			s.check()
		})
	}
}
