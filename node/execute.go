package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"

	"edgenet.dev/market"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
)

// execKey names an execution: attempts are numbered by the submitter.
type execKey struct {
	from peer.ID
	ref  proto.Ref
}

// laneID names a lane of a hold.
type laneID struct {
	hold cid.Cid
	lane uint32
}

// execution is an assignment's bytes from its arrival until the market forgets
// it: the input before it runs, output and log after.
type execution struct {
	input  input
	cancel context.CancelFunc // while it runs
	halts  chan bool          // what the market said last of whether it stands
	output []byte
	log    []byte
	hash   proto.Hash
	ended  bool
	orders proto.Hash // of the signed assignments that it is under way for: taken, not delivered
}

// input is given inline or fetched from the submitter, and then inline, too.
type input struct {
	inline []byte
	cid    cid.Cid // of one to be fetched
	key    []byte  // to show for it
	hold   cid.Cid // that pays for it
	lane   uint32
	batch  []byte // signed assignments that it came with
}

func inputOf(in *proto.Input) (input, error) {
	switch w := in.GetWhere().(type) {
	case *proto.Input_Inline:
		if len(w.Inline) > proto.MaxInline {
			return input{}, proto.CodeTooLarge.Errorf("inline input of %d bytes", len(w.Inline))
		}
		return input{inline: w.Inline}, nil
	case *proto.Input_Cid:
		c, err := proto.ParseCID(w.Cid)
		if len(in.Key) > blobKeySize {
			return input{}, proto.CodeTooLarge.Errorf("key of %d bytes", len(in.Key))
		}
		return input{cid: c, key: in.Key}, err
	}
	return input{}, proto.CodeMalformed.Errorf("an assignment has no input")
}

// Bounds of what all submitters together have here, and one of them; the market
// refuses far earlier, these guard inputs that it has not judged yet.
const (
	maxExecutions   = 8192
	maxInputBytes   = 256 << 20
	inputBytesShare = maxInputBytes / 4
)

func (w *work) keepInput(k execKey, in input) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.execs) >= maxExecutions || w.execs[k] != nil || !w.bytes(k.from, len(in.inline)) {
		return
	}
	w.execs[k] = &execution{input: in}
}

// bytes makes room for n bytes of a submitter's inputs, or gives back -n of
// them; false when its share or the whole is used up. Call with mu held.
func (w *work) bytes(from peer.ID, n int) bool {
	if n > 0 && (w.inputBytes+n > maxInputBytes || w.inputsOf[from]+n > inputBytesShare) {
		return false
	}
	w.inputBytes += n
	if w.inputsOf[from] += n; w.inputsOf[from] <= 0 {
		delete(w.inputsOf, from)
	}
	return true
}

// taken keeps the signed assignments of which the market took refs.
func (w *work) taken(from peer.ID, refs []proto.Ref) {
	for _, ref := range refs {
		w.mu.Lock()
		e := w.execs[execKey{from, ref}]
		var in input
		if e != nil {
			in = e.input
			if e.input.batch = nil; in.batch != nil {
				e.orders = proto.HashOf(in.batch)
				w.atWork[laneID{in.hold, in.lane}]++
			}
		}
		w.mu.Unlock()
		if in.batch != nil {
			w.n.claims.taken(in.hold, in.lane, from, in.batch)
		}
	}
}

// execute starts the sandbox for an accepted assignment.
func (w *work) execute(o market.Execute) {
	k := execKey{o.From, o.Ref}
	ctx, cancel := context.WithCancel(w.n.ctx)
	w.mu.Lock()
	e := w.execs[k]
	if e != nil {
		e.cancel, e.halts = cancel, make(chan bool, 1)
	}
	w.mu.Unlock()
	w.n.goDo(func(context.Context) {
		defer cancel()
		in := w.run(ctx, k, e, o.Assignment)
		w.mu.Lock()
		stopped := e != nil && w.execs[k] != e
		w.mu.Unlock()
		if !stopped {
			w.n.jobs.post(in)
		}
	})
}

