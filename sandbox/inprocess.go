//go:build !js

package sandbox

import (
	"context"
	"sync"
	"time"
)

// InProcessConfig of NewInProcess.
type InProcessConfig struct {
	CacheDir    string // of compiled code, mode 0700; empty: none on disk
	Interpreter bool   // use wazero's interpreter; slow, for comparing engines
}

type inProcess struct {
	engine *engine
	ctx    context.Context
	stop   context.CancelFunc

	mu     sync.Mutex
	closed bool
	runs   sync.WaitGroup
}

// NewInProcess returns an executor that runs guests in this process, in slices
// of fuel between which it looks at the context. A module is compiled without
// a time limit: use NewPool for modules of strangers.
func NewInProcess(cfg InProcessConfig) (Executor, error) {
	ctx, stop := context.WithCancel(context.Background())
	e, err := newEngine(ctx, engineConfig{cacheDir: cfg.CacheDir, interpreter: cfg.Interpreter})
	if err != nil {
		stop()
		return nil, err
	}
	return &inProcess{engine: e, ctx: ctx, stop: stop}, nil
}

func (p *inProcess) Run(ctx context.Context, m *Module, input []byte, task Task) (Result, error) {
	if err := checkRun(m, input, &task); err != nil {
		return Result{}, err
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return Result{}, ErrClosed
	}
	p.runs.Add(1)
	p.mu.Unlock()
	defer p.runs.Done()

	ctx, cancel := context.WithTimeoutCause(ctx, task.Limits.Wall, errWall)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	if ctx.Err() != nil {
		return Result{Status: stopStatus(ctx)}, nil
	}
	form, err := m.sliced()
	if err != nil {
		return Result{}, err
	}
	c, err := p.engine.compile(p.ctx, form.key, form.code)
	if err != nil {
		return Result{}, err
	}
	defer p.engine.release(context.Background(), c)
	began := time.Now()
	res, err := p.engine.execute(ctx, c, orderOf(m, form, true), input, task)
	res.Ran = time.Since(began)
	return res, err
}

func (p *inProcess) Close() error {
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	p.mu.Unlock()
	p.stop()
	p.runs.Wait()
	if first {
		p.engine.close()
	}
	return nil
}
