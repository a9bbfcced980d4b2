package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"edgenet.dev/market"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/sandbox"
)

// policy is what submit and batch ask of a job.
type policy struct {
	redundancy uint32
	credits    string
	priority   string
	timeout    time.Duration // of the whole job; 0 = the daemon's default
	run        time.Duration // of a try
	queue      time.Duration
	fuel       uint64
	memory     uint64
	label      string
}

func (p *policy) addFlags(f *pflag.FlagSet) {
	f.Uint32Var(&p.redundancy, "redundancy", market.DefaultRedundancy, "how many workers run each task, 1 to 7; 1 is not verified")
	f.StringVar(&p.credits, "max-credits", market.DefaultMaxCredits.String(), "budget: most credits that everything submitted here may cost, fee included")
	f.StringVar(&p.priority, "priority", "normal", "low, normal or high")
	f.DurationVar(&p.timeout, "timeout", 0, "give up after so long in all (default 10m, or twice --run-timeout when that is more)")
	f.DurationVar(&p.run, "run-timeout", 0, "longest that one try may run on a worker (default 30s, or as long as --fuel takes the reference CPU when that is more; the network has a cap)")
	f.DurationVar(&p.queue, "queue-timeout", 0, "give up when no worker runs any of it within so long (default: as long as --timeout)")
	f.Uint64Var(&p.fuel, "fuel", uint64(proto.DefaultFuel), "fuel limit of one task")
	f.Uint64Var(&p.memory, "memory", proto.DefaultMemory, "memory limit of one task in bytes")
	f.StringVar(&p.label, "label", "", "text shown in listings, at most 64 bytes")
}

// checkTimes refuses a timeout of 0, which would be the default's other name.
func checkTimes(c *cobra.Command) error {
	for _, name := range []string{"timeout", "run-timeout", "queue-timeout"} {
		if f := c.Flag(name); f.Changed && f.Value.String() == "0s" {
			return failf(exitUsage, "--%s 0s leaves no time; leave the flag out for the default", name)
		}
	}
	return nil
}

// fill checks the policy and writes it into a request.
func (p *policy) fill(req *api.SubmitRequest) error {
	max, err := proto.ParseCredit(p.credits)
	if err != nil || max == 0 {
		return failf(exitUsage, "--max-credits %q: want an amount above 0, such as 2.5", p.credits)
	}
	if _, err := proto.ParsePriority(p.priority); err != nil {
		return failf(exitUsage, "--priority %q: want low, normal or high", p.priority)
	}
	switch {
	case p.redundancy < 1 || p.redundancy > proto.MaxRedundancy:
		return failf(exitUsage, "--redundancy %d: want 1 to %d", p.redundancy, proto.MaxRedundancy)
	case p.timeout != 0 && p.timeout < time.Second:
		return failf(exitUsage, "--timeout %v: want at least 1s", p.timeout)
	case p.run != 0 && p.run < market.LeastTimeout:
		return failf(exitUsage, "--run-timeout %v: want at least %v", p.run, market.LeastTimeout)
	case p.queue != 0 && p.queue < market.LeastTimeout:
		return failf(exitUsage, "--queue-timeout %v: want at least %v", p.queue, market.LeastTimeout)
	case p.timeout != 0 && p.run > p.timeout:
		return failf(exitUsage, "--run-timeout %v is longer than --timeout %v, the time of the whole job; raise that too", p.run, p.timeout)
	case p.timeout != 0 && p.queue > p.timeout:
		return failf(exitUsage, "--queue-timeout %v is longer than --timeout %v, the time of the whole job; raise that too", p.queue, p.timeout)
	case p.fuel == 0 || p.fuel > uint64(proto.MaxFuel):
		return failf(exitUsage, "--fuel %d: want 1 to %d", p.fuel, proto.MaxFuel)
	case p.memory < 64<<10 || p.memory > sandbox.MaxMemory:
		return failf(exitUsage, "--memory %d: want 65536 to %d bytes", p.memory, uint64(sandbox.MaxMemory))
	case len(p.label) > proto.MaxLabel:
		return failf(exitUsage, "--label has %d bytes; at most 64 fit", len(p.label))
	}
	req.Redundancy, req.MaxCredits, req.Priority = p.redundancy, uint64(max), p.priority
	req.TimeoutMs, req.RunTimeoutMs, req.QueueTimeoutMs = uint64(p.timeout.Milliseconds()), uint64(p.run.Milliseconds()), uint64(p.queue.Milliseconds())
	req.FuelLimit, req.MemoryLimit, req.Label = p.fuel, p.memory, p.label
	return nil
}

