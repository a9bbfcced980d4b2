package main

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"syscall/js"

	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox/modules"
)

// stats is what the page shows, as it was a moment ago; null before start. It
// must not wait for a lock: the node holds some while it waits for IndexedDB,
// whose answer comes only after this call has returned.
func (t *tab) stats([]js.Value) any {
	if s := t.figures.Load(); s != nil {
		return *s
	}
	return nil
}

// look renews what stats tells.
func (t *tab) look(r *running) {
	s, a := r.node.Stats(), r.node.Account(r.node.ID())
	w := r.node.Worker()
	paused := ""
	if !w.Enabled {
		paused = w.Reason
	}
	reputation := uint64(0)
	if s.Worker.Done > 0 { // of what this run executed, the share that was paid
		reputation = min(s.Worker.Accepted, s.Worker.Done) * 1_000_000 / s.Worker.Done
	}
	t.figures.Store(&map[string]any{
		"peerId": r.node.ID().String(), "peers": s.Peers,
		"creditsMicro": decimal(a.Avail), "heldMicro": decimal(a.Held), "receivableMicro": decimal(a.Receivable),
		"tasksRun": float64(s.Worker.Done), "tasksFailed": float64(s.Worker.Failed), "tasksAccepted": float64(s.Worker.Accepted),
		"running": s.Worker.Busy, "paused": paused, "why": s.Worker.Why, "uptimeMs": float64(s.Uptime.Milliseconds()),
		"reputationPpm": float64(reputation),
		"bytesIn":       float64(s.BytesIn), "bytesOut": float64(s.BytesOut),
	})
}

// memory tells what is in use after a collection, so that tests and benchmarks
// can compare: bytes of live objects, bytes taken from the browser (which a
// WebAssembly memory never gives back), goroutines.
func (t *tab) memory([]js.Value) any {
	return t.promise("memory", func() (any, error) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return map[string]any{"heapBytes": float64(m.HeapAlloc), "systemBytes": float64(m.Sys), "goroutines": runtime.NumGoroutine()}, nil
	})
}

func (t *tab) pause(args []js.Value) any {
	reason := "paused"
	if len(args) > 0 && args[0].Type() == js.TypeString {
		reason = args[0].String()
	}
	return t.change("pause", func(w *market.Worker) { w.Enabled, w.Reason = false, reason })
}

func (t *tab) resume([]js.Value) any {
	return t.change("resume", func(w *market.Worker) { w.Enabled, w.Reason = true, "" })
}

// change alters what the node offers.
func (t *tab) change(name string, alter func(*market.Worker)) any {
	return t.promise(name, func() (any, error) {
		r, err := t.alive()
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		w := r.worker
		alter(&w)
		if err := r.node.SetWorker(r.ctx, w); err != nil {
			return nil, err
		}
		r.worker = w
		t.look(r)
		return nil, nil
	})
}

func (t *tab) limits(args []js.Value) any {
	apply, err := limitsOf(objectOf(args, 0))
	if err != nil {
		return rejected(err)
	}
	return t.change("limits", apply)
}

// relays tells of new addresses of relays. They are dialled at once.
func (t *tab) relays(args []js.Value) any {
	var addrs []string
	if len(args) > 0 {
		addrs = (&object{v: js.ValueOf(map[string]any{"addrs": args[0]})}).texts("addrs")
	}
	return t.promise("relays", func() (any, error) {
		r, err := t.alive()
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		r.relays = addrs
		r.mu.Unlock()
		return nil, r.node.Introduce(r.ctx, addrs)
	})
}

// part is the tasks of a request that share a module: one job.
type part struct {
	spec node.JobSpec
	at   []int // places in the request
	id   proto.JobID
}

