package sandbox

import (
	"fmt"
	"slices"
	"sync"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox/instrument"
	"github.com/ipfs/go-cid"
)

// ABI is how a module is driven.
type ABI uint8

const (
	// ABICommand is a WASI program: _start runs once, stdin is the input,
	// stdout the output.
	ABICommand ABI = iota + 1
	// ABIReactor exports edgenet_alloc(size i32) i32 and execute(ptr i32, len
	// i32) i64, which returns the output as ptr<<32 | len; _initialize, if it
	// exists, runs first.
	ABIReactor
)

func (a ABI) String() string {
	switch a {
	case ABICommand:
		return "command"
	case ABIReactor:
		return "reactor"
	}
	return "unknown"
}

// MaxMemory is the default ceiling of a module's linear memory in bytes. A
// task's own limit is below or equal.
const MaxMemory = 1 << 30

const pageSize = 65_536

// Policy says what Prepare accepts.
type Policy struct {
	// Memory is the ceiling of linear memory in bytes, rounded down to pages
	// of 64 KiB: the declared maximum is rewritten to the smaller of the two,
	// and Run refuses a task whose Limits.Memory is above it. Zero is
	// MaxMemory. All nodes of a network use one value.
	Memory uint64
}

func (p Policy) pages() uint32 {
	if p.Memory == 0 {
		p.Memory = MaxMemory
	}
	return uint32(min(max(p.Memory/pageSize, 1), 65_536))
}

// RefusedError says why Prepare did not accept a module; proto.CodeOf gives
// proto.CodeModule.
type RefusedError = instrument.RefusedError

// Module is a checked and metered module. It is immutable and safe for
// concurrent use.
type Module struct {
	ID           cid.Cid // of the raw bytes; a submitter strips them first
	MeterVersion uint32
	ABI          ABI
	RawSize      int        // bytes, custom sections included
	Imports      []string   // "module.function", sorted
	MinMemory    uint64     // bytes a task's memory limit has to leave room for
	MaxMemory    uint64     // bytes it can grow to at most
	StartFuel    proto.Fuel // charged before the first instruction

	raw   []byte
	pages uint32 // ceiling of memory
	min   uint32 // pages declared as the minimum
	metered

	sliced func() (metered, error) // made when first asked for
}

// metered is what an engine needs to run a module, in one instrumented form.
type metered struct {
	code      []byte
	key       proto.Hash // of code
	startFuel uint64
	hasStart  bool
	hasInit   bool
}

// Imports that a guest may use, with their signatures. The functions of
// wasiErrors answer ENOSYS.
func checkImport(module, name string, t instrument.FuncType) string {
	var want string
	var ok bool
	switch module {
	case wasiModule:
		if want, ok = wasiFuncs[name]; !ok {
			want, ok = wasiErrors[name]
		}
	case edgenetModule:
		want, ok = edgenetFuncs[name]
	case envModule:
		want, ok = envFuncs[name]
	default:
		return "only " + wasiModule + ", " + edgenetModule + " and env.abort can be imported"
	}
	if !ok {
		return "no such function for guests"
	}
	if got := funcType(want); !got.Equal(t) {
		return fmt.Sprintf("has type %s, want %s", t, got)
	}
	return ""
}

// funcType reads a signature such as "iiI:i": parameters, colon, results, with
// i for i32 and I for i64.
func funcType(s string) (t instrument.FuncType) {
	to := &t.Params
	for _, c := range s {
		switch c {
		case 'i':
			*to = append(*to, instrument.I32)
		case 'I':
			*to = append(*to, instrument.I64)
		case ':':
			to = &t.Results
		}
	}
	return t
}

// Prepare checks raw and meters it. It never panics; a refusal is a
// *RefusedError. raw is kept and must not change.
func Prepare(raw []byte, policy Policy) (*Module, error) {
	pages := policy.pages()
	var imports []string
	res, err := instrument.Rewrite(raw, instrument.Config{MemoryPages: pages, Import: func(module, name string, t instrument.FuncType) string {
		imports = append(imports, module+"."+name)
		return checkImport(module, name, t)
	}})
	if err != nil {
		return nil, err
	}
	abi, err := findABI(res)
	if err != nil {
		return nil, err
	}
	slices.Sort(imports)
	m := &Module{
		ID: proto.CIDOf(raw), MeterVersion: proto.MeterVersion, ABI: abi, RawSize: len(raw), Imports: slices.Compact(imports),
		MinMemory: uint64(res.MinPages) * pageSize, MaxMemory: uint64(min(res.MaxPages, pages)) * pageSize, StartFuel: proto.Fuel(res.StartFuel),
		raw: raw, pages: pages, min: res.MinPages, metered: newMetered(res),
	}
	m.sliced = sync.OnceValues(m.slice)
	return m, nil
}

