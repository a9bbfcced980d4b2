package node

import (
	"context"
	"errors"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
)

// moduleCache holds prepared modules; one fetch and one Prepare at a time per
// module and submitter, however many tasks wait for it. Submitters do not wait
// for each other: one of them may serve it never.
type moduleCache struct {
	mu    sync.Mutex
	ready *lru.Cache[proto.Hash, *sandbox.Module]
	held  int // bytes of those
	busy  map[fetchKey]*preparing
	cpus  chan struct{} // Prepare takes a whole one
}

type fetchKey struct {
	from peer.ID
	hash proto.Hash
}

// Prepared modules are kept, modulesCap at most, and modulesHeld bytes of them
// but for the last: a module of 4 MiB can be 20 MiB when it is metered.
const (
	modulesCap   = 32
	modulesHeld  = 64 << 20
	maxPreparing = 2
)

type preparing struct {
	done chan struct{}
	m    *sandbox.Module
	err  error
}

func newModuleCache() *moduleCache {
	c := &moduleCache{busy: map[fetchKey]*preparing{}, cpus: make(chan struct{}, maxPreparing)}
	var err error
	c.ready, err = lru.NewWithEvict(modulesCap, func(_ proto.Hash, m *sandbox.Module) { c.held -= m.Held() })
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return c
}

// add keeps m. The caller holds mu.
func (c *moduleCache) add(h proto.Hash, m *sandbox.Module) {
	if c.ready.Contains(h) { // another submitter brought it meanwhile
		return
	}
	c.held += m.Held()
	c.ready.Add(h, m)
	for c.held > modulesHeld && c.ready.Len() > 1 {
		c.ready.RemoveOldest()
	}
}

// get returns a prepared module, nil when it is not here.
func (c *moduleCache) get(h proto.Hash) *sandbox.Module {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, _ := c.ready.Get(h)
	return m
}

// has reports whether an assignment's module is prepared.
func (c *moduleCache) has(a *proto.Assignment) bool {
	h, err := moduleOf(a)
	return err == nil && c.get(h) != nil
}

func moduleOf(a *proto.Assignment) (proto.Hash, error) {
	id, err := proto.ParseCID(a.Module)
	if err != nil {
		return proto.Hash{}, err
	}
	return proto.CIDHash(id)
}

// module returns an assignment's module, which is in the cache then.
func (w *work) module(ctx context.Context, from peer.ID, a *proto.Assignment) (*sandbox.Module, error) {
	h, err := moduleOf(a)
	if err != nil {
		return nil, err
	}
	c, key := w.modules, fetchKey{from, h}
	for {
		c.mu.Lock()
		if m, ok := c.ready.Get(h); ok {
			c.mu.Unlock()
			return m, nil
		}
		p := c.busy[key]
		if p == nil {
			p = &preparing{done: make(chan struct{})}
			c.busy[key] = p
			c.mu.Unlock()
			p.m, p.err = w.prepare(ctx, from, h)
			c.mu.Lock()
			if p.err == nil {
				c.add(h, p.m)
			}
			delete(c.busy, key)
			c.mu.Unlock()
			close(p.done)
			return p.m, p.err
		}
		c.mu.Unlock()
		select {
		case <-p.done:
			// That execution may have been stopped during its fetch: that is no
			// reason to refuse this one.
			if p.err == nil || !errors.Is(p.err, context.Canceled) && proto.CodeOf(p.err) != proto.CodeFetch {
				return p.m, p.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (w *work) prepare(ctx context.Context, from peer.ID, h proto.Hash) (*sandbox.Module, error) {
	raw, err := w.n.fetchPaced(ctx, from, h, nil, proto.MaxModule, func(int) error { return nil })
	if err != nil {
		return nil, err
	}
	select {
	case w.modules.cpus <- struct{}{}:
		defer func() { <-w.modules.cpus }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	m, err := sandbox.Prepare(raw, sandbox.Policy{})
	if err != nil {
		return nil, proto.CodeModule.Errorf("module %s: %v", h.CID(), err)
	}
	return m, nil
}