// requested reads what is to be submitted or quoted.
func requested(args []js.Value) (parts []*part, opt market.Options, tasks int, err error) {
	o := objectOf(args, 0)
	opt = market.Options{
		Redundancy: int(o.number("redundancy", proto.MaxRedundancy)), Priority: proto.Priority(o.number("priority", float64(proto.PriorityHigh))),
		MaxCredits: proto.Credit(o.amount("maxMicro")), Timeout: proto.Millis(uint64(o.number("timeoutMs", 1<<40))),
		Run: proto.Millis(uint64(o.number("runTimeoutMs", 1<<40))), Queue: proto.Millis(uint64(o.number("queueTimeoutMs", 1<<40))),
		Fuel: proto.Fuel(o.amount("fuelLimit")),
	}
	list := o.list("tasks")
	if len(list) > proto.MaxTasks {
		o.wrong("tasks", fmt.Sprintf("at most %d", proto.MaxTasks))
	}
	if parts, err = partsOf(list); err == nil {
		err = o.err
	}
	for _, p := range parts {
		p.spec.Options = opt
	}
	return parts, opt, len(list), err
}

// quote says what a request would cost, and checks it as submit does.
func (t *tab) quote(args []js.Value) any {
	parts, opt, _, err := requested(args)
	if err != nil {
		return rejected(err)
	}
	return t.promise("quote", func() (any, error) {
		r, err := t.alive()
		if err != nil {
			return nil, err
		}
		quotes, err := allot(r, parts, opt)
		if err != nil {
			return nil, err
		}
		all, price := market.Quote{Budget: opt.WithDefaults().MaxCredits}, proto.Credit(0)
		for _, q := range quotes {
			all.Hold, all.Task, all.Worst, price = all.Hold+q.Hold, max(all.Task, q.Task), all.Worst+q.Worst, q.Price
		}
		return map[string]any{
			"holdMicro": decimal(all.Hold), "taskMicro": decimal(all.Task), "mostMicro": decimal(min(all.Worst, all.Budget)),
			"budgetMicro": decimal(all.Budget), "priceMicro": decimal(price),
		}, nil
	})
}

func (t *tab) submit(args []js.Value) any {
	parts, opt, total, err := requested(args)
	if err != nil {
		return rejected(err)
	}
	progress := js.Undefined()
	if len(args) > 1 && args[1].Type() == js.TypeFunction {
		progress = args[1]
	}
	return t.promise("submit", func() (any, error) {
		r, err := t.alive()
		if err != nil {
			return nil, err
		}
		if _, err := allot(r, parts, opt); err != nil {
			return nil, err
		}
		for i, p := range parts {
			if p.id, err = r.node.Start(r.ctx, p.spec); err != nil {
				for _, started := range parts[:i] {
					_ = r.node.Cancel(r.ctx, started.id) // all or nothing
				}
				return nil, err
			}
		}
		if err := finish(r, parts, func(done int) {
			if progress.Truthy() {
				progress.Invoke(done, total)
			}
		}); err != nil {
			return nil, err
		}
		t.look(r)
		return outcome(r, parts, total)
	})
}

// allot checks every part before there is a job, and divides the budget of
// the request among them.
func allot(r *running, parts []*part, opt market.Options) (quotes []node.Quote, err error) {
	prices := make([]market.Quote, len(parts))
	for i, p := range parts {
		q, err := r.node.Quote(p.spec)
		if err != nil {
			return nil, err
		}
		quotes, prices[i] = append(quotes, q), q.Quote
	}
	if len(parts) == 1 {
		return quotes, nil
	}
	shares, err := market.Share(opt.WithDefaults().MaxCredits, prices)
	for i, s := range shares {
		parts[i].spec.Options.MaxCredits = s
	}
	return quotes, err
}

