package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"strings"
	"time"

	"go.uber.org/zap"

	"edgenet.dev/market"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/modules"
)

// JobSpec is a module, its inputs and a policy: one task per input. Either
// Type names a built-in module or Module holds raw WASM.
type JobSpec struct {
	Type   string
	Module []byte
	// Inputs of a built-in type are payloads as people write them (JSON, or the
	// text itself), or what sandbox/modules encoded; one that the type does not
	// understand is an error before a job exists. A module gets its own as they
	// are.
	Inputs  [][]byte
	Options market.Options
}

// plan checks a spec and fills its defaults. raw are the module's bytes.
func (n *Node) plan(spec JobSpec) (job market.Job, raw []byte, err error) {
	most := n.net.MaxRun()
	o := spec.Options.WithTimes(most).WithDefaults()
	refuse := func(format string, args ...any) (market.Job, []byte, error) {
		return market.Job{}, nil, proto.CodeMalformed.Errorf(format, args...)
	}
	switch {
	case o.Redundancy < 1 || o.Redundancy > proto.MaxRedundancy:
		return refuse("redundancy %d: want 1 to %d", o.Redundancy, proto.MaxRedundancy)
	case o.Timeout < time.Second:
		return refuse("timeout %s: want at least 1s", o.Timeout)
	case o.Run < market.LeastTimeout:
		return refuse("run timeout %s: want at least %s", o.Run, market.LeastTimeout)
	case o.Run > most:
		return market.Job{}, nil, proto.CodeLimits.Errorf("run timeout %s: a try may run for at most %s in network %s", o.Run, most, n.net.Genesis.Name)
	case spec.Options.Run > o.Timeout:
		return refuse("run timeout %s is longer than the timeout of the whole job, %s: raise that too", o.Run, o.Timeout)
	case o.Queue != 0 && o.Queue < market.LeastTimeout:
		return refuse("queue timeout %s: want at least %s", o.Queue, market.LeastTimeout)
	case o.Queue > o.Timeout:
		return refuse("queue timeout %s is longer than the timeout of the whole job, %s: raise that too", o.Queue, o.Timeout)
	case o.Fuel > proto.MaxFuel:
		return refuse("fuel limit %d: want at most %d", o.Fuel, proto.MaxFuel)
	case o.Memory < 64<<10:
		return refuse("memory limit of %d bytes: want 64 KiB to 1 GiB", o.Memory)
	case o.Memory > sandbox.MaxMemory: // no worker's sandbox has more
		return market.Job{}, nil, proto.CodeLimits.Errorf("memory limit of %d bytes (--memory, memoryLimit): workers grant at most %d", o.Memory, uint64(sandbox.MaxMemory))
	case len(o.Label) > proto.MaxLabel:
		return refuse("label of %d bytes: want at most 64", len(o.Label))
	case len(spec.Inputs) == 0 || len(spec.Inputs) > proto.MaxTasks:
		return refuse("%d inputs: want 1 to %d, one per task", len(spec.Inputs), proto.MaxTasks)
	case (spec.Type == "") == (len(spec.Module) == 0):
		return refuse("name a task type or give a module, not both and not neither")
	}
	for i, in := range spec.Inputs {
		if len(in) > proto.MaxInput {
			return refuse("input %d has %d bytes: want at most %d", i, len(in), proto.MaxInput)
		}
	}
	raw = spec.Module
	typ := proto.CanonicalType(spec.Type)
	if typ != "" {
		b, ok := modules.Lookup(typ)
		if !ok {
			return market.Job{}, nil, proto.CodeType.Errorf("task type %q is not built in; there are %s, or give a .wasm file", spec.Type, strings.Join(modules.Types(), ", "))
		}
		raw = b.Raw
	}
	module := proto.CIDOf(raw)
	start, err := n.runnable(typ, module, raw, spec.Inputs, o)
	if err != nil {
		return market.Job{}, nil, err
	}
	job = market.Job{
		Type: typ, Module: module, ModuleSize: uint64(len(raw)), StartFuel: start, Options: o, Created: time.Now(),
		Inputs: make([]market.InputRef, len(spec.Inputs)),
	}
	if _, err := rand.Read(job.ID[:]); err != nil {
		return market.Job{}, nil, fmt.Errorf("job id: %w", err)
	}
	for i, in := range spec.Inputs {
		job.Inputs[i] = market.InputRef{Hash: proto.HashOf(in), Size: uint64(len(in))}
	}
	if err := n.quote(job).Check(o); err != nil {
		return job, raw, err
	}
	return job, raw, n.granted(o)
}

