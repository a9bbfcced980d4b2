package node

import (
	"maps"
	"time"

	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// Counts are what a node has done since its start. All maps are bounded: their
// keys are states, codes of the schema and kinds.
type Counts struct {
	// As a submitter:
	JobsSubmitted uint64
	JobsEnded     map[market.TaskState]uint64
	TasksEnded    map[market.TaskState]uint64
	TaskFuel      proto.Fuel   // of paid executions: accepted results and trials, replicas counted
	Paid          proto.Credit // by settlements
	Transferred   proto.Credit
	// As a worker:
	TasksTaken uint64
	Executions map[proto.Status]uint64 // that came to an end in the sandbox
	Refused    map[proto.Code]uint64   // that did not, by the reason
	RunTime    time.Duration           // of executions, together
	RunFuel    proto.Fuel
	Received   proto.Credit // income that was claimed
	// For the operator: connections, messages, offers and tasks that were refused
	// because the list of what is blocked has them.
	Blocked map[string]uint64 // by kind
}

func newCounts() Counts {
	return Counts{
		JobsEnded: map[market.TaskState]uint64{}, TasksEnded: map[market.TaskState]uint64{},
		Executions: map[proto.Status]uint64{}, Refused: map[proto.Code]uint64{}, Blocked: map[string]uint64{},
	}
}

// count changes the counts.
func (a *activity) count(change func(*Counts)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(&a.counts)
}

// Counts reads what the node has done since its start.
func (n *Node) Counts() Counts {
	a := n.activity
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.counts
	c.JobsEnded, c.TasksEnded = maps.Clone(c.JobsEnded), maps.Clone(c.TasksEnded)
	c.Executions, c.Refused, c.Blocked = maps.Clone(c.Executions), maps.Clone(c.Refused), maps.Clone(c.Blocked)
	return c
}

// countTask counts a task once it is final, with the trials that were saved
// before.
func (c *Counts) countTask(rec market.TaskRecord) {
	if !rec.State.Final() {
		return
	}
	c.TasksEnded[rec.State]++
	for _, r := range rec.Replicas {
		if r.Agreed || r.Trial {
			c.TaskFuel += r.Fuel
		}
	}
}
