package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
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

// execution is an assignment's bytes from its arrival until the market forgets
// it: the input before it runs, output and log after.
type execution struct {
	input  input
	cancel context.CancelFunc // while it runs
	output []byte
	log    []byte
	hash   proto.Hash
	ended  bool
}

// input is given inline or fetched from the submitter.
type input struct {
	inline []byte
	cid    cid.Cid
	hold   cid.Cid // that pays for it
	lane   uint32
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
		return input{cid: c}, err
	}
	return input{}, proto.CodeMalformed.Errorf("an assignment has no input")
}

// Bounds of what all submitters together have here; the market refuses far
// earlier, these guard inputs that it has not judged yet.
const (
	maxExecutions = 8192
	maxInputBytes = 256 << 20
)

func (w *work) keepInput(k execKey, in input) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.execs) >= maxExecutions || w.inputBytes+len(in.inline) > maxInputBytes || w.execs[k] != nil {
		return
	}
	w.inputBytes += len(in.inline)
	w.execs[k] = &execution{input: in}
}

// execute starts the sandbox for an accepted assignment.
func (w *work) execute(o market.Execute) {
	k := execKey{o.From, o.Ref}
	ctx, cancel := context.WithCancel(w.n.ctx)
	w.mu.Lock()
	e := w.execs[k]
	if e != nil {
		e.cancel = cancel
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
		return failed(proto.CodeFetch.Errorf("the input was dropped: too many assignments at once"))
	}
	module, err := w.module(ctx, k.from, a)
	if err != nil {
		return failed(err)
	}
	body, err := w.input(ctx, k.from, e.input, a)
	if err != nil {
		return failed(err)
	}
	limits := limitsOf(a)
	began := time.Now()
	res, err := w.n.cfg.Executor.Run(ctx, module, body, sandbox.Task{
		Limits: limits, Seed: k.ref.Task.Seed(),
		Progress: func(permille uint32) { w.send(k.from, progressItem{k.ref, min(permille, 1000)}) },
	})
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
		w.inputBytes -= len(e.input.inline)
	}
	e.input, e.output, e.log, e.hash, e.ended = input{hold: e.input.hold, lane: e.input.lane}, res.Output, res.Log, out.Output, true
	w.mu.Unlock()
	return out
}

func limitsOf(a *proto.Assignment) proto.Limits {
	return proto.Limits{
		Fuel: proto.Fuel(a.FuelLimit), Memory: a.MemoryLimit, Output: a.OutputLimit,
		Wall: time.Duration(a.WallMs) * time.Millisecond,
	}.WithDefaults()
}

func (w *work) input(ctx context.Context, from peer.ID, in input, a *proto.Assignment) ([]byte, error) {
	want, err := proto.ToHash(a.InputHash)
	if err != nil {
		return nil, err
	}
	body := in.inline
	if in.cid.Defined() {
		h, err := proto.CIDHash(in.cid)
		if err != nil {
			return nil, err
		}
		if h != want {
			return nil, proto.CodeInputHash.Errorf("the input's CID is not the one assigned")
		}
		if body, err = w.n.fetchBlob(ctx, from, h, proto.MaxInput); err != nil {
			return nil, err
		}
	}
	if proto.HashOf(body) != want || uint64(len(body)) != a.InputSize {
		return nil, proto.CodeInputHash.Errorf("the input is not the one assigned")
	}
	return body, nil
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
		w.inputBytes -= len(e.input.inline)
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

// moduleCache holds prepared modules; one fetch and one Prepare at a time per
// module, however many tasks wait for it.
type moduleCache struct {
	mu    sync.Mutex
	ready *lru.Cache[proto.Hash, *sandbox.Module]
	held  int // bytes of those
	busy  map[proto.Hash]*preparing
}

// Prepared modules are kept, modulesCap at most, and modulesHeld bytes of them
// but for the last: a module of 4 MiB can be 20 MiB when it is metered.
const (
	modulesCap  = 32
	modulesHeld = 64 << 20
)

type preparing struct {
	done chan struct{}
	m    *sandbox.Module
	err  error
}

func newModuleCache() *moduleCache {
	c := &moduleCache{busy: map[proto.Hash]*preparing{}}
	var err error
	c.ready, err = lru.NewWithEvict(modulesCap, func(_ proto.Hash, m *sandbox.Module) { c.held -= m.Held() })
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return c
}

// add keeps m. The caller holds mu; h is not there yet.
func (c *moduleCache) add(h proto.Hash, m *sandbox.Module) {
	c.held += m.Held()
	c.ready.Add(h, m)
	for c.held > modulesHeld && c.ready.Len() > 1 {
		c.ready.RemoveOldest()
	}
}

func (w *work) module(ctx context.Context, from peer.ID, a *proto.Assignment) (*sandbox.Module, error) {
	id, err := proto.ParseCID(a.Module)
	if err != nil {
		return nil, err
	}
	h, err := proto.CIDHash(id)
	if err != nil {
		return nil, err
	}
	c := w.modules
	for {
		c.mu.Lock()
		if m, ok := c.ready.Get(h); ok {
			c.mu.Unlock()
			return m, nil
		}
		p := c.busy[h]
		if p == nil {
			p = &preparing{done: make(chan struct{})}
			c.busy[h] = p
			c.mu.Unlock()
			p.m, p.err = w.prepare(ctx, from, h)
			c.mu.Lock()
			if p.err == nil {
				c.add(h, p.m)
			}
			delete(c.busy, h)
			c.mu.Unlock()
			close(p.done)
			return p.m, p.err
		}
		c.mu.Unlock()
		select {
		case <-p.done:
			// Another submitter's stream may have broken during its fetch:
			// that is no reason to refuse this one.
			if p.err == nil || !errors.Is(p.err, context.Canceled) && proto.CodeOf(p.err) != proto.CodeFetch {
				return p.m, p.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (w *work) prepare(ctx context.Context, from peer.ID, h proto.Hash) (*sandbox.Module, error) {
	raw, err := w.n.fetchBlob(ctx, from, h, proto.MaxModule)
	if err != nil {
		return nil, err
	}
	m, err := sandbox.Prepare(raw, sandbox.Policy{})
	if err != nil {
		return nil, proto.CodeModule.Errorf("module %s: %v", h.CID(), err)
	}
	return m, nil
}
