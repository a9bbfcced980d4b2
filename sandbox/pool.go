//go:build !js

package sandbox

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"edgenet.dev/proto"
)

// PoolConfig of NewPool.
type PoolConfig struct {
	Slots   int      // children, hence tasks at once; zero: one
	Spare   int      // more children, for tasks that run while others are halted
	Command []string // argv of a child; empty: this executable with "sandbox-child"
	// CacheDir keeps compiled code between runs, mode 0700; empty: none.
	CacheDir string
	// CacheSize bounds it in bytes, default 1 GiB; what was not used for longest goes.
	CacheSize uint64
	// CPUPercent is each slot's share of one core, 1 to 100; zero is 100. It
	// holds inside a task: the child is stopped and continued. A task's wall
	// clock limit counts only what it is let run; see Executor.
	CPUPercent int
	Log        func(format string, args ...any) // nil: silent
	// Memory is the largest linear memory a task may have in bytes; it sizes
	// the children's address space. Zero is MaxMemory.
	Memory uint64
}

// Timers of the pool. Compiling is bounded apart from the task's wall clock:
// engines ignore deadlines while they compile. Its bound is CPU time where that
// can be read, so that a busy machine does not fail honest modules, and six
// times as much wall time at most.
const (
	compileTimeout = 10 * time.Second
	startTimeout   = 10 * time.Second
	watchPeriod    = 50 * time.Millisecond
)

// rssMargin is what a child may hold besides the task's linear memory: the Go
// runtime, compiled modules and, the largest part, a compiler at work.
const rssMargin = 512 << 20

type pool struct {
	cfg   PoolConfig
	slots chan *slot // free ones
	spare chan *slot // likewise
	ctx   context.Context
	stop  context.CancelFunc
	spawn chan spawnRequest
	wg    sync.WaitGroup // the spawner

	closing sync.Once
	closed  chan struct{}

	told sync.Once // of the first child's isolation
	counters

	// The constants and false, except in tests.
	compileTimeout time.Duration
	margin         uint64
	bare           bool
}

type slot struct {
	index int
	home  chan *slot
	child *process // nil until first needed and after a kill
}

type spawnRequest struct {
	reply chan spawned
}

type spawned struct {
	child *process
	err   error
}

// NewPool returns an executor that runs each task in one of cfg.Slots child
// processes. Children start when first needed, are killed to cancel a task, and
// start again. They die with this process.
func NewPool(cfg PoolConfig) (Executor, error) {
	if cfg.Slots <= 0 {
		cfg.Slots = 1
	}
	if cfg.Spare < 0 {
		return nil, fmt.Errorf("sandbox: %d spare children", cfg.Spare)
	}
	if cfg.CPUPercent < 0 || cfg.CPUPercent > 100 {
		return nil, fmt.Errorf("sandbox: CPU percent %d, want 1 to 100", cfg.CPUPercent)
	}
	if cfg.CPUPercent == 0 {
		cfg.CPUPercent = 100
	}
	if cfg.Memory == 0 {
		cfg.Memory = MaxMemory
	}
	if cfg.Log == nil {
		cfg.Log = func(string, ...any) {}
	}
	if len(cfg.Command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("sandbox: own executable: %w", err)
		}
		cfg.Command = []string{self, "sandbox-child"}
	}
	if cfg.CacheDir != "" {
		if err := os.MkdirAll(cfg.CacheDir, 0o700); err != nil {
			return nil, fmt.Errorf("sandbox: compilation cache: %w", err)
		}
	}
	if cfg.CacheSize == 0 {
		cfg.CacheSize = DefaultCacheSize
	}
	p := &pool{cfg: cfg, slots: make(chan *slot, cfg.Slots), spare: make(chan *slot, cfg.Spare), spawn: make(chan spawnRequest), closed: make(chan struct{}), compileTimeout: compileTimeout, margin: rssMargin}
	p.ctx, p.stop = context.WithCancel(context.Background())
	for i := range cfg.Slots {
		p.slots <- &slot{index: i, home: p.slots}
	}
	for i := range cfg.Spare {
		p.spare <- &slot{index: cfg.Slots + i, home: p.spare}
	}
	p.wg.Add(1)
	go p.spawner()
	if cfg.CacheDir != "" {
		p.wg.Add(1)
		go p.trimmer(p.ctx)
	}
	return p, nil
}

// spawner starts the children from one locked thread that lives as long as the
// pool: Linux sends the parent-death signal when the starting thread ends.
func (p *pool) spawner() {
	runtime.LockOSThread()
	defer p.wg.Done()
	for {
		select {
		case req := <-p.spawn:
			c, err := start(p.cfg.Command, setup{p.cfg.Memory, p.cfg.CacheDir, p.bare})
			req.reply <- spawned{c, err}
		case <-p.closed:
			return
		}
	}
}

