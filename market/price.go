package market

import (
	"math/bits"
	"time"

	"edgenet.dev/proto"
)

// Defaults of Options: the same for the command line, the APIs and a tab.
const (
	DefaultRedundancy = 2
	DefaultMaxCredits = 10 * proto.OneCredit
	DefaultTimeout    = 10 * time.Minute
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
	Price  proto.Credit // most that a worker may ask, µcredit per 60 Gfuel
	FeePPM uint64       // burned on top of pay, parts per million
}

// Quote is what a job may cost. All amounts include the fee.
type Quote struct {
	Task  proto.Credit // most that one task costs whose replicas agree; less than that is no budget
	Worst proto.Credit // most that all tasks cost whose replicas agree, never above Budget

	Budget proto.Credit // Options.MaxCredits
}

// Quote prices a job.
func (t Terms) Quote(j Job) Quote {
	o := j.Options.WithDefaults()
	one := saturate(proto.PayFor(o.Fuel, t.Price), uint64(o.Redundancy))
	q := Quote{Task: t.withFee(one), Budget: o.MaxCredits}
	q.Worst = min(t.withFee(saturate(one, uint64(len(j.Inputs)))), o.MaxCredits)
	return q
}

// Quote prices a job as this machine would run it now.
func (m *Machine) Quote(j Job) Quote { return m.terms().Quote(j) }

func (m *Machine) terms() Terms { return Terms{m.cfg.Price, m.cfg.FeePPM} }

// Check refuses a budget that does not cover one task.
func (q Quote) Check(o Options) error {
	if o = o.WithDefaults(); q.Task <= o.MaxCredits {
		return nil
	}
	return proto.CodeBudget.Errorf(
		"one task may cost up to %s credits (%d replicas of %d fuel and the fee) but max credits is %s: raise max credits or lower the fuel limit",
		q.Task, o.Redundancy, o.Fuel, o.MaxCredits)
}

func (t Terms) withFee(a proto.Credit) proto.Credit { return withFee(a, t.FeePPM) }

// saturate is a times n, at most the largest amount.
func saturate(a proto.Credit, n uint64) proto.Credit {
	const most = proto.Credit(1<<63 - 1)
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
				"the batch is %d jobs and one task of each may cost more than the %s credits that are the budget of the batch (one up to %s): raise max credits or lower the fuel limit",
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
