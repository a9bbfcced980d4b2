package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"edgenet.dev/market"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
)

func (a *app) taskCmd() *cobra.Command {
	var state, receipts string
	var limit uint32
	var raw bool
	list := &cobra.Command{
		Use: "list", Short: "List jobs, newest first", Args: takes(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error { return a.taskList(c.Context(), state, limit) },
	}
	list.Flags().StringVar(&state, "state", "", "only jobs in this state: queued, offered, assigned, running, verifying, done, failed, cancelled or expired")
	list.Flags().Uint32Var(&limit, "limit", 50, "how many jobs to list at most")
	result := &cobra.Command{
		Use: "result JOB", Short: "Print the outputs of a job's finished tasks", Args: takes(1, 1, "a JOB"),
		RunE: func(c *cobra.Command, args []string) error { return a.taskResult(c.Context(), args[0], receipts, raw) },
	}
	result.Flags().StringVar(&receipts, "receipts", "", "file to write the signed receipts to")
	result.Flags().BoolVar(&raw, "raw", false, "write output bytes as they are")
	return family("task", "Look at, wait for and cancel jobs",
		list,
		&cobra.Command{
			Use: "show JOB", Short: "Show a job, its tasks and who ran them", Args: takes(1, 1, "a JOB"),
			RunE: func(c *cobra.Command, args []string) error { return a.taskShow(c.Context(), args[0]) },
		},
		&cobra.Command{
			Use: "cancel JOB", Short: "Cancel a job; finished tasks stay and are paid", Args: takes(1, 1, "a JOB"),
			RunE: func(c *cobra.Command, args []string) error { return a.taskCancel(c.Context(), args[0]) },
		},
		&cobra.Command{
			Use: "why JOB", Short: "Say why a job waits or how it failed", Args: takes(1, 1, "a JOB"),
			RunE: func(c *cobra.Command, args []string) error { return a.taskWhy(c.Context(), args[0]) },
		},
		result, a.taskWaitCmd(), a.taskRmCmd())
}

type jobView struct {
	Job        string     `json:"job"`
	Type       string     `json:"type,omitempty"`
	Module     string     `json:"module"`
	Label      string     `json:"label,omitempty"`
	State      string     `json:"state"`
	Code       string     `json:"code,omitempty"`
	Reason     string     `json:"reason,omitempty"`
	Priority   string     `json:"priority"`
	Redundancy uint32     `json:"redundancy"`
	Tasks      uint32     `json:"tasks"`
	Done       uint32     `json:"done"`
	Verified   uint32     `json:"verified"`
	Failed     uint32     `json:"failed"`
	Running    uint32     `json:"running"`
	Fuel       uint64     `json:"fuel"`
	Cost       uint64     `json:"cost"`
	MaxCredits uint64     `json:"max_credits"`
	Settled    bool       `json:"settled"`
	Waiting    string     `json:"waiting,omitempty"` // for workers: who is there, and how many it needs
	CreatedMs  uint64     `json:"created_unix_ms"`
	UpdatedMs  uint64     `json:"updated_unix_ms"`
	TimeoutMs  uint64     `json:"timeout_ms"`
	RunMs      uint64     `json:"run_timeout_ms"`
	QueueMs    uint64     `json:"queue_timeout_ms"` // 0: as long as the timeout
	LostTries  uint64     `json:"lost_tries"`
	Lost       []lostView `json:"lost,omitempty"`
	TaskList   []taskView `json:"task_list,omitempty"`
}

type taskView struct {
	Index      uint32        `json:"index"`
	State      string        `json:"state"`
	Code       string        `json:"code,omitempty"`
	Verified   bool          `json:"verified"`
	Fuel       uint64        `json:"fuel"`
	Cost       uint64        `json:"cost"`
	OutputHash string        `json:"output_hash,omitempty"`
	LostLog    any           `json:"lost_log,omitempty"` // of the newest try that gave no result; see logValue
	Replicas   []replicaView `json:"replicas"`
}

// lostView is an execution that brought nothing.
type lostView struct {
	Task   uint32 `json:"task"`
	Worker string `json:"worker"`
	Code   string `json:"code"`
	Reason string `json:"reason"`
	Times  uint32 `json:"times"`
	LastMs uint64 `json:"last_unix_ms"`
}

type replicaView struct {
	Worker     string `json:"worker"`
	Attempt    uint32 `json:"attempt"`
	State      string `json:"state"`
	Code       string `json:"code,omitempty"`
	Agreed     bool   `json:"agreed"`
	Fuel       uint64 `json:"fuel"`
	Paid       uint64 `json:"paid"`
	OutputHash string `json:"output_hash,omitempty"`
}

func jobOf(j *api.Job) jobView {
	v := jobView{
		Job: j.Id, Type: j.Type, Module: j.Module, Label: j.Label, State: j.State, Code: j.Code, Reason: j.Reason,
		Priority: j.Priority, Redundancy: j.Redundancy, Tasks: j.Tasks, Done: j.Done, Verified: j.Verified, Failed: j.Failed,
		Running: j.Running, Fuel: j.Fuel, Cost: j.Cost, MaxCredits: j.MaxCredits, Settled: j.Settled, Waiting: j.Waiting,
		CreatedMs: j.CreatedUnixMs, UpdatedMs: j.UpdatedUnixMs,
		TimeoutMs: j.TimeoutMs, RunMs: j.RunTimeoutMs, QueueMs: j.QueueTimeoutMs, LostTries: j.LostTries,
	}
	for _, l := range j.Lost {
		v.Lost = append(v.Lost, lostView{l.Task, l.Worker, l.Code, l.Reason, l.Times, l.TimeUnixMs})
	}
	for _, t := range j.TaskInfo {
		tv := taskView{t.Index, t.State, t.Code, t.Verified, t.Fuel, t.Cost, t.OutputHash, logValue(t.LostLog), []replicaView{}}
		for _, r := range t.Replicas {
			tv.Replicas = append(tv.Replicas, replicaView{r.Worker, r.Attempt, r.State, r.Code, r.Agreed, r.Fuel, r.Paid, r.OutputHash})
		}
		v.TaskList = append(v.TaskList, tv)
	}
	return v
}

func what(j *api.Job) string {
	if j.Type != "" {
		return j.Type
	}
	return "custom"
}

func (a *app) taskList(ctx context.Context, state string, limit uint32) error {
	switch market.TaskState(state) {
	case "", market.Queued, market.Offered, market.Assigned, market.Running, market.Verifying, market.Done, market.Failed, market.Cancelled, market.Expired:
	default:
		return failf(exitUsage, "state %q is unknown; run 'edgenetd task list --help' for the list", state)
	}
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	reply, err := call(ctx, d.tasks.List, &api.ListRequest{State: state, Limit: limit})
	if err != nil {
		return err
	}
	list := []jobView{}
	r := report{}
	for _, j := range reply.Jobs {
		list = append(list, jobOf(j))
		r.ids = append(r.ids, j.Id)
	}
	r.data = list
	r.table = func(w io.Writer) {
		row(w, "JOB", "TYPE", "STATE", "DONE", "VERIFIED", "FAILED", "COST", "CREATED", "LABEL")
		for _, j := range reply.Jobs {
			row(w, j.Id, what(j), j.State, fmt.Sprintf("%d/%d", j.Done, j.Tasks), j.Verified, j.Failed, credits(j.Cost), clock(j.CreatedUnixMs), dash(j.Label))
		}
	}
	return a.print(r)
}

func (a *app) taskShow(ctx context.Context, job string) error {
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	j, err := call(ctx, d.tasks.Get, &api.GetRequest{Job: job})
	if err != nil {
		return err
	}
	return a.print(report{data: jobOf(j), ids: []string{j.Id}, table: func(w io.Writer) {
		row(w, "job", j.Id)
		row(w, "type", what(j)+" "+j.Module)
		row(w, "label", dash(j.Label))
		row(w, "state", j.State)
		if j.Waiting != "" {
			row(w, "waiting", j.Waiting)
		}
		if j.Code != "" {
			row(w, "reason", strings.TrimSpace(j.Code+" "+j.Reason))
		}
		row(w, "tasks", fmt.Sprintf("%d: %d done, %d verified, %d failed, %d running", j.Tasks, j.Done, j.Verified, j.Failed, j.Running))
		row(w, "redundancy", j.Redundancy)
		row(w, "fuel", j.Fuel)
		row(w, "cost", fmt.Sprintf("%s of at most %s credits", credits(j.Cost), credits(j.MaxCredits)))
		row(w, "timeouts", timeouts(j))
		row(w, "settled", yesNo(j.Settled))
		row(w, "created", clock(j.CreatedUnixMs))
		row(w)
		row(w, "TASK", "STATE", "VERIFIED", "FUEL", "COST", "WORKERS")
		for _, t := range j.TaskInfo {
			row(w, t.Index, t.State, yesNo(t.Verified), t.Fuel, credits(t.Cost), dash(whoRan(t.Replicas)))
		}
		if len(j.Lost) > 0 {
			row(w)
			row(w, "LOST TRY", "WORKER", "CODE", "TIMES", "LAST", "REASON")
			for _, l := range j.Lost {
				row(w, l.Task, shortID(l.Worker), l.Code, l.Times, clock(l.TimeUnixMs), l.Reason)
			}
		}
		lostLogs(w, j)
	}})
}

// whoRan lists workers with what set their part apart.
func whoRan(replicas []*api.ReplicaInfo) string {
	var who []string
	for _, r := range replicas {
		mark := ""
		if r.State == "trial" { // with less fuel than the limit
			mark = " (trial)"
		} else if r.State == "partial" {
			mark = " (" + r.Code + ", paid in part)"
		} else if !r.Agreed && r.Code != "" {
			mark = " (" + r.Code + ")"
		}
		who = append(who, shortID(r.Worker)+mark)
	}
	return strings.Join(who, " ")
}

// lostLogs shows what tasks said that gave no result, one row a line.
func lostLogs(w io.Writer, j *api.Job) {
	headed := false
	for _, t := range j.TaskInfo {
		if len(t.LostLog) == 0 {
			continue
		}
		if !headed {
			headed = true
			row(w)
			row(w, "TASK", "LOG OF ITS LAST LOST TRY")
		}
		for line := range strings.Lines(string(escaped(t.LostLog))) {
			row(w, t.Index, strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", `\t`))
		}
	}
}

// timeouts says in one line how long a job may take.
func timeouts(j *api.Job) string {
	ms := func(n uint64) time.Duration { return proto.Millis(n) }
	text := fmt.Sprintf("%s in all, %s for each try", ms(j.TimeoutMs), ms(j.RunTimeoutMs))
	if j.QueueTimeoutMs > 0 {
		text += fmt.Sprintf(", %s until it begins", ms(j.QueueTimeoutMs))
	}
	return text
}

// shortID is the end of a peer id, which differs where the start does not.
func shortID(id string) string {
	if len(id) > 8 {
		return "…" + id[len(id)-8:]
	}
	return id
}

func (a *app) taskCancel(ctx context.Context, job string) error {
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	if job, err = d.wholeID(ctx, job); err != nil {
		return err
	}
	reply, err := call(ctx, d.tasks.Cancel, &api.CancelRequest{Job: job})
	if err != nil {
		return err
	}
	return a.print(report{
		data: map[string]any{"job": job, "state": reply.State}, ids: []string{job},
		table: func(w io.Writer) { row(w, "job", job); row(w, "state", reply.State) },
	})
}

func (a *app) taskWhy(ctx context.Context, job string) error {
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	if job, err = d.wholeID(ctx, job); err != nil {
		return err
	}
	reply, err := call(ctx, d.tasks.Why, &api.GetRequest{Job: job})
	if err != nil {
		return err
	}
	lines := append([]string{}, reply.Lines...)
	return a.print(report{
		data: map[string]any{"job": job, "why": lines}, ids: []string{job},
		table: func(w io.Writer) {
			for _, l := range lines {
				row(w, l)
			}
		},
	})
}

// wholeID is the id of the job of which somebody typed the start.
func (d *client) wholeID(ctx context.Context, start string) (string, error) {
	j, err := call(ctx, d.tasks.Get, &api.GetRequest{Job: start})
	if err != nil {
		return "", err
	}
	return j.Id, nil
}

// results reads every finished task of a job.
func (d *client) results(ctx context.Context, job string) ([]*api.TaskResult, error) {
	stream, err := d.tasks.Results(ctx, connect.NewRequest(&api.GetRequest{Job: job}))
	if err != nil {
		return nil, remote(err)
	}
	defer stream.Close()
	var out []*api.TaskResult
	for stream.Receive() {
		out = append(out, stream.Msg())
	}
	if err := stream.Err(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, remote(err)
	}
	return out, nil
}

func (a *app) taskResult(ctx context.Context, job, receipts string, raw bool) error {
	if raw && (a.format != "table" || a.quiet) {
		return failf(exitUsage, "--raw prints the output's bytes alone: leave out -o and -q, or --raw")
	}
	if err := checkReceipts(receipts); err != nil {
		return err
	}
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	j, err := call(ctx, d.tasks.Get, &api.GetRequest{Job: job})
	if err != nil {
		return err
	}
	rs, err := d.results(ctx, j.Id)
	if err != nil {
		return err
	}
	if err := errors.Join(a.printResults(j, rs, raw), saveReceipts(receipts, rs)); err != nil {
		return err
	}
	return judge(j)
}