// partsOf reads the tasks of a request and groups them by module.
func partsOf(tasks []js.Value) ([]*part, error) {
	var parts []*part
	byModule := map[string]*part{}
	for i := range tasks {
		o := objectOf(tasks, i)
		typ, module, input := o.text("type"), o.bytes("module"), o.bytes("input")
		if o.has("payload") {
			in, err := modules.EncodeValue(typ, []byte(o.text("payload")))
			if err != nil {
				return nil, err
			}
			input = in
		}
		if o.err != nil {
			return nil, o.err
		}
		key := typ + "\x00" + string(module)
		p := byModule[key]
		if p == nil {
			p = &part{spec: node.JobSpec{Type: typ, Module: module}}
			byModule[key] = p
			parts = append(parts, p)
		}
		p.spec.Inputs = append(p.spec.Inputs, input)
		p.at = append(p.at, i)
	}
	if len(parts) == 0 {
		return nil, badConfig("tasks: want at least one")
	}
	return parts, nil
}

// finish waits until every part is final and reports how many tasks are.
func finish(r *running, parts []*part, progress func(done int)) error {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	type news struct {
		part, done int
		final      bool
		err        error
	}
	heard := make(chan news)
	for i, p := range parts {
		go func() { // ends with ctx
			for {
				changed := r.node.Changed(p.id)
				v, _, err := r.node.Job(p.id)
				n := news{i, v.Done + v.Failed, v.Record.State.Final(), err}
				select {
				case heard <- n:
				case <-ctx.Done():
					return
				}
				if n.final || n.err != nil {
					return
				}
				select {
				case <-changed:
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	done, told := map[int]int{}, -1
	for open := len(parts); open > 0; {
		select {
		case n := <-heard:
			if n.err != nil {
				return n.err
			}
			done[n.part] = n.done
			if n.final {
				open--
			}
		case <-ctx.Done():
			return node.ErrClosed
		}
		sum := 0
		for _, n := range slices.Collect(maps.Values(done)) {
			sum += n
		}
		if sum != told {
			progress(sum)
			told = sum
		}
	}
	return nil
}

// outcome gathers the results in the order of the request.
func outcome(r *running, parts []*part, total int) (any, error) {
	results := make([]any, total)
	var cost proto.Credit
	for _, p := range parts {
		v, tasks, err := r.node.Job(p.id)
		if err != nil {
			return nil, err
		}
		cost += v.Cost
		for i, at := range p.at {
			res, err := r.node.Result(proto.TaskID{Job: p.id, Index: uint32(i)})
			if err != nil {
				return nil, err
			}
			if res.Code == proto.CodeOK { // it ended with its job, before it began
				res.Code, res.Reason = tasks[i].Code, tasks[i].Reason
			}
			if results[at], err = resultValue(res, p.spec); err != nil {
				return nil, err
			}
		}
	}
	return map[string]any{"costMicro": decimal(cost), "results": results}, nil
}

func resultValue(res *market.Result, spec node.JobSpec) (any, error) {
	workers, receipts := make([]any, len(res.Workers)), make([]any, len(res.Receipts))
	for i, w := range res.Workers {
		workers[i] = w.String()
	}
	for i, sr := range res.Receipts {
		raw, err := goproto.Marshal(sr)
		if err != nil {
			return nil, fmt.Errorf("receipt: %w", err)
		}
		receipts[i] = uint8Array(raw)
	}
	out := map[string]any{
		"task": res.Task.String(), "status": "", "output": uint8Array(res.Output), "log": uint8Array(res.Log), "verified": res.Verified,
		"workers": workers, "receipts": receipts, "costMicro": decimal(res.Cost), "fuel": decimal(res.Fuel),
	}
	if res.Status != proto.StatusUnknown {
		out["status"] = res.Status.String()
	}
	if res.State != market.Done {
		code := res.Code
		if code == proto.CodeOK {
			code = proto.CodeCancelled
		}
		out["error"] = map[string]any{"code": code.String(), "message": res.Reason}
		return out, nil
	}
	if spec.Type != "" {
		text, err := modules.Decode(spec.Type, res.Output)
		if err != nil {
			return nil, err
		}
		out["json"] = string(text)
	}
	return out, nil
}