type submission struct {
	policy
	input, receipts   string
	wait, dryRun, raw bool
}

func (a *app) submitCmd() *cobra.Command {
	s := new(submission)
	c := &cobra.Command{
		Use: "submit TYPE|MODULE.wasm", Short: "Run one task on the network and print its verified result",
		Args: takes(1, 1, "a task TYPE or a MODULE.wasm file"),
		Long: `Runs one task of a built-in type, or of a WASM module read from a file, and
prints its output. Input comes from --input or standard input; built-in types
other than text read a JSON payload. With --redundancy 2 or more the result is
accepted only when so many workers agree on its bytes and its fuel.

Ctrl-C stops waiting, not the job: 'edgenetd task show JOB' finds it again.`,
		Example: `  edgenetd submit text --input book.txt
  echo '{"query":[1,0],"vectors":[[0,1],[1,0]],"k":1}' | edgenetd submit vector_search
  edgenetd submit ./primes.wasm --input numbers.txt --redundancy 3 --max-credits 2`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkTimes(c); err != nil {
				return err
			}
			return a.submit(c.Context(), args[0], s)
		},
	}
	f := c.Flags()
	f.StringVar(&s.input, "input", "", "file with the task's input, or - for standard input")
	s.addFlags(f)
	f.BoolVar(&s.wait, "wait", true, "wait for the result; --wait=false prints the job's id at once")
	f.BoolVar(&s.dryRun, "dry-run", false, "check everything, print what it will put on hold and can cost; submit nothing")
	f.StringVar(&s.receipts, "receipts", "", "file to write the signed receipts to")
	f.BoolVar(&s.raw, "raw", false, "write the output's bytes as they are")
	return c
}

func (a *app) submit(ctx context.Context, what string, s *submission) error {
	req := new(api.SubmitRequest)
	if err := s.fill(req); err != nil {
		return err
	}
	switch {
	case s.raw && (s.dryRun || !s.wait):
		return failf(exitUsage, "--raw needs the result: leave it out; 'edgenetd task result JOB --raw' prints it later")
	case s.raw && (a.format != "table" || a.quiet):
		return failf(exitUsage, "--raw prints the output's bytes alone: leave out -o and -q, or --raw")
	}
	if err := receiptsOf(s.receipts, s.wait, s.dryRun); err != nil {
		return err
	}
	if err := a.chooseModule(req, what); err != nil {
		return err
	}
	input, err := a.taskInput(s.input)
	if err != nil {
		return err
	}
	if req.Type != "" {
		if input, err = encoded(req.Type, input); err != nil {
			return failf(exitRefused, "input of task type %s: %v; see 'edgenetd submit --help' for examples", req.Type, err)
		}
	}
	req.Inputs, req.DryRun = [][]byte{input}, s.dryRun
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	reply, err := call(ctx, d.tasks.Submit, req)
	if err != nil {
		return err
	}
	if !s.dryRun && !s.wait {
		if j, err := call(ctx, d.tasks.Get, &api.GetRequest{Job: reply.Job}); err == nil {
			a.progress().waits(j)
		}
	}
	if s.dryRun {
		return a.printDryRun(ctx, d, req, reply)
	}
	if !s.wait {
		return a.printSubmitted(req, reply, nil)
	}
	j, err := a.follow(ctx, d, reply.Job)
	if err != nil {
		return err
	}
	rs, err := d.results(ctx, j.Id)
	if err != nil {
		return err
	}
	// What was paid for is printed, whatever becomes of the receipts.
	if err := errors.Join(a.printResults(j, rs, s.raw), saveReceipts(s.receipts, rs)); err != nil {
		return err
	}
	return judge(j)
}

