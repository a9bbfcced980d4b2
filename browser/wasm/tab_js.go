package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"syscall/js"
	"time"

	"edgenet.dev/ledger/store/indexeddb"
	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/modules"
)

// tab is the node of this Worker, once it is started.
type tab struct {
	host    js.Value
	figures atomic.Pointer[map[string]any] // what stats tells; nil while no node runs

	mu      sync.Mutex
	running *running
	busy    bool // starting or ending
}

// running is one life of the node, from start to disconnect.
type running struct {
	node   *node.Node
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{} // Run returned and everything is closed

	mu     sync.Mutex // guards what follows and orders changes of the worker
	worker market.Worker
	relays []string // as the page told last
}

func (t *tab) start(args []js.Value) any {
	cfg, w, err := startOf(objectOf(args, 0))
	if err != nil {
		return rejected(err)
	}
	return t.promise("start", func() (any, error) {
		t.mu.Lock()
		if t.running != nil || t.busy {
			t.mu.Unlock()
			return nil, proto.CodeBusy.Errorf("the node runs already")
		}
		t.busy = true
		t.mu.Unlock()
		r, err := t.launch(cfg, w)
		t.mu.Lock()
		t.running, t.busy = r, false
		t.mu.Unlock()
		if err != nil {
			return nil, err
		}
		return map[string]any{"peerId": r.node.ID().String()}, nil
	})
}

// launch opens the stores and brings the node up.
func (t *tab) launch(cfg node.Config, w market.Worker) (*running, error) {
	engine, err := sandbox.NewTab(t.host)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{ctx: ctx, cancel: cancel, ended: make(chan struct{}), worker: w, relays: cfg.Bootstrap}
	cfg.Worker, cfg.Executor = w, reporter{engine, t}
	cfg.Resolve = func(ctx context.Context) ([]string, error) { return t.resolve(ctx, r) }
	if cfg.Dir != "" {
		store, err := indexeddb.Open(ctx, cfg.Dir, indexeddb.Ledger)
		if err != nil {
			cancel()
			return nil, errors.Join(err, engine.Close())
		}
		cfg.Store = store
	}
	if r.node, err = node.New(cfg); err != nil {
		cancel()
		if cfg.Store != nil {
			err = errors.Join(err, cfg.Store.Close())
		}
		return nil, errors.Join(err, engine.Close())
	}
	failed := make(chan error, 1)
	go func() { // owned by disconnect, which waits for ended
		err := r.node.Run(ctx)
		cancel()
		failed <- err
		if e := errors.Join(r.node.Close(), engine.Close()); err == nil {
			err = e
		}
		if err != nil {
			t.failed(fmt.Errorf("the node ended: %w", err))
		}
		close(r.ended)
	}()
	select {
	case <-r.node.Ready():
	case err := <-failed:
		<-r.ended
		if err == nil {
			err = node.ErrClosed
		}
		return nil, err
	}
	t.look(r)
	go t.watch(r) // ends with ctx
	return r, nil
}

// resolve gives what the page told last and what the host finds.
func (t *tab) resolve(ctx context.Context, r *running) ([]string, error) {
	r.mu.Lock()
	addrs := slices.Clone(r.relays)
	r.mu.Unlock()
	if t.host.Get("resolve").Type() != js.TypeFunction {
		return addrs, nil
	}
	v, err := await(ctx, t.host.Call("resolve"))
	if err != nil {
		return addrs, nil //nolint // what is known may still serve
	}
	found := (&object{v: js.ValueOf(map[string]any{"addrs": v})}).texts("addrs")
	return append(addrs, found...), nil
}

// watch tells the page of changes of money and of neighbours.
func (t *tab) watch(r *running) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	credits, peers := r.node.Account(r.node.ID()).Avail, -1
	_, next := r.node.Income(0)
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
		}
		t.look(r)
		if now := r.node.Account(r.node.ID()).Avail; now != credits {
			credits = now
			t.event("balance", map[string]any{"creditsMicro": decimal(now)})
		}
		// What a hold takes and gives back is no income.
		income, after := r.node.Income(next)
		next = after
		for _, kind := range slices.Sorted(maps.Keys(income)) {
			t.event("credit", map[string]any{"creditsMicro": decimal(credits), "changeMicro": decimal(income[kind]), "of": kind})
		}
		if now := len(r.node.Peers()); now != peers {
			t.event("peers", map[string]any{"peers": now})
			peers = now
		}
	}
}

// alive is the running node, or an error.
func (t *tab) alive() (*running, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running == nil {
		return nil, node.ErrClosed
	}
	return t.running, nil
}

func (t *tab) disconnect([]js.Value) any {
	return t.promise("disconnect", func() (any, error) {
		t.mu.Lock()
		r := t.running
		if r == nil || t.busy {
			t.mu.Unlock()
			return nil, nil
		}
		t.busy = true
		t.mu.Unlock()
		r.cancel()
		<-r.ended
		t.mu.Lock()
		t.running, t.busy = nil, false
		t.figures.Store(nil)
		t.mu.Unlock()
		return nil, nil
	})
}

// reporter tells the page of every task that ran.
type reporter struct {
	sandbox.Executor
	t *tab
}

func (r reporter) Run(ctx context.Context, m *sandbox.Module, input []byte, task sandbox.Task) (sandbox.Result, error) {
	res, err := r.Executor.Run(ctx, m, input, task)
	if err == nil {
		typ := ""
		for _, name := range modules.Types() {
			if b, ok := modules.Lookup(name); ok && b.ID.Equals(m.ID) {
				typ = name
				break
			}
		}
		r.t.event("task", map[string]any{
			"id": task.Seed.String()[:16], "type": typ, "status": res.Status.String(), "fuel": decimal(res.Fuel),
		})
	}
	return res, err
}
