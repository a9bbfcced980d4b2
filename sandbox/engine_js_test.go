package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall/js"
	"testing"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/modules"
)

// host is a JavaScript object with the given source of execute(r) and what
// cancel(id) was called with.
func host(t *testing.T, execute string) js.Value {
	t.Helper()
	return js.Global().Get("Function").New(`
		const h = { calls: [], cancelled: [], cancel: (id) => { h.cancelled.push(id); h.oncancel?.(id); } };
		h.execute = (r) => { h.calls.push(r); return run(r); };
		const run = (r) => { ` + execute + ` };
		const ok = (more) => Promise.resolve({ status: "ok", exitCode: 0, output: new Uint8Array(0), fuel: "7", log: new Uint8Array(0), ...more });
		return h;`).Invoke()
}

func tab(t *testing.T, h js.Value) sandbox.Executor {
	t.Helper()
	e, err := sandbox.NewTab(h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func textModule(t *testing.T) *sandbox.Module {
	t.Helper()
	b, _ := modules.Lookup(proto.TypeText)
	m, err := sandbox.Prepare(b.Raw, sandbox.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTabPassesEverything(t *testing.T) {
	h := host(t, `r.progress(500);
		return ok({ status: "exit-non-zero", exitCode: -3, fuel: "4503599627370496", output: r.input.map((b) => b + 1), log: new Uint8Array([104, 105]) });`)
	e, m := tab(t, h), textModule(t)
	var progress []uint32
	seed := proto.HashOf([]byte("seed"))
	res, err := e.Run(t.Context(), m, []byte("abc"), sandbox.Task{
		Limits: proto.Limits{Fuel: proto.MaxFuel, Memory: 1 << 20, Output: 10, Log: 20, Wall: 3 * time.Second},
		Seed:   seed, Progress: func(p uint32) { progress = append(progress, p) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if res.Status != proto.StatusExitNonZero || res.ExitCode != -3 || res.Fuel != proto.MaxFuel || string(res.Output) != "bcd" || string(res.Log) != "hi" {
		t.Errorf("result %+v", res)
	}
	if len(progress) != 1 || progress[0] != 500 {
		t.Errorf("progress %v", progress)
	}
	form, err := m.Metered(true)
	if err != nil {
		t.Fatal(err)
	}
	r := h.Get("calls").Index(0)
	code := make([]byte, r.Get("code").Length())
	js.CopyBytesToGo(code, r.Get("code"))
	if !bytes.Equal(code, form.Code) || r.Get("key").String() != form.Key {
		t.Error("the code is not the module's sliced form")
	}
	for name, want := range map[string]string{
		"fuel": "4503599627370496", "memory": "1048576", "output": "10", "log": "20", "wallMs": "3000",
		"abi": fmt.Sprint(int(form.ABI)), "startFuel": fmt.Sprint(form.StartFuel), "minPages": fmt.Sprint(form.MinPages), "input": "97,98,99",
	} {
		if got := js.Global().Get("String").Invoke(r.Get(name)).String(); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	sent := make([]byte, 32)
	js.CopyBytesToGo(sent, r.Get("seed"))
	if !bytes.Equal(sent, seed[:]) {
		t.Error("the seed is not the task's")
	}
}

// The code travels once, and again when the host lost it.
func TestTabCode(t *testing.T) {
	h := host(t, `return ok(!r.code && h.calls.length === 3 ? { needCode: true } : {});`)
	e, m := tab(t, h), textModule(t)
	for range 3 {
		if res, err := e.Run(t.Context(), m, nil, sandbox.Task{}); err != nil || res.Status != proto.StatusOK {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	var with []bool
	for i := range h.Get("calls").Length() {
		with = append(with, h.Get("calls").Index(i).Get("code").Truthy())
	}
	if want := []bool{true, false, false, true}; fmt.Sprint(with) != fmt.Sprint(want) {
		t.Errorf("calls with code %v, want %v", with, want)
	}
	if ids := h.Get("calls"); ids.Index(2).Get("id").Int() != ids.Index(3).Get("id").Int() {
		t.Error("the second call of a run has another id")
	}
}

func TestTabStatuses(t *testing.T) {
	statuses := []proto.Status{proto.StatusTimeout, proto.StatusCompileTimeout, proto.StatusKilled, proto.StatusHostOOM, proto.StatusCancelled}
	for s := proto.StatusOK; s <= proto.StatusBadOutput; s++ {
		statuses = append(statuses, s)
	}
	m := textModule(t)
	for _, want := range statuses {
		e := tab(t, host(t, fmt.Sprintf(`return ok({ status: %q });`, want)))
		if res, err := e.Run(t.Context(), m, nil, sandbox.Task{}); err != nil || res.Status != want {
			t.Errorf("%s: %+v, %v", want, res, err)
		}
	}
}

// Nothing that a broken host says becomes a vote.
func TestTabRefusesAnswers(t *testing.T) {
	m := textModule(t)
	for _, answer := range []string{
		`return ok({ status: "splendid" });`, `return ok({ status: undefined });`, `return ok({ fuel: "-1" });`, `return ok({ fuel: "1.5" });`,
		`return ok({ fuel: "31000000000" });`, `return ok({ output: "text" });`, `return ok({ output: new Uint8Array(5 << 20) });`,
		`return ok({ log: new Uint8Array(1 << 20) });`, `return ok({ needCode: true });`, `return Promise.resolve(null);`,
		`return Promise.reject(new Error("broken"));`, `throw new Error("broken");`, `return undefined;`,
	} {
		e := tab(t, host(t, answer))
		if res, err := e.Run(t.Context(), m, nil, sandbox.Task{}); err == nil {
			t.Errorf("%s: %+v", answer, res)
		}
	}
	e := tab(t, host(t, `return Promise.reject(new Error("no Workers here"));`))
	if _, err := e.Run(t.Context(), m, nil, sandbox.Task{}); err == nil || !strings.Contains(err.Error(), "no Workers here") {
		t.Errorf("the reason is lost: %v", err)
	}
}

// The end of the context cancels at the host and does not wait for it.
func TestTabCancel(t *testing.T) {
	h := host(t, `return new Promise(() => {});`)
	e, m := tab(t, h), textModule(t)
	ctx, cancel := context.WithCancel(t.Context())
	started := js.FuncOf(func(js.Value, []js.Value) any { cancel(); return nil })
	defer started.Release()
	js.Global().Call("setTimeout", started, 0)
	res, err := e.Run(ctx, m, nil, sandbox.Task{})
	if err != nil || res.Status != proto.StatusCancelled {
		t.Fatalf("%+v, %v", res, err)
	}
	if c := h.Get("cancelled"); c.Length() != 1 || c.Index(0).Int() != h.Get("calls").Index(0).Get("id").Int() {
		t.Error("the host was not told")
	}
}

func TestTabClose(t *testing.T) {
	e, m := tab(t, host(t, `return new Promise(() => {});`)), textModule(t)
	ended := make(chan sandbox.Result, 1)
	go func() {
		res, _ := e.Run(context.Background(), m, nil, sandbox.Task{})
		ended <- res
	}()
	for range 2 {
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case res := <-ended:
		if res.Status != proto.StatusCancelled && res.Status != proto.StatusUnknown { // unknown: it came after Close
			t.Errorf("the run ended as %s", res.Status)
		}
	case <-t.Context().Done():
	}
	if _, err := e.Run(t.Context(), m, nil, sandbox.Task{}); !errors.Is(err, sandbox.ErrClosed) {
		t.Errorf("a closed executor runs: %v", err)
	}
}

func TestTabNeedsHost(t *testing.T) {
	for _, h := range []js.Value{js.Undefined(), js.ValueOf(1), js.ValueOf(map[string]any{"execute": 1})} {
		if _, err := sandbox.NewTab(h); err == nil {
			t.Errorf("%s is taken for a host", h.Type())
		}
	}
}