// receiptsOf refuses --receipts where there will be none, or no place for them.
func receiptsOf(path string, wait, dryRun bool) error {
	if path != "" && (dryRun || !wait) {
		return failf(exitUsage, "--receipts needs the results: leave it out; 'edgenetd task result JOB --receipts FILE' writes them later")
	}
	return checkReceipts(path)
}

// chooseModule reads the module when the argument names a file and checks it
// here, so that a bad one is refused with the sandbox's own reason.
func (a *app) chooseModule(req *api.SubmitRequest, what string) error {
	isFile := strings.HasSuffix(what, ".wasm") || strings.ContainsRune(what, os.PathSeparator) || what == "-"
	if !isFile {
		req.Type = proto.CanonicalType(what)
		return knownType(req.Type)
	}
	_, raw, dropped, err := a.loadModule(what)
	if err != nil {
		return err
	}
	if dropped >= hintFrom && !a.quiet {
		fmt.Fprintf(a.err, "%s: %s of names and debugging data stay here; the module travels with %s (strip it, or build without debugging data, to load it faster)\n",
			what, bytesText(uint64(dropped)), bytesText(uint64(len(raw))))
	}
	req.Module = raw
	return nil
}

// taskInput reads --input; without one, standard input unless that is a
// terminal, where waiting for somebody to type would look like a hang.
func (a *app) taskInput(path string) ([]byte, error) {
	if path == "" {
		if f, ok := a.in.(*os.File); ok && onTerminal(f) {
			return nil, failf(exitUsage, "the task needs input; name a file with --input, or pipe it in")
		}
		path = "-"
	}
	return a.readFile(path, "input", proto.MaxInput)
}

// printDryRun shows what a job would cost beside what there is to pay it, and
// fails when that does not cover the first hold.
func (a *app) printDryRun(ctx context.Context, d *client, req *api.SubmitRequest, reply *api.SubmitReply) error {
	b, err := call(ctx, d.wallet.Balance, &api.BalanceRequest{})
	if err != nil {
		return err
	}
	if err := a.printSubmitted(req, reply, b); err != nil {
		return err
	}
	return covers(b, reply.Hold)
}

// covers refuses what puts more on hold at first than an account has.
func covers(b *api.BalanceReply, hold uint64) error {
	has := b.Available + b.Held + b.Receivable
	if has >= hold {
		return nil
	}
	return failf(exitInsufficient, "the balance is %s credits and %s are put on hold at first: %s more are needed; earn them by working, or have them sent with 'edgenetd wallet transfer %s AMOUNT' on a node that has them",
		credits(has), credits(hold), credits(hold-has), b.Account)
}

// printSubmitted shows a job and what it may cost; balance may be nil.
func (a *app) printSubmitted(req *api.SubmitRequest, reply *api.SubmitReply, balance *api.BalanceReply) error {
	ids := []string{reply.Module}
	if reply.Job != "" {
		ids = []string{reply.Job}
	}
	data := map[string]any{
		"job": reply.Job, "module": reply.Module, "tasks": len(req.Inputs), "dry_run": req.DryRun,
		"hold": reply.Hold, "max_cost": reply.MaxCost, "task_cost": reply.TaskCost, "max_credits": reply.MaxCredits, "price": reply.Price,
	}
	if balance != nil {
		data["balance"] = balance.Available
	}
	return a.print(report{
		data: data,
		ids:  ids,
		table: func(w io.Writer) {
			if reply.Job != "" {
				row(w, "job", reply.Job)
			}
			row(w, "module", reply.Module)
			row(w, "tasks", len(req.Inputs))
			row(w, "price", credits(reply.Price)+" credits for 60 Gfuel")
			row(w, "hold", credits(reply.Hold)+" credits at first; it grows as needed")
			row(w, "at most", fmt.Sprintf("%s credits, fee included; one task %s", credits(reply.MaxCost), credits(reply.TaskCost)))
			row(w, "budget", credits(reply.MaxCredits)+" credits")
			if balance != nil {
				row(w, "balance", credits(balance.Available)+" credits")
			}
			if reply.Job != "" {
				row(w, "next", "edgenetd task show "+reply.Job)
			}
		},
	})
}

