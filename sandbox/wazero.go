//go:build !js

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox/instrument"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"
)

// An engine keeps compiledCap compiled modules at most, and no more than
// compiledBytes of their metered WASM (machine code is several times larger),
// but always the last one.
const (
	compiledCap   = 32
	compiledBytes = 6 << 20
)

// engine is wazero with the guest ABI's host modules and an LRU of compiled
// modules.
type engine struct {
	rt    wazero.Runtime
	cache wazero.CompilationCache
	most  uint64 // engineConfig.memory
	spare spares

	mu    sync.Mutex
	code  map[proto.Hash]*compiled
	order uint64
	bytes int // of metered WASM behind code
}

// compiled counts its users: wazero unmaps the machine code on Close.
type compiled struct {
	mod  wazero.CompiledModule
	refs int
	used uint64
	size int  // bytes of metered WASM
	gone bool // evicted; the last user closes
}

// engineConfig selects wazero's interpreter in tests.
type engineConfig struct {
	cacheDir    string
	interpreter bool
	guard       bool   // stop guests at the context's end; slow, for plain modules in tests
	memory      uint64 // bytes that the host has for a guest, in tests; zero: enough
}

func newEngine(ctx context.Context, c engineConfig) (*engine, error) {
	cfg := wazero.NewRuntimeConfig()
	if c.interpreter {
		cfg = wazero.NewRuntimeConfigInterpreter()
	}
	cfg = cfg.WithCoreFeatures(api.CoreFeaturesV2).WithDebugInfoEnabled(false).WithMemoryLimitPages(65_536).WithCloseOnContextDone(c.guard)
	e := &engine{code: map[proto.Hash]*compiled{}, most: c.memory}
	if c.cacheDir != "" {
		cache, err := wazero.NewCompilationCacheWithDir(c.cacheDir)
		if err != nil {
			return nil, fmt.Errorf("compilation cache: %w", err)
		}
		e.cache = cache
		cfg = cfg.WithCompilationCache(cache)
	}
	e.rt = wazero.NewRuntimeWithConfig(ctx, cfg)
	for module, funcs := range map[string]map[string]string{
		wasiModule: wasiFuncs, edgenetModule: edgenetFuncs, envModule: envFuncs,
		instrument.HostModule: {instrument.RefuelName: "I:I"},
	} {
		b := e.rt.NewHostModuleBuilder(module)
		for name, sig := range funcs {
			export(b, name, sig, hostFuncs[name])
		}
		if module == wasiModule {
			for name, sig := range wasiErrors {
				export(b, name, sig, func(*run, memory, []uint64) uint64 { return wasiENOSYS })
			}
		}
		if _, err := b.Instantiate(ctx); err != nil {
			e.close()
			return nil, fmt.Errorf("host module %s: %w", module, err)
		}
	}
	return e, nil
}

func (e *engine) close() {
	ctx := context.Background()
	e.rt.Close(ctx)
	e.spare.close()
	if e.cache != nil {
		e.cache.Close(ctx)
	}
}

// has reports whether the code is compiled already.
func (e *engine) has(key proto.Hash) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.code[key] != nil
}

// compile returns the compiled module, to be given back with release.
func (e *engine) compile(ctx context.Context, key proto.Hash, code []byte) (*compiled, error) {
	e.mu.Lock()
	if c := e.code[key]; c != nil {
		e.touch(c)
		e.mu.Unlock()
		return c, nil
	}
	e.mu.Unlock()
	mod, err := e.rt.CompileModule(ctx, code)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.code[key]; c != nil { // compiled twice at once
		mod.Close(ctx)
		e.touch(c)
		return c, nil
	}
	c := &compiled{mod: mod, size: len(code)}
	e.code[key] = c
	e.bytes += c.size
	e.touch(c)
	for len(e.code) > compiledCap || e.bytes > compiledBytes && len(e.code) > 1 {
		e.evict(ctx)
	}
	return c, nil
}

func (e *engine) touch(c *compiled) {
	e.order++
	c.used = e.order
	c.refs++
}

