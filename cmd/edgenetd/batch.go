package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edgenet.dev/market"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/sandbox/modules"
)

const maxBatchFile = 128 << 20

// maxTimeoutMs is the longest time that a line may name, ten years.
const maxTimeoutMs = 10 * 365 * 24 * 3600 * 1000

type batchFlags struct {
	policy
	split    int
	wait     bool
	dryRun   bool
	receipts string
}

func (a *app) batchCmd() *cobra.Command {
	b := new(batchFlags)
	c := &cobra.Command{
		Use: "batch FILE", Short: "Run many tasks and print one JSON line for each result", Args: takes(1, 1, "a FILE of tasks, or - for standard input"),
		Long: `Reads one task a line:

  {"type": "text", "payload": "some words", "options": {"redundancy": 3}}
  {"type": "vector_search", "payload": {"query": [1, 0], "vectors": [[0, 1]], "k": 1}}

Lines with the same type and options become one job. Options are redundancy,
maxCredits, priority, timeout, runTimeout and queueTimeout (milliseconds), fuel
and memory; those that a line leaves out come from the flags. --max-credits is
the budget of the whole batch: its jobs share it, and what they do not spend is
said at the end to be left. A line that has maxCredits of its own does not take
from it: the lines that share its options share that. A line may also say {"module": "FILE.wasm",
"payload": "…"}. With --split N the file is a text instead, cut into N tasks of
type text.

Results are printed in the order of the lines. Ctrl-C prints those that are
finished and names the jobs, which go on.`,
		Example: "  edgenetd batch tasks.jsonl\n  edgenetd batch book.txt --split 24",
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkTimes(c); err != nil {
				return err
			}
			return a.batch(c.Context(), args[0], b)
		},
	}
	f := c.Flags()
	b.addFlags(f)
	f.IntVar(&b.split, "split", 0, "cut FILE, a text, into so many tasks of type text")
	f.BoolVar(&b.wait, "wait", true, "wait for the results; --wait=false prints the jobs' ids at once")
	f.BoolVar(&b.dryRun, "dry-run", false, "check everything and print the most it can cost; submit nothing")
	f.StringVar(&b.receipts, "receipts", "", "file to write the signed receipts to")
	return c
}

// batchLine is one task of a batch file.
type batchLine struct {
	Type    string          `json:"type"`
	Module  string          `json:"module"` // file name
	Payload json.RawMessage `json:"payload"`
	Options struct {
		Redundancy *uint32      `json:"redundancy"`
		MaxCredits *json.Number `json:"maxCredits"`
		Priority   *string      `json:"priority"`
		Timeout    *int64       `json:"timeout"` // ms, as the next two
		Run        *int64       `json:"runTimeout"`
		Queue      *int64       `json:"queueTimeout"`
		Fuel       *uint64      `json:"fuel"`
		Memory     *uint64      `json:"memory"`
	} `json:"options"`
}

// batchGroup is the lines that share a module and a policy: one job.
type batchGroup struct {
	req   *api.SubmitRequest
	lines []int  // number of each task's line, from 1
	purse string // what those have in common that share a budget; "" for that of the batch
	job   string
	reply *api.SubmitReply // to the submission, or the dry run
	over  bool             // the job is final
}

func (a *app) batch(ctx context.Context, path string, b *batchFlags) error {
	if b.split < 0 || b.split > proto.MaxTasks {
		return failf(exitUsage, "--split %d: want 1 to %d tasks", b.split, proto.MaxTasks)
	}
	if err := receiptsOf(b.receipts, b.wait, b.dryRun); err != nil {
		return err
	}
	if err := b.fill(new(api.SubmitRequest)); err != nil { // else a line would be blamed
		return err
	}
	data, err := a.readFile(path, "batch", maxBatchFile)
	if err != nil {
		return err
	}
	var groups []*batchGroup
	if b.split > 0 {
		groups, err = splitGroup(data, b)
	} else {
		groups, err = a.readBatch(path, data, b)
	}
	if err != nil {
		return err
	}
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	budget, err := allot(ctx, d, groups)
	if err != nil {
		return err
	}
	if err := a.submitAll(ctx, d, groups, b); err != nil || b.dryRun || !b.wait {
		return err
	}
	return a.finishBatch(ctx, d, groups, budget, b.receipts)
}

