package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// jobs owns the market machine: one loop feeds it and acts on what it says.
type jobs struct {
	n      *Node
	inputs chan posted

	mu       sync.Mutex // guards m and watchers
	m        *market.Machine
	watchers map[proto.JobID]chan struct{}

	pending *pendingResults

	removing sync.Mutex    // one removal at a time
	blobs    sync.RWMutex  // written to while blobs are deleted, read while a job begins to use some
	begun    blobUses      // since the removal under way began to count
	ended    chan struct{} // a job is over since the last look for old ones
}

// reoffer is the market's default; tests have another one.
var reoffer time.Duration

// posted is an input on its way to the machine. ack, when set, is closed once
// the outputs that came of it are durable.
type posted struct {
	in  market.Input
	ack chan struct{}
}

func newJobs(n *Node) (*jobs, error) {
	m, err := market.New(market.Config{
		Self: n.self, Price: n.net.Price(), FeePPM: n.net.Genesis.FeePpm,
		LowPercent: n.net.Genesis.LowPercent, HighPercent: n.net.Genesis.HighPercent,
		Diversity: n.net.Genesis.Diversity, Shards: n.net.Genesis.Shards,
		Grace: n.net.Grace(), MaxHold: n.net.MaxHold(), MaxRun: n.net.MaxRun(), Reoffer: reoffer, Linger: n.cfg.Linger, Overtime: n.cfg.Overtime,
		Worker: n.cfg.Worker,
	})
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	j := &jobs{
		n: n, m: m, inputs: make(chan posted, 1024),
		watchers: map[proto.JobID]chan struct{}{},
		pending:  newPendingResults(),
		ended:    make(chan struct{}, 1),
	}
	return j, nil
}

// post hands an input to the machine. It blocks while the machine is behind,
// which slows the peer that sends, and gives up when the node ends.
func (j *jobs) post(in market.Input) { j.postAck(in, nil) }

func (j *jobs) postAck(in market.Input, ack chan struct{}) bool {
	select {
	case j.inputs <- posted{in, ack}:
		return true
	case <-j.n.ctx.Done():
		return false
	}
}

// begin takes over what an earlier run left, before the node is ready.
func (j *jobs) begin(ctx context.Context) error {
	restore, err := j.restore()
	if err != nil {
		return err
	}
	return j.step(ctx, []posted{{in: restore}})
}

// run is, with begin before it, the only place where the machine steps.
func (j *jobs) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	batch := make([]posted, 0, 256)
	for {
		j.mu.Lock()
		next, due := j.m.Next()
		j.mu.Unlock()
		if due {
			timer.Reset(max(0, time.Until(next)))
		} else {
			timer.Stop()
		}
		batch = batch[:0]
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			batch = append(batch, posted{in: market.Tick{}})
		case p := <-j.inputs:
			batch = append(batch, p)
		}
		for more := true; more && len(batch) < cap(batch); {
			select {
			case p := <-j.inputs:
				batch = append(batch, p)
			default:
				more = false
			}
		}
		if err := j.step(ctx, batch); err != nil {
			return err
		}
	}
}

func (j *jobs) step(ctx context.Context, batch []posted) error {
	var outs []market.Output
	j.mu.Lock()
	for _, p := range batch {
		outs = append(outs, j.m.Step(time.Now(), p.in)...)
	}
	err := j.save(outs) // within the lock: nobody reads of a result that is not on disk
	j.mu.Unlock()
	if err != nil {
		return err
	}
	j.act(ctx, outs)
	for _, p := range batch {
		if p.ack != nil {
			close(p.ack)
		}
	}
	return nil
}

