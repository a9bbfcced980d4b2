//go:build !js

package metrics

import (
	"context"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/node/blocklist"
	"edgenet.dev/sandbox"
)

// collector reads a node whenever it is scraped. No label has a value that a
// peer chooses: peers, jobs and accounts are counted, not named. A witness is
// named by its place in the genesis.
type collector struct {
	n       *node.Node
	dir     string // data directory; "" has no stores on disk
	free    func(dir string) (uint64, error)
	version string
}

type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func counter(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("edgenet_"+name, help, labels, nil), prometheus.CounterValue}
}

func gauge(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("edgenet_"+name, help, labels, nil), prometheus.GaugeValue}
}

var (
	buildInfo  = gauge("build_info", "The running build; the value is always 1.", "version")
	uptime     = gauge("uptime_seconds", "Time since the node started.")
	ready      = gauge("ready", "Whether /readyz is green: 1 or 0.")
	peers      = gauge("peers", "Connected peers.")
	dhtPeers   = gauge("dht_peers", "Peers in the Kademlia routing table.")
	topicPeers = gauge("offer_topic_peers", "Connected peers that follow the offers topic.")
	traffic    = counter("traffic_bytes_total", "All libp2p traffic.", "direction")
	gossiped   = counter("gossip_messages_total", "Messages of the network's topics.", "topic", "direction")
	reachable  = gauge("publicly_reachable", "What libp2p found out about the way to this node from outside: 1 public, 0 private, -1 unknown.")

	jobs          = gauge("jobs", "Jobs of this node that it keeps in memory, by state.", "state")
	tasks         = gauge("tasks", "Tasks of those jobs, by state.", "state")
	jobsSubmitted = counter("jobs_submitted_total", "Jobs submitted since the start.")
	jobsEnded     = counter("jobs_finished_total", "Jobs that ended since the start, by state.", "state")
	tasksEnded    = counter("tasks_finished_total", "Tasks of own jobs that ended since the start, by state.", "state")
	taskFuel      = counter("tasks_fuel_total", "Fuel of accepted results of own tasks, replicas counted.")

	workerOn   = gauge("worker_enabled", "Whether this node takes tasks of others: 1 or 0.")
	slots      = gauge("worker_slots", "Tasks that this node executes at once at most.")
	busy       = gauge("worker_busy_slots", "Tasks that this node executes now.")
	queue      = gauge("worker_queue", "Tasks that were taken and wait for a slot.")
	taken      = counter("worker_tasks_taken_total", "Tasks of others that were taken.")
	executions = counter("worker_executions_total", "Executions that came to an end in the sandbox, by status.", "status")
	refused    = counter("worker_refusals_total", "Tasks that were taken and not executed, by the code of the reason.", "code")
	accepted   = counter("worker_results_accepted_total", "Results that submitters promised to pay.")
	runTime    = counter("worker_run_seconds_total", "Time that executions took together.")
	runFuel    = counter("worker_fuel_total", "Fuel of executions.")

	balance     = gauge("account_microcredits", "Credits of this node's account, by what they are bound to.", "kind")
	paid        = counter("paid_microcredits_total", "Settled for own tasks since the start.")
	transferred = counter("transferred_microcredits_total", "Transferred to others since the start.")
	received    = counter("received_microcredits_total", "Income claimed since the start.")
	frozen      = gauge("account_frozen", "Whether the account is frozen until a rotate by its recovery key: 1 or 0.")
	unfinished  = gauge("account_event_waiting", "Whether a signed event of the account is not certified yet: 1 or 0.")

	witnesses   = gauge("witnesses", "Witnesses of the network.")
	quorum      = gauge("witness_quorum", "Witnesses that must answer for anything to be certified.")
	answering   = gauge("witnesses_reachable", "Witnesses that answer this node.")
	witnessUp   = gauge("witness_reachable", "Whether a witness answers this node: 1 or 0. The label is its place in the genesis.", "witness")
	witnessRTT  = gauge("witness_rtt_seconds", "Time that a witness took to answer; absent while it does not.", "witness")
	clockOffset = gauge("clock_offset_seconds", "Median of how far the witnesses' clocks are ahead of this one; absent when none answers.")
	blocked     = gauge("blocked_entries", "Entries of the list of what the operator blocks, by kind.", "kind")
	turnedAway  = counter("blocked_refusals_total", "Connections, messages, offers and tasks that were refused because of that list, by kind.", "kind")
	isWitness   = gauge("witness", "Whether this node is a witness: 1 or 0.")

	synced        = gauge("ledger_synced", "Whether the ledger is up to date, as far as this node can know: 1 or 0.")
	events        = gauge("ledger_events", "Certified events held.")
	epoch         = gauge("ledger_epoch", "Epoch of the newest checkpoint.")
	base          = gauge("ledger_base_epoch", "Epoch of the checkpoint below which events are pruned.")
	checkpointAge = gauge("ledger_checkpoint_age_seconds", "Time since the newest checkpoint; absent before the first.")

	sandboxSlots   = gauge("sandbox_slots", "Child processes of the sandbox at most.")
	sandboxBusy    = gauge("sandbox_busy_slots", "Child processes of the sandbox that run a task.")
	sandboxStarted = counter("sandbox_children_started_total", "Child processes that the sandbox started.")
	sandboxEnded   = counter("sandbox_children_ended_total", "Child processes that were killed or ended in the middle of a task.")
	confinedBy     = gauge("sandbox_confinement", "What the system holds the newest child to: 1 for each layer in force.", "layer")

	storeBytes = gauge("store_bytes", "Size on disk of what the data directory holds.", "store")
	storeLimit = gauge("store_limit_bytes", "Size that a store has at most, of those with a bound of their own.", "store")
	diskFree   = gauge("disk_free_bytes", "Free space on the data directory's disk.")
)

