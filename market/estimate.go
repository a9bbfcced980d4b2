package market

import (
	"github.com/ipfs/go-cid"

	"edgenet.dev/proto"
)

// What a task will cost is estimated from what its module cost before, so that
// a small task puts little on hold. A task whose estimate is far below its fuel
// limit is first tried with the estimate as its limit: a trial. Its replicas
// have one limit, so they vote as ever, and the lane covers all that the worker
// can earn. Trials that agree on having run out of fuel are paid, and the task
// goes on with eight times as much, at last with its own limit. See docs/adr.

const (
	trialStep  = 8             // a trial has at most this part of the task's limit, and the next one so many times as much
	trialFrom  = 1_000_000_000 // tasks with a lower limit hold little as it is
	leastTrial = 1_000_000
	margin     = 2 // on top of what was seen

	maxCosts = 512 // modules whose cost is kept
)

// CostRecord is what executions of a module showed: Base + Slope·size/1024 is
// the line above which hardly any of them was lately.
type CostRecord struct {
	Module   cid.Cid
	Base     proto.Fuel // least of an execution
	Slope    proto.Fuel // on top of that, per 1,024 bytes of input
	Peak     proto.Fuel // of the dearest execution, fading
	PeakSize uint64     // bytes of its input
	Size     uint64     // bytes of the largest input
	Runs     uint64
	UsedMs   uint64 // Unix time, for the eviction of the oldest
}

// learn takes in one execution that ended by itself.
func (c *CostRecord) learn(size uint64, fuel proto.Fuel) {
	fuel = min(fuel, proto.MaxFuel)
	if c.Runs++; c.Runs == 1 {
		c.Base = fuel
	}
	// What was seen long ago fades: the base rises, slope and peak fall.
	c.Base = min(c.Base+c.Base/64, fuel)
	c.Slope -= c.Slope / 64
	c.Peak -= c.Peak / 64
	c.Size = max(c.Size, size)
	if fuel >= c.Peak {
		c.Peak, c.PeakSize = fuel, size
	}
	c.Slope = max(c.Slope, slope(fuel-c.Base, size), slope(c.Peak-min(c.Peak, c.Base), c.PeakSize))
}

func slope(fuel proto.Fuel, size uint64) proto.Fuel {
	return fuel * 1024 / proto.Fuel(max(1, size)) // fuel is at most 2^52
}

// line is base + slope·size/1024, at most proto.MaxFuel.
func line(base, slope proto.Fuel, size uint64) proto.Fuel {
	if kib := proto.Fuel(size/1024 + 1); slope > proto.MaxFuel/kib {
		return proto.MaxFuel
	}
	return min(proto.MaxFuel, base+slope*proto.Fuel(size)/1024)
}

// Guess is the estimate for a module that was never run here, typ "" being a
// custom one. That of the built-in types is above what they use on any input but
// a contrived one; a test holds it against them. Of others nothing is known, so
// it is merely cheap.
func Guess(typ string, size uint64) proto.Fuel {
	switch typ {
	case proto.TypeText:
		return line(2_000_000, 2_000*1024, size)
	case "":
		return line(500_000_000, 2_000*1024, size)
	}
	return line(2_000_000, 500*1024, size)
}

// estimate is the fuel that a task of j is expected to need at most.
func (m *Machine) estimate(j *Job, size uint64) proto.Fuel {
	c := m.costs[j.Module]
	if c == nil || c.Runs == 0 {
		return max(leastTrial, Guess(j.Type, size)) + j.StartFuel
	}
	seen := line(c.Base, c.Slope, size)
	if size > 2*c.Size { // far from what was seen
		seen = max(seen, Guess(j.Type, size)/margin)
	}
	return max(leastTrial, margin*seen)
}

// learn notes what a task of j cost.
func (m *Machine) learn(j *job, size uint64, fuel proto.Fuel) {
	id := j.rec.Job.Module
	if !id.Defined() {
		return
	}
	c := m.costs[id]
	if c == nil {
		if len(m.costs) >= maxCosts {
			m.forgetCost()
		}
		c = &CostRecord{Module: id}
		m.costs[id] = c
	}
	c.UsedMs = uint64(m.now.UnixMilli())
	c.learn(size, fuel)
	j.learned = true
}

// forgetCost makes room at the cost of the module not run for longest.
func (m *Machine) forgetCost() {
	var old *CostRecord
	for _, c := range m.costs {
		if old == nil || c.UsedMs < old.UsedMs || c.UsedMs == old.UsedMs && c.Module.KeyString() < old.Module.KeyString() {
			old = c
		}
	}
	delete(m.costs, old.Module)
	m.saves = append(m.saves, SaveCost{Record: CostRecord{Module: old.Module}})
}

// keepCost saves what j's tasks taught, once it is over.
func (m *Machine) keepCost(j *job) {
	if c := m.costs[j.rec.Job.Module]; j.learned && c != nil {
		m.saves = append(m.saves, SaveCost{Record: *c})
	}
	j.learned = false
}

func (m *Machine) restoreCosts(recs []CostRecord) {
	for _, c := range recs {
		if c.Module.Defined() && c.Runs > 0 && len(m.costs) < maxCosts {
			m.costs[c.Module] = &c
		}
	}
}

// nextLimit is the fuel limit after one that did not suffice.
func nextLimit(limit, tried proto.Fuel) proto.Fuel {
	if tried >= limit/trialStep/trialStep {
		return limit
	}
	return tried * trialStep
}

// firstLimit is the fuel limit that a task starts with, used being what its job
// has spent and reserved: the estimate, when that is far below the limit and the
// budget has room for all trials.
func (t Terms) firstLimit(o Options, estimate proto.Fuel, used proto.Credit) proto.Fuel {
	if o.Fuel < trialFrom || estimate > o.Fuel/trialStep {
		return o.Fuel
	}
	if worst := saturate(t.worst(o.Fuel, estimate), uint64(o.Redundancy)); t.withFee(used+worst) > o.MaxCredits {
		return o.Fuel
	}
	return estimate
}

// worst is the most that a replica costs which starts with the limit first.
func (t Terms) worst(limit, first proto.Fuel) proto.Credit {
	pay := proto.PayFor(limit, t.Price)
	for f := first; f < limit; f = nextLimit(limit, f) {
		pay += proto.PayFor(f, t.Price)
	}
	return pay
}
