package node

import (
	"bufio"
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"edgenet.dev/proto"
)

// The /vote streams. A node keeps one stream to each witness that it has
// something to say to, and a witness answers others on the stream that they
// opened. What is said belongs to ledger.Witness, ledger.Proposal and
// ledger.Recovery, which repeat it until it is answered: so a frame may be lost
// here at any time, and no queue needs to be long.

// Bounds of /vote.
const (
	maxCallers   = 512       // peers that are no witnesses, served at once
	maxCall      = 512 << 10 // bytes in one of their frames
	callRate     = 100       // of their frames per second, and how many at once
	callBurst    = 400
	witnessRate  = 5000
	witnessBurst = 20_000
	voteQueue    = 1024 // frames that wait for one peer; older ones are dropped
	voteQueueMax = 8 << 20

	voteIdle    = time.Minute // an author's stream ends after so long without a frame
	voteWrite   = 10 * time.Second
	voteDial    = 10 * time.Second
	voteWaitMin = 100 * time.Millisecond
	voteWaitMax = 5 * time.Second
)

// votes moves frames between this node and others.
type votes struct {
	n     *Node
	heard func(from peer.ID, f *proto.VoteFrame) error // called by many goroutines

	mu      sync.Mutex
	links   map[peer.ID]*frameQueue // to witnesses; each has a goroutine, kept until the node ends
	callers map[peer.ID]*caller     // newest stream that a peer opened
	calls   rate.Limit              // callRate, but for tests that show what it is for
	limits  *lru.Cache[peer.ID, *rate.Limiter]
}

// caller is a stream that a peer opened.
type caller struct {
	s    network.Stream
	out  *frameQueue
	last time.Time    // of its newest frame; guarded by votes.mu
	site string       // where it speaks from, see siteOf
	has  proto.Credit // of its account: identities are free, credits are not
}

func newVotes(n *Node, heard func(peer.ID, *proto.VoteFrame) error) (*votes, error) {
	limits, err := lru.New[peer.ID, *rate.Limiter](4 * maxCallers)
	if err != nil {
		return nil, err
	}
	return &votes{n: n, heard: heard, links: map[peer.ID]*frameQueue{}, callers: map[peer.ID]*caller{}, calls: callRate, limits: limits}, nil
}

// send queues a frame. It never blocks: what a peer does not take is dropped.
func (v *votes) send(to peer.ID, f *proto.VoteFrame) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.n.net.IsWitness(to) {
		if c := v.callers[to]; c != nil {
			c.out.push(f)
		}
		return
	}
	v.link(to).push(f)
}

// link is the queue to a witness, with its goroutine. Call with mu held.
func (v *votes) link(to peer.ID) *frameQueue {
	q := v.links[to]
	if q == nil {
		q = newFrameQueue()
		v.links[to] = q
		v.n.goDo(func(ctx context.Context) { v.keep(ctx, to, q) })
	}
	return q
}

// meet opens streams to all other witnesses before anything has to be said.
func (v *votes) meet() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range v.n.net.Witnesses {
		if p != v.n.self {
			v.link(p)
		}
	}
}

// keep carries the queue to a witness over one stream after the other. A
// witness keeps its streams; an author has one while it has something to say.
func (v *votes) keep(ctx context.Context, to peer.ID, q *frameQueue) {
	witness := v.n.net.IsWitness(v.n.self)
	wait := voteWaitMin
	for ctx.Err() == nil {
		if !witness && !q.wait(ctx) {
			return
		}
		dial, cancel := context.WithTimeout(ctx, voteDial)
		s, err := v.n.stream(dial, to, "vote")
		cancel()
		if err == nil {
			begun := time.Now()
			err = v.carry(ctx, to, q, s)
			if time.Since(begun) > voteWaitMax {
				wait = voteWaitMin
			}
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil { // idle
			wait = voteWaitMin
			continue
		}
		v.n.log.Debug("witness cannot be reached", zap.Stringer("witness", to), zap.Error(err))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, voteWaitMax)
	}
}

// carry writes the queue to a stream and takes what comes back, until either
// direction fails. nil says that there was nothing to say for voteIdle.
func (v *votes) carry(ctx context.Context, to peer.ID, q *frameQueue, s network.Stream) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer s.Reset() // ends the reader
	reader.Go(func() {
		in := frames(s, proto.MaxVoteFrame)
		for {
			var f proto.VoteFrame
			err := in.Read(&f)
			if err == nil {
				err = v.heard(to, &f)
			}
			if err != nil {
				cancel(err)
				return
			}
		}
	})
	idle := voteIdle
	if v.n.net.IsWitness(v.n.self) {
		idle = 0
	}
	return v.write(ctx, q, s, idle)
}