func (p *pool) Run(ctx context.Context, m *Module, input []byte, task Task) (Result, error) {
	if err := checkRun(m, input, &task); err != nil {
		return Result{}, err
	}
	if task.Limits.Memory > p.cfg.Memory {
		return Result{}, fmt.Errorf("sandbox: memory limit %d above the pool's %d bytes", task.Limits.Memory, p.cfg.Memory)
	}
	s, err := p.acquire(ctx)
	if errors.Is(err, ErrClosed) {
		return Result{}, err
	}
	if err != nil {
		return Result{Status: proto.StatusCancelled}, nil
	}
	defer func() { s.home <- s }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()

	if s.child == nil || !s.child.alive() {
		if err := p.restart(ctx, s); err != nil {
			if ctx.Err() != nil {
				return Result{Status: proto.StatusCancelled}, nil
			}
			return Result{}, err
		}
	}
	c := s.child
	ended := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		c.kill(proto.StatusCancelled)
		close(ended)
	})
	allowed := &allowance{over: func() { c.kill(proto.StatusTimeout) }}
	var brakes sync.WaitGroup
	done := make(chan struct{})
	defer brakes.Wait()
	defer close(done) // for both brakes, before either is waited for
	if p.cfg.CPUPercent < 100 {
		c.awaitCredit(ctx, p.cfg.CPUPercent)
		brakes.Go(func() { c.duty(p.cfg.CPUPercent, allowed.halt, done) })
	}
	if task.Halt != nil {
		brakes.Go(func() { c.obey(task.Halt, allowed.halt, done) })
	}
	var told told
	res, err := p.exchange(c, allowed, m, input, task, &told)
	if !unhook() {
		<-ended
	}
	if err != nil {
		// The child is gone or talks nonsense; the next run gets a new one.
		c.kill(proto.StatusKilled)
		<-c.gone
		res = Result{Status: c.fate(), Output: told.out, Log: told.log, Ran: allowed.end()}
		if res.Status == proto.StatusTimeout {
			res.Fuel = told.used
		}
		s.child = nil
		p.ended.Add(1)
		if res.Status == proto.StatusKilled {
			p.cfg.Log("sandbox child %d ended unexpectedly: %v; %s", s.index, err, c.stderr.String())
		}
		var fault engineFault
		if errors.As(err, &fault) {
			return Result{}, fmt.Errorf("sandbox: %w", err)
		}
		return res, nil
	}
	res.Log = told.log
	return res, nil
}

// told is what a child said of a run so far.
type told struct {
	log, out []byte // the log, and the start of stdout
	used     proto.Fuel
}

// acquire waits for a free slot, which the caller gives back.
func (p *pool) acquire(ctx context.Context) (*slot, error) {
	if p.ctx.Err() != nil {
		return nil, ErrClosed
	}
	got := func(s *slot) (*slot, error) {
		switch {
		case p.ctx.Err() != nil:
			s.home <- s
			return nil, ErrClosed
		case ctx.Err() != nil:
			s.home <- s
			return nil, ctx.Err()
		}
		return s, nil
	}
	select { // a spare one need not start while another is free
	case s := <-p.slots:
		return got(s)
	default:
	}
	select {
	case s := <-p.slots:
		return got(s)
	case s := <-p.spare:
		return got(s)
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.ctx.Done():
		return nil, ErrClosed
	}
}

// engineFault is a failure that a child reports about its engine.
type engineFault string

func (e engineFault) Error() string { return "engine: " + string(e) }

// restart gives s a fresh child that answered.
func (p *pool) restart(ctx context.Context, s *slot) error {
	if s.child != nil {
		s.child.kill(proto.StatusKilled)
		<-s.child.gone
		s.child = nil
	}
	req := spawnRequest{reply: make(chan spawned, 1)}
	p.spawn <- req // the spawner outlives every Run
	got := <-req.reply
	if got.err != nil {
		return fmt.Errorf("sandbox: %w", got.err)
	}
	c := got.child
	timer := time.AfterFunc(startTimeout, func() { c.kill(proto.StatusKilled) })
	unhook := context.AfterFunc(ctx, func() { c.kill(proto.StatusCancelled) })
	f, ok := <-c.frames
	late := !timer.Stop()
	if late = !unhook() || late; late || !ok || f.kind != frameReady {
		c.kill(proto.StatusKilled)
		<-c.gone
		return fmt.Errorf("sandbox: child %q did not start: %s", p.cfg.Command, c.stderr.String())
	}
	held, err := decodeIsolation(f.payload)
	if err != nil {
		c.kill(proto.StatusKilled)
		<-c.gone
		return fmt.Errorf("sandbox: child %q: %w", p.cfg.Command, err)
	}
	c.isolation.InForce = append(held.InForce, c.isolation.InForce...)
	c.isolation.Missing = append(held.Missing, c.isolation.Missing...)
	p.started(c.isolation)
	p.told.Do(func() { p.cfg.Log("sandbox children are confined by: %s", c.isolation) })
	s.child = c
	return nil
}

