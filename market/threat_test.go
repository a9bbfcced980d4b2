package market

import (
	"fmt"
	"testing"
	"time"

	"edgenet.dev/proto"
)

// Attacks on the market, as the table of threats in docs/ledger.md names them.
// Each must fail, and succeed once its countermeasure is switched off: a
// defence that nothing gets past even without it is not what defends.

// won is how many tasks have a result that is not the right one, and what the
// named workers were paid.
func (s *sim) won(paid func(n *simNode) bool) (wrong, tasks int, got proto.Credit) {
	for id, rec := range s.nodes[0].tasks {
		in := s.nodes[0].jobs[id.Job].Job.Inputs[id.Index].Hash
		if tasks++; rec.State == Done && rec.Output != proto.HashOf(append([]byte("output"), in[:]...)) {
			wrong++
		}
		for _, r := range rec.Replicas {
			if paid(s.byID[r.Worker]) {
				got += r.Paid
			}
		}
	}
	return wrong, tasks, got
}

func copiers(n *simNode) bool { return n.copier }
func liars(n *simNode) bool   { return n.liar }

// A worker runs nothing, commits to rubbish, waits until its neighbour's
// result is revealed and sends that as its own.
func TestCopierIsNeverPaid(t *testing.T) {
	for _, off := range []bool{false, true} {
		s := newSim(t, 11, 5, nil)
		s.nodes[1].copier = true
		s.nodes[0].m.off.commit = off
		id := s.job(0, "copy", 100, Options{Fuel: 60_000_000, Timeout: 5 * time.Minute})
		s.until(10*time.Minute, s.final(id))
		wrong, tasks, got := s.won(copiers)
		if v := s.view(id); v.Record.State != Done || tasks != 100 || wrong != 0 {
			t.Fatalf("%s, %d tasks, %d wrong", v.Record.State, tasks, wrong)
		}
		if (got > 0) != off {
			t.Errorf("without the commitment %v: the copier got %s", off, got)
		}
		if !off && s.nodes[0].notes[proto.CodeBadReceipt] == 0 {
			t.Error("the copier never tried")
		}
	}
}

// accepted is the chance that a wrong result wins when a share p of all workers
// agree on it and replicas are drawn independently: so many at a time as the
// level has before anybody counts.
func accepted(k int, p float64) float64 {
	var from func(level, wrong, right int) float64
	from = func(level, wrong, right int) float64 {
		if wrong+right < level {
			return p*from(level, wrong+1, right) + (1-p)*from(level, wrong, right+1)
		}
		need := threshold(k, level)
		switch {
		case wrong >= need:
			return 1
		case right >= need || nextLevel(level) == 0:
			return 0
		}
		return from(nextLevel(level), wrong, right)
	}
	return from(k, 0, 0)
}

// Twenty percent of the workers agree on wrong results: as many are accepted
// as the redundancy lets through, and liars that lose are not paid.
func TestWrongResultsAreBounded(t *testing.T) {
	for _, k := range []int{2, 3} {
		for _, off := range []bool{false, true} {
			wrong, tasks := 0, 0
			for seed := range uint64(6) {
				s := newSim(t, 20+seed, 21, nil)
				for i := range 4 {
					s.nodes[1+5*i].liar = true
				}
				s.nodes[0].m.off.majority = off
				s.nodes[0].m.off.standing = true // liars that were caught get less and less
				id := s.job(0, fmt.Sprint("lies ", seed), 400, Options{Redundancy: k, Fuel: 60_000_000, Timeout: time.Hour})
				s.until(time.Hour, s.final(id))
				w, n, got := s.won(liars)
				wrong, tasks = wrong+w, tasks+n
				if w == 0 && got > 0 {
					t.Error("liars that lost are paid")
				}
			}
			rate, bound := float64(wrong)/float64(tasks), accepted(k, 0.2)
			t.Logf("k=%d, majority off %v: %d of %d wrong results accepted, %.2f %%, the bound is %.2f %%", k, off, wrong, tasks, 100*rate, 100*bound)
			if (rate > bound*1.25) != off {
				t.Errorf("k=%d, majority off %v: %.2f %% of the results are wrong, the bound is %.2f %%", k, off, 100*rate, 100*bound)
			}
		}
	}
}

// One operator runs a third of the workers and all of them lie alike. Where
// labels are honest and the network wants replicas apart, it never wins.
func TestSybilsFillNoQuorum(t *testing.T) {
	for _, off := range []bool{false, true} {
		wrong := 0
		for seed := range uint64(3) {
			s := newSim(t, 40+seed, 13, func(i int, c *Config) {
				c.Diversity = !off
				if c.Worker.Operator = fmt.Sprint("operator ", i); i%3 == 1 {
					c.Worker.Operator = "acme"
				}
			})
			for i, n := range s.nodes {
				n.liar = i%3 == 1
			}
			id := s.job(0, fmt.Sprint("sybils ", seed), 200, Options{Fuel: 60_000_000, Timeout: time.Hour})
			s.until(time.Hour, s.final(id))
			w, _, got := s.won(liars)
			if wrong += w; !off && got > 0 {
				t.Errorf("the operator got %s", got)
			}
		}
		if (wrong > 0) != off {
			t.Errorf("without the rule %v: %d wrong results accepted", off, wrong)
		}
	}
}

// A payer assigns more than a lane covers. The worker stops at the lane's cap:
// what it works for it can claim.
func TestNobodyWorksAboveALane(t *testing.T) {
	for _, off := range []bool{false, true} {
		me, payer := simPeer(1), simPeer(2)
		m, err := New(Config{Self: me, Worker: Worker{Enabled: true, Slots: 2, InFlight: 64, Types: []string{"text"}, Custom: true}})
		if err != nil {
			t.Fatal(err)
		}
		m.off.caps = off
		hold := proto.CIDOf([]byte("hold"))
		job := proto.HashOf([]byte("job"))
		in := proto.HashOf([]byte("input"))
		const fuel = proto.Fuel(proto.PriceUnit) // a credit
		b := &proto.AssignmentBatch{Worker: []byte(me), Hold: hold.Bytes(), ExpiresUnixMs: uint64(simStart.Add(time.Hour).UnixMilli())}
		for i := range uint32(10) {
			b.Assignments = append(b.Assignments, &proto.Assignment{
				Job: job[:16], Task: i, Replicas: 2, Module: proto.CIDOf([]byte("module")).Bytes(), MeterVersion: proto.MeterVersion,
				InputHash: in[:], Price: uint64(proto.OneCredit), FuelLimit: uint64(fuel), Attempt: 1,
			})
		}
		const lanes = 3 * proto.OneCredit
		outs := m.Step(simStart, AssignSeen{From: payer, Batch: b, Lane: Lane{
			Hold: hold, Payer: payer, Worker: me, Cap: lanes, Deadline: simStart.Add(time.Hour),
		}})
		var worth proto.Credit
		refused := 0
		for _, o := range outs {
			switch o := o.(type) {
			case SendAccepted:
				worth += proto.Credit(len(o.Refs)) * proto.OneCredit
			case SendRefused:
				if o.Code != proto.CodeNoLane {
					t.Errorf("refused with %s: %s", o.Code, o.Reason)
				}
				refused++
			}
		}
		if (worth > lanes) != off || !off && (worth != lanes || refused != 7) {
			t.Errorf("without caps %v: work for %s credits on a lane of %s, %d refused", off, worth, lanes, refused)
		}
	}
}
