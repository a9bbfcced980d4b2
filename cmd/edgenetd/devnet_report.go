package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
)

// devnetReport is what devnet found, as -o json prints it. Amounts are whole
// microcredits.
type devnetReport struct {
	Nodes         int             `json:"nodes"`
	Redundancy    uint32          `json:"redundancy"`
	Liars         int             `json:"liars"`
	Tasks         int             `json:"tasks"`
	Verified      int             `json:"verified"`
	Failed        int             `json:"failed"`
	Fuel          uint64          `json:"fuel"` // over all paid replicas
	Cost          uint64          `json:"cost"` // to the submitter, fee included
	Conservation  bool            `json:"conservation"`
	BalancesEqual bool            `json:"balances_equal"`
	Settled       bool            `json:"settled"`
	ElapsedMs     int64           `json:"elapsed_ms"` // the whole command
	JobMs         int64           `json:"job_ms"`     // submit to last result
	Witnesses     int             `json:"witnesses"`
	Quorum        int             `json:"quorum"`
	Certificates  int             `json:"certificates"` // of the submitter's events, each with commits of a quorum
	Network       string          `json:"network_id"`
	Job           string          `json:"job"`
	JobState      string          `json:"job_state"`
	Result        wordCounts      `json:"result"`
	Reference     bool            `json:"matches_reference"` // counted again without the network
	TaskList      []devnetTask    `json:"task_list"`
	Receipts      devnetReceipts  `json:"receipts"`
	Balances      []devnetBalance `json:"balances"`
	Sum           auditView       `json:"conservation_sum"` // of the submitter's ledger
	StateHashes   []string        `json:"state_hashes"`     // by node
	Dir           string          `json:"dir,omitempty"`    // with --keep

	problems []string
}

type devnetTask struct {
	Task       uint32   `json:"task"`
	State      string   `json:"state"`
	Verified   bool     `json:"verified"`
	Peers      []string `json:"peers"` // whose results agreed
	Nodes      []string `json:"nodes"` // the same by name
	Fuel       uint64   `json:"fuel"`  // of one execution
	Cost       uint64   `json:"cost"`
	OutputHash string   `json:"output_hash"`
}

type devnetReceipts struct {
	Valid   int      `json:"valid"`
	Invalid int      `json:"invalid"`
	List    []string `json:"list"` // base64, as 'receipt verify' reads them
}

type devnetBalance struct {
	Node   string `json:"node"`
	Peer   string `json:"peer"`
	Role   string `json:"role"`
	Before uint64 `json:"before"`
	After  uint64 `json:"after"`
	Change int64  `json:"change"`
	Tasks  uint64 `json:"tasks_done"` // replicas it executed
	Agreed int    `json:"agreed"`     // of which this many were accepted
}

func (d *devnet) role(i int) string {
	switch {
	case d.nodes[i].rests:
		return "witness"
	case i < d.flags.witnesses:
		return "witness, worker"
	case i == d.flags.witnesses:
		return "submitter"
	case d.nodes[i].liar:
		return "worker that lies"
	}
	return "worker"
}

func (d *devnet) name(id string) string {
	for _, n := range d.nodes {
		if n.id.String() == id {
			return n.name
		}
	}
	return shortID(id)
}

// report checks everything that devnet promises. What does not hold becomes a
// problem, which the verdict turns into the exit code.
func (d *devnet) report(ctx context.Context, results []*api.TaskResult, equal bool) (*devnetReport, error) {
	r := &devnetReport{
		Nodes: len(d.nodes), Redundancy: d.flags.redundancy, Liars: d.flags.liars, Tasks: len(d.inputs), Failed: int(d.job.Failed),
		Fuel: d.job.Fuel, Cost: d.job.Cost, BalancesEqual: equal, Settled: d.job.Settled, JobMs: d.jobMs, Network: d.network.ID.String(),
		Job: d.job.Id, JobState: d.job.State, Receipts: devnetReceipts{List: []string{}},
	}
	if d.flags.keep {
		r.Dir = d.dir
	}
	agreed := map[string]int{}
	var outputs [][]byte
	for _, res := range results {
		t := devnetTask{
			Task: res.Index, State: res.State, Verified: res.Verified, Peers: append([]string{}, res.Workers...), Nodes: []string{},
			Fuel: res.Fuel, Cost: res.Cost, OutputHash: proto.HashOf(res.Output).String(),
		}
		for _, w := range res.Workers {
			t.Nodes = append(t.Nodes, d.name(w))
			agreed[w]++
		}
		if res.Verified {
			r.Verified++
		}
		if res.State == "done" {
			outputs = append(outputs, res.Output)
		}
		r.TaskList = append(r.TaskList, t)
		d.checkReceipts(r, res)
	}
	if len(outputs) == r.Tasks {
		var err error
		if r.Result, err = mergeWords(outputs); err != nil {
			r.problem("the outputs could not be merged: %v", err)
		}
		r.Reference = r.Result.equal(d.text)
	}
	if err := d.checkMoney(ctx, r, agreed); err != nil {
		return nil, err
	}
	if err := d.checkCertificates(ctx, r); err != nil {
		return nil, err
	}
	d.judge(r)
	r.ElapsedMs = time.Since(d.started).Milliseconds()
	return r, nil
}

