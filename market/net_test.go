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
	for seed := range *seeds {
		s := newSim(t, seed, 9, nil)
		s.nodes[1].liar = true
		s.nodes[2].flaky = 20
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
	}
}
