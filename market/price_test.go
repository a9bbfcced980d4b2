package market

import (
	"errors"
	"testing"

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
