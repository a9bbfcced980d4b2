//go:build !js

// Package jsengine runs modules on the browser's task Worker script, in Node
// or in a headless Chromium, behind the interface of every other engine. It is
// for tests: the conformance suite and the comparison of engines.
package jsengine

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
)

// Options of an engine.
type Options struct {
	Slots int // Workers that run at once; default 1
	// Sliced runs the form of a module that asks for each slice of fuel.
	Sliced bool
	Slice  int      // fuel per slice; 0: the Worker's default
	CPU    int      // percent of one core for each Worker; 0: all of it
	V8     []string // flags, such as --no-liftoff for optimised code only
	// Ask sends no module before a Worker asks for it. Otherwise small ones go
	// with every run, which costs less than the way there and back.
	Ask bool
}

// smallCode is what goes with every run.
const smallCode = 32 << 10

// Engine is a sandbox.Executor.
type Engine struct {
	opt   Options
	link  link
	slots chan struct{}
	name  string

	mu      sync.Mutex
	closed  bool
	failed  error
	last    uint64
	pending map[uint64]chan message
}

// link carries frames to and from the page or process.
type link interface {
	send(b []byte) error
	close() error // ends the other side and waits for it
}

var _ sandbox.Executor = (*Engine)(nil)

func newEngine(opt Options) *Engine {
	opt.Slots = max(opt.Slots, 1)
	return &Engine{opt: opt, slots: make(chan struct{}, opt.Slots), pending: map[uint64]chan message{}}
}

// Name says what runs: the engine and its version.
func (e *Engine) Name() string { return e.name }

// Run implements sandbox.Executor.
func (e *Engine) Run(ctx context.Context, m *sandbox.Module, input []byte, task sandbox.Task) (sandbox.Result, error) {
	f, err := m.Metered(e.opt.Sliced)
	if err != nil {
		return sandbox.Result{}, err
	}
	task.Limits = task.Limits.WithDefaults()
	if task.Limits.Fuel > proto.MaxFuel {
		return sandbox.Result{}, fmt.Errorf("jsengine: fuel limit %d, at most %d", task.Limits.Fuel, proto.MaxFuel)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, task.Limits.Wall, errWall)
	defer cancel()
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	case <-ctx.Done():
		return sandbox.Result{Status: stopStatus(ctx)}, nil
	}

	id, answers, err := e.begin()
	if err != nil {
		return sandbox.Result{}, err
	}
	defer e.end(id)
	order := &runOrder{
		Module: f.Key, ABI: f.ABI, StartFuel: f.StartFuel, MinPages: f.MinPages,
		Limits: runLimits{
			Fuel: task.Limits.Fuel, Memory: task.Limits.Memory, Output: task.Limits.Output, Log: task.Limits.Log,
			Wall: task.Limits.Wall.Milliseconds(),
		},
		CPU: e.opt.CPU, Slice: e.opt.Slice,
	}
	var code []byte
	if len(f.Code) <= smallCode && !e.opt.Ask {
		code = f.Code
	}
	if err := e.post(message{Op: "run", ID: id, Run: order}, code, input, task.Seed[:]); err != nil {
		return sandbox.Result{}, err
	}
	done := ctx.Done()
	for {
		select {
		case a, open := <-answers:
			if !open {
				return sandbox.Result{}, e.failure()
			}
			switch a.Op {
			case "need":
				if err := e.post(message{Op: "run", ID: id, Run: order}, f.Code, input, task.Seed[:]); err != nil {
					return sandbox.Result{}, err
				}
			case "progress":
				if task.Progress != nil {
					task.Progress(a.Permille)
				}
			case "stopped":
				return sandbox.Result{Status: stopStatus(ctx), Log: a.parts[0]}, nil
			case "fault":
				return sandbox.Result{}, fmt.Errorf("jsengine: %s: %s", e.name, a.Message)
			case "result":
				return sandbox.Result{Status: a.statusCode(), ExitCode: a.ExitCode, Output: a.parts[0], Fuel: a.Fuel, Log: a.parts[1]}, nil
			}
		case <-done:
			done = nil
			if err := e.post(message{Op: "cancel", ID: id}); err != nil {
				return sandbox.Result{}, err
			}
		}
	}
}

var (
	errWall = errors.New("wall clock limit of the task")
	errGone = errors.New("jsengine: the engine ended")
)

func stopStatus(ctx context.Context) proto.Status {
	if errors.Is(context.Cause(ctx), errWall) {
		return proto.StatusTimeout
	}
	return proto.StatusCancelled
}

func (e *Engine) begin() (uint64, chan message, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return 0, nil, sandbox.ErrClosed
	}
	if e.failed != nil {
		return 0, nil, e.failed
	}
	e.last++
	// Room for every answer but progress, which may be dropped.
	answers := make(chan message, 8)
	e.pending[e.last] = answers
	return e.last, answers, nil
}

func (e *Engine) end(id uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.pending, id)
}

func (e *Engine) failure() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return sandbox.ErrClosed
	}
	return e.failed
}

func (e *Engine) post(m message, parts ...[]byte) error {
	b, err := encode(m, parts...)
	if err != nil {
		return err
	}
	return e.link.send(b)
}

// deliver hands a frame of the other side to its run.
func (e *Engine) deliver(m message) {
	e.mu.Lock()
	defer e.mu.Unlock()
	answers := e.pending[m.ID]
	if answers == nil || (m.Op == "progress" && len(answers) > cap(answers)/2) {
		return
	}
	answers <- m
}

// fail ends all runs: the other side is gone.
func (e *Engine) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failed != nil {
		return
	}
	e.failed = fmt.Errorf("%w: %w", errGone, err)
	for id, answers := range e.pending {
		close(answers)
		delete(e.pending, id)
	}
}

// hello checks the first frame: both sides mean the same statuses.
func (e *Engine) hello(m message) error {
	if m.Op != "hello" {
		return fmt.Errorf("jsengine: first frame is %q", m.Op)
	}
	e.name = m.Engine
	for name, want := range map[string]proto.Status{
		"ok": proto.StatusOK, "trap": proto.StatusTrap, "outOfFuel": proto.StatusOutOfFuel, "stackLimit": proto.StatusStackLimit,
		"exitNonZero": proto.StatusExitNonZero, "badOutput": proto.StatusBadOutput, "timeout": proto.StatusTimeout, "hostOOM": proto.StatusHostOOM,
	} {
		got, err := m.statusTable()
		if err != nil {
			return err
		}
		if got[name] != want {
			return fmt.Errorf("jsengine: status %s is %d in the Worker, %d in Go", name, got[name], want)
		}
	}
	return nil
}

// Close implements sandbox.Executor.
func (e *Engine) Close() error {
	e.mu.Lock()
	first := !e.closed
	e.closed = true
	for id, answers := range e.pending {
		close(answers)
		delete(e.pending, id)
	}
	e.mu.Unlock()
	if !first {
		return nil
	}
	return e.link.close()
}
