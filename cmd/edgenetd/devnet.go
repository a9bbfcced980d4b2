package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"

	"edgenet.dev/node/durable"
	"edgenet.dev/node/identity"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/sandbox/modules"
)

//go:embed sample.txt
var sampleText []byte

// devnetGrant is what the genesis of a devnet gives to each node.
const devnetGrant = 1000 * proto.OneCredit

type devnetFlags struct {
	nodes, tasks, slots, liars int
	witnesses                  int
	redundancy                 uint32
	input, dir, receipts       string
	web, webRoot               string
	keep                       bool
	timeout                    time.Duration
}

func (a *app) devnetCmd() *cobra.Command {
	f := new(devnetFlags)
	c := &cobra.Command{
		Use: "devnet", Short: "Run a whole network on this machine, with a real job, and show the proofs", Args: takes(0, 0, ""),
		Long: `Starts real daemons, each its own process with its own directory, identity and
ports on the loopback interface. The first --witnesses nodes are the witnesses;
node 0 is the only address that the others know; the node after the witnesses
submits. They find each other, the input text is cut into tasks of type text,
every task runs on --redundancy nodes, and the command checks what came back:
receipts, certificates, ledger state on each node, conservation.

It exits 0 only when every task is verified, every receipt is valid, every
node has the same balances and no credit was lost or made.`,
		Example: "  edgenetd devnet\n  edgenetd devnet --witnesses 4\n  edgenetd devnet --nodes 7 --liars 1 --input book.txt -o json\n  edgenetd devnet --keep\n  edgenetd devnet --web 127.0.0.1:8080 --web-root browser/dist",
		RunE:    func(c *cobra.Command, _ []string) error { return a.devnet(c.Context(), f) },
	}
	p := c.Flags()
	p.IntVar(&f.nodes, "nodes", 0, "how many daemons to start, 3 to 64 (default the witnesses and 4 more)")
	p.IntVar(&f.witnesses, "witnesses", 1, "how many of them are witnesses: 1, 4, 7, …; one works too, several do nothing else")
	p.StringVar(&f.input, "input", "", "text to count the words of (default a short one that ships with the program)")
	p.IntVar(&f.tasks, "tasks", 24, "how many tasks to cut the text into")
	p.Uint32Var(&f.redundancy, "redundancy", 2, "how many nodes run each task")
	p.IntVar(&f.liars, "liars", 0, "how many nodes alter their results before signing them")
	p.IntVar(&f.slots, "slots", 1, "tasks that each node executes at once")
	p.StringVar(&f.dir, "net-dir", "", "directory to hold the nodes' directories (default a temporary one; --dir works too)")
	p.StringVar(&f.receipts, "receipts", "", "file to write the signed receipts to")
	p.StringVar(&f.web, "web", "", "host:port on which node 0 serves tabs; the network then runs until it is interrupted")
	p.StringVar(&f.webRoot, "web-root", "", "directory of the browser bundle that 'make browser' builds")
	p.BoolVar(&f.keep, "keep", false, "leave the network running")
	p.DurationVar(&f.timeout, "timeout", 5*time.Minute, "give up after so long")
	_ = p.MarkHidden("net-dir")
	return c
}

// workers is how many nodes take tasks: the submitter runs none of its own,
// and one of several witnesses only certifies.
func (f *devnetFlags) workers() int {
	if f.witnesses == 1 {
		return f.nodes - 1
	}
	return f.nodes - 1 - f.witnesses
}

func (f *devnetFlags) check() error {
	if f.nodes == 0 {
		f.nodes = f.witnesses + 4
	}
	workers := f.workers()
	switch {
	case f.witnesses < 1 || f.witnesses%3 != 1:
		return failf(exitUsage, "--witnesses %d: want 1, 4, 7, … (one more than three times as many as may be bad)", f.witnesses)
	case f.nodes < 3 || f.nodes > 64:
		return failf(exitUsage, "--nodes %d: want 3 to 64", f.nodes)
	case f.tasks < 1 || f.tasks > proto.MaxTasks:
		return failf(exitUsage, "--tasks %d: want 1 to %d", f.tasks, proto.MaxTasks)
	case f.slots < 1 || f.slots > 64:
		return failf(exitUsage, "--slots %d: want 1 to 64", f.slots)
	case f.redundancy < 1 || f.redundancy > proto.MaxRedundancy:
		return failf(exitUsage, "--redundancy %d: want 1 to %d", f.redundancy, proto.MaxRedundancy)
	case f.liars < 0 || workers-f.liars < int(f.redundancy):
		return failf(exitUsage, "%d nodes with %d liars leave %d honest workers beside the submitter, fewer than --redundancy %d; start more --nodes",
			f.nodes, max(0, f.liars), workers-max(0, f.liars), f.redundancy)
	case f.timeout < time.Second:
		return failf(exitUsage, "--timeout %v: want at least 1s", f.timeout)
	}
	return nil
}