// exchange sends one run and reads until its result. An error means that the
// child is of no more use; what was told until then is in told.
func (p *pool) exchange(c *process, allowed *allowance, m *Module, input []byte, task Task, told *told) (Result, error) {
	most := task.Limits.Wall
	if p.cfg.CPUPercent < 100 {
		most += proto.Stretch(most, p.cfg.CPUPercent)
	}
	if task.Halt != nil {
		most += MaxHalt
	}
	allowed.begin(task.Limits.Wall, most)
	defer allowed.end()
	watch := time.NewTicker(watchPeriod)
	defer watch.Stop()
	compiling, asked := false, false
	if err := writeFrame(c.in, frameRun, encodeRun(m.key, orderOf(m, m.metered, false), task), input); err != nil {
		return Result{}, err
	}
	var began time.Time
	var before time.Duration
	for {
		var f frame
		var ok bool
		select {
		case f, ok = <-c.frames:
			if !ok {
				return Result{}, errors.New("child is gone")
			}
		case <-watch.C:
			if held, _ := c.rss(); held > task.Limits.Memory+p.margin {
				c.kill(proto.StatusHostOOM)
				continue
			}
			if !compiling {
				continue
			}
			used, known := c.cpuTime()
			wall := time.Since(began)
			if used -= before; used >= p.compileTimeout || wall >= p.compileTimeout && !known || wall >= 6*p.compileTimeout {
				c.kill(proto.StatusCompileTimeout)
			}
			continue
		}
		switch f.kind {
		case frameNeed:
			if asked { // the time to compile is given once
				return Result{}, errFrame
			}
			allowed.end()
			asked, compiling, began = true, true, time.Now()
			before, _ = c.cpuTime()
			if err := writeFrame(c.in, frameLoad, m.code); err != nil {
				return Result{}, err
			}
		case frameCompiled:
			if !compiling {
				return Result{}, errFrame
			}
			compiling = false
			allowed.begin(task.Limits.Wall, most)
		case frameProgress:
			if len(f.payload) != 4 {
				return Result{}, errFrame
			}
			if task.Progress != nil {
				task.Progress(binary.LittleEndian.Uint32(f.payload))
			}
		case frameLog:
			if compiling || uint64(len(told.log))+uint64(len(f.payload)) > task.Limits.Log {
				return Result{}, errFrame
			}
			told.log = append(told.log, f.payload...)
		case frameOut:
			if compiling || uint64(len(told.out))+uint64(len(f.payload)) > min(task.Limits.Output, proto.MaxLostOutput) {
				return Result{}, errFrame
			}
			told.out = append(told.out, f.payload...)
		case frameFuel:
			if compiling || len(f.payload) != 8 {
				return Result{}, errFrame
			}
			used := proto.Fuel(binary.LittleEndian.Uint64(f.payload))
			if used < told.used || used > task.Limits.Fuel {
				return Result{}, errFrame
			}
			told.used = used
		case frameDone:
			res, err := decodeDone(f.payload)
			if err == nil && (compiling || !possible(res, task.Limits)) {
				err = errFrame
			}
			res.Ran = allowed.end()
			return res, err
		case frameFault:
			return Result{}, engineFault(f.payload[:min(len(f.payload), maxTail)])
		default:
			return Result{}, errFrame
		}
	}
}

// possible reports whether a child that keeps to the rules may answer r.
func possible(r Result, l proto.Limits) bool {
	return (r.Status.Votable() || r.Status == proto.StatusHostOOM) && r.Fuel <= l.Fuel &&
		uint64(len(r.Output)) <= l.Output
}

// Close kills the children, waits for the runs in progress and for the
// children's end.
func (p *pool) Close() error {
	p.closing.Do(func() {
		p.stop()
		for i := range p.cfg.Slots + p.cfg.Spare {
			free := p.slots
			if i >= p.cfg.Slots {
				free = p.spare
			}
			s := <-free
			if s.child != nil {
				s.child.kill(proto.StatusCancelled)
				<-s.child.gone
			}
		}
		close(p.closed)
		p.wg.Wait()
	})
	return nil
}