// restore reads what an earlier run saved, and the account's open holds.
func (j *jobs) restore() (market.Restore, error) {
	var r market.Restore
	for _, t := range []struct {
		prefix string
		add    func([]byte) error
	}{
		{"job/", appendTo(&r.Jobs)},
		{"task/", appendTo(&r.Tasks)},
		{"hold/", appendTo(&r.Holds)},
		{"cost/", appendTo(&r.Costs)},
		{"standing/", appendTo(&r.Standings)},
		{"worth/", appendTo(&r.Worths)},
	} {
		err := j.n.kv.scan(t.prefix, func(key string, v []byte) error {
			if err := t.add(v); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			return nil
		})
		if err != nil {
			return r, fmt.Errorf("state store: %w", err)
		}
	}
	for _, rec := range r.Jobs { // stores of an earlier version do not say which blobs are modules
		h, err := proto.CIDHash(rec.Job.Module)
		if err != nil || j.n.isModule(h) {
			continue
		}
		if err := j.n.kv.put(moduleKey(h), []byte{1}); err != nil {
			return r, fmt.Errorf("state store: %w", err)
		}
	}
	r.Holds = j.n.wallet.reconcileHolds(r.Holds)
	for _, h := range r.Holds {
		for _, l := range h.Lanes {
			j.n.leases.miss(l.Worker)
		}
	}
	return r, nil
}

// stored reads a job that the machine no longer keeps: it holds the newest
// thousand final ones.
func (j *jobs) stored(id proto.JobID) (v market.JobView, tasks []market.TaskView, err error) {
	b, err := j.n.kv.get(jobKey(id))
	if errors.Is(err, errNoKey) {
		return v, nil, proto.CodeNotFound.Errorf("job %s is not known to this node", id)
	}
	if err == nil {
		err = json.Unmarshal(b, &v.Record)
	}
	if err != nil {
		return v, nil, fmt.Errorf("job %s: %w", id, err)
	}
	var paid proto.Credit
	holds := map[cid.Cid]bool{}
	err = j.n.kv.scan(jobTasks(id), func(_ string, b []byte) error {
		var t market.TaskRecord
		if err := json.Unmarshal(b, &t); err != nil {
			return err
		}
		tasks = append(tasks, market.TaskView{TaskRecord: t})
		switch {
		case t.State == market.Done:
			v.Done++
		case t.State.Final(): // the others had a trial only
			v.Failed++
		}
		if t.Verified {
			v.Verified++
		}
		for _, r := range t.Replicas {
			paid += r.Paid
			if r.Agreed || r.Trial {
				v.Fuel += r.Fuel
			}
			if r.Hold.Defined() {
				holds[r.Hold] = true
			}
		}
		return nil
	})
	if err != nil {
		return v, nil, fmt.Errorf("job %s: %w", id, err)
	}
	if v.Cost = paid; paid > 0 {
		v.Cost += proto.Fee(paid, j.n.net.Genesis.FeePpm)
	}
	open, err := j.anyOpen(holds)
	v.Settled = v.Record.State.Final() && !open
	return v, tasks, err
}

// anyOpen reports whether one of the holds is not closed yet. A restart before
// that needs the lane totals in the records of the tasks that it paid.
func (j *jobs) anyOpen(holds map[cid.Cid]bool) (bool, error) {
	for hold := range holds {
		_, err := j.n.kv.get(holdKey(hold))
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, errNoKey) {
			return false, fmt.Errorf("state store: %w", err)
		}
	}
	return false, nil
}

func appendTo[T any](list *[]T) func([]byte) error {
	return func(b []byte) error {
		var v T
		if err := json.Unmarshal(b, &v); err != nil {
			return err
		}
		*list = append(*list, v)
		return nil
	}
}

// changed wakes everyone who watches the job.
func (j *jobs) changed(id proto.JobID) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if ch, ok := j.watchers[id]; ok {
		close(ch)
		delete(j.watchers, id)
	}
}

// Changed is closed at the job's next change: take it, read Job, then wait.
func (n *Node) Changed(id proto.JobID) <-chan struct{} {
	n.jobs.mu.Lock()
	defer n.jobs.mu.Unlock()
	ch, ok := n.jobs.watchers[id]
	if !ok {
		ch = make(chan struct{})
		if _, known := n.jobs.m.Job(id); known { // nothing would ever close it
			n.jobs.watchers[id] = ch
		}
	}
	return ch
}

func receiptPrefix(t proto.TaskID) string { return fmt.Sprintf("receipt/%s/%05d/", t.Job, t.Index) }