// devnet is a running network of child processes.
type devnet struct {
	app     *app
	flags   *devnetFlags
	dir     string
	network *proto.Network
	nodes   []*devNode
	p       *progress
	started time.Time

	interrupted context.Context // ends with Ctrl-C, not with --timeout

	text   []byte
	inputs [][]byte
	job    *api.Job
	jobMs  int64
}

func (a *app) devnet(ctx context.Context, f *devnetFlags) (err error) {
	if err := f.check(); err != nil {
		return err
	}
	d := &devnet{app: a, flags: f, p: a.progress(), started: time.Now(), text: sampleText}
	if f.input != "" {
		if d.text, err = a.readFile(f.input, "input", maxBatchFile); err != nil {
			return err
		}
	}
	for i, part := range modules.SplitText(d.text, f.tasks) {
		in, err := encoded(proto.TypeText, part)
		if err != nil {
			return failf(exitRefused, "part %d of the input: %v; use more --tasks", i, err)
		}
		d.inputs = append(d.inputs, in)
	}
	if len(d.inputs) == 0 {
		return failf(exitRefused, "the input text is empty; name another with --input")
	}
	if err := checkReceipts(f.receipts); err != nil {
		return err
	}
	temporary := a.dirFlag == "" && f.dir == ""
	if err := d.makeDir(temporary); err != nil {
		return err
	}
	d.interrupted = ctx
	ctx, cancel := context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("the devnet was not done after %v", f.timeout))
	defer cancel()
	// Whatever happens below, a panic included, no child outlives this call
	// unless the user asked for it and all went well.
	keep := false
	defer func() {
		d.p.done()
		if keep {
			return
		}
		d.stopAll()
		if temporary && (err == nil || errors.Is(err, context.Canceled)) {
			os.RemoveAll(d.dir)
		} else if temporary {
			err = fmt.Errorf("%w; the daemons' logs are in %s", err, filepath.Join(d.dir, "node-*", logName))
		}
	}()
	report, err := d.run(ctx)
	if err != nil {
		switch ctx.Err() {
		case context.Canceled:
			return context.Canceled
		case context.DeadlineExceeded:
			return failf(exitTask, "%w while it was %s; allow more with --timeout", context.Cause(ctx), d.p.doing)
		}
		return err
	}
	d.p.done()
	if err := d.print(report); err != nil {
		return err
	}
	if err := report.verdict(); err != nil {
		return err
	}
	if f.keep {
		keep = true
		return d.release()
	}
	if f.web != "" {
		return d.serveTabs(f.web)
	}
	return nil
}

// serveTabs keeps the network up until the user ends it.
func (d *devnet) serveTabs(addr string) error {
	fmt.Fprintf(d.app.err, "\nTabs join at http://%s/ and this network runs until Ctrl-C. Its nodes are in %s\n", addr, d.dir)
	fmt.Fprintf(d.app.err, "Give a tab credits:  edgenetd --dir %s wallet transfer PEER 10\n", d.submitter().dir)
	for {
		if err := d.pause(d.interrupted); err != nil {
			if d.interrupted.Err() != nil {
				return nil
			}
			return err
		}
	}
}

func (d *devnet) makeDir(temporary bool) error {
	if temporary {
		dir, err := os.MkdirTemp("", "edgenet-devnet-")
		d.dir = dir
		return err
	}
	dir := d.flags.dir
	if dir == "" {
		dir = d.app.dirFlag
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return failf(exitRefused, "%s is not empty and was left alone; a devnet needs a fresh directory", dir)
	}
	d.dir = dir
	return os.MkdirAll(dir, 0o700)
}

