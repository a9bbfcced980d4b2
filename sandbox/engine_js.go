package sandbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"syscall/js"
	"time"

	"edgenet.dev/proto"
)

// tabEngine has tasks run by JavaScript: by the browser's own engine in task
// Workers, which only the host object can start.
type tabEngine struct {
	host js.Value
	ctx  context.Context
	stop context.CancelFunc
	runs sync.WaitGroup

	mu     sync.Mutex
	closed bool
	last   int
	known  map[string]bool // keys of code that the host was given
}

// NewTab returns an executor on top of host, an object with two methods.
//
// execute({id, key, code, abi, startFuel, minPages, input, seed, fuel, memory,
// output, log, wallMs, progress}) answers with a promise of {status, exitCode,
// output, fuel, log}, or of {needCode: true} when code was null and the host
// does not have it. code is in sliced form, fuel a decimal string, status the
// text of a proto.Status, progress a function of the permille done. The other
// fields are those of the task Worker's messages, browser/ts/src/protocol.ts.
// A rejected promise says that the engine failed, not the guest.
//
// cancel(id) ends a run at once. The host starts no more runs at a time than
// it has Workers; the rest wait there.
func NewTab(host js.Value) (Executor, error) {
	for _, method := range []string{"execute", "cancel"} {
		if host.Type() != js.TypeObject || host.Get(method).Type() != js.TypeFunction {
			return nil, fmt.Errorf("sandbox: the host object has no method %s", method)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	return &tabEngine{host: host, ctx: ctx, stop: stop, known: map[string]bool{}}, nil
}

// hostSlack is what a host may take beyond a task's wall clock limit, stretched
// as far as a throttled host may, which it watches itself, before it is taken for hung: the time of a compilation and a
// queue, far above what either takes.
const hostSlack = time.Minute

var errHung = errors.New("the host does not answer")

func (e *tabEngine) Run(ctx context.Context, m *Module, input []byte, task Task) (Result, error) {
	if err := checkRun(m, input, &task); err != nil {
		return Result{}, err
	}
	form, err := m.Metered(true)
	if err != nil {
		return Result{}, err
	}
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return Result{}, ErrClosed
	}
	e.runs.Add(1)
	e.last++
	id, known := e.last, e.known[form.Key]
	e.known[form.Key] = true
	e.mu.Unlock()
	defer e.runs.Done()

	ctx, cancel := context.WithTimeoutCause(ctx, proto.MaxStretch*task.Limits.Wall+hostSlack, errHung)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	if ctx.Err() != nil {
		return Result{Status: endOf(ctx)}, nil
	}
	// The host calls from an event handler, in which nothing may wait: what
	// Progress does could need an answer of the browser's, which comes only after
	// the handler. So a goroutine passes on the newest figure.
	told := make(chan uint32, 1)
	var teller sync.WaitGroup
	teller.Go(func() {
		for permille := range told {
			if task.Progress != nil {
				task.Progress(permille)
			}
		}
	})
	defer teller.Wait()
	defer close(told) // after the release below: nothing is told any more
	progress := js.FuncOf(func(_ js.Value, args []js.Value) any {
		if len(args) > 0 && args[0].Type() == js.TypeNumber {
			select {
			case <-told:
			default:
			}
			told <- uint32(min(max(args[0].Int(), 0), 1000))
		}
		return nil
	})
	// Later calls of a released function do nothing, so a host that is late
	// with its progress does no harm.
	defer progress.Release()
	for withCode := !known; ; withCode = true {
		answer, err := e.execute(ctx, id, form, withCode, input, task, progress)
		if err != nil || answer.Type() != js.TypeObject {
			if ctx.Err() != nil {
				_ = thrown(func() { e.host.Call("cancel", id) })
				return Result{Status: endOf(ctx)}, nil
			}
			return Result{}, errors.Join(errors.New("sandbox: the engine failed"), err)
		}
		if answer.Get("needCode").Truthy() {
			if withCode {
				return Result{}, errors.New("sandbox: the host loses the code that it is given")
			}
			continue
		}
		return tabResult(answer, task.Limits)
	}
}

// execute makes one call of the host and waits for its promise.
func (e *tabEngine) execute(ctx context.Context, id int, form Metered, withCode bool, input []byte, task Task, progress js.Func) (js.Value, error) {
	l := task.Limits
	req := map[string]any{
		"id": id, "key": form.Key, "code": nil, "abi": int(form.ABI), "startFuel": float64(form.StartFuel), "minPages": int(form.MinPages),
		"input": bytesToJS(input), "seed": bytesToJS(task.Seed[:]), "fuel": strconv.FormatUint(uint64(l.Fuel), 10),
		"memory": float64(l.Memory), "output": float64(l.Output), "log": float64(l.Log), "wallMs": float64(l.Wall.Milliseconds()),
		"progress": progress.Value,
	}
	if withCode {
		req["code"] = bytesToJS(form.Code)
	}
	type settled struct {
		value js.Value
		err   error
	}
	done := make(chan settled, 1)
	var fulfilled, rejected js.Func
	end := func(s settled) any {
		fulfilled.Release()
		rejected.Release()
		done <- s
		return nil
	}
	fulfilled = js.FuncOf(func(_ js.Value, args []js.Value) any { return end(settled{value: args[0]}) })
	rejected = js.FuncOf(func(_ js.Value, args []js.Value) any { return end(settled{err: errors.New(textOf(args[0]))}) })
	err := thrown(func() {
		js.Global().Get("Promise").Call("resolve", e.host.Call("execute", req)).Call("then", fulfilled, rejected)
	})
	if err != nil {
		fulfilled.Release()
		rejected.Release()
		return js.Undefined(), err
	}
	select {
	case s := <-done:
		return s.value, s.err
	case <-ctx.Done():
		return js.Undefined(), ctx.Err() // the functions are released when the host settles
	}
}

// tabStatuses are the ends that a host may report.
var tabStatuses = func() map[string]proto.Status {
	m := map[string]proto.Status{}
	for s := proto.StatusOK; s <= proto.StatusBadOutput; s++ {
		m[s.String()] = s
	}
	for s := proto.StatusTimeout; s <= proto.StatusCancelled; s++ {
		m[s.String()] = s
	}
	return m
}()

// tabResult reads the host's answer. What cannot be is the host's failure, so
// that it is never voted on.
func tabResult(answer js.Value, l proto.Limits) (Result, error) {
	bad := func(format string, args ...any) (Result, error) {
		return Result{}, fmt.Errorf("sandbox: the host's answer: "+format, args...)
	}
	status, ok := tabStatuses[textOf(answer.Get("status"))]
	if !ok {
		return bad("status %q", textOf(answer.Get("status")))
	}
	fuel, err := strconv.ParseUint(textOf(answer.Get("fuel")), 10, 64)
	if err != nil || fuel > uint64(l.Fuel) {
		return bad("fuel %s of %d", textOf(answer.Get("fuel")), l.Fuel)
	}
	r := Result{Status: status, Fuel: proto.Fuel(fuel)}
	if c := answer.Get("exitCode"); c.Type() == js.TypeNumber {
		r.ExitCode = int32(c.Int())
	}
	if r.Output, ok = bytesToGo(answer.Get("output"), l.Output); !ok {
		return bad("no output of at most %d bytes", l.Output)
	}
	if r.Log, ok = bytesToGo(answer.Get("log"), l.Log); !ok {
		return bad("no log of at most %d bytes", l.Log)
	}
	return r, nil
}

// endOf says how a run ended whose ctx did.
func endOf(ctx context.Context) proto.Status {
	if errors.Is(context.Cause(ctx), errHung) {
		return proto.StatusKilled
	}
	return proto.StatusCancelled
}

func (e *tabEngine) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.stop()
	e.runs.Wait()
	return nil
}

func bytesToJS(b []byte) js.Value {
	a := js.Global().Get("Uint8Array").New(len(b))
	js.CopyBytesToJS(a, b)
	return a
}

func bytesToGo(a js.Value, limit uint64) ([]byte, bool) {
	if !a.InstanceOf(js.Global().Get("Uint8Array")) || uint64(a.Length()) > limit {
		return nil, false
	}
	b := make([]byte, a.Length())
	js.CopyBytesToGo(b, a)
	return b, true
}

// textOf is v as JavaScript would print it.
func textOf(v js.Value) string { return js.Global().Get("String").Invoke(v).String() }

// thrown runs f and returns what JavaScript throws.
func thrown(f func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(js.Error)
			if !ok {
				panic(r)
			}
			err = errors.New(textOf(e.Value))
		}
	}()
	f()
	return nil
}