func (e *engine) evict(ctx context.Context) {
	var oldest proto.Hash
	least := ^uint64(0)
	for k, c := range e.code {
		if c.used < least {
			oldest, least = k, c.used
		}
	}
	c := e.code[oldest]
	delete(e.code, oldest)
	e.bytes -= c.size
	c.gone = true
	if c.refs == 0 {
		c.mod.Close(ctx)
	}
}

func (e *engine) release(ctx context.Context, c *compiled) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.refs--; c.refs == 0 && c.gone {
		c.mod.Close(ctx)
	}
}

// run is one execution: the guest's host side plus the engine's handles.
type run struct {
	*guest
	ctx     context.Context // of the caller; looked at between slices
	reserve int64           // fuel not handed out yet, when sliced

	mu   sync.Mutex // around what the host does with the counter: another thread may look at it meanwhile
	fuel api.MutableGlobal
}

// remaining is the fuel that is left, as it was when the guest stored its counter
// last: at the head of each loop and at each call.
func (r *run) remaining() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int64(r.fuel.Get()) + r.reserve
}

// setFuel sets the guest's counter.
func (r *run) setFuel(left int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fuel.Set(uint64(left))
}

type runKey struct{}

var (
	errStopped   = errors.New("stopped by the caller")
	errBadOutput = errors.New("output above its limit")
	errAbort     = errors.New("guest called abort")
	errFuel      = errors.New("no fuel for what the host was asked to do")
)

// slice is the fuel handed out at once in process: a few milliseconds, because
// Go's garbage collector waits for running guest code.
const slice = 8_000_000

// noRandom stands for the generator that wazero would seed for each instance.
// Guests draw from their own.
type noRandom struct{}

func (noRandom) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// order describes a run to the engine.
type order struct {
	abi       ABI
	startFuel uint64
	minPages  uint32
	hasStart  bool
	hasInit   bool
	sliced    bool
}

func orderOf(m *Module, t metered, sliced bool) order {
	return order{m.ABI, t.startFuel, m.min, t.hasStart, t.hasInit, sliced}
}

// execute runs a compiled module in a fresh instance. Limits are complete.
func (e *engine) execute(ctx context.Context, c *compiled, o order, input []byte, task Task) (res Result, err error) {
	limit := task.Limits.Fuel
	pages := uint32(min(task.Limits.Memory/pageSize, 65_536))
	left := int64(limit) - int64(o.startFuel) - int64(copyFuel(len(input)))
	if left < 0 {
		return Result{Status: proto.StatusOutOfFuel, Fuel: limit}, nil
	}
	g := newGuest(o.abi, input, task)
	if o.minPages > pages {
		return g.end(proto.StatusTrap, limit, left, nil), nil
	}
	r := &run{guest: g, ctx: ctx}
	alloc := &allocator{limit: uint64(pages) * pageSize, spares: &e.spare}
	if e.most > 0 {
		alloc.limit = min(alloc.limit, e.most)
	}
	base := experimental.WithMemoryAllocator(context.WithValue(context.Background(), runKey{}, r), alloc)

	defer alloc.release()
	defer func() {
		// The allocator has no way to report failure while instantiating.
		if p := recover(); p != nil {
			if !alloc.failed {
				panic(p)
			}
			res, err = g.lost(proto.StatusHostOOM), nil
		}
	}()
	mod, err := e.rt.InstantiateModule(base, c.mod, wazero.NewModuleConfig().WithName("").WithStartFunctions().WithRandSource(noRandom{}))
	if err != nil {
		return Result{}, fmt.Errorf("sandbox: engine fault: %w", err) // the reader knows that segments fit
	}
	defer mod.Close(base)

	r.fuel = mod.ExportedGlobal(instrument.FuelExport).(api.MutableGlobal)
	depth := mod.ExportedGlobal(instrument.DepthExport).(api.MutableGlobal)
	depth.Set(uint64(instrument.DepthLimit))
	ceiling := mod.ExportedGlobal(instrument.PagesExport).(api.MutableGlobal)
	ceiling.Set(uint64(pages))
	if o.sliced {
		r.reserve = left
		left = min(left, slice)
		r.reserve -= left
	}
	r.setFuel(left)

	var out []byte
	func() {
		if task.onRun != nil {
			defer task.onRun(func() proto.Fuel { return usedOf(limit, r.remaining()) })()
		}
		out, err = r.drive(base, mod, o, input)
	}()
	remaining := r.remaining()

	var exit *sys.ExitError
	var engineFault runtime.Error
	status, code := proto.StatusOK, int32(0)
	switch {
	case alloc.failed, int32(ceiling.Get()) == -1:
		return g.lost(proto.StatusHostOOM), nil
	case errors.Is(err, errStopped):
		res = g.lost(stopStatus(ctx))
		res.Fuel = usedOf(limit, remaining)
		return res, nil
	case errors.As(err, &engineFault):
		return Result{}, fmt.Errorf("sandbox: engine fault: %w", err)
	case errors.As(err, &exit):
		if code = int32(exit.ExitCode()); code != 0 {
			status = proto.StatusExitNonZero
		}
	case errors.Is(err, errBadOutput):
		status = proto.StatusBadOutput
	case err != nil:
		switch {
		case int32(depth.Get()) < 0:
			status = proto.StatusStackLimit
		case strings.Contains(err.Error(), "stack overflow"):
			// The engine's own stack gave out within the guest's limits. Others
			// may have more: nothing to vote on.
			return g.lost(proto.StatusHostOOM), nil
		case remaining < 0:
			status = proto.StatusOutOfFuel
		default:
			status = proto.StatusTrap
		}
	}
	if o.abi == ABICommand {
		out = g.stdout
	}
	res = g.end(status, limit, remaining, out)
	if res.Status == proto.StatusExitNonZero {
		res.ExitCode = code
	}
	return res, nil
}