// submitAll submits every job of a batch. When one is refused there is none;
// after Ctrl-C those that were submitted go on and are named.
func (a *app) submitAll(ctx context.Context, d *client, groups []*batchGroup, b *batchFlags) error {
	for i, g := range groups {
		if ctx.Err() != nil {
			return stoppedEarly(groups[:i])
		}
		reply, err := submitted(ctx, d, g.req)
		if err != nil {
			for _, started := range groups[:i] { // all or nothing
				if started.job != "" {
					_, _ = call(context.WithoutCancel(ctx), d.tasks.Cancel, &api.CancelRequest{Job: started.job})
				}
			}
			return fmt.Errorf("job of line %d: %w", g.lines[0], err)
		}
		g.job = reply.Job
		g.reply = reply
	}
	if !b.dryRun && b.wait {
		return nil
	}
	return a.printJobs(ctx, d, groups, b.dryRun)
}

// printJobs shows the jobs of a batch with the lines that each is of, and what
// they may cost together.
func (a *app) printJobs(ctx context.Context, d *client, groups []*batchGroup, dryRun bool) error {
	type jobCost struct {
		Job     string `json:"job,omitempty"`
		Lines   []int  `json:"lines"`
		Type    string `json:"type,omitempty"`
		Module  string `json:"module"`
		Tasks   int    `json:"tasks"`
		Price   uint64 `json:"price"`
		Hold    uint64 `json:"hold"`
		MaxCost uint64 `json:"max_cost"`
		Budget  uint64 `json:"max_credits"`
	}
	jobs, ids := []jobCost{}, []string{}
	var total jobCost
	for _, g := range groups {
		r := g.reply
		jobs = append(jobs, jobCost{r.Job, g.lines, g.req.Type, r.Module, len(g.req.Inputs), r.Price, r.Hold, r.MaxCost, r.MaxCredits})
		ids = append(ids, cmp.Or(r.Job, r.Module))
		total.Tasks, total.Hold, total.MaxCost, total.Budget = total.Tasks+len(g.req.Inputs), total.Hold+r.Hold, total.MaxCost+r.MaxCost, total.Budget+r.MaxCredits
	}
	data := map[string]any{"jobs": jobs, "dry_run": dryRun, "tasks": total.Tasks, "hold": total.Hold, "max_cost": total.MaxCost, "max_credits": total.Budget}
	var balance *api.BalanceReply
	if dryRun {
		b, err := call(ctx, d.wallet.Balance, &api.BalanceRequest{})
		if err != nil {
			return err
		}
		balance, data["balance"] = b, b.Available
	}
	err := a.print(report{data: data, ids: ids, table: func(w io.Writer) {
		row(w, "LINES", "TYPE", "TASKS", "PRICE", "FIRST HOLD", "AT MOST", "BUDGET", "JOB")
		for _, j := range jobs {
			row(w, lineRanges(j.Lines), cmp.Or(j.Type, "custom"), j.Tasks, credits(j.Price), credits(j.Hold), credits(j.MaxCost), credits(j.Budget), dash(j.Job))
		}
		row(w, "all", "", total.Tasks, "", credits(total.Hold), credits(total.MaxCost), credits(total.Budget), "")
		if balance != nil {
			row(w)
			row(w, fmt.Sprintf("balance %s credits", credits(balance.Available)))
		}
	}})
	if err != nil || balance == nil {
		return err
	}
	return covers(balance, total.Hold)
}

// lineRanges is a list of line numbers with what follows each other as from-to.
func lineRanges(lines []int) string {
	var out []string
	for i := 0; i < len(lines); {
		k := i
		for k+1 < len(lines) && lines[k+1] == lines[k]+1 {
			k++
		}
		if text := strconv.Itoa(lines[i]); k > i {
			out = append(out, text+"-"+strconv.Itoa(lines[k]))
		} else {
			out = append(out, text)
		}
		i = k + 1
	}
	return strings.Join(out, ",")
}

// submitPatience is how long the daemon may take to store a job.
const submitPatience = time.Minute

