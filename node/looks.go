package node

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// A witness looks whether the outputs that a claim is for can be had from its
// worker. Whoever serves them decides how long that takes, so a claim has turns
// of limited length, and goes on in the next one where the last one ended.
// Payers have their turns one after the other, and so have a payer's workers: a
// payer and workers that are one person delay each other, not everybody.

const (
	maxLookers = 16               // claims that have their turn
	maxLooks   = 256              // claims in work
	lookTurn   = 20 * time.Second // of one claim
	lookRate   = 512              // bytes a second that a turn has to bring for the claim to have another one
	maxChecks  = 2                // claims of which signatures are checked at once
)

// look is a claim in work.
type look struct {
	ledger.Fetch
	turns   int    // that ended before the outputs did
	running bool   // has its turn; next and part belong to whoever gave it
	since   uint64 // it joined or had its newest turn
	next    int    // of Outputs: those before it could be had
	part    *partBlob
}

// share is what a payer or a worker has of the looks.
type share struct {
	looks, running int
	since          uint64 // it joined or had its newest turn
}

// looks decides which claim has its turn next.
type looks struct {
	turn time.Duration
	wake chan struct{} // something may be to look into

	mu      sync.Mutex
	list    []*look
	payers  map[peer.ID]*share
	workers map[peer.ID]*share
	count   uint64 // orders turns
}

func newLooks() *looks {
	return &looks{turn: lookTurn, wake: make(chan struct{}, 1), payers: map[peer.ID]*share{}, workers: map[peer.ID]*share{}}
}

// push adds a claim. When there are too many it takes out the one that gives
// way, maybe the new one, and names it.
func (q *looks) push(f ledger.Fetch) (gone cid.Cid) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.count++
	k := &look{Fetch: f, since: q.count}
	q.list = append(q.list, k)
	for _, s := range []*share{member(q.payers, f.Payer, q.count), member(q.workers, f.Worker, q.count)} {
		s.looks++
	}
	if len(q.list) > maxLooks {
		for _, x := range q.list {
			if !x.running && q.givesWay(x, k) {
				k = x
			}
		}
		q.remove(k)
		gone = k.Claim
	}
	wake(q.wake)
	return gone
}

// member finds a peer's share. A new one joins behind the others.
func member(shares map[peer.ID]*share, id peer.ID, now uint64) *share {
	s := shares[id]
	if s == nil {
		s = &share{since: now}
		shares[id] = s
	}
	return s
}

// givesWay: the payer with most claims in work, then the claim that had most
// turns, then the one for fewer credits: identities are free, credits are not.
func (q *looks) givesWay(a, b *look) bool {
	return cmp.Or(
		cmp.Compare(q.payers[a.Payer].looks, q.payers[b.Payer].looks),
		cmp.Compare(a.turns, b.turns), cmp.Compare(b.Amount, a.Amount), cmp.Compare(a.since, b.since),
	) > 0
}

// begin gives the next claim its turn, if there is one. A worker's have theirs
// one at a time.
func (q *looks) begin() *look {
	q.mu.Lock()
	defer q.mu.Unlock()
	var k *look
	for _, x := range q.list {
		if !x.running && q.workers[x.Worker].running == 0 && (k == nil || q.before(x, k)) {
			k = x
		}
	}
	if k == nil {
		return nil
	}
	q.count++
	k.running, k.since = true, q.count
	for _, s := range []*share{q.payers[k.Payer], q.workers[k.Worker]} {
		s.running++
		s.since = q.count
	}
	wake(q.wake) // there may be more
	return k
}

func (q *looks) before(a, b *look) bool {
	pa, pb := q.payers[a.Payer], q.payers[b.Payer]
	return cmp.Or(
		cmp.Compare(pa.running, pb.running), cmp.Compare(pa.since, pb.since),
		cmp.Compare(q.workers[a.Worker].since, q.workers[b.Worker].since), cmp.Compare(a.since, b.since),
	) < 0
}

// end ends a turn. again says that the claim is to have another one.
func (q *looks) end(k *look, again bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	k.running = false
	k.turns++
	q.payers[k.Payer].running--
	q.workers[k.Worker].running--
	if !again {
		q.remove(k)
	}
	wake(q.wake)
}

// remove takes a claim out. Call with mu held.
func (q *looks) remove(k *look) {
	q.list = slices.DeleteFunc(q.list, func(x *look) bool { return x == k })
	leave(q.payers, k.Payer)
	leave(q.workers, k.Worker)
}

func leave(shares map[peer.ID]*share, id peer.ID) {
	if s := shares[id]; s.looks > 1 {
		s.looks--
	} else {
		delete(shares, id)
	}
}

// lookInto gives claims their turns and tells the witness what came of them.
func (w *wallet) lookInto(ctx context.Context) {
	for {
		k := w.looks.begin()
		if k == nil {
			select {
			case <-w.looks.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		again, err := w.n.look(ctx, k, w.looks.turn)
		if ctx.Err() != nil {
			return
		}
		now := time.Now()
		again = again && now.Before(k.Until)
		w.looks.end(k, again)
		if again {
			continue
		}
		w.mu.Lock()
		outs, ferr := w.witness.Fetched(now, k.Claim, err)
		if ferr == nil {
			ferr = w.deliver(now, outs)
		}
		w.mu.Unlock()
		if ferr != nil {
			w.n.log.Error("witness", zap.Error(ferr))
		}
	}
}

// look is one turn of a claim: nil says that all its outputs could be had,
// again that the turn ended while they came, at the least rate or faster.
func (n *Node) look(ctx context.Context, k *look, turn time.Duration) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, turn)
	defer cancel()
	least := uint64(turn * lookRate / time.Second)
	for ; k.next < len(k.Outputs); k.next++ {
		if k.part == nil {
			k.part = newPartBlob()
		}
		had := k.part.size
		if err := n.hearBlob(ctx, k.Worker, k.Outputs[k.next], k.part); err != nil {
			return ctx.Err() != nil && (again || k.part.size-had >= least), err
		}
		k.part, again = nil, true
	}
	return false, nil
}

// claim takes a worker's claim. Reading it and checking its signatures take
// long, so that is done without keeping others from the ledger, and few at a
// time.
func (w *wallet) claim(from peer.ID, f *proto.VoteFrame) error {
	select {
	case w.checks <- struct{}{}:
		defer func() { <-w.checks }()
	case <-w.n.ctx.Done():
		return ErrClosed
	}
	c, err := ledger.ReadClaim(f.GetWorkClaim())
	if err == nil {
		w.mu.Lock()
		wanted := w.witness.Wants(time.Now(), c)
		w.mu.Unlock()
		if wanted {
			c.Verify(w.n.net) // the witness asks for what came of it
		}
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	var outs []ledger.Output
	if err != nil {
		outs, err = w.hand(now, from, f) // which says why
	} else {
		outs, err = w.witness.Claim(now, from, c)
		w.wakeWitness()
	}
	if err == nil {
		err = w.deliver(now, outs)
	}
	return err
}

var errNoTurn = proto.CodeBusy.Errorf("too many claims are being looked into")