// Start submits a job. When it returns, the job is durable and goes on over
// restarts until it is final.
func (n *Node) Start(ctx context.Context, spec JobSpec) (proto.JobID, error) {
	id, err := n.launch(ctx, spec)
	if err != nil {
		return id, err
	}
	// Any commit makes what was put before it durable: job, module, inputs.
	if err := n.kv.commit([]write{{"mark/start", []byte{1}}}); err != nil {
		return id, fmt.Errorf("state store: %w", err)
	}
	return id, nil
}

// launch hands a job to the market without waiting for the disk: whoever waits
// for the result has nothing to lose in a crash, and the first result that is
// stored makes the job durable too.
func (n *Node) launch(ctx context.Context, spec JobSpec) (proto.JobID, error) {
	fail := func(err error) (proto.JobID, error) { return proto.JobID{}, err }
	if err := n.isReady(); err != nil {
		return fail(err)
	}
	spec, err := spec.encoded()
	if err != nil {
		return fail(err)
	}
	if p := n.Problems(); len(p) > 0 {
		return fail(proto.CodeConflict.Errorf("%s", p[0]))
	}
	job, raw, err := n.plan(spec)
	if err != nil {
		return fail(err)
	}
	if err := n.wallet.covers(n.quote(job).Hold); err != nil {
		return fail(err)
	}
	if err := n.storeJob(job, raw, spec.Inputs); err != nil {
		return fail(err)
	}
	n.activity.count(func(c *Counts) { c.JobsSubmitted++ })
	n.activity.say("job submitted", zap.Stringer("job", job.ID), zap.String("type", job.Type), zap.Stringer("module", job.Module),
		zap.Int("tasks", len(job.Inputs)), zap.Int("redundancy", job.Options.Redundancy), zap.String("label", job.Options.Label))
	return job.ID, n.tell(ctx, market.Submit{Job: job})
}

// storeJob keeps a job's blobs and its record.
func (n *Node) storeJob(job market.Job, raw []byte, inputs [][]byte) error {
	n.jobs.blobs.RLock() // until the record says that the job uses them
	defer n.jobs.blobs.RUnlock()
	if h, _ := proto.CIDHash(job.Module); n.builtins[h] == nil {
		n.jobs.begun.note(blobKey(h))
		if err := n.putModule(h, raw); err != nil {
			return fmt.Errorf("state store: %w", err)
		}
	}
	for i, in := range inputs {
		n.jobs.begun.note(blobKey(job.Inputs[i].Hash))
		if err := n.putBlob(job.Inputs[i].Hash, in); err != nil {
			return fmt.Errorf("state store: %w", err)
		}
	}
	rec, err := record(jobKey(job.ID), market.JobRecord{Job: job, State: market.Queued})
	if err != nil {
		return err
	}
	if err := n.kv.put(rec.key, rec.value); err != nil {
		return fmt.Errorf("state store: %w", err)
	}
	return nil
}

// tell posts an input and waits until its outcome is durable.
func (n *Node) tell(ctx context.Context, in market.Input) error {
	ack := make(chan struct{})
	if !n.jobs.postAck(in, ack) {
		return ErrClosed
	}
	select {
	case <-ack:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-n.done:
		return ErrClosed
	}
}

// Submit runs one task and waits for its result. A task that failed is a
// result with State Failed and a Code, not an error.
func (n *Node) Submit(ctx context.Context, t market.Task) (*market.Result, error) {
	rs, err := n.SubmitBatch(ctx, JobSpec{Type: t.Type, Module: t.Module, Inputs: [][]byte{t.Input}, Options: t.Options})
	if err != nil {
		return nil, err
	}
	return rs[0], nil
}