// follow shows a job's progress until it is final. When the user interrupts,
// the job goes on and the error says how to find it.
func (a *app) follow(ctx context.Context, d *client, job string) (*api.Job, error) {
	p := a.progress()
	defer p.done()
	for restarts := 0; ; restarts++ {
		j, err := watch(ctx, d, job, p)
		switch {
		case err == nil:
			return j, nil
		case ctx.Err() != nil:
			p.done()
			return nil, failf(exitInterrupted, "interrupted; job %s goes on: see 'edgenetd task show %s', or end it with 'edgenetd task cancel %s'", job, job, job)
		case restarts >= 3 || !errors.Is(err, errCutOff):
			return nil, failf(exitCode(err), "%w; the job %s is kept by the daemon: see 'edgenetd task show %s' when it runs again", err, job, job)
		}
	}
}

// errCutOff: the stream ended before the job did.
var errCutOff = errors.New("the daemon ended the stream before the job was final")

func watch(ctx context.Context, d *client, job string, p *progress) (*api.Job, error) {
	stream, err := d.tasks.Watch(ctx, connect.NewRequest(&api.GetRequest{Job: job}))
	if err != nil {
		return nil, remote(err)
	}
	defer stream.Close()
	var last *api.Job
	for stream.Receive() {
		last = stream.Msg()
		p.waits(last)
		lost := ""
		if last.LostTries > 0 {
			lost = fmt.Sprintf(", %d tries lost", last.LostTries)
		}
		p.showf("%s: %s, %d of %d done, %d verified, %d running, %s credits%s",
			shortJob(job), last.State, last.Done, last.Tasks, last.Verified, last.Running, credits(last.Cost), lost)
	}
	if err := stream.Err(); err != nil {
		return nil, remote(err)
	}
	if last == nil || !finalState(last.State) {
		return nil, errCutOff
	}
	return last, nil
}

func finalState(s string) bool {
	return s == "done" || s == "failed" || s == "cancelled" || s == "expired"
}

func shortJob(id string) string { return id[:min(8, len(id))] }

// spending says what became of a budget.
func spending(budget, cost uint64) string {
	return fmt.Sprintf("budget %s credits, spent %s, left %s", credits(budget), credits(cost), credits(budget-min(budget, cost)))
}

// judge turns a job's end into the exit code: anything but done, and a result
// that was to be verified and was not, is a failure.
func judge(j *api.Job) error {
	switch {
	case !finalState(j.State):
		return failf(exitTask, "job %s is not finished (%s); wait for it with 'edgenetd task show %s'", j.Id, j.State, j.Id)
	case j.State != "done":
		why := strings.TrimSpace(j.Code + " " + j.Reason)
		code := exitTask
		if j.Code == proto.CodeBudget.String() || j.Code == proto.CodeInsufficient.String() {
			code = exitInsufficient // the same as when it is known before
		}
		return failf(code, "job %s ended %s (%s) with %d of %d tasks done; 'edgenetd task why %s' says more", j.Id, j.State, dash(why), j.Done, j.Tasks, j.Id)
	case j.Done < j.Tasks:
		return failf(exitTask, "%d of the %d tasks of job %s failed; 'edgenetd task show %s' says which", j.Tasks-j.Done, j.Tasks, j.Id, j.Id)
	case j.Redundancy > 1 && j.Verified < j.Tasks:
		return failf(exitTask, "only %d of the %d tasks of job %s are verified; 'edgenetd task show %s' says which", j.Verified, j.Tasks, j.Id, j.Id)
	}
	return nil
}
