package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"syscall/js"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

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

// A little more than any settings have.
const (
	maxSlots = 256
	maxBytes = 1 << 52
)

// taskTypes checks names of task types and replaces aliases. "custom" stands
// for modules that are not built in.
func taskTypes(names []string) (types []string, custom bool, err error) {
	for _, name := range names {
		if name == "custom" {
			custom = true
			continue
		}
		if _, ok := modules.Lookup(name); !ok {
			continue // a type that a later version of the page knows
		}
		types = append(types, proto.CanonicalType(name))
	}
	slices.Sort(types)
	types = slices.Compact(types)
	if len(types) == 0 && !custom {
		return nil, false, badConfig("types %v: this node has %v, and custom", names, modules.Types())
	}
	return types, custom, nil
}

func (t *tab) start(args []js.Value) any {
	o := objectOf(args, 0)
	genesis, seed := o.bytes("genesis"), o.bytes("seed")
	cfg := node.Config{
		Dir: o.text("db"), Bootstrap: o.texts("bootstrap"), Bandwidth: o.number("bandwidth", maxBytes),
		Listen: []string{}, Reachability: "private", DHT: "ask", Light: true, Version: version, Log: logger(),
	}
	w := market.Worker{
		Enabled: o.flag("work"), Reason: "not asked to work", Slots: int(o.number("slots", maxSlots)),
		MaxMemory: o.number("memory", maxBytes), CPU: int(o.number("taskPercent", 100)), Site: o.text("site"), Payee: peer.ID(""),
	}
	payee, names := o.text("payee"), o.texts("types")
	if o.err != nil {
		return rejected(o.err)
	}
	return t.promise("start", func() (any, error) {
		t.mu.Lock()
		if t.running != nil || t.busy {
			t.mu.Unlock()
			return nil, proto.CodeBusy.Errorf("the node runs already")
		}
		t.busy = true
		t.mu.Unlock()
		r, err := t.launch(cfg, w, genesis, seed, payee, names)
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
func (t *tab) launch(cfg node.Config, w market.Worker, genesis, seed []byte, payee string, names []string) (*running, error) {
	var err error
	if cfg.Network, err = proto.ParseGenesis(genesis); err != nil {
		return nil, badConfig("genesis: %v", err)
	}
	if len(seed) != 32 {
		return nil, &codeError{"BAD_KEY", fmt.Sprintf("a seed has 32 bytes, not %d", len(seed))}
	}
	if cfg.Key, err = keyOf(seed); err != nil {
		return nil, err
	}
	if payee != "" {
		if w.Payee, err = peer.Decode(payee); err == nil {
			_, err = proto.ParsePeer([]byte(w.Payee))
		}
		if err != nil {
			return nil, badConfig("payee %q is no account; want the peer id of an Ed25519 key, 12D3KooW…", payee)
		}
	}
	if w.Types, w.Custom, err = taskTypes(names); err != nil {
		return nil, err
	}
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

// keyOf makes the account's key from its seed, RFC 8032.
func keyOf(seed []byte) (crypto.PrivKey, error) {
	return crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed))
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