func newMetered(res *instrument.Result) metered {
	_, hasInit := res.Funcs["_initialize"]
	return metered{code: res.Bytes, key: proto.HashOf(res.Bytes), startFuel: res.StartFuel, hasStart: res.HasStart, hasInit: hasInit}
}

// slice writes the module in the form that asks the host for each slice of fuel.
func (m *Module) slice() (metered, error) {
	res, err := instrument.Rewrite(m.raw, instrument.Config{MemoryPages: m.pages, Import: checkImport, Sliced: true})
	if err != nil {
		return metered{}, err
	}
	return newMetered(res), nil
}

// Held is what m keeps in memory, in bytes: the raw module and its metered form.
func (m *Module) Held() int { return len(m.raw) + len(m.code) }

// Metered is an instrumented module and what an engine of another kind than
// this package's own must know to run it. The fields are those of the task
// Worker's messages (browser/ts/src/protocol.ts: Order); a host of that Worker
// copies them.
type Metered struct {
	// Code is the instrumented module. It is shared: do not change it.
	Code []byte
	// Key names Code, the plain and the sliced form apart: the hash of Code in
	// hex.
	Key string
	ABI ABI
	// StartFuel is charged before the first instruction. A task whose fuel limit
	// is below StartFuel and an eighth of the input's bytes ends out of fuel
	// without an instance.
	StartFuel proto.Fuel
	// MinPages and MaxPages are the memory's declared minimum and its ceiling in
	// pages of 64 KiB. A task with room for less than MinPages traps without an
	// instance.
	MinPages, MaxPages uint32
}

// Metered returns m's instrumented form. The sliced form, which asks its host
// for each slice of fuel and so can be throttled and stopped between two, gives
// the same results and bills the same fuel as the plain one. It is written when
// first asked for, which takes about as long as Prepare, and then kept.
func (m *Module) Metered(sliced bool) (Metered, error) {
	form := m.metered
	if sliced {
		var err error
		if form, err = m.sliced(); err != nil {
			return Metered{}, err
		}
	}
	return Metered{
		Code: form.code, Key: form.key.String(), ABI: m.ABI, StartFuel: proto.Fuel(form.startFuel), MinPages: m.min,
		MaxPages: uint32(m.MaxMemory / pageSize),
	}, nil
}

func findABI(res *instrument.Result) (ABI, error) {
	refuse := func(format string, args ...any) (ABI, error) {
		return 0, &RefusedError{Section: "export", Reason: fmt.Sprintf(format, args...)}
	}
	want := func(name, sig string) error {
		t, ok := res.Funcs[name]
		if !ok {
			return fmt.Errorf("no function %s is exported", name)
		}
		if w := funcType(sig); !w.Equal(t) {
			return fmt.Errorf("%s has type %s, want %s", name, t, w)
		}
		return nil
	}
	if !res.Memories["memory"] {
		return refuse("no memory is exported under the name memory")
	}
	if _, ok := res.Funcs["execute"]; ok {
		for _, e := range [][2]string{{"execute", "ii:I"}, {"edgenet_alloc", "i:i"}} {
			if err := want(e[0], e[1]); err != nil {
				return refuse("%v", err)
			}
		}
		if _, ok := res.Funcs["_initialize"]; ok {
			if err := want("_initialize", ":"); err != nil {
				return refuse("%v", err)
			}
		} else if _, ok := res.Funcs["_start"]; ok {
			// Nobody calls _start of a reactor, so its runtime would not be set
			// up: every run would trap.
			return refuse("execute is exported beside _start and without _initialize: build it as a reactor (Go: -buildmode=c-shared)")
		}
		return ABIReactor, nil
	}
	if _, ok := res.Funcs["_start"]; ok {
		if err := want("_start", ":"); err != nil {
			return refuse("%v", err)
		}
		return ABICommand, nil
	}
	return refuse("neither execute (reactor) nor _start (WASI command) is exported")
}