// SubmitBatch runs a job and waits for all its results, in input order. When
// ctx ends first the job goes on; find it with Jobs. Unlike Start's, the job
// is durable only from its first stored result on.
func (n *Node) SubmitBatch(ctx context.Context, spec JobSpec) ([]*market.Result, error) {
	id, err := n.launch(ctx, spec)
	if err != nil {
		return nil, err
	}
	if err := n.Wait(ctx, id); err != nil {
		return nil, err
	}
	out := make([]*market.Result, len(spec.Inputs))
	for i := range out {
		if out[i], err = n.Result(proto.TaskID{Job: id, Index: uint32(i)}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Watch yields the job now and after every change until it is final. It ends
// with an error when ctx ends, the node closes or there is no such job
// (CodeNotFound). Changes that come faster than they are taken are seen as one.
func (n *Node) Watch(ctx context.Context, id proto.JobID) iter.Seq2[market.JobView, error] {
	return func(yield func(market.JobView, error) bool) {
		for {
			changed := n.Changed(id) // before view, or a change between the two is missed
			v, err := n.view(id)
			if !yield(v, err) || err != nil || v.Record.State.Final() {
				return
			}
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				err = ctx.Err()
			case <-n.done:
				err = ErrClosed
			}
			yield(v, err)
			return
		}
	}
}

// Wait blocks until the job is final.
func (n *Node) Wait(ctx context.Context, id proto.JobID) error {
	for _, err := range n.Watch(ctx, id) {
		if err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) view(id proto.JobID) (market.JobView, error) {
	n.jobs.mu.Lock()
	v, ok := n.jobs.m.Job(id)
	n.jobs.mu.Unlock()
	if ok {
		return v, nil
	}
	v, _, err := n.jobs.stored(id)
	return v, err
}

// Job returns a job and its tasks, or CodeNotFound.
func (n *Node) Job(id proto.JobID) (market.JobView, []market.TaskView, error) {
	n.jobs.mu.Lock()
	v, ok := n.jobs.m.Job(id)
	tasks := n.jobs.m.Tasks(id)
	n.jobs.mu.Unlock()
	if ok {
		return v, tasks, nil
	}
	return n.jobs.stored(id)
}

// Jobs lists this node's jobs, newest first.
func (n *Node) Jobs() []market.JobView {
	n.jobs.mu.Lock()
	defer n.jobs.mu.Unlock()
	return n.jobs.m.Jobs()
}

// FindJob resolves a job id or a unique prefix of one.
func (n *Node) FindJob(prefix string) (proto.JobID, error) {
	if id, err := proto.ParseJobID(prefix); err == nil {
		_, err := n.view(id)
		return id, err
	}
	var found []proto.JobID
	for _, v := range n.Jobs() {
		if prefix != "" && strings.HasPrefix(v.Record.Job.ID.String(), strings.ToLower(prefix)) {
			found = append(found, v.Record.Job.ID)
		}
	}
	switch len(found) {
	case 0:
		return proto.JobID{}, proto.CodeNotFound.Errorf("no job starts with %q; see the list of jobs", prefix)
	case 1:
		return found[0], nil
	}
	return proto.JobID{}, proto.CodeMalformed.Errorf("%d jobs start with %q; give more letters", len(found), prefix)
}

// Cancel ends a job: running executions are stopped, verified results stay
// and are paid.
func (n *Node) Cancel(ctx context.Context, id proto.JobID) error {
	if err := n.isReady(); err != nil {
		return err
	}
	v, err := n.view(id)
	if err != nil {
		return err
	}
	if v.Record.State.Final() {
		return proto.CodeDuplicate.Errorf("job %s is %s already", id, v.Record.State)
	}
	return n.tell(ctx, market.Cancel{Job: id})
}

// Why explains in sentences why a job waits or what failed.
func (n *Node) Why(id proto.JobID) ([]string, error) {
	v, err := n.view(id)
	if err != nil {
		return nil, err
	}
	n.jobs.mu.Lock()
	lines, req, hold := n.jobs.m.Why(id), n.jobs.m.Requested(id), proto.Credit(0)
	if n.jobs.m.Unheld(id) {
		hold = n.jobs.m.Quote(v.Record.Job).Hold
	}
	n.jobs.mu.Unlock()
	if line := n.wallet.short(hold); line != "" {
		lines = append(lines, line)
	}
	if line := n.WaitingFor(v); line != "" {
		lines = append([]string{line + "."}, lines...)
	}
	n.wallet.mu.Lock()
	defer n.wallet.mu.Unlock()
	if what := n.wallet.waiting[req]; what != "" {
		lines = append(lines, "The balance does not suffice yet; waiting up to "+fundsWait.String()+" for "+what+".")
	}
	return lines, nil
}

func (n *Node) isReady() error {
	select {
	case <-n.done:
		return ErrClosed
	default:
	}
	select {
	case <-n.ready:
		return nil
	default:
		return proto.CodeBusy.Errorf("the node is not running yet")
	}
}
