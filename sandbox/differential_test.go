//go:build !js

package sandbox

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"testing"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox/instrument"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// plain runs a module as it is, without metering, under the same host
// functions, and stops it after a while.
type plain struct {
	e    *engine
	sink api.Module // its fuel takes what host calls charge
}

func newPlain(t testing.TB, echo []byte, interpreter bool) *plain {
	ctx := context.Background()
	e, err := newEngine(ctx, engineConfig{interpreter: interpreter, guard: true})
	if err != nil {
		t.Fatal(err)
	}
	m, err := Prepare(echo, Policy{})
	if err != nil {
		t.Fatal(err)
	}
	sink, err := e.rt.InstantiateWithConfig(ctx, m.code, wazero.NewModuleConfig().WithName("sink"))
	if err != nil {
		t.Fatal(err)
	}
	sink.ExportedGlobal(instrument.FuelExport).(api.MutableGlobal).Set(1 << 62)
	t.Cleanup(e.close)
	return &plain{e, sink}
}

// run gives the output, or the error of the guest.
func (p *plain) run(raw []byte, abi ABI, hasInit bool, input []byte, task Task) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r := &run{guest: newGuest(abi, input, task), ctx: ctx, fuel: p.sink.ExportedGlobal(instrument.FuelExport).(api.MutableGlobal)}
	alloc := &allocator{limit: task.Limits.Memory, spares: &p.e.spare}
	defer alloc.release()
	ctx = experimental.WithMemoryAllocator(context.WithValue(ctx, runKey{}, r), alloc)
	c, err := p.e.rt.CompileModule(ctx, raw)
	if err != nil {
		return nil, err
	}
	defer c.Close(ctx)
	mod, err := p.e.rt.InstantiateModule(ctx, c, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return nil, err
	}
	defer mod.Close(ctx)
	return r.drive(ctx, mod, order{abi: abi, hasInit: hasInit}, input)
}

// Differential runs one module in several ways and compares.
type Differential struct {
	plain    *plain
	compiled *inProcess
	inter    *inProcess
	direct   *engine // compiler, not sliced, as in a child
}

// NewDifferential needs a reactor to borrow a fuel counter from.
func NewDifferential(t testing.TB, echo []byte) *Differential {
	d := &Differential{plain: newPlain(t, echo, true)}
	for _, interpreter := range []bool{false, true} {
		ex, err := NewInProcess(InProcessConfig{Interpreter: interpreter})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ex.Close() })
		if interpreter {
			d.inter = ex.(*inProcess)
		} else {
			d.compiled = ex.(*inProcess)
		}
	}
	e, err := newEngine(context.Background(), engineConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.close)
	d.direct = e
	return d
}

// Check runs raw everywhere; it reports the status that all agreed on, or
// StatusUnknown for a refused module.
func (d *Differential) Check(t testing.TB, raw, input []byte, fuel proto.Fuel) proto.Status {
	m, err := Prepare(raw, Policy{})
	if err != nil {
		var refused *RefusedError
		if !errors.As(err, &refused) {
			t.Fatalf("refused without a reason: %v", err)
		}
		return proto.StatusUnknown
	}
	ctx := context.Background()
	task := Task{Limits: proto.Limits{Fuel: fuel, Memory: 16 << 20}.WithDefaults(), Seed: proto.HashOf(input)}
	first, err := d.compiled.Run(ctx, m, input, task)
	if err != nil {
		t.Fatalf("accepted, but the compiler says: %v", err)
	}
	second, err := d.inter.Run(ctx, m, input, task)
	if err != nil {
		t.Fatalf("accepted, but the interpreter says: %v", err)
	}
	c, err := d.direct.compile(ctx, m.key, m.code)
	if err != nil {
		t.Fatalf("accepted, but the compiler says: %v", err)
	}
	third, err := d.direct.execute(ctx, c, orderOf(m, m.metered, false), bytes.Clone(input), task)
	d.direct.release(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []Result{second, third} {
		if first.Status != other.Status || first.Fuel != other.Fuel || !bytes.Equal(first.Output, other.Output) || !bytes.Equal(first.Log, other.Log) {
			t.Fatalf("engines differ: %s fuel %d output %x; %s fuel %d output %x",
				first.Status, first.Fuel, first.Output, other.Status, other.Fuel, other.Output)
		}
	}
	res, err := instrument.Rewrite(raw, instrument.Config{MemoryPages: m.pages})
	if err != nil {
		t.Fatal(err)
	}
	if first.Status == proto.StatusOutOfFuel || first.Status == proto.StatusStackLimit || first.Status == proto.StatusBadOutput ||
		first.Status == proto.StatusExitNonZero || res.NaNs > 0 || res.MinPages > 256 {
		return first.Status // the plain module may go on, or see other NaNs
	}
	out, err := d.plain.run(raw, m.ABI, m.hasInit, bytes.Clone(input), task)
	if (err == nil) != (first.Status == proto.StatusOK) && !isExit0(err) {
		t.Fatalf("metered %s, plain: %v", first.Status, err)
	}
	if err == nil && !bytes.Equal(out, first.Output) {
		t.Fatalf("metered output %x, plain %x", first.Output, out)
	}
	return first.Status
}

func isExit0(err error) bool {
	var exit interface{ ExitCode() uint32 }
	return errors.As(err, &exit) && exit.ExitCode() == 0
}

// SetCompileTimeout shortens a pool's bound of compiling.
func SetCompileTimeout(ex Executor, d time.Duration) { ex.(*pool).compileTimeout = d }

// SetBare starts a pool's children without confinement.
func SetBare(ex Executor) { ex.(*pool).bare = true }

// SetMargin changes what a child may hold besides the task's memory, in bytes.
func SetMargin(ex Executor, n uint64) { ex.(*pool).margin = n }

// SetHostMemory makes an in-process executor one whose host has only n bytes
// for a guest.
func SetHostMemory(ex Executor, n uint64) { ex.(*inProcess).engine.most = n }

// Bottomless takes the metering of depth out of m, as run in process.
func Bottomless(t testing.TB, m *Module) {
	form, err := m.sliced()
	if err != nil {
		t.Fatal(err)
	}
	// global.get depth, i32.const cost, i32.sub or i32.add, global.set depth
	frame := regexp.MustCompile(`(?s)#(.)A.([jk])\$(.)`)
	code := frame.ReplaceAll(form.code, []byte("#${1}A\x00${2}$$${3}"))
	if bytes.Equal(code, form.code) {
		t.Fatal("no frame is metered")
	}
	form.code, form.key = code, proto.HashOf(code)
	m.sliced = func() (metered, error) { return form, nil }
}
