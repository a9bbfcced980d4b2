package market

import (
	"fmt"
	"testing"
	"time"

	"edgenet.dev/proto"
)

// TestFirstHoldIsWhatTheJobCanUse: a tiny job puts little on hold, and a batch
// that follows in its session gets more room in a few steps.
func TestFirstHoldIsWhatTheJobCanUse(t *testing.T) {
	s := newSim(t, 3, 4, nil)
	var asked []RequestHold
	s.observe = func(_ *simNode, _ Input, outs []Output) {
		for _, o := range outs {
			if r, ok := o.(RequestHold); ok {
				asked = append(asked, r)
			}
		}
	}
	o := Options{Redundancy: 2, Priority: proto.PriorityNormal}
	quote := s.nodes[0].m.Quote(Job{Type: "text", Module: proto.CIDOf([]byte("module")), Options: o, Inputs: inputs(1, 8)})
	id := s.job(0, "tiny", 1, o)
	s.until(5*time.Second, s.final(id))
	if len(asked) != 1 || len(asked[0].Lanes) < 2 || asked[0].Budget != quote.Hold {
		t.Fatalf("quoted was a hold of %s, asked for were %+v", quote.Hold, asked)
	}
	if quote.Hold > 1000 {
		t.Fatalf("a tiny job holds %s credits", quote.Hold)
	}
	began := s.now
	batch := s.job(0, "batch", 500, Options{Redundancy: 2, Priority: proto.PriorityNormal, MaxCredits: 1000 * proto.OneCredit})
	s.until(5*time.Second, s.final(batch))
	if v := s.view(batch); v.Verified != 500 {
		t.Fatalf("%+v", v)
	}
	if took := s.now.Sub(began); took > 2*time.Second || len(asked) > 12 {
		t.Fatalf("the batch took %s and %d holds in all", took, len(asked))
	}
	t.Logf("%s, %d holds", s.now.Sub(began), len(asked))
	s.until(time.Minute, s.settled(id, batch))
	s.check()
}

// TestRefusedAfterResult: the reservations of lanes and job survive what a hostile
// worker may say after its result.
func TestRefusedAfterResult(t *testing.T) {
	s := newSim(t, 4, 5, nil)
	s.observe = func(n *simNode, in Input, _ []Output) {
		if r, ok := in.(ResultSeen); ok && s.rnd.IntN(2) == 0 {
			n.deliver(0, RefusedSeen{From: r.From, Ref: r.Ref, Code: proto.CodeBusy})
			n.deliver(0, RefusedSeen{From: r.From, Ref: r.Ref, Code: proto.CodeModule})
		}
	}
	id := s.job(0, "a", 300, Options{Redundancy: 3, Fuel: 60_000_000})
	s.until(20*time.Second, s.settled(id))
	if v := s.view(id); v.Verified != 300 {
		t.Fatalf("%+v", v)
	}
	s.check()
}

// TestSessionOutlivesItsHold: a session that is never idle for long goes on
// after the deadline that its first job gave the hold.
func TestSessionOutlivesItsHold(t *testing.T) {
	s := newSim(t, 3, 4, nil)
	holds, longer := 0, 0
	s.observe = func(_ *simNode, _ Input, outs []Output) {
		for _, o := range outs {
			r, ok := o.(RequestHold)
			switch {
			case !ok:
			case r.Hold.Defined():
				longer++
			default:
				holds++
			}
		}
	}
	began := s.now
	var ids []proto.JobID
	for s.now.Sub(began) < 20*time.Minute {
		id := s.job(0, fmt.Sprint("job ", len(ids)), 1, Options{Redundancy: 2, Priority: proto.PriorityNormal, Timeout: time.Minute})
		s.until(10*time.Second, s.final(id))
		if v := s.view(id); v.Verified != 1 {
			t.Fatalf("after %s: %+v", s.now.Sub(began), v)
		}
		s.sleep(time.Second)
		ids = append(ids, id)
	}
	if holds != 1 || longer > 60 {
		t.Errorf("%d holds, %d times more of them for %d jobs", holds, longer, len(ids))
	}
	s.until(time.Minute, s.settled(ids[len(ids)-50:]...))
	s.check()
}

// A job whose hold was extended often asks for all that it may still need at once:
// the ledger ends at some number of extensions, and the job must not.
func TestOftenExtendedHoldGrowsAtOnce(t *testing.T) {
	m, err := New(Config{Self: simPeer(0)})
	if err != nil {
		t.Fatal(err)
	}
	want := func(extends int) proto.Credit {
		s := m.newSession(proto.JobID{})
		s.extends = extends
		l := m.addLease(s, simPeer(1))
		l.cap, l.window = 10, 1
		j := &job{k: 2, open: 1, rec: JobRecord{Job: Job{Options: Options{MaxCredits: proto.OneCredit}}}}
		m.wantCap(l, j, 10, false)
		if most := m.remaining(j) / 2; extends > maxExtends && l.want != most {
			t.Errorf("after %d extensions %s are asked for, of %s", extends, l.want, most)
		}
		return l.want
	}
	if few, many := want(3), want(maxExtends+1); few == 0 || few >= many {
		t.Errorf("%s are asked for after 3 extensions, %s after many", few, many)
	}
}
