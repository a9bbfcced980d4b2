package market

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"edgenet.dev/proto"
)

// asLimit expects every task to need all it may.
func asLimit(uint64) proto.Fuel { return proto.MaxFuel }

func inputs(n int, size uint64) []InputRef {
	out := make([]InputRef, n)
	for i := range out {
		out[i].Size = size
	}
	return out
}

// TestDefaultBudgetCoversDefaults: whoever sets nothing is never refused, at
// any redundancy.
func TestDefaultBudgetCoversDefaults(t *testing.T) {
	terms := Terms{Price: proto.OneCredit, FeePPM: 10_000}
	for k := 0; k <= proto.MaxRedundancy; k++ {
		o := Options{Redundancy: k, Priority: proto.PriorityNormal}
		if err := terms.Quote(Job{Options: o, Inputs: inputs(1, 5)}, asLimit).Check(o); err != nil {
			t.Errorf("redundancy %d: %v", k, err)
		}
	}
	o := Options{MaxCredits: 1_009_999, Priority: proto.PriorityNormal}
	if err := terms.Quote(Job{Options: o, Inputs: inputs(1, 5)}, asLimit).Check(o); !errors.Is(err, proto.CodeBudget.Err()) {
		t.Errorf("a budget a microcredit short: %v", err)
	}
	o.MaxCredits++
	if err := terms.Quote(Job{Options: o, Inputs: inputs(1, 5)}, asLimit).Check(o); err != nil {
		t.Errorf("a budget that is just enough: %v", err)
	}
}

// TestShare: the jobs of a batch share its budget, each can run a task, and
// nothing is shared out that no job can use.
func TestShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var jobs []Quote
		var least, worst proto.Credit
		for range rapid.IntRange(1, 8).Draw(t, "jobs") {
			q := Quote{Task: proto.Credit(rapid.Uint64Range(1, 1<<40).Draw(t, "task"))}
			q.Worst = q.Task + proto.Credit(rapid.Uint64Range(0, 1<<45).Draw(t, "more"))
			jobs = append(jobs, q)
			least, worst = least+q.Task, worst+q.Worst
		}
		budget := proto.Credit(rapid.Uint64Range(0, 1<<50).Draw(t, "budget"))
		parts, err := Share(budget, jobs)
		if err != nil {
			if least <= budget || !errors.Is(err, proto.CodeBudget.Err()) {
				t.Fatalf("%d of at least %d: %v", budget, least, err)
			}
			return
		}
		var sum proto.Credit
		for i, p := range parts {
			if p < jobs[i].Task || p > jobs[i].Worst {
				t.Fatalf("job %+v gets %d", jobs[i], p)
			}
			sum += p
		}
		if least > budget || sum > budget || sum < min(budget, worst)-proto.Credit(min(uint64(len(jobs)), uint64(min(budget, worst)))) {
			t.Fatalf("%d shared of %d, which jobs may need %d to %d of", sum, budget, least, worst)
		}
	})
}

// A worker that takes any price is paid what it claimed for, in proportion at other
// priorities, and what a claim would ask for where it made none.
func TestPriceOfAClaimBinds(t *testing.T) {
	b := newBench(t, Worker{Enabled: true, Slots: 1, InFlight: 1000, Types: []string{"text"}, Custom: true})
	from := simPeer(1)
	least := func(name string, p proto.Priority, want uint64) {
		t.Helper()
		for _, price := range []uint64{0, 1, want - 1} {
			refused := b.refused[from][proto.CodePrice]
			b.assign(from, 1, false, func(a *proto.Assignment) { a.Priority, a.Price = uint32(p), price })
			if b.refused[from][proto.CodePrice] != refused+1 {
				t.Errorf("%s: %s priority runs for %d", name, p, price)
			}
		}
		refused := b.refused[from][proto.CodePrice]
		b.assign(from, 1, false, func(a *proto.Assignment) { a.Priority, a.Price = uint32(p), want })
		if b.refused[from][proto.CodePrice] != refused {
			t.Errorf("%s: %s priority is refused at %d", name, p, want)
		}
	}
	least("no claim", proto.PriorityLow, 500_000)
	least("no claim", proto.PriorityNormal, 1_000_000)
	least("no claim", proto.PriorityHigh, 2_000_000)
	b.assign(from, 1, false, nil)
	id := proto.JobID{1}
	b.step(OfferSeen{From: from, Offer: &proto.Offer{
		Id: id[:], Type: "text", Module: scenarioModule.Bytes(), MeterVersion: proto.MeterVersion, FuelLimit: 60_000_000, PriceCap: 400_000,
		SlotsWanted: 5, WorkersWanted: 2, DeadlineUnixMs: uint64(b.now.Add(time.Hour).UnixMilli()), Priority: uint32(proto.PriorityNormal), Round: 1,
	}})
	b.now = b.now.Add(time.Second)
	b.step(Tick{})
	least("claimed at 400,000", proto.PriorityNormal, 400_000)
	least("claimed at 400,000", proto.PriorityLow, 200_000)
	least("claimed at 400,000", proto.PriorityHigh, 2_000_000) // high costs what it promises
	b.now = b.now.Add(proto.LeaseDuration)
	least("the claim is over", proto.PriorityNormal, 1_000_000)
}
