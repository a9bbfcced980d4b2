package node

import (
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"edgenet.dev/market"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
)

// Quote is what a job would run, put on hold and at most cost.
type Quote struct {
	Module cid.Cid
	market.Quote
	// Price is the network's at the job's priority, in µcredit per 60 Gfuel.
	Price proto.Credit
}

// Quote checks spec as Start does, without submitting it. A budget that does
// not cover one task is CodeBudget, a module that cannot run within the job's
// limits CodeLimits.
func (n *Node) Quote(spec JobSpec) (Quote, error) {
	spec, err := spec.encoded()
	if err != nil {
		return Quote{}, err
	}
	job, _, err := n.plan(spec)
	if err != nil {
		return Quote{}, err
	}
	return Quote{Module: job.Module, Quote: n.quote(job), Price: n.terms().At(job.Options.Priority, n.net.Price())}, nil
}

// terms are what the network charges.
func (n *Node) terms() market.Terms {
	g := n.net.Genesis
	return market.Terms{Price: n.net.Price(), FeePPM: g.FeePpm, LowPercent: g.LowPercent, HighPercent: g.HighPercent}
}

func (n *Node) quote(job market.Job) market.Quote {
	n.jobs.mu.Lock()
	defer n.jobs.mu.Unlock()
	return n.jobs.m.Quote(job)
}

// granted refuses limits that no worker grants which this node heard from. While
// it knows of none, a job may find one.
func (n *Node) granted(o market.Options) error {
	n.jobs.mu.Lock()
	g := n.jobs.m.Grants(time.Now(), o.Fuel, o.Memory)
	n.jobs.mu.Unlock()
	who := fmt.Sprintf("the %d workers that this node heard from in the last %s grant", g.Workers, market.GrantKept)
	switch {
	case g.Workers == 0 || g.Able > 0:
		return nil
	case o.Fuel > g.Most.Fuel:
		return proto.CodeLimits.Errorf("fuel limit of %d: %s at most %d; lower it (--fuel, fuelLimit)", o.Fuel, who, g.Most.Fuel)
	case o.Memory > g.Most.Memory:
		return proto.CodeLimits.Errorf("memory limit of %d bytes: %s at most %d; lower it (--memory, memoryLimit)", o.Memory, who, g.Most.Memory)
	}
	return proto.CodeLimits.Errorf("fuel limit of %d with a memory limit of %d bytes: %s at most %d fuel with so much memory, and at most %d bytes with so much fuel; lower one (--fuel, fuelLimit; --memory, memoryLimit)",
		o.Fuel, o.Memory, who, g.Fuel, g.Memory)
}

// need is what a module takes before its first instruction.
type need struct {
	memory uint64
	fuel   proto.Fuel
}

// needsKept is of how many modules a node remembers what they need, so that a
// module that is submitted again and again is checked once.
const needsKept = 256

// runnable refuses a module that would end before its first instruction on
// every worker, and be paid for that: one whose memory at the start or whose
// start fuel is above the task's limits.
func (n *Node) runnable(typ string, id cid.Cid, raw []byte, inputs [][]byte, o market.Options) (start proto.Fuel, err error) {
	m, known := n.needs.Get(id)
	if !known {
		p, err := sandbox.Prepare(raw, sandbox.Policy{})
		if err != nil {
			return 0, fmt.Errorf("module: %w", err)
		}
		m = need{memory: p.MinMemory, fuel: p.StartFuel}
		n.needs.Add(id, m)
	}
	name := "the module"
	if typ != "" {
		name = "the module of task type " + typ
	}
	if m.memory > o.Memory {
		return 0, proto.CodeLimits.Errorf("%s needs %d bytes of memory at its start, the task's memory limit is %d: raise it (--memory, memoryLimit) to %d or more",
			name, m.memory, o.Memory, m.memory)
	}
	for i, in := range inputs {
		// An eighth of a unit per byte is charged for the input, see sandbox.Module.
		if least := m.fuel + proto.Fuel(len(in)+7)/8 + 1; least > o.Fuel {
			return 0, proto.CodeLimits.Errorf("%s uses %d fuel before its first instruction on input %d, the task's fuel limit is %d: raise it (--fuel, fuelLimit) above %d",
				name, least-1, i, o.Fuel, least-1)
		}
	}
	return m.fuel, nil
}