// submitted hands in one job. Ctrl-C does not end that: the daemon might have
// stored the job, and nobody would know its name.
func submitted(ctx context.Context, d *client, req *api.SubmitRequest) (*api.SubmitReply, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), submitPatience)
	defer cancel()
	return call(ctx, d.tasks.Submit, req)
}

// stoppedEarly is the error of a batch that was interrupted when only the first
// of its jobs were submitted.
func stoppedEarly(groups []*batchGroup) error {
	if len(jobsOf(groups)) == 0 {
		return failf(exitInterrupted, "interrupted; nothing was submitted")
	}
	return stoppedIn(groups, "interrupted before every job was submitted")
}

// allot checks every job before there is one, and divides each budget among the
// jobs that share it: those of the lines with one maxCredits of their own, and
// all the others. It returns what all may cost.
func allot(ctx context.Context, d *client, groups []*batchGroup) (budget uint64, err error) {
	shared := map[string][]*batchGroup{}
	quotes := map[string][]market.Quote{}
	for _, g := range groups {
		dry := g.req.DryRun
		g.req.DryRun = true
		q, err := call(ctx, d.tasks.Submit, g.req)
		if err != nil {
			return 0, fmt.Errorf("job of line %d: %w", g.lines[0], err)
		}
		g.req.DryRun = dry
		if len(shared[g.purse]) == 0 {
			budget += g.req.MaxCredits
		}
		shared[g.purse] = append(shared[g.purse], g)
		quotes[g.purse] = append(quotes[g.purse], market.Quote{Task: proto.Credit(q.TaskCost), Worst: proto.Credit(q.MaxCost)})
	}
	for _, g := range groups { // in order, so that the same batch fails alike
		list := shared[g.purse]
		if len(list) < 2 || g != list[0] {
			continue
		}
		parts, err := market.Share(proto.Credit(g.req.MaxCredits), quotes[g.purse])
		if err != nil {
			return 0, &exitError{exitInsufficient, err}
		}
		for i, g := range list {
			g.req.MaxCredits = uint64(parts[i])
		}
	}
	return budget, nil
}

func splitGroup(text []byte, b *batchFlags) ([]*batchGroup, error) {
	g := &batchGroup{req: &api.SubmitRequest{Type: proto.TypeText, DryRun: b.dryRun}}
	if err := b.fill(g.req); err != nil {
		return nil, err
	}
	for i, part := range modules.SplitText(text, b.split) {
		in, err := encoded(proto.TypeText, part)
		if err != nil {
			return nil, failf(exitRefused, "part %d of the text: %v", i, err)
		}
		g.req.Inputs = append(g.req.Inputs, in)
		g.lines = append(g.lines, i+1)
	}
	if len(g.req.Inputs) == 0 {
		return nil, failf(exitRefused, "the text is empty; there is nothing to split")
	}
	return []*batchGroup{g}, nil
}

func (a *app) readBatch(path string, data []byte, b *batchFlags) ([]*batchGroup, error) {
	groups := map[string]*batchGroup{}
	var order []*batchGroup
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // a byte-order mark
	for i, text := range bytes.Split(data, []byte("\n")) {
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		refuse := func(err error) error {
			// A line names an option where the command line has a flag, and a missing
			// module's sentence says what to do by itself.
			text := strings.TrimSuffix(optionNames.Replace(err.Error()), "; check the path")
			return failf(exitRefused, "%s line %d: %s; correct it, nothing was submitted", path, i+1, text)
		}
		line, err := readLine(text)
		if err != nil {
			return nil, refuse(err)
		}
		req, input, err := a.batchTask(line, b)
		if err != nil {
			return nil, refuse(err)
		}
		own := line.Options.MaxCredits != nil
		key := fmt.Sprintf("%s %s %d %v %d %s %d %d %d %d %d", req.Type, line.Module, req.Redundancy, own, req.MaxCredits, req.Priority, req.TimeoutMs, req.RunTimeoutMs, req.QueueTimeoutMs, req.FuelLimit, req.MemoryLimit)
		g := groups[key]
		if g == nil || len(g.req.Inputs) == proto.MaxTasks {
			g = &batchGroup{req: req}
			if own {
				g.purse = key
			}
			groups[key] = g
			order = append(order, g)
		}
		g.req.Inputs = append(g.req.Inputs, input)
		g.lines = append(g.lines, i+1)
	}
	if len(order) == 0 {
		return nil, failf(exitRefused, "%s holds no tasks; write one JSON object a line", path)
	}
	return order, nil
}