// usedOf is what a guest has used of its limit when so much is left.
func usedOf(limit proto.Fuel, remaining int64) proto.Fuel {
	return limit - min(limit, proto.Fuel(max(remaining, 0)))
}

// drive calls the guest's entry points in order and fetches the output, which
// is copied out of the guest.
func (r *run) drive(ctx context.Context, mod api.Module, o order, input []byte) ([]byte, error) {
	call := func(name string, args ...uint64) (uint64, error) {
		res, err := mod.ExportedFunction(name).Call(ctx, args...)
		if err != nil || len(res) == 0 {
			return 0, err
		}
		return res[0], nil
	}
	if o.hasStart {
		if _, err := call(instrument.StartExport); err != nil {
			return nil, err
		}
	}
	if o.abi == ABICommand {
		_, err := call("_start")
		return r.stdout, err
	}
	if o.hasInit {
		if _, err := call("_initialize"); err != nil {
			return nil, err
		}
	}
	ptr, err := call("edgenet_alloc", uint64(len(input)))
	if err != nil {
		return nil, err
	}
	mem := linear{mod.Memory()}
	in := mem.view(api.DecodeU32(ptr), uint32(len(input)))
	if in == nil {
		return nil, errors.New("edgenet_alloc returned a range outside memory")
	}
	copy(in, input)
	at, err := call("execute", uint64(api.DecodeU32(ptr)), uint64(len(input)))
	if err != nil {
		return nil, err
	}
	size := api.DecodeU32(at)
	out := mem.view(uint32(at>>32), size)
	if out == nil || uint64(size) > r.maxOut {
		return nil, errBadOutput
	}
	return append([]byte(nil), out...), nil
}

// stopStatus tells a passed deadline of the task from a cancel by the caller.
func stopStatus(ctx context.Context) proto.Status {
	if errors.Is(context.Cause(ctx), errWall) {
		return proto.StatusTimeout
	}
	return proto.StatusCancelled
}

var errWall = errors.New("wall clock limit of the task")

// linear is wazero's memory as the host functions see it.
type linear struct{ api.Memory }

func (l linear) view(ptr, size uint32) []byte {
	b, ok := l.Read(ptr, size)
	if !ok {
		return nil
	}
	if b == nil {
		b = []byte{}
	}
	return b
}

type hostFunc func(r *run, mem memory, a []uint64) uint64