func (r *devnetReport) problem(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

// checkReceipts verifies one task's receipts and that they speak of this task,
// this input and this output, from distinct workers.
func (d *devnet) checkReceipts(r *devnetReport, res *api.TaskResult) {
	seen := map[string]bool{}
	for _, raw := range res.Receipts {
		r.Receipts.List = append(r.Receipts.List, base64.StdEncoding.EncodeToString(raw))
		sr := new(proto.SignedReceipt)
		err := goproto.Unmarshal(raw, sr)
		var rec *proto.Receipt
		if err == nil {
			rec, err = proto.VerifyReceipt(d.network.ID, sr)
		}
		if err == nil {
			err = d.matches(rec, res)
		}
		if err != nil {
			r.Receipts.Invalid++
			r.problem("a receipt of task %d is not valid: %v", res.Index, err)
			continue
		}
		r.Receipts.Valid++
		seen[peer.ID(rec.Worker).String()] = true
	}
	if res.State != "done" {
		return
	}
	for _, w := range res.Workers {
		if !seen[w] {
			r.problem("task %d has no valid receipt of %s", res.Index, d.name(w))
		}
	}
	if res.Verified && len(seen) < int(d.flags.redundancy) {
		r.problem("task %d is called verified with receipts of %d workers", res.Index, len(seen))
	}
}

func (d *devnet) matches(rec *proto.Receipt, res *api.TaskResult) error {
	job, err := proto.ToJobID(rec.Job)
	if err != nil {
		return err
	}
	in := proto.HashOf(d.inputs[min(int(res.Index), len(d.inputs)-1)])
	out := proto.HashOf(res.Output)
	switch {
	case job.String() != d.job.Id || rec.Task != res.Index:
		return fmt.Errorf("it is of task %s/%d", job, rec.Task)
	case string(rec.Submitter) != string(d.submitter().id):
		return fmt.Errorf("it names another submitter")
	case string(rec.InputHash) != string(in[:]):
		return fmt.Errorf("it is of another input")
	case string(rec.OutputHash) != string(out[:]):
		return fmt.Errorf("it is of another output")
	case rec.Fuel != res.Fuel:
		return fmt.Errorf("it claims fuel %d where the result says %d", rec.Fuel, res.Fuel)
	}
	return nil
}

// checkCertificates counts whose commits certify the submitter's events, as
// another node holds them.
func (d *devnet) checkCertificates(ctx context.Context, r *devnetReport) error {
	r.Witnesses, r.Quorum = d.flags.witnesses, d.network.Quorum()
	h, err := call(ctx, d.nodes[0].client.wallet.History, &api.HistoryRequest{Account: d.submitter().id.String(), Limit: 1000})
	if err != nil {
		return err
	}
	for _, e := range h.Entries {
		seen := map[string]bool{}
		for _, w := range e.Witnesses {
			if id, err := peer.Decode(w); err == nil && d.network.IsWitness(id) {
				seen[w] = true
			}
		}
		if len(seen) < r.Quorum {
			r.problem("event %s is certified by %d witnesses, a quorum is %d", e.Event, len(seen), r.Quorum)
			continue
		}
		r.Certificates++
	}
	if len(h.Entries) == 0 {
		r.problem("the submitter has no certified event")
	}
	return nil
}

// checkMoney reads the balances of all accounts from every node, compares
// them, and sums the supply.
func (d *devnet) checkMoney(ctx context.Context, r *devnetReport, agreed map[string]int) error {
	r.Conservation = true
	granted := uint64(devnetGrant) * uint64(len(d.nodes))
	var inAccounts uint64
	for i, n := range d.nodes {
		var err error
		if n.after, err = call(ctx, n.client.wallet.Balance, &api.BalanceRequest{}); err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
		for _, other := range d.nodes {
			b, err := call(ctx, other.client.wallet.Balance, &api.BalanceRequest{Account: n.id.String()})
			if err != nil {
				return fmt.Errorf("%s: %w", other.name, err)
			}
			if total(b) != total(n.after) || b.Available != n.after.Available {
				r.BalancesEqual = false
				r.problem("%s believes that %s has %s credits, it has %s", other.name, n.name, credits(total(b)), credits(total(n.after)))
			}
		}
		inAccounts += total(n.after)
		sum := auditOf(n.audit)
		if !sum.Conserved || sum.Genesis != granted {
			r.Conservation = false
			r.problem("on %s the ledger's terms sum to %s credits, not the %s granted", n.name, credits(sum.Sum), credits(granted))
		}
		if n == d.submitter() {
			r.Sum = sum
		}
		r.StateHashes = append(r.StateHashes, n.status.StateHash)
		r.Balances = append(r.Balances, devnetBalance{
			Node: n.name, Peer: n.id.String(), Role: d.role(i), Before: total(n.before), After: total(n.after),
			Change: int64(total(n.after)) - int64(total(n.before)), Tasks: n.status.Worker.GetTasksDone(), Agreed: agreed[n.id.String()],
		})
	}
	// The accounts of a devnet are its nodes: their balances and what was
	// burned must be everything, summed apart from the ledger's own audit.
	if inAccounts+r.Sum.Burned != granted {
		r.Conservation = false
		r.problem("the nodes' balances and the burned fee sum to %s credits, not the %s granted", credits(inAccounts+r.Sum.Burned), credits(granted))
	}
	return nil
}

func total(b *api.BalanceReply) uint64 {
	return b.Available + b.Held + b.Staked + b.Unbonding + b.Receivable
}

// judge looks for what must hold of the job as a whole.
func (d *devnet) judge(r *devnetReport) {
	if d.job.State != "done" || len(r.TaskList) != r.Tasks {
		r.problem("the job ended %s %s with %d of %d results", d.job.State, strings.TrimSpace(d.job.Code+" "+d.job.Reason), len(r.TaskList), r.Tasks)
	}
	if d.flags.redundancy > 1 && r.Verified != r.Tasks {
		r.problem("%d of %d tasks are verified", r.Verified, r.Tasks)
	}
	if !r.Reference {
		r.problem("the merged word counts differ from those counted without the network")
	}
	if !r.BalancesEqual {
		r.problem("the nodes' ledgers were not equal a minute after the job")
	}
	if !r.Settled {
		r.problem("the job is not settled")
	}
	paid := int64(0)
	for i, b := range r.Balances {
		if d.nodes[i].liar && (b.Change > 0 || b.Agreed > 0) {
			r.problem("%s lied and was paid %s credits for %d tasks", b.Node, signedCredits(b.Change), b.Agreed)
		}
		if d.nodes[i] == d.submitter() {
			paid = -b.Change
		}
	}
	if paid != int64(r.Cost) {
		r.problem("the job cost %s credits, the submitter has %s less", credits(r.Cost), credits(uint64(max(0, paid))))
	}
}

// verdict is nil when everything held, else one sentence.
func (r *devnetReport) verdict() error {
	if len(r.problems) == 0 {
		return nil
	}
	more := ""
	if n := len(r.problems) - 1; n > 0 {
		more = fmt.Sprintf(" (and %d more)", n)
	}
	return failf(exitTask, "the devnet did not hold what it promises: %s%s", r.problems[0], more)
}

func (d *devnet) print(r *devnetReport) error {
	return d.app.print(report{data: r, ids: []string{r.Job}, table: func(w io.Writer) { r.table(w) }})
}

func (r *devnetReport) table(w io.Writer) {
	row(w, "WORD", "COUNT")
	for _, t := range r.Result.Top {
		row(w, t.Word, t.Count)
	}
	row(w, fmt.Sprintf("%d words, %d distinct; equal to a count without the network: %s", r.Result.Words, r.Result.Distinct, yesNo(r.Reference)))
	row(w)
	row(w, "TASK", "STATE", "VERIFIED", "FUEL", "COST", "RAN ON")
	for _, t := range r.TaskList {
		names := append([]string{}, t.Nodes...)
		sort.Strings(names)
		row(w, t.Task, t.State, yesNo(t.Verified), t.Fuel, credits(t.Cost), strings.Join(names, " "))
	}
	row(w)
	row(w, "NODE", "PEER", "ROLE", "EXECUTED", "ACCEPTED", "BEFORE", "AFTER", "CHANGE")
	for _, b := range r.Balances {
		row(w, b.Node, shortID(b.Peer), b.Role, b.Tasks, b.Agreed, credits(b.Before), credits(b.After), signedCredits(b.Change))
	}
	row(w)
	s := r.Sum
	row(w, "job", fmt.Sprintf("%s %s in %.1f s, fuel %d, cost %s credits", r.Job, r.JobState, float64(r.JobMs)/1000, r.Fuel, credits(r.Cost)))
	row(w, "verified", fmt.Sprintf("%d of %d tasks, %d failed", r.Verified, r.Tasks, r.Failed))
	row(w, "receipts", fmt.Sprintf("%d valid, %d invalid", r.Receipts.Valid, r.Receipts.Invalid))
	row(w, "certificates", fmt.Sprintf("%d events of the submitter, each with the commits of %d of %d witnesses", r.Certificates, r.Quorum, r.Witnesses))
	row(w, "conservation", fmt.Sprintf("available %s + held %s + staked %s + unbonding %s + receivable %s + burned %s = %s, granted %s: %s",
		credits(s.Available), credits(s.Held), credits(s.Staked), credits(s.Unbonding), credits(s.Receivable), credits(s.Burned), credits(s.Sum), credits(s.Genesis), holds(r.Conservation)))
	row(w, "equal ledgers", fmt.Sprintf("state %.16s on all %d nodes: %s", strings.Join(r.StateHashes[:1], ""), r.Nodes, holds(r.BalancesEqual)))
}

func holds(b bool) string {
	if b {
		return "holds"
	}
	return "DOES NOT HOLD"
}