// run takes the network from nothing to a checked report.
func (d *devnet) run(ctx context.Context) (*devnetReport, error) {
	d.p.stepf("creating %d identities", d.flags.nodes)
	if err := d.create(); err != nil {
		return nil, err
	}
	if err := d.startAll(ctx); err != nil {
		return nil, err
	}
	if err := d.waitDiscovered(ctx); err != nil {
		return nil, err
	}
	for _, n := range d.nodes {
		b, err := call(ctx, n.client.wallet.Balance, &api.BalanceRequest{})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.name, err)
		}
		n.before = b
	}
	if err := d.runJob(ctx); err != nil {
		return nil, err
	}
	results, err := d.submitter().client.results(ctx, d.job.Id)
	if err != nil {
		return nil, err
	}
	if err := saveReceipts(d.flags.receipts, results); err != nil {
		return nil, err
	}
	settled, err := d.waitEqual(ctx)
	if err != nil {
		return nil, err
	}
	return d.report(ctx, results, settled)
}

// submitter is the first node that is no witness: nobody certifies its own
// payments.
func (d *devnet) submitter() *devNode { return d.nodes[d.flags.witnesses] }

// create makes the identities and the genesis that names them.
func (d *devnet) create() error {
	g := &proto.Genesis{Name: "devnet"}
	for i := range d.flags.nodes {
		name := "node-" + strconv.Itoa(i)
		n := &devNode{name: name, dir: filepath.Join(d.dir, name), rests: d.flags.witnesses > 1 && i < d.flags.witnesses, liar: i >= d.flags.nodes-d.flags.liars}
		key, err := identity.Create(n.dir)
		if err != nil {
			return err
		}
		if n.id, err = peer.IDFromPrivateKey(key); err != nil {
			return err
		}
		n.client = newClient(n.dir)
		g.Grants = append(g.Grants, &proto.Grant{Account: []byte(n.id), Amount: uint64(devnetGrant)})
		d.nodes = append(d.nodes, n)
	}
	for _, n := range d.nodes[:d.flags.witnesses] {
		g.Witnesses = append(g.Witnesses, []byte(n.id))
	}
	var err error
	if d.network, err = newGenesis(g); err != nil {
		return err
	}
	for _, n := range d.nodes {
		if err := durable.WriteNew(filepath.Join(n.dir, genesisName), d.network.Raw, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// runJob submits the batch through node 1's socket and follows it.
func (d *devnet) runJob(ctx context.Context) error {
	start := time.Now()
	reply, err := call(ctx, d.submitter().client.tasks.Submit, &api.SubmitRequest{
		Type: proto.TypeText, Inputs: d.inputs, Redundancy: d.flags.redundancy, MaxCredits: uint64(devnetGrant / 2),
		TimeoutMs: uint64(d.flags.timeout.Milliseconds()), Label: "devnet",
	})
	if err != nil {
		return fmt.Errorf("submit the job: %w", err)
	}
	d.p.stepf("running job %s", shortJob(reply.Job))
	j, err := watch(ctx, d.submitter().client, reply.Job, d.p)
	if err != nil {
		return fmt.Errorf("follow job %s: %w", reply.Job, err)
	}
	d.job, d.jobMs = j, time.Since(start).Milliseconds()
	return nil
}

// release leaves the network running and says how to use it.
func (d *devnet) release() error {
	for _, n := range d.nodes {
		if err := n.letGo(); err != nil {
			return failf(exitFailure, "%s could not be left running: %w", n.name, err)
		}
	}
	w := d.app.err
	fmt.Fprintf(w, "\nThe network keeps running. Its nodes are in %s:\n", d.dir)
	for _, n := range d.nodes {
		fmt.Fprintf(w, "  %s  process %d  %s\n", n.name, n.cmd.Process.Pid, n.id)
	}
	fmt.Fprintf(w, "\nTalk to one:      edgenetd --dir %s status\n", d.submitter().dir)
	fmt.Fprintf(w, "Submit a task:    edgenetd --dir %s submit text --input FILE\n", d.submitter().dir)
	fmt.Fprintf(w, "Stop them all:    for n in %s/node-*; do edgenetd --dir $n stop; done\n", d.dir)
	return nil
}
