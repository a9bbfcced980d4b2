package market

import (
	"cmp"
	"math/bits"
	"time"

	"edgenet.dev/proto"
)

// Defaults of Options: the same for the command line, the APIs and a tab.
const (
	DefaultRedundancy = 2
	DefaultMaxCredits = 10 * proto.OneCredit
	DefaultTimeout    = 10 * time.Minute
	LeastTimeout      = 100 * time.Millisecond // of a try and of a queue
)

// WithDefaults fills zero fields.
func (o Options) WithDefaults() Options {
	if o.Redundancy == 0 {
		o.Redundancy = DefaultRedundancy
	}
	if o.MaxCredits == 0 {
		o.MaxCredits = DefaultMaxCredits
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	l := proto.Limits{Fuel: o.Fuel, Memory: o.Memory}.WithDefaults()
	o.Fuel, o.Memory = l.Fuel, l.Memory
	return o
}

// WithTimes fills the times that are zero; most is the network's cap of a try.
// The job has room for two tries.
func (o Options) WithTimes(most time.Duration) Options {
	if o.Run == 0 {
		o.Run = proto.DefaultRun(proto.Limits{Fuel: o.Fuel}.WithDefaults().Fuel, most)
	}
	if o.Timeout == 0 {
		o.Timeout = max(DefaultTimeout, min(2*o.Run, 2*proto.MaxRun))
	}
	return o
}

// Terms are what a network charges.
type Terms struct {
	Price  proto.Credit // most that a worker may ask at normal priority, µcredit per 60 Gfuel
	FeePPM uint64       // burned on top of pay, parts per million
	// LowPercent and HighPercent of Price are what work of low and of high
	// priority pays at most. Zero is proto's default.
	LowPercent, HighPercent uint64
}

// percent of the price at normal priority that work of priority p pays.
func (t Terms) percent(p proto.Priority) uint64 {
	switch {
	case p == proto.PriorityLow:
		return cmp.Or(t.LowPercent, proto.DefaultLowPercent)
	case p >= proto.PriorityHigh:
		return cmp.Or(t.HighPercent, proto.DefaultHighPercent)
	}
	return 100
}

// At is what a price at normal priority is at priority p: offers, claims,
// assignments, holds and quotes all come by here.
func (t Terms) At(p proto.Priority, price proto.Credit) proto.Credit {
	if price == 0 {
		return 0
	}
	return max(1, saturate(min(price, proto.MaxPriceCredits), t.percent(p))/100)
}

// at are the terms for work of priority p.
func (t Terms) at(p proto.Priority) Terms {
	t.Price = t.At(p, t.Price)
	return t
}

// Quote is what a job may cost. All amounts include the fee.
type Quote struct {
	Hold   proto.Credit // put on hold first; it is extended as needed
	Task   proto.Credit // what one task may cost at its fuel limit; a budget below is none
	Worst  proto.Credit // most that all tasks cost whose replicas agree, trials included, never above Budget
	Budget proto.Credit // Options.MaxCredits
}

// holdRuns is for how many executions on each worker the first hold is at most.
const holdRuns = 32

// Quote prices a job. estimate is the fuel that a task with so many bytes of
// input is expected to need at most.
func (t Terms) Quote(j Job, estimate func(size uint64) proto.Fuel) Quote {
	o := j.Options.WithDefaults()
	k := uint64(o.Redundancy)
	t = t.at(o.Priority)
	q := Quote{Task: t.withFee(saturate(proto.PayFor(o.Fuel, t.Price), k)), Budget: o.MaxCredits}
	var expected, worst, dearest proto.Credit // expected and worst of one replica of each task
	for _, in := range j.Inputs {
		first := t.firstLimit(o, estimate(in.Size), 0)
		pay := proto.PayFor(first, t.Price)
		expected = saturate(expected+pay, 1)
		worst = saturate(worst+t.worst(o.Fuel, first), 1)
		dearest = max(dearest, pay)
	}
	q.Worst = min(t.withFee(saturate(worst, k)), q.Budget)
	// Each lane gets its even share of what all tasks are expected to cost, and
	// room to take over one execution of another's.
	lanes := uint64(wantedWorkers(o.Redundancy, len(j.Inputs)))
	lane := min(saturate(expected, k)/proto.Credit(lanes), saturate(dearest, holdRuns)) + dearest
	q.Hold = min(t.withFee(saturate(lane, lanes))+feeSlack, q.Budget)
	return q
}

// Quote prices a job as this machine would run it now.
func (m *Machine) Quote(j Job) Quote {
	return m.terms().Quote(j, func(size uint64) proto.Fuel { return m.estimate(&j, size) })
}

func (m *Machine) terms() Terms { return m.cfg.terms() }

func (c Config) terms() Terms { return Terms{c.Price, c.FeePPM, c.LowPercent, c.HighPercent} }

func (c Config) percent(p proto.Priority) uint64 { return c.terms().percent(p) }

// price is the most that a worker may ask of j.
func (m *Machine) price(j *job) proto.Credit {
	return m.terms().At(j.rec.Job.Options.Priority, m.cfg.Price)
}

// leastPrice is what this worker takes for work of priority p: its own price or
// the network's, more for high priority, and never less than its own.
func (m *Machine) leastPrice(p proto.Priority) proto.Credit {
	own := m.work.cfg.MinPrice
	switch {
	case p >= proto.PriorityHigh:
		return m.terms().At(p, cmp.Or(own, m.cfg.Price))
	case own > 0:
		return own
	}
	return 0
}

// asks is what this worker asks for work of priority p unless an offer pays less.
func (m *Machine) asks(p proto.Priority) proto.Credit {
	if m.work.cfg.MinPrice == 0 {
		return m.terms().At(p, m.cfg.Price)
	}
	return m.leastPrice(p)
}

// Check refuses a budget that does not cover one task.
func (q Quote) Check(o Options) error {
	if o = o.WithDefaults(); q.Task <= o.MaxCredits {
		return nil
	}
	return proto.CodeBudget.Errorf(
		"one task may cost up to %s credits (%d replicas of %d fuel and the fee) but max credits is %s: raise max credits (--max-credits, maxCredits) or lower the fuel limit (--fuel, fuelLimit)",
		q.Task, o.Redundancy, o.Fuel, o.MaxCredits)
}

func (t Terms) withFee(a proto.Credit) proto.Credit { return withFee(a, t.FeePPM) }

// saturate is a times n, at most the largest amount.
func saturate(a proto.Credit, n uint64) proto.Credit {
	const most = proto.Credit(1<<62 - 1)
	if n > 0 && a > most/proto.Credit(n) {
		return most
	}
	return a * proto.Credit(n)
}

// Share divides the budget of a batch among its jobs: each gets what one of
// its tasks may cost, and of the rest a part in proportion to what all its
// tasks may cost. What no job can use stays over.
func Share(budget proto.Credit, jobs []Quote) ([]proto.Credit, error) {
	var least, worst proto.Credit
	for _, q := range jobs {
		if q.Task > budget-least {
			return nil, proto.CodeBudget.Errorf(
				"the batch is %d jobs and one task of each may cost more than the %s credits that are the budget of the batch (one up to %s): raise max credits (--max-credits, maxCredits) or lower the fuel limit (--fuel, fuelLimit)",
				len(jobs), budget, q.Task)
		}
		least += q.Task
		worst += q.Worst - min(q.Worst, q.Task)
	}
	out := make([]proto.Credit, len(jobs))
	for i, q := range jobs {
		out[i] = q.Task
		if q.Worst > q.Task {
			out[i] += min(q.Worst-q.Task, part(budget-least, q.Worst-q.Task, worst))
		}
	}
	return out, nil
}

// part is a·n/of for n ≤ of.
func part(a, n, of proto.Credit) proto.Credit {
	hi, lo := bits.Mul64(uint64(a), uint64(n))
	q, _ := bits.Div64(hi, lo, uint64(of))
	return proto.Credit(q)
}