// Describe implements prometheus.Collector. What a node has depends on what it
// is, so nothing is promised: the registry checks each scrape instead.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	put := func(m metric, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, v, labels...)
	}
	c.collectNode(put)
	c.collectWork(put)
	c.collectLedger(put)
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	c.collectHealth(ctx, put)
	c.collectSandbox(put)
	c.collectStores(put)
}

type putter func(m metric, v float64, labels ...string)

func bit(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

func (c *collector) collectNode(put putter) {
	s := c.n.Stats()
	put(buildInfo, 1, c.version)
	put(uptime, s.Uptime.Seconds())
	put(peers, float64(s.Peers))
	put(dhtPeers, float64(s.DHTPeers))
	put(topicPeers, float64(s.OfferTopicPeers))
	put(traffic, float64(s.BytesIn), "in")
	put(traffic, float64(s.BytesOut), "out")
	for _, g := range s.Gossip {
		put(gossiped, float64(g.Sent), g.Topic, "out")
		put(gossiped, float64(g.Received), g.Topic, "in")
	}
	put(reachable, map[string]float64{"public": 1, "private": 0, "unknown": -1}[c.n.Reachability()])
	put(isWitness, bit(s.Witness))
	entries, _ := c.n.Blocks()
	count := map[blocklist.Kind]int{}
	for _, e := range entries {
		count[e.Kind]++
	}
	refusals := c.n.Counts().Blocked
	for _, k := range blocklist.Kinds() {
		put(blocked, float64(count[k]), string(k))
		put(turnedAway, float64(refusals[string(k)]), string(k))
	}
	put(workerOn, bit(s.Worker.Enabled))
	put(slots, float64(s.Worker.Slots))
	put(busy, float64(s.Worker.Busy))
	put(queue, float64(s.Worker.Waiting))
	put(accepted, float64(s.Worker.Accepted))
}

// states are those of jobs and tasks; each is reported even when it is empty,
// so that a query over time has no holes.
var states = []market.TaskState{
	market.Queued, market.Offered, market.Assigned, market.Running, market.Verifying,
	market.Done, market.Failed, market.Cancelled, market.Expired,
}

func (c *collector) collectWork(put putter) {
	byState, taskStates := map[market.TaskState]int{}, map[string]int{"waiting": 0, "running": 0, "done": 0, "failed": 0}
	for _, v := range c.n.Jobs() {
		byState[v.Record.State]++
		taskStates["done"] += v.Done
		taskStates["failed"] += v.Failed
		taskStates["running"] += v.Running
		taskStates["waiting"] += max(0, len(v.Record.Job.Inputs)-v.Done-v.Failed-v.Running)
	}
	n := c.n.Counts()
	for _, s := range states {
		put(jobs, float64(byState[s]), string(s))
		if s.Final() {
			put(jobsEnded, float64(n.JobsEnded[s]), string(s))
			put(tasksEnded, float64(n.TasksEnded[s]), string(s))
		}
	}
	for s, count := range taskStates {
		put(tasks, float64(count), s)
	}
	put(jobsSubmitted, float64(n.JobsSubmitted))
	put(taskFuel, float64(n.TaskFuel))
	put(taken, float64(n.TasksTaken))
	for s, count := range n.Executions {
		put(executions, float64(count), s.String())
	}
	for code, count := range n.Refused {
		put(refused, float64(count), code.String())
	}
	put(runTime, n.RunTime.Seconds())
	put(runFuel, float64(n.RunFuel))
	put(paid, float64(n.Paid))
	put(transferred, float64(n.Transferred))
	put(received, float64(n.Received))
}

func (c *collector) collectLedger(put putter) {
	l := c.n.Ledger()
	for kind, v := range map[string]uint64{
		"available": uint64(l.Account.Avail), "held": uint64(l.Account.Held), "staked": uint64(l.Account.Staked),
		"unbonding": uint64(l.Account.Unbonding), "receivable": uint64(l.Account.Receivable),
	} {
		put(balance, float64(v), kind)
	}
	put(frozen, bit(l.Account.Frozen))
	put(unfinished, bit(l.Waiting))
	put(events, float64(l.Events))
	put(epoch, float64(l.Epoch))
	put(base, float64(l.Base))
}

func (c *collector) collectHealth(ctx context.Context, put putter) {
	h, err := c.n.Health(ctx)
	put(ready, bit(err == nil && len(h.Reasons) == 0))
	if err != nil {
		return // it starts or ends
	}
	put(witnesses, float64(len(h.Witnesses)))
	put(quorum, float64(h.Quorum))
	put(answering, float64(h.Reachable()))
	for i, w := range h.Witnesses {
		place := strconv.Itoa(i)
		put(witnessUp, bit(w.Reachable), place)
		if w.Reachable {
			put(witnessRTT, w.RTT.Seconds(), place)
		}
	}
	if offset, ok := node.Median(h.Clocks); ok {
		put(clockOffset, offset.Seconds())
	}
	put(synced, bit(h.Synced))
	if h.CheckpointAge > 0 {
		put(checkpointAge, h.CheckpointAge.Seconds())
	}
}

func (c *collector) collectSandbox(put putter) {
	s, ok := sandbox.StatsOf(c.n.Executor())
	if !ok {
		return
	}
	put(sandboxSlots, float64(s.Slots))
	put(sandboxBusy, float64(s.Busy))
	put(sandboxStarted, float64(s.Started))
	put(sandboxEnded, float64(s.Ended))
	for _, layer := range s.Isolation.InForce {
		put(confinedBy, 1, layer)
	}
}

func (c *collector) collectStores(put putter) {
	if c.dir == "" {
		return
	}
	for _, s := range c.n.Stores() {
		put(storeBytes, float64(s.Bytes), s.Name)
		if s.Limit > 0 {
			put(storeLimit, float64(s.Limit), s.Name)
		}
	}
	if free, err := c.free(c.dir); err == nil {
		put(diskFree, float64(free))
	}
}