// keepResult turns an accepted replica's result into stored records.
func (j *jobs) keepResult(ref proto.Ref, worker peer.ID) ([]write, error) {
	r, ok := j.pending.take(worker, ref)
	if !ok { // the worker sent so much that it pushed out its own result
		j.n.log.Error("an accepted result is not here any more", zap.Stringer("task", ref), zap.Stringer("worker", worker))
		return nil, nil
	}
	sr, err := goproto.Marshal(r.receipt)
	if err != nil {
		return nil, fmt.Errorf("receipt of %s: %w", ref, err)
	}
	return []write{
		{blobKey(proto.HashOf(r.output)), append([]byte{}, r.output...)}, // never nil: that deletes
		{blobKey(proto.HashOf(r.log)), append([]byte{}, r.log...)},
		{receiptPrefix(ref.Task) + worker.String(), sr},
	}, nil
}

// Result reads a task's result. A task that is not final has State but no
// output of its own; one without a result has log and output of its newest lost try, see LostLog; an unknown one is CodeNotFound.
func (n *Node) Result(id proto.TaskID) (*market.Result, error) {
	b, err := n.kv.get(taskKey(id))
	if errors.Is(err, errNoKey) {
		v, tasks, err := n.Job(id.Job)
		if err != nil {
			return nil, err
		}
		if int(id.Index) >= len(v.Record.Job.Inputs) {
			return nil, proto.CodeNotFound.Errorf("job %s has %d tasks, there is no number %d", id.Job, len(v.Record.Job.Inputs), id.Index)
		}
		r := &market.Result{Task: id, State: market.Queued, Log: n.LostLog(id), Output: n.LostOutput(id)}
		for _, t := range tasks {
			if t.ID == id {
				r.State = t.State
			}
		}
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("task %s: %w", id, err)
	}
	var rec market.TaskRecord
	if err := json.Unmarshal(b, &rec); err != nil {
		return nil, fmt.Errorf("task %s: %w", id, err)
	}
	if !rec.State.Final() { // trials of it were paid
		return &market.Result{Task: id, State: rec.State, Cost: rec.Cost, Log: n.LostLog(id), Output: n.LostOutput(id)}, nil
	}
	r := resultOf(rec)
	if len(r.Workers) > 0 {
		if r.Output, err = n.blob(rec.Output); err != nil {
			return nil, fmt.Errorf("task %s: output: %w", id, err)
		}
		if r.Log, err = n.blob(rec.Log); err != nil {
			r.Log = nil // a log is a courtesy
		}
	} else {
		r.Log, r.Output = n.LostLog(id), n.LostOutput(id)
	}
	err = n.kv.scan(receiptPrefix(id), func(_ string, v []byte) error {
		sr := new(proto.SignedReceipt)
		if err := goproto.Unmarshal(v, sr); err != nil {
			return err
		}
		r.Receipts = append(r.Receipts, sr)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("task %s: receipts: %w", id, err)
	}
	return r, nil
}

// resultOf is a result without what is stored apart: output, log and receipts.
func resultOf(rec market.TaskRecord) *market.Result {
	r := &market.Result{
		Task: rec.ID, State: rec.State, Status: rec.Status, ExitCode: rec.ExitCode, Fuel: rec.Fuel,
		Cost: rec.Cost, Verified: rec.Verified, Code: rec.Code, Reason: rec.Reason,
	}
	for _, rep := range rec.Replicas {
		if rep.Agreed {
			r.Workers = append(r.Workers, rep.Worker)
		}
	}
	return r
}

// received keeps what came with a worker's result until the market decides.
func (j *jobs) received(worker peer.ID, ref proto.Ref, sr *proto.SignedReceipt, receipt *proto.Receipt, output, log []byte) {
	j.pending.put(worker, ref, &pendingResult{sr, output, log})
	j.n.log.Debug("result", zap.Stringer("task", ref), zap.Stringer("worker", worker), zap.Uint64("fuel", receipt.Fuel))
	j.post(market.ResultSeen{From: worker, Ref: ref, Receipt: receipt, Raw: sr.Receipt})
}
