package transport

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// How the keeper waits. A relay that failed is asked again after a second,
// twice that and so on; a resolver, which may be a web server of its own, less
// often.
const (
	relaysHeld     = 2 // at a time, of those that are known
	relaysKnown    = 64
	retryFirst     = time.Second
	retryMost      = 2 * time.Minute
	resolveFirst   = 5 * time.Second
	resolveMost    = 10 * time.Minute
	resolveTimeout = 30 * time.Second
)

// keeper holds on to relays: to two of those it knows, to another when one is
// lost, and it asks for new addresses when those it knows have failed, because
// a relay's certificate hashes live two weeks.
type keeper struct {
	// hold reaches a relay, calls up once when it is usable, and returns when
	// it is lost, could not be reached or ctx has ended.
	hold func(ctx context.Context, relay peer.AddrInfo, up func()) error
	// resolve returns current addresses; nil if nobody knows them.
	resolve func(context.Context) ([]peer.AddrInfo, error)
	// spread varies a wait, so that a relay's peers do not return all at once;
	// nil = by up to a fifth.
	spread func(time.Duration) time.Duration

	relays    []*keptRelay // in the order told
	resolving bool
	resolves  int       // without success since a relay was up
	resolveAt time.Time // not before
}

type keptRelay struct {
	info    peer.AddrInfo
	active  bool // hold runs
	up      bool
	fails   int // since it was up, or since its addresses changed
	retryAt time.Time
	replace []ma.Multiaddr // learned while active
}

func newKeeper(known []peer.AddrInfo) *keeper {
	k := &keeper{}
	k.learn(known, time.Time{})
	return k
}

// run keeps relays until ctx ends and waits for all it started.
func (k *keeper) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := make(chan func(now time.Time))
	tell := func(f func(now time.Time)) {
		select {
		case events <- f:
		case <-ctx.Done():
		}
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		for r := k.next(now); r != nil; r = k.next(now) {
			r.active = true
			info := peer.AddrInfo{ID: r.info.ID, Addrs: slices.Clone(r.info.Addrs)}
			wg.Go(func() {
				k.hold(ctx, info, func() { tell(func(time.Time) { r.up, r.fails, k.resolves = true, 0, 0 }) })
				tell(func(now time.Time) { k.lost(r, now) })
			})
		}
		if k.shouldResolve(now) {
			k.resolving = true
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
				defer cancel()
				found, err := k.resolve(ctx)
				tell(func(now time.Time) { k.resolved(found, err, now) })
			})
		}
		timer.Reset(k.sleep(now))
		select {
		case f := <-events:
			f(time.Now())
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// next is the relay to try now, nil if there is none or enough are tried.
func (k *keeper) next(now time.Time) *keptRelay {
	active := 0
	var best *keptRelay
	for _, r := range k.relays {
		switch {
		case r.active:
			active++
		case r.retryAt.After(now):
		case best == nil || r.fails < best.fails:
			best = r
		}
	}
	if active >= relaysHeld {
		return nil
	}
	return best
}

// lost is told when hold has returned.
func (k *keeper) lost(r *keptRelay, now time.Time) {
	r.active, r.up = false, false
	r.fails++
	r.retryAt = now.Add(k.wait(retryFirst, retryMost, r.fails))
	if r.replace != nil {
		r.info.Addrs, r.replace, r.fails, r.retryAt = r.replace, nil, 0, now
	}
}

// shouldResolve is true when fewer relays are held than could be and every
// other one has failed with the addresses it has.
func (k *keeper) shouldResolve(now time.Time) bool {
	if k.resolve == nil || k.resolving || k.resolveAt.After(now) {
		return false
	}
	up, failed := 0, 0
	for _, r := range k.relays {
		switch {
		case r.up:
			up++
		case r.active && r.fails == 0, !r.active && r.fails == 0:
			return false // not tried yet
		default:
			failed++
		}
	}
	return up < relaysHeld && (failed > 0 || len(k.relays) == 0)
}

func (k *keeper) resolved(found []peer.AddrInfo, err error, now time.Time) {
	k.resolving = false
	k.resolves++
	k.resolveAt = now.Add(k.wait(resolveFirst, resolveMost, k.resolves))
	if err == nil {
		k.learn(found, now)
	}
}

// learn adds relays and replaces the addresses of known ones; those with
// other addresses than before are tried at once.
func (k *keeper) learn(found []peer.AddrInfo, now time.Time) {
	for _, f := range found {
		i := slices.IndexFunc(k.relays, func(r *keptRelay) bool { return r.info.ID == f.ID })
		switch {
		case len(f.Addrs) == 0 && i >= 0:
		case i < 0 && len(k.relays) >= relaysKnown:
		case i < 0:
			k.relays = append(k.relays, &keptRelay{info: f})
		case !sameAddrs(k.relays[i].info.Addrs, f.Addrs):
			r := k.relays[i]
			if r.active {
				r.replace = f.Addrs
			} else {
				r.info.Addrs, r.fails, r.retryAt = f.Addrs, 0, now
			}
		}
	}
}

func sameAddrs(a, b []ma.Multiaddr) bool {
	has := func(in []ma.Multiaddr) func(ma.Multiaddr) bool {
		return func(x ma.Multiaddr) bool { return !slices.ContainsFunc(in, x.Equal) }
	}
	return !slices.ContainsFunc(a, has(b)) && !slices.ContainsFunc(b, has(a))
}

// sleep is how long nothing happens by itself.
func (k *keeper) sleep(now time.Time) time.Duration {
	until := time.Hour
	for _, r := range k.relays {
		if !r.active && r.retryAt.After(now) {
			until = min(until, r.retryAt.Sub(now))
		}
	}
	if k.resolve != nil && !k.resolving && k.resolveAt.After(now) {
		until = min(until, k.resolveAt.Sub(now))
	}
	return until
}

// wait doubles from first to most with every failure.
func (k *keeper) wait(first, most time.Duration, fails int) time.Duration {
	d := min(first<<min(max(fails-1, 0), 20), most)
	if k.spread != nil {
		return k.spread(d)
	}
	return d + time.Duration(rand.Int64N(int64(d)/5+1))
}