func export(b wazero.HostModuleBuilder, name, sig string, fn hostFunc) {
	t := funcType(sig)
	b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, mod api.Module, stack []uint64) {
		r := ctx.Value(runKey{}).(*run)
		fuel := int64(r.fuel.Get())
		r.left = fuel + r.reserve
		v := fn(r, linear{mod.Memory()}, stack)
		if r.charged > 0 {
			broke := r.broke()
			r.setFuel(fuel - int64(r.charged))
			r.charged = 0
			if broke {
				panic(errFuel)
			}
		}
		if r.overflow {
			panic(errBadOutput)
		}
		if len(t.Results) > 0 {
			stack[0] = v
		}
	}), t.Params, t.Results).Export(name)
}

// u is an i32 argument: engines leave garbage in its upper half.
func u(a []uint64, i int) uint32 { return api.DecodeU32(a[i]) }

var hostFuncs = map[string]hostFunc{
	"args_get":            func(r *run, m memory, a []uint64) uint64 { return uint64(r.argsGet(m, u(a, 0), u(a, 1))) },
	"environ_get":         func(*run, memory, []uint64) uint64 { return wasiOK },
	"args_sizes_get":      func(r *run, m memory, a []uint64) uint64 { return uint64(r.argsSizesGet(m, u(a, 0), u(a, 1))) },
	"environ_sizes_get":   func(r *run, m memory, a []uint64) uint64 { return uint64(r.environSizesGet(m, u(a, 0), u(a, 1))) },
	"clock_time_get":      func(r *run, m memory, a []uint64) uint64 { return uint64(r.clockTimeGet(m, u(a, 0), u(a, 2))) },
	"fd_close":            func(_ *run, _ memory, a []uint64) uint64 { return uint64(stdio(u(a, 0), wasiOK)) },
	"fd_fdstat_get":       func(r *run, m memory, a []uint64) uint64 { return uint64(r.fdstat(m, u(a, 0), u(a, 1))) },
	"fd_fdstat_set_flags": func(_ *run, _ memory, a []uint64) uint64 { return uint64(stdio(u(a, 0), wasiOK)) },
	"fd_prestat_get":      func(*run, memory, []uint64) uint64 { return wasiEBADF },
	"fd_prestat_dir_name": func(*run, memory, []uint64) uint64 { return wasiEBADF },
	"fd_seek":             func(_ *run, _ memory, a []uint64) uint64 { return uint64(stdio(u(a, 0), wasiESPIPE)) },
	"fd_read": func(r *run, m memory, a []uint64) uint64 {
		return uint64(r.fdRead(m, u(a, 0), u(a, 1), u(a, 2), u(a, 3)))
	},
	"fd_write": func(r *run, m memory, a []uint64) uint64 {
		return uint64(r.fdWrite(m, u(a, 0), u(a, 1), u(a, 2), u(a, 3)))
	},
	"poll_oneoff": func(r *run, m memory, a []uint64) uint64 {
		return uint64(r.poll(m, u(a, 0), u(a, 1), u(a, 2), u(a, 3)))
	},
	"random_get":  func(r *run, m memory, a []uint64) uint64 { return uint64(r.randomGet(m, u(a, 0), u(a, 1))) },
	"sched_yield": func(*run, memory, []uint64) uint64 { return wasiOK },
	"proc_exit": func(_ *run, _ memory, a []uint64) uint64 {
		panic(sys.NewExitError(u(a, 0)))
	},
	"progress": func(r *run, _ memory, a []uint64) uint64 {
		r.report(u(a, 0))
		return 0
	},
	"abort": func(r *run, _ memory, a []uint64) uint64 {
		r.abort(u(a, 2), u(a, 3))
		panic(errAbort)
	},
	instrument.RefuelName: func(r *run, _ memory, a []uint64) uint64 {
		if r.ctx.Err() != nil {
			panic(errStopped)
		}
		fuel := int64(a[0])
		add := min(r.reserve, max(slice, slice-fuel))
		r.reserve -= add
		// The guest counts on in a local and the global keeps what it held, so
		// that a trap finds the same there as without slices.
		r.setFuel(int64(r.fuel.Get()) + add)
		return uint64(fuel + add)
	},
}