// optionNames are the flags that policy.fill names, as a line spells them.
var optionNames = strings.NewReplacer(
	"--redundancy", "options.redundancy", "--max-credits", "options.maxCredits", "--priority", "options.priority", "--timeout", "options.timeout",
	"--run-timeout", "options.runTimeout", "--queue-timeout", "options.queueTimeout", "--fuel", "options.fuel", "--memory", "options.memory",
)

// readLine reads one JSON object and refuses whatever else a line may hold.
func readLine(text []byte) (*batchLine, error) {
	if text[0] != '{' {
		return nil, fmt.Errorf(`want one JSON object, such as {"type": "text", "payload": "some words"}`)
	}
	line := new(batchLine)
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(line); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field != "" {
			return nil, fmt.Errorf("%s: a JSON %s does not fit there", wrong.Field, wrong.Value)
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errors.New("the object does not end; write each on one line")
		}
		return nil, fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if rest := bytes.TrimSpace(text[dec.InputOffset():]); len(rest) > 0 {
		return nil, fmt.Errorf("%q stands behind the object; write one a line", rest[:min(len(rest), 24)])
	}
	if v := bytes.TrimSpace(line.Payload); len(v) == 0 || string(v) == "null" {
		return nil, errors.New("payload: missing")
	}
	return line, nil
}

func (a *app) batchTask(line *batchLine, b *batchFlags) (*api.SubmitRequest, []byte, error) {
	p, o := b.policy, line.Options
	if o.Redundancy != nil {
		p.redundancy = *o.Redundancy
	}
	if o.MaxCredits != nil {
		p.credits = o.MaxCredits.String()
	}
	if o.Priority != nil {
		p.priority = *o.Priority
	}
	for _, t := range []struct {
		name string
		ms   *int64
		to   *time.Duration
	}{{"timeout", o.Timeout, &p.timeout}, {"runTimeout", o.Run, &p.run}, {"queueTimeout", o.Queue, &p.queue}} {
		if t.ms == nil {
			continue
		}
		if *t.ms <= 0 || *t.ms > maxTimeoutMs {
			return nil, nil, fmt.Errorf("options.%s of %d: want 1 to %d milliseconds", t.name, *t.ms, int64(maxTimeoutMs))
		}
		*t.to = time.Duration(*t.ms) * time.Millisecond
	}
	if o.Fuel != nil {
		p.fuel = *o.Fuel
	}
	if o.Memory != nil {
		p.memory = *o.Memory
	}
	req := &api.SubmitRequest{DryRun: b.dryRun}
	if err := p.fill(req); err != nil {
		return nil, nil, err
	}
	if (line.Type == "") == (line.Module == "") {
		return nil, nil, fmt.Errorf(`want either "type" or "module"`)
	}
	if line.Module != "" {
		payload := []byte(line.Payload)
		var text string
		if json.Unmarshal(payload, &text) == nil { // a string is its characters
			payload = []byte(text)
		}
		_, raw, _, err := a.loadModule(line.Module)
		req.Module = raw
		return req, payload, err
	}
	req.Type = proto.CanonicalType(line.Type)
	if err := knownType(req.Type); err != nil {
		return nil, nil, err
	}
	in, err := modules.EncodeValue(req.Type, line.Payload)
	return req, in, err
}

// lineResult is the result of one line of the file.
type lineResult struct {
	Line int    `json:"line"`
	Job  string `json:"job"`
	Type string `json:"type,omitempty"`
	resultView
}