// run ends with an Executed, whatever happens.
func (w *work) run(ctx context.Context, k execKey, e *execution, a *proto.Assignment) market.Executed {
	out := market.Executed{From: k.from, Ref: k.ref, Status: proto.StatusCancelled}
	failed := func(err error) market.Executed {
		w.failed.Add(1)
		w.n.activity.count(func(c *Counts) { c.Refused[proto.CodeOf(err)]++ })
		w.n.activity.say("task failed", zap.Stringer("task", k.ref), zap.Stringer("submitter", k.from), zap.Error(err))
		out.Code, out.Reason = proto.CodeOf(err), proto.Clip(err.Error(), 200)
		return out
	}
	if e == nil {
		return failed(errDropped)
	}
	id, err := moduleOf(a)
	if err != nil {
		return failed(err)
	}
	module := w.modules.get(id)
	if module == nil { // others took its place while this waited for a slot
		out.Missing = true
		return out
	}
	body := e.input.inline
	if err := isInput(body, a); err != nil {
		return failed(err)
	}
	limits := limitsOf(a)
	began := time.Now()
	res, err := w.n.cfg.Executor.Run(ctx, module, body, sandbox.Task{
		Limits: limits, Seed: k.ref.Task.Seed(), Halt: e.halts,
		Progress: func(permille uint32) { w.send(k.from, progressItem{k.ref, min(permille, 1000)}) },
	})
	if (err != nil || res.Status == proto.StatusHostOOM) && ctx.Err() == nil {
		w.n.unwell()
	}
	if err != nil {
		return failed(proto.CodeLocalFailure.Errorf("sandbox: %v", err))
	}
	if w.n.cfg.Tamper != nil && res.Status == proto.StatusOK {
		res.Output = w.n.cfg.Tamper(res.Output)
	}
	out.Salt = make([]byte, 16)
	if _, err := rand.Read(out.Salt); err != nil {
		return failed(fmt.Errorf("salt: %w", err))
	}
	out.Status, out.ExitCode, out.Fuel, out.Ran = res.Status, res.ExitCode, res.Fuel, res.Ran
	out.Output, out.OutputSize, out.Log = proto.HashOf(res.Output), uint64(len(res.Output)), proto.HashOf(res.Log)
	took := time.Since(began)
	w.n.activity.count(func(c *Counts) {
		c.Executions[res.Status]++
		c.RunTime += took
		c.RunFuel += res.Fuel
	})
	w.n.activity.say("task done", zap.Stringer("task", k.ref), zap.Stringer("submitter", k.from), zap.Stringer("status", res.Status),
		zap.Uint64("fuel", uint64(res.Fuel)), zap.Duration("took", took))
	if res.Status.Votable() {
		w.done.Add(1)
	} else {
		w.failed.Add(1)
	}
	w.mu.Lock()
	if w.execs[k] == e {
		w.bytes(k.from, -len(e.input.inline))
	}
	e.input, e.output, e.log, e.hash, e.ended = input{hold: e.input.hold, lane: e.input.lane}, res.Output, res.Log, out.Output, true
	w.mu.Unlock()
	return out
}

func limitsOf(a *proto.Assignment) proto.Limits {
	return proto.Limits{
		Fuel: proto.Fuel(a.FuelLimit), Memory: a.MemoryLimit, Output: a.OutputLimit,
		Wall: proto.Millis(a.WallMs),
	}.WithDefaults()
}

// halt makes an execution stand still, or go on. Only the market's goroutine
// calls it, so what is said last is what is heard.
func (w *work) halt(from peer.ID, ref proto.Ref, on bool) {
	w.mu.Lock()
	e := w.execs[execKey{from, ref}]
	w.mu.Unlock()
	if e == nil || e.halts == nil {
		return
	}
	select {
	case <-e.halts: // not heard yet
	default:
	}
	e.halts <- on
}

// stop kills an execution; nothing is posted for it any more.
func (w *work) stop(from peer.ID, ref proto.Ref) { w.forget(from, ref) }

func (w *work) forget(from peer.ID, ref proto.Ref) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := execKey{from, ref}
	if e := w.execs[k]; e != nil {
		if e.cancel != nil {
			e.cancel()
		}
		w.bytes(k.from, -len(e.input.inline))
		w.over(e)
		delete(w.execs, k)
	}
}

func (w *work) result(k execKey) (output, log []byte, lane delivered, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.execs[k]
	if e == nil || !e.ended {
		return nil, nil, delivered{}, false
	}
	return e.output, e.log, delivered{hold: e.input.hold, lane: e.input.lane}, true
}

// underWay are the signed assignments on a lane of which work was taken and is not
// delivered.
func (w *work) underWay(hold cid.Cid, lane uint32) map[proto.Hash]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[proto.Hash]bool{}
	for _, e := range w.execs {
		if e.orders != (proto.Hash{}) && e.input.lane == lane && e.input.hold.Equals(hold) {
			out[e.orders] = true
		}
	}
	return out
}

// laneBusy reports whether a lane has such work.
func (w *work) laneBusy(hold cid.Cid, lane uint32) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.atWork[laneID{hold, lane}] > 0
}

// over notes that an execution is not under way any more. Call with mu held.
func (w *work) over(e *execution) {
	if e.orders == (proto.Hash{}) {
		return
	}
	e.orders = proto.Hash{}
	id := laneID{e.input.hold, e.input.lane}
	if w.atWork[id]--; w.atWork[id] == 0 {
		delete(w.atWork, id)
	}
}

// delivered notes that results are on their way and kept as proof.
func (w *work) delivered(keys []execKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range keys {
		if e := w.execs[k]; e != nil {
			w.over(e)
		}
	}
}

// output finds a large result that a submitter fetches by hash.
func (w *work) output(h proto.Hash) ([]byte, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.execs {
		if e.ended && e.hash == h {
			return e.output, true
		}
	}
	return nil, false
}
