package node

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"go.uber.org/zap"

	"edgenet.dev/ledger"
)

// A witness asks every node whose stake earns something whether it is there,
// some times per epoch, and reports those that answered nine times of ten. It
// says nothing of accounts that it asked in less than a quarter of the epoch:
// it was away itself, say. See ledger.Witness.Probes. In a network without
// bonuses nobody is asked. Who does not answer takes time from nobody who does:
// the reliable are asked first, and whom a round has no time for was not asked.

const (
	probesPerEpoch = 24
	probeLeast     = 250 * time.Millisecond
	probeMost      = 150 * time.Second
	probeTimeout   = 5 * time.Second
	probesAtOnce   = 16
)

type tally struct{ asked, answered int }

func (w *wallet) probe(ctx context.Context) {
	if w.n.net.Genesis.KappaPpm == 0 {
		return
	}
	length := w.n.net.Epoch()
	every := min(max(length/probesPerEpoch, probeLeast), probeMost)
	least := int(length / every / 4)
	p := w.n.prober()
	defer p.all.Wait()
	var epoch uint64
	var seen map[peer.ID]tally
	records := probeRecords{} // changed by this loop only
	for {
		e, list, ends, err := w.probed()
		if e != epoch {
			epoch, seen = e, map[peer.ID]tally{}
		}
		answers := p.round(ctx, records.order(list, w.n.connected), every)
		if ctx.Err() != nil {
			return
		}
		records.add(answers)
		for id, ok := range answers {
			t := seen[id]
			if t.asked++; ok {
				t.answered++
			}
			seen[id] = t
		}
		if time.Until(ends) > 3*every {
			continue
		}
		if err == nil {
			err = w.reportUp(epoch, slices.DeleteFunc(list, func(id peer.ID) bool {
				t := seen[id]
				return 10*t.answered < 9*t.asked || t.asked < least
			}))
		}
		if err != nil {
			w.n.log.Warn("this witness's probe report is not sent; without a quorum's, nobody is paid for being up", zap.Error(err))
		}
	}
}

// reportUp hands the accounts that were up to all witnesses, unless the epoch
// is over by now.
func (w *wallet) reportUp(epoch uint64, up []peer.ID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.l.Epoch()+1 != epoch {
		return nil
	}
	outs, err := w.witness.Probes(up)
	if err != nil {
		return err
	}
	return w.deliver(time.Now(), outs)
}

// probed lists the accounts that reports of this epoch are about, and when it
// ends.
func (w *wallet) probed() (epoch uint64, list []peer.ID, ends time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	epoch, list, err = w.l.Probed()
	_, ends = ledger.NewEpochs(w.l).Due()
	return epoch, list, ends, err
}

// probeRecords are what a witness remembers of the accounts that it probes,
// from one epoch to the next.
type probeRecords map[peer.ID]probeRecord

type probeRecord struct {
	// doubt is how many probes the account has to answer until it counts as
	// reliable again: an epoch's after each that it did not, so that failing now
	// and then is no way to hold up the others.
	doubt   int
	skipped int // rounds since it was asked
}

// order sorts accounts by when they are asked: the least doubtful first, of
// those the connected ones, of those who waits for the longest time, and then
// as they come. It forgets all others.
func (r probeRecords) order(list []peer.ID, connected func(peer.ID) bool) []peer.ID {
	type key struct {
		probeRecord
		away int
	}
	keys := make(map[peer.ID]key, len(list))
	for _, id := range list {
		k := key{probeRecord: r[id]}
		if !connected(id) {
			k.away = 1
		}
		keys[id] = k
		k.skipped++
		r[id] = k.probeRecord
	}
	for id := range r {
		if _, ok := keys[id]; !ok {
			delete(r, id)
		}
	}
	out := slices.Clone(list)
	slices.SortStableFunc(out, func(a, b peer.ID) int {
		x, y := keys[a], keys[b]
		return cmp.Or(cmp.Compare(x.doubt, y.doubt), cmp.Compare(x.away, y.away), cmp.Compare(y.skipped, x.skipped))
	})
	return out
}

// add notes a round's answers.
func (r probeRecords) add(answers map[peer.ID]bool) {
	for id, ok := range answers {
		if ok {
			r[id] = probeRecord{doubt: max(0, r[id].doubt-1)}
		} else {
			r[id] = probeRecord{doubt: probesPerEpoch}
		}
	}
}

func (n *Node) connected(id peer.ID) bool {
	c := n.host.Network().Connectedness(id)
	return c == network.Connected || c == network.Limited
}

// prober asks peers, several at once. Who is silent keeps one of its places
// for a while, across rounds, but no round waits for it. Its owner waits for
// all when ctx is done.
type prober struct {
	n    *Node
	free chan struct{} // has an element per place that is taken
	all  sync.WaitGroup

	mu     sync.Mutex
	asking map[peer.ID]bool
	done   map[peer.ID]bool // answers that no round gave yet
}

func (n *Node) prober() *prober {
	return &prober{n: n, free: make(chan struct{}, probesAtOnce), asking: map[peer.ID]bool{}, done: map[peer.ID]bool{}}
}

// round asks peers in their order for the given time, which it always takes
// unless ctx is done, and returns the answers that came in it. Whom it did not
// get round to, or who has yet to answer, is not in them.
func (p *prober) round(ctx context.Context, list []peer.ID, length time.Duration) map[peer.ID]bool {
	over := time.NewTimer(length)
	defer over.Stop()
	for len(list) > 0 {
		select {
		case p.free <- struct{}{}:
			p.ask(ctx, list[0])
			list = list[1:]
			continue
		case <-over.C:
		case <-ctx.Done():
		}
		return p.take()
	}
	select {
	case <-over.C:
	case <-ctx.Done():
	}
	return p.take()
}

// ask uses a place for a peer and gives it back. Who is being asked is not
// asked twice.
func (p *prober) ask(ctx context.Context, id peer.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asking[id] {
		<-p.free
		return
	}
	p.asking[id] = true
	p.all.Go(func() {
		ok := id == p.n.self || p.n.answers(ctx, id)
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.asking, id)
		p.done[id] = ok
		<-p.free
	})
}

func (p *prober) take() map[peer.ID]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.done
	p.done = map[peer.ID]bool{}
	return out
}

func (n *Node) answers(ctx context.Context, id peer.ID) bool {
	ctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(ctx, "edgenet"), probeTimeout)
	defer cancel()
	r, ok := <-ping.Ping(ctx, n.host, id)
	return ok && r.Error == nil
}