// finishBatch waits for every job and prints the results by line. When the user
// interrupts, what is finished is printed and the jobs go on.
func (a *app) finishBatch(ctx context.Context, d *client, groups []*batchGroup, budget uint64, receipts string) error {
	var failures []error
	var spent uint64
	for _, g := range groups {
		j, err := a.follow(ctx, d, g.job)
		if ctx.Err() != nil {
			return a.interruptBatch(d, groups, receipts)
		}
		if err != nil {
			return err
		}
		g.over = true
		spent += j.Cost
		if err := judge(j); err != nil {
			failures = append(failures, err)
		}
	}
	if _, err := a.printBatch(ctx, d, groups, receipts, true); err != nil {
		return err
	}
	if !a.quiet && a.format != "yaml" {
		fmt.Fprintf(a.err, "batch: %s\n", spending(budget, spent))
	}
	return failedJobs(failures)
}

// failedJobs is one error of all jobs that failed, with the first one's code.
func failedJobs(failures []error) error {
	if len(failures) < 2 {
		return errors.Join(failures...)
	}
	var texts []string
	for _, err := range failures {
		texts = append(texts, err.Error())
	}
	return failf(exitCode(failures[0]), "%d jobs failed: %s", len(failures), strings.Join(texts, "; "))
}

// interruptGrace is how long an interrupted batch may take to print what is
// finished.
const interruptGrace = 10 * time.Second

// interruptBatch prints what is finished and names every job. A second signal
// ends it at once.
func (a *app) interruptBatch(d *client, groups []*batchGroup, receipts string) error {
	ctx, cancel := context.WithTimeout(context.Background(), interruptGrace)
	defer cancel()
	done, err := a.printBatch(ctx, d, groups, receipts, false)
	if err != nil {
		return stoppedIn(groups, fmt.Sprintf("interrupted, and what is finished could not be printed (%v)", err))
	}
	all := 0
	for _, g := range groups {
		all += len(g.req.Inputs)
		if !g.over { // it may have ended behind the one that was waited for
			j, err := call(ctx, d.tasks.Get, &api.GetRequest{Job: g.job})
			g.over = err == nil && finalState(j.State)
		}
	}
	return stoppedIn(groups, fmt.Sprintf("interrupted; %d of %d tasks are finished and printed", done, all))
}

// stoppedIn is the error of a batch that ends while its jobs go on.
func stoppedIn(groups []*batchGroup, why string) error {
	jobs := jobsOf(slices.DeleteFunc(slices.Clone(groups), func(g *batchGroup) bool { return g.over }))
	switch len(jobs) {
	case 0:
		return failf(exitInterrupted, "%s; every job is over", why)
	case 1:
		return failf(exitInterrupted, "%s; job %s goes on: see 'edgenetd task show %s', or end it with 'edgenetd task cancel %s'", why, jobs[0], jobs[0], jobs[0])
	}
	return failf(exitInterrupted, "%s; jobs %s go on: see 'edgenetd task show JOB' for each, or end it with 'edgenetd task cancel JOB'", why, strings.Join(jobs, ", "))
}

func jobsOf(groups []*batchGroup) []string {
	var ids []string
	for _, g := range groups {
		if g.job != "" {
			ids = append(ids, g.job)
		}
	}
	return ids
}

// printBatch prints the results in the order of the lines, of every task or of
// those that are final, and counts them.
func (a *app) printBatch(ctx context.Context, d *client, groups []*batchGroup, receipts string, every bool) (int, error) {
	var out []lineResult
	var all []*api.TaskResult
	for _, g := range groups {
		rs, err := d.results(ctx, g.job)
		if err != nil {
			return 0, err
		}
		for _, r := range rs {
			if int(r.Index) < len(g.lines) && (every || finalState(r.State)) {
				all = append(all, r)
				out = append(out, lineResult{g.lines[r.Index], g.job, g.req.Type, resultOf(g.req.Type, r)})
			}
		}
	}
	sort.SliceStable(out, func(i, k int) bool { return out[i].Line < out[k].Line })
	// What was paid for is printed, whatever becomes of the receipts.
	return len(out), errors.Join(a.printLines(out, groups), saveReceipts(receipts, all))
}

func (a *app) printLines(out []lineResult, groups []*batchGroup) error {
	if a.quiet || a.format == "yaml" {
		return a.print(report{data: out, ids: jobsOf(groups), table: func(io.Writer) {}})
	}
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	for _, r := range out {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return nil
}
