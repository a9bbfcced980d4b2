package node

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"edgenet.dev/ledger"
	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// Other workers' reputations and stakes on a light node, which has no ledger of
// them. When a worker claims one of its offers, a witness proves that worker's
// register and account, once per epoch. In memory: after a restart workers are asked for as they claim.

const (
	maxStandings  = 1024                   // workers
	maxUnproven   = 128                    // workers to be asked for, as many as claim one offer
	standingPause = 100 * time.Millisecond // between two questions
)

// standings tells the market what is proven; nil on a node with the whole
// ledger, which says it there.
type standings struct {
	n    *Node
	wake chan struct{} // somebody claimed, or there is a new epoch
	turn int           // among the witnesses; owned by run

	proven *lru.Cache[peer.ID, ledger.Reputation]
	stakes *lru.Cache[peer.ID, provenStake]
	asked  *lru.Cache[peer.ID, uint64] // epoch; apart, so that keys without work push out no register

	mu    sync.Mutex
	queue []peer.ID
}

// provenStake is what was staked as of a checkpoint.
type provenStake struct {
	epoch  uint64
	amount proto.Credit
}

func newStandings(n *Node) *standings {
	s := &standings{n: n, wake: make(chan struct{}, 1), turn: rand.IntN(len(n.net.Witnesses))}
	s.proven, _ = lru.New[peer.ID, ledger.Reputation](maxStandings) // it fails for sizes below 1 only
	s.stakes, _ = lru.New[peer.ID, provenStake](maxStandings)
	s.asked, _ = lru.New[peer.ID, uint64](maxStandings)
	return s
}

// claimed notes that a worker claims an offer of this node. One that finds no
// room claims again. On a full node it does nothing.
func (s *standings) claimed(worker peer.ID) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) < maxUnproven && !slices.Contains(s.queue, worker) {
		s.queue = append(s.queue, worker)
		wake(s.wake)
	}
}

// next is a worker for whom no witness answered in this epoch.
func (s *standings) next(epoch uint64) (peer.ID, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 {
		w := s.queue[0]
		s.queue = s.queue[1:]
		if at, ok := s.asked.Get(w); !ok || at != epoch {
			return w, true
		}
	}
	return "", false
}

// run asks for one worker after the other and posts the scores when one changed
// or the epoch did: they decay.
func (s *standings) run(ctx context.Context) {
	pace := rate.NewLimiter(rate.Every(standingPause), 1)
	for told := uint64(0); pace.Wait(ctx) == nil; {
		epoch := s.n.Epoch()
		worker, asks := s.next(epoch)
		if changed := asks && s.ask(ctx, worker, epoch, s.prove); changed || epoch != told {
			told = epoch
			s.n.jobs.post(s.told(epoch))
		}
		if asks {
			continue
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
		}
	}
}

// prover asks a witness for a worker's register.
type prover func(ctx context.Context, from, worker peer.ID) (*proto.ProofReply, error)

func (s *standings) prove(ctx context.Context, from, worker peer.ID) (*proto.ProofReply, error) {
	ctx, cancel := context.WithTimeout(ctx, lightTimeout)
	defer cancel()
	return s.n.askProof(ctx, from, &proto.ProofRequest{Account: []byte(worker), Reputation: true})
}

// ask has up to 2f+1 witnesses prove a worker's register, until one does. That
// there is none proves nothing: it counts when f+1 say so, of which one is
// honest.
func (s *standings) ask(ctx context.Context, worker peer.ID, epoch uint64, prove prover) (changed bool) {
	absent, f := 0, s.n.net.F()
	for range 2*f + 1 {
		from := s.n.net.Witnesses[s.turn%len(s.n.net.Witnesses)]
		s.turn++
		reply, err := prove(ctx, from, worker)
		if err == nil {
			var news bool
			news, err = s.take(worker, reply)
			changed = changed || news
		}
		switch {
		case err != nil:
			s.n.log.Debug("reputation of a worker", zap.Stringer("worker", worker), zap.Stringer("witness", from), zap.Error(err))
			continue
		case reply.Reputation == nil:
			if absent++; absent <= f {
				continue
			}
		}
		s.asked.Add(worker, epoch)
		return changed
	}
	return changed
}

// standingSlack is by how many epochs a node may prune later than others.
const standingSlack = 4

// take merges what a reply proves: witnesses answer from checkpoints of
// different epochs, and an older answer must not undo a newer one. One that is
// older than what nodes keep hides what was worked since.
func (s *standings) take(worker peer.ID, reply *proto.ProofReply) (changed bool, err error) {
	h, err := ledger.VerifyCheckpoint(s.n.net, reply.Checkpoint)
	if err != nil {
		return false, err
	}
	if epoch := s.n.Epoch(); h.Body.Epoch+s.n.cfg.KeepEpochs+standingSlack < epoch {
		return false, proto.CodeExpired.Errorf("reputation as of checkpoint %d, and the newest is %d", h.Body.Epoch, epoch)
	}
	known, _ := s.proven.Get(worker)
	r := known
	if reply.Reputation != nil { // else no work so far
		id, x, err := ledger.VerifyReputation(h, reply.Reputation)
		if err == nil && id != worker {
			err = proto.CodeMalformed.Errorf("proof of the reputation of %s, not of %s", id, worker)
		}
		if err != nil {
			return false, err
		}
		r = known.Merge(x)
		s.proven.Add(worker, r)
	}
	staked := false
	if reply.Account != nil { // else it is new
		if staked, err = s.takeStake(worker, h, reply.Account); err != nil {
			return false, err
		}
	}
	return r != known || staked, nil
}

// takeStake keeps what an account has staked, as of the newest checkpoint that
// proved it.
func (s *standings) takeStake(worker peer.ID, h *ledger.CheckpointHeader, p *proto.StateProof) (changed bool, err error) {
	a, err := ledger.VerifyAccount(s.n.net, h, p)
	if err == nil && a.ID != worker {
		err = proto.CodeMalformed.Errorf("proof of the account of %s, not of %s", a.ID, worker)
	}
	if err != nil {
		return false, err
	}
	known, _ := s.stakes.Get(worker)
	if a.Epoch < known.epoch {
		return false, nil
	}
	now := provenStake{a.Epoch, a.State.Staked}
	if a.State.Frozen {
		now.amount = 0
	}
	s.stakes.Add(worker, now)
	return now.amount != known.amount, nil
}

// told is what the market hears: scores and stakes.
func (s *standings) told(epoch uint64) market.Reputations {
	stakes := map[peer.ID]proto.Credit{}
	for _, w := range s.stakes.Keys() {
		if x, _ := s.stakes.Peek(w); x.amount > 0 {
			stakes[w] = x.amount
		}
	}
	return market.Reputations{Epoch: epoch, PPM: s.scores(epoch), Stakes: stakes}
}

// scores are those above 0, in ppm.
func (s *standings) scores(epoch uint64) map[peer.ID]uint64 {
	out := map[peer.ID]uint64{}
	for _, w := range s.proven.Keys() {
		if r, _ := s.proven.Peek(w); r.At(s.n.net, epoch).Score() > 0 {
			out[w] = r.At(s.n.net, epoch).Score()
		}
	}
	return out
}
