package market

import (
	"flag"
	"testing"
	"time"

	"edgenet.dev/proto"
)

var seeds = flag.Uint64("seeds", 30, "runs of the fault simulation")

func TestJobRunsAndSettles(t *testing.T) {
	for k := 1; k <= 4; k++ {
		s := newSim(t, 1, 6, nil)
		s.trace = true
		id := s.job(0, "a", 20, Options{Redundancy: k})
		s.until(5*time.Second, s.final(id))
		if v := s.view(id); v.Record.State != Done || v.Done != 20 || k > 1 && v.Verified != 20 || k == 1 && v.Verified != 0 {
			t.Fatalf("k=%d: %+v", k, v)
		}
		if s.nodes[0].runs != 0 {
			t.Fatal("a submitter ran its own replica")
		}
		s.until(5*time.Second, s.settled(id))
		s.check()
		for _, h := range s.ledger {
			if !h.rec.Closed {
				t.Fatal("a hold stays open")
			}
		}
	}
}

func TestLiarsCrashesAndRestarts(t *testing.T) {
	seen := map[proto.Code]int{}
	for seed := range *seeds {
		s := newSim(t, seed, 9, nil)
		s.nodes[1].liar = true
		s.nodes[2].flaky = 20
		s.lostPays = 5
		o := Options{Redundancy: 2, Fuel: 60_000_000, MaxCredits: 2 * proto.OneCredit, Timeout: 5 * time.Minute}
		ids := []proto.JobID{s.job(0, "a", 300, o)}
		o.Redundancy, o.Priority = 3, proto.PriorityHigh
		ids = append(ids, s.job(0, "b", 100, o))
		for range 6 {
			s.after(time.Duration(s.rnd.IntN(1500))*time.Millisecond, func() {
				n := s.nodes[s.rnd.IntN(len(s.nodes))]
				if n.dead {
					return
				}
				s.crash(n)
				s.after(time.Duration(50+s.rnd.IntN(3000))*time.Millisecond, func() { s.restart(n) })
			})
		}
		s.sleep(5 * time.Second)
		s.until(5*time.Minute, s.final(ids...))
		for _, id := range ids {
			if v := s.view(id); v.Record.State != Done {
				s.dump()
				t.Fatalf("seed %d: %s", seed, v.Record.State)
			}
		}
		s.until(time.Minute, s.settled(ids...))
		s.check()
		for c, n := range s.nodes[0].notes {
			seen[c] += n
		}
	}
	for _, c := range []proto.Code{proto.CodeMinority, proto.CodeWorkerGone, proto.CodeLocalFailure} {
		if seen[c] == 0 {
			t.Errorf("no run met %s: the faults were not exercised", c)
		}
	}
}

// A job longer than a lease renews it: the same workers claim again.
func TestLeasesAreRenewed(t *testing.T) {
	s := newSim(t, 3, 4, nil)
	s.run = time.Second
	id := s.job(0, "long", 2000, Options{Fuel: 60_000_000, Timeout: time.Hour})
	s.until(20*time.Minute, s.final(id))
	if v := s.view(id); v.Record.State != Done || s.now.Sub(simStart) < 2*proto.LeaseDuration {
		t.Fatalf("%s after %s", v.Record.State, s.now.Sub(simStart))
	}
	if n := s.nodes[0].notes[proto.CodeExpired]; n > 0 {
		t.Fatalf("%d assignments were refused as expired", n)
	}
	s.until(time.Minute, s.settled(id))
	s.check()
}

// Executions that never end are given up and run elsewhere.
func TestHangingExecutions(t *testing.T) {
	s := newSim(t, 4, 7, nil)
	s.nodes[2].hang = 3
	s.nodes[3].hang = 100
	id := s.job(0, "hang", 100, Options{Fuel: 60_000_000})
	s.until(10*time.Minute, s.final(id))
	if v := s.view(id); v.Record.State != Done {
		s.dump()
		t.Fatal(v.Record.State)
	}
	if s.nodes[0].notes[proto.CodeRunTimeout] == 0 {
		t.Fatal("nothing timed out")
	}
	s.until(time.Minute, s.settled(id))
	s.check()
}

// Several submitters share the workers; each is a worker for the others.
func TestManySubmitters(t *testing.T) {
	s := newSim(t, 5, 6, func(_ int, c *Config) { c.Worker.InFlight = 4 })
	var ids []proto.JobID
	for i := range 6 {
		ids = append(ids, s.job(i, string(rune('a'+i)), 60, Options{Fuel: 60_000_000, Redundancy: 1 + i%4}))
	}
	s.until(2*time.Minute, s.final(ids...))
	for _, id := range ids {
		if v := s.view(id); v.Record.State != Done {
			t.Fatal(v.Record.State)
		}
	}
	s.until(time.Minute, s.settled(ids...))
	s.check()
}

// A balance that covers less than the first wish still gets the job done.
func TestBalanceTooSmall(t *testing.T) {
	s := newSim(t, 6, 4, nil)
	refused := 0
	s.refuseHold = func(o RequestHold) (proto.Code, bool) {
		if o.Budget > 20_000 {
			refused++
			return proto.CodeInsufficient, true
		}
		return 0, false
	}
	id := s.job(0, "poor", 50, Options{Fuel: 60_000_000})
	s.until(time.Minute, s.final(id))
	if v := s.view(id); v.Record.State != Done || refused == 0 {
		t.Fatalf("%s after %d refusals", v.Record.State, refused)
	}
	s.until(time.Minute, s.settled(id))
	s.check()
}

// A submitter that crashes at every possible moment pays each result once.
func TestCrashAtEveryStep(t *testing.T) {
	for at := 1; at < 400; at++ {
		at, cut := at/4, at%4
		s := newSim(t, 9, 4, nil)
		steps, crashed := 0, false
		s.observe = func(n *simNode, _ Input, _ []Output) {
			if n != s.nodes[0] {
				return
			}
			if steps++; steps == at+1 && !crashed {
				crashed = true
				n.cut = 1 + cut
				s.after(100*time.Millisecond, func() {
					if !n.dead { // the Step had fewer outputs than that
						n.cut = 0
						s.crash(n)
					}
					s.restart(n)
				})
			}
		}
		id := s.job(0, "a", 12, Options{Fuel: 60_000_000})
		s.until(2*time.Minute, func() bool { return !s.nodes[0].dead && s.settled(id)() })
		if v := s.view(id); v.Record.State != Done || v.Verified != 12 {
			t.Fatalf("crash at step %d after %d outputs: %s, %d verified", at, cut, v.Record.State, v.Verified)
		}
		s.sleep(10 * time.Second)
		s.check()
	}
}
