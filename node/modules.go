package node

import (
	"context"
	"errors"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/market"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
)

// moduleCache holds prepared modules; one fetch and one Prepare at a time per
// module and submitter, however many tasks wait for it. Submitters do not wait
// for each other: one of them may serve it never.
type moduleCache struct {
	mu    sync.Mutex
	ready *lru.Cache[proto.Hash, cached]
	held  int // bytes of those
	busy  map[fetchKey]*preparing
	cpus  *serving // Prepare takes a whole one

	broken *lru.Cache[peer.ID, time.Time] // submitters whose newest module failed, and when
}

// cached is a prepared module and who brought it.
type cached struct {
	*sandbox.Module
	from peer.ID
}

type fetchKey struct {
	from peer.ID
	hash proto.Hash
}

// Prepared modules are kept, modulesCap at most, and modulesHeld bytes of them
// but for the last: a module of 4 MiB can be 20 MiB when it is metered. Then the
// least used of the submitter that brought most gives way. A place counts like
// moduleShare bytes, so that whoever takes many places with little has most. Built-in
// modules, which are few, give way to none.
const (
	modulesCap  = 32
	modulesHeld = 64 << 20
	moduleShare = modulesHeld / modulesCap

	// One of a submitter is prepared at once, those of submitters with most at stake
	// first. One whose module failed counts as having nothing for a while.
	maxPreparing  = 2
	brokenModules = 10 * time.Minute
)

type preparing struct {
	done chan struct{}
	m    *sandbox.Module
	err  error
}

func newModuleCache(stake func(peer.ID) proto.Credit) *moduleCache {
	c := &moduleCache{busy: map[fetchKey]*preparing{}}
	const forever = 24 * time.Hour // it cannot be stopped
	c.cpus = newServing(maxPreparing, 1, forever, func(peer.ID) bool { return false }, func(id peer.ID) proto.Credit {
		if at, ok := c.broken.Get(id); ok && time.Since(at) < brokenModules {
			return 0
		}
		return stake(id)
	})
	c.cpus.queue = inputFetches
	c.broken, _ = lru.New[peer.ID, time.Time](maxShows) // they fail for sizes below 1 only
	c.ready, _ = lru.NewWithEvict(modulesCap+1, func(_ proto.Hash, m cached) { c.held -= m.Held() })
	return c
}

// add keeps m. The caller holds mu.
func (c *moduleCache) add(h proto.Hash, from peer.ID, m *sandbox.Module) {
	if c.ready.Contains(h) { // another submitter brought it meanwhile
		return
	}
	c.held += m.Held()
	c.ready.Add(h, cached{m, from})
	for c.ready.Len() > modulesCap || c.held > modulesHeld {
		least, ok := c.givesWay(h)
		if !ok {
			return
		}
		c.ready.Remove(least)
	}
}

// givesWay is the least used module, but for the newest, of the submitter with most;
// false when there are only that one and built-in ones.
func (c *moduleCache) givesWay(newest proto.Hash) (least proto.Hash, ok bool) {
	held := map[peer.ID]int{}
	keys := c.ready.Keys() // the least used first
	for _, h := range keys {
		m, _ := c.ready.Peek(h)
		held[m.from] += m.Held() + moduleShare
	}
	most := 0
	for _, h := range keys {
		m, _ := c.ready.Peek(h)
		if h != newest && m.from != everybody(h) && held[m.from] > most {
			least, most, ok = h, held[m.from], true
		}
	}
	return least, ok
}

// get returns a prepared module, nil when it is not here.
func (c *moduleCache) get(h proto.Hash) *sandbox.Module {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, _ := c.ready.Get(h)
	return m.Module
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
			return m.Module, nil
		}
		p := c.busy[key]
		if p == nil {
			p = &preparing{done: make(chan struct{})}
			c.busy[key] = p
			c.mu.Unlock()
			p.m, p.err = w.prepare(ctx, from, h)
			c.mu.Lock()
			if p.err == nil {
				c.add(h, w.n.ownerOf(from, h), p.m)
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

// ownerOf is for whom a module is kept: for whoever brought it, unless every node
// has it.
func (n *Node) ownerOf(from peer.ID, h proto.Hash) peer.ID {
	if _, ok := n.builtins[h]; ok {
		return everybody(h)
	}
	return from
}

// everybody is the owner of a module that every node has.
func everybody(h proto.Hash) peer.ID { return peer.ID(h[:]) }

func (w *work) prepare(ctx context.Context, from peer.ID, h proto.Hash) (*sandbox.Module, error) {
	raw, err := w.n.fetchPaced(ctx, from, h, nil, proto.MaxModule, func(int) error { return nil })
	if err != nil {
		return nil, err
	}
	place, ok := w.modules.cpus.take(ctx, from, w.siteOf(from), nil)
	if !ok {
		return nil, proto.CodeBusy.Errorf("too many modules are prepared")
	}
	began := time.Now()
	m, err := sandbox.Prepare(raw, sandbox.Policy{})
	if err != nil {
		w.modules.broken.Add(from, time.Now())
	}
	w.modules.cpus.leave(place)
	w.n.jobs.post(market.Prepared{From: from, Took: time.Since(began)})
	if err != nil {
		return nil, proto.CodeModule.Errorf("module %s: %v", h.CID(), err)
	}
	return m, nil
}