// write sends what is queued until ctx ends, the stream fails, or nothing was
// queued for idle (0: for ever), which is no error.
func (v *votes) write(ctx context.Context, q *frameQueue, s network.Stream, idle time.Duration) error {
	out := bufio.NewWriterSize(s, 16<<10)
	for {
		pull, cancel := ctx, context.CancelFunc(func() {})
		if idle > 0 {
			pull, cancel = context.WithTimeout(ctx, idle)
		}
		ok := q.wait(pull)
		cancel()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !ok {
			return nil
		}
		list := q.take()
		s.SetWriteDeadline(time.Now().Add(voteWrite))
		for _, f := range list {
			if err := proto.WriteFrame(out, f, proto.MaxVoteFrame); err != nil {
				return err
			}
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}

// serve takes frames from a peer that opened a stream, and answers on it. A
// newer stream of the same peer replaces it.
func (v *votes) serve(s network.Stream) {
	defer s.Reset()
	from := s.Conn().RemotePeer()
	c := &caller{s: s, out: newFrameQueue(), last: time.Now(), site: siteOf(s.Conn()), has: v.n.wallet.worth(from)}
	limit := v.admit(from, c)
	ctx, cancel := context.WithCancel(v.n.ctx)
	var writer sync.WaitGroup
	writer.Go(func() {
		defer s.Reset() // ends the reader
		if err := v.write(ctx, c.out, s, 0); err != nil && ctx.Err() == nil {
			v.n.log.Debug("vote stream", zap.Stringer("peer", from), zap.Error(err))
		}
	})
	err := v.read(ctx, from, c, limit)
	cancel()
	writer.Wait()
	v.mu.Lock()
	if v.callers[from] == c {
		delete(v.callers, from)
	}
	v.mu.Unlock()
	if v.n.ctx.Err() == nil {
		v.n.log.Debug("vote stream", zap.Stringer("peer", from), zap.Error(err))
	}
}

// admit makes c the stream of its peer. When too many are served, one goes.
func (v *votes) admit(from peer.ID, c *caller) *rate.Limiter {
	v.mu.Lock()
	defer v.mu.Unlock()
	if old := v.callers[from]; old != nil {
		old.s.Reset()
	}
	v.callers[from] = c
	witness := v.n.net.IsWitness(from)
	if len(v.callers) > maxCallers+len(v.n.net.Witnesses) {
		if p := v.dispensable(); p != "" {
			v.callers[p].s.Reset()
			delete(v.callers, p)
		}
	}
	limit, ok := v.limits.Get(from) // a new stream is no new budget
	if !ok {
		if limit = rate.NewLimiter(v.calls, callBurst); witness {
			limit = rate.NewLimiter(witnessRate, witnessBurst)
		}
		v.limits.Add(from, limit)
	}
	return limit
}

// dispensable is the caller that goes. Three quarters of the places are kept for those
// with most credits. In the others, whatever they have, one of the address with most
// callers goes, of these the one that was silent for longest: so nobody fills all
// places with credits. Call with mu held.
func (v *votes) dispensable() (least peer.ID) {
	alike := map[string]int{}
	var all []peer.ID
	for p, x := range v.callers {
		if v.n.net.IsWitness(p) {
			continue
		}
		all = append(all, p)
		if x.site != "" {
			alike[x.site]++
		}
	}
	if len(all) == 0 {
		return ""
	}
	idle := func(p, q peer.ID) int {
		x, y := v.callers[p], v.callers[q]
		return cmp.Or(cmp.Compare(alike[y.site], alike[x.site]), x.last.Compare(y.last))
	}
	slices.SortFunc(all, func(p, q peer.ID) int {
		return cmp.Or(cmp.Compare(v.callers[p].has, v.callers[q].has), idle(p, q))
	})
	return slices.MinFunc(all[:(len(all)+3)/4], idle)
}

// read takes frames as fast as the peer's budget allows; a faster peer waits.
func (v *votes) read(ctx context.Context, from peer.ID, c *caller, limit *rate.Limiter) error {
	size := proto.MaxVoteFrame
	witness := v.n.net.IsWitness(from)
	if !witness {
		size = maxCall
	}
	in := frames(c.s, size)
	for {
		if !witness {
			c.s.SetReadDeadline(time.Now().Add(2 * voteIdle))
		}
		var f proto.VoteFrame
		if err := in.Read(&f); err != nil {
			return err
		}
		if err := limit.Wait(ctx); err != nil {
			return err
		}
		v.mu.Lock()
		c.last = time.Now()
		v.mu.Unlock()
		if err := v.heard(from, &f); err != nil {
			return err
		}
	}
}

// frameQueue holds frames for one peer. When it is full the oldest go.
type frameQueue struct {
	mu    sync.Mutex
	items []*proto.VoteFrame
	bytes int
	wake  chan struct{}
}

func newFrameQueue() *frameQueue { return &frameQueue{wake: make(chan struct{}, 1)} }

func frameSize(f *proto.VoteFrame) int {
	n := 64
	switch b := f.GetBody().(type) {
	case *proto.VoteFrame_Propose:
		n += len(b.Propose)
	case *proto.VoteFrame_Report:
		n += len(b.Report)
	case *proto.VoteFrame_Certified:
		n += len(b.Certified.GetEvent()) + 256*len(b.Certified.GetCertificate().GetCommits())
	case *proto.VoteFrame_WrongWorks:
		n += len(b.WrongWorks.GetReport()) + 1024*len(b.WrongWorks.GetReceipts())
	default:
		n += 512
	}
	return n
}

func (q *frameQueue) push(f *proto.VoteFrame) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if slices.Contains(q.items, f) { // a repetition of what still waits
		return
	}
	q.items = append(q.items, f)
	q.bytes += frameSize(f)
	for len(q.items) > 1 && (len(q.items) > voteQueue || q.bytes > voteQueueMax) {
		q.bytes -= frameSize(q.items[0])
		q.items = q.items[1:]
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// wait reports whether something is queued before ctx ends.
func (q *frameQueue) wait(ctx context.Context) bool {
	for {
		q.mu.Lock()
		some := len(q.items) > 0
		q.mu.Unlock()
		if some {
			return true
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
			return false
		}
	}
}

func (q *frameQueue) take() []*proto.VoteFrame {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items, q.bytes = nil, 0
	return items
}
