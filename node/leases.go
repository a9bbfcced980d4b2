package node

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"go.uber.org/zap"

	"edgenet.dev/ledger"
	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// leases holds the submitter's side of /task: one stream per worker, opened by
// the first thing sent and kept for the lease.
type leases struct {
	n  *Node
	mu sync.Mutex
	m  map[peer.ID]*lease
	// missing workers have a lane of ours but no stream; they are dialled
	// again until the lane is closed.
	missing map[peer.ID]*missing
}

type missing struct {
	next time.Time
	wait time.Duration
	busy bool
}

type lease struct {
	worker peer.ID
	out    *outbox[toWorker]
	shown  map[cid.Cid]int // hold events sent so far, per hold; the writer's
	unseen atomic.Bool     // the worker has no lane where it was shown one: show again

	// What the probe needs: assignments without an answer, when the worker was
	// last heard, and how to end the lease.
	awaiting atomic.Int64
	heard    atomic.Int64 // unix nanoseconds
	probing  atomic.Bool
	end      atomic.Pointer[context.CancelFunc]

	fetches chan struct{} // large results being fetched
	judged  time.Time     // the newest claim was; the reader's
}

// maxFetches bounds large results that are fetched from one worker at once.
const maxFetches = 4

func newLease(w peer.ID) *lease {
	return &lease{worker: w, out: newOutbox[toWorker](), shown: map[cid.Cid]int{}, fetches: make(chan struct{}, maxFetches)}
}

// toWorker is something to send on a lease. frames may read blobs and sign.
type toWorker interface {
	frames(n *Node, l *lease) ([]*proto.TaskFrame, error)
}

func newLeases(n *Node) *leases {
	return &leases{n: n, m: map[peer.ID]*lease{}, missing: map[peer.ID]*missing{}}
}

// send queues an item; it never blocks. When the worker cannot be reached the
// market hears WorkerLost.
func (ls *leases) send(to peer.ID, item toWorker) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l, ok := ls.m[to]
	if !ok || !l.out.push(item) {
		l = newLease(to)
		l.out.push(item)
		ls.m[to] = l
		ls.n.goDo(func(ctx context.Context) { ls.serve(ctx, l, nil) })
	}
}

// miss notes a worker to dial until it is back.
func (ls *leases) miss(w peer.ID) {
	if w == ls.n.self {
		return
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.missing[w] == nil {
		ls.missing[w] = &missing{wait: time.Second}
	}
}

// serve runs one lease until its stream breaks. s is nil when it has to be
// opened first.
func (ls *leases) serve(ctx context.Context, l *lease, s network.Stream) {
	err := ls.exchange(ctx, l, s)
	l.out.close()
	ls.mu.Lock()
	if ls.m[l.worker] == l {
		delete(ls.m, l.worker)
	}
	ls.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	ls.n.log.Debug("lease ended", zap.Stringer("worker", l.worker), zap.Error(err))
	ls.n.jobs.post(market.WorkerLost{Worker: l.worker})
	if ls.n.wallet.hasLane(l.worker) {
		ls.miss(l.worker)
	}
}

func (ls *leases) exchange(ctx context.Context, l *lease, s network.Stream) error {
	if s == nil {
		dial, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		var err error
		if s, err = ls.n.stream(dial, l.worker, "task"); err != nil {
			return err
		}
	}
	defer s.Reset()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.end.Store(&cancel)
	var reader sync.WaitGroup
	var readErr error
	reader.Go(func() {
		defer cancel()
		readErr = ls.read(l, s)
	})
	err := ls.write(ctx, l, s)
	s.Reset() // ends the reader
	reader.Wait()
	if err == nil {
		err = readErr
	}
	return err
}

func (ls *leases) write(ctx context.Context, l *lease, s network.Stream) error {
	w := bufio.NewWriterSize(s, 32<<10) // what is queued together travels together
	for {
		items := l.out.pull(ctx)
		if items == nil {
			return nil
		}
		s.SetWriteDeadline(time.Now().Add(time.Minute))
		for _, item := range items {
			frames, err := item.frames(ls.n, l)
			if err != nil {
				return err
			}
			for _, f := range frames {
				if err := proto.WriteFrame(w, f, proto.MaxTaskFrame); err != nil {
					return err
				}
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
}

// run dials missing workers, each with its own back-off.
func (ls *leases) run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			for _, l := range ls.silent(now) {
				ls.n.goDo(func(ctx context.Context) { ls.probe(ctx, l) })
			}
			for _, w := range ls.due(now) {
				ls.n.goDo(func(ctx context.Context) { ls.redial(ctx, w) })
			}
		}
	}
}

// A worker that owes an answer and is silent this long is pinged; without a
// pong in time it counts as lost. The transport alone notices a dead process
// only after half a minute.
const (
	silence  = 3 * time.Second
	pongWait = 5 * time.Second
)

func (ls *leases) silent(now time.Time) []*lease {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var out []*lease
	for _, l := range ls.m {
		if l.awaiting.Load() > 0 && now.UnixNano()-l.heard.Load() > int64(silence) && l.end.Load() != nil && l.probing.CompareAndSwap(false, true) {
			out = append(out, l)
		}
	}
	return out
}

func (ls *leases) probe(ctx context.Context, l *lease) {
	defer l.probing.Store(false)
	ctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(ctx, "edgenet"), pongWait)
	defer cancel()
	r, ok := <-ping.Ping(ctx, ls.n.host, l.worker)
	if ok && r.Error == nil {
		l.heard.Store(time.Now().UnixNano())
		return
	}
	if ls.n.ctx.Err() == nil {
		if times, ok := ls.n.silent.tell(l.worker); ok {
			ls.n.log.Info("worker does not answer", zap.Stringer("worker", l.worker), zap.Uint64("times", times), zap.Error(r.Error))
		}
		ls.n.host.Network().ClosePeer(l.worker) // a dead connection would serve the next stream, too
		(*l.end.Load())()
	}
}

func (ls *leases) due(now time.Time) []peer.ID {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var out []peer.ID
	for w, m := range ls.missing {
		if m.busy || now.Before(m.next) {
			continue
		}
		m.busy = true
		m.wait = min(2*m.wait, 5*time.Minute)
		if ls.n.host.Network().Connectedness(w) == network.Connected {
			m.wait = time.Second // it is there: only the stream broke
		}
		m.next = now.Add(m.wait)
		out = append(out, w)
	}
	return out
}

func (ls *leases) redial(ctx context.Context, w peer.ID) {
	if !ls.n.wallet.hasLane(w) {
		ls.mu.Lock()
		delete(ls.missing, w)
		ls.mu.Unlock()
		return
	}
	dial, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s, err := ls.n.stream(dial, w, "task")
	if err != nil {
		ls.mu.Lock()
		if m := ls.missing[w]; m != nil {
			m.busy = false
		}
		ls.mu.Unlock()
		return
	}
	ls.mu.Lock()
	delete(ls.missing, w)
	if ls.m[w] != nil { // the market was faster
		ls.mu.Unlock()
		s.Reset()
	} else {
		l := newLease(w)
		ls.m[w] = l
		ls.mu.Unlock()
		ls.n.goDo(func(ctx context.Context) { ls.serve(ctx, l, s) })
	}
	ls.n.jobs.post(market.WorkerBack{Worker: w})
}

// read turns the worker's frames into inputs of the market.
func (ls *leases) read(l *lease, s network.Stream) error {
	r := frames(s, proto.MaxTaskFrame)
	for {
		var f proto.TaskFrame
		if err := r.Read(&f); err != nil {
			if err == io.EOF {
				return fmt.Errorf("worker %s closed the lease", l.worker)
			}
			return err
		}
		l.heard.Store(time.Now().UnixNano())
		if err := ls.received(l, &f); err != nil {
			return fmt.Errorf("worker %s: %w", l.worker, err)
		}
	}
}

func (ls *leases) received(l *lease, f *proto.TaskFrame) error {
	j := ls.n.jobs
	switch b := f.Body.(type) {
	case *proto.TaskFrame_Accepted:
		refs, err := refsOf(b.Accepted.GetTasks())
		if err != nil {
			return err
		}
		waiting, err := refsOf(b.Accepted.GetWaiting())
		if err != nil {
			return err
		}
		j.post(market.AcceptedSeen{From: l.worker, Refs: refs, Waiting: waiting})
	case *proto.TaskFrame_Refused:
		ref, err := refOf(b.Refused.GetTask())
		if err != nil {
			return err
		}
		if len(b.Refused.Log) > proto.MaxLog {
			return proto.CodeTooLarge.Errorf("log of %d bytes", len(b.Refused.Log))
		}
		if len(b.Refused.Output) > proto.MaxLostOutput {
			return proto.CodeTooLarge.Errorf("output of %d bytes in a refusal", len(b.Refused.Output))
		}
		l.awaiting.Add(-1)
		if proto.Code(b.Refused.Code) == proto.CodeNoLane {
			l.unseen.Store(true)
		}
		j.post(market.RefusedSeen{
			From: l.worker, Ref: ref, Code: proto.Code(b.Refused.Code), Reason: proto.Clip(b.Refused.Reason, 256),
			Fuel: proto.Fuel(b.Refused.Fuel), Log: b.Refused.Log, Output: b.Refused.Output,
		})
	case *proto.TaskFrame_Commits:
		for _, c := range b.Commits.GetCommitments() {
			ref, err := refOf(c.GetTask())
			if err != nil {
				return err
			}
			h, err := proto.ToHash(c.GetHash())
			if err != nil {
				return err
			}
			j.post(market.CommitSeen{From: l.worker, Ref: ref, Hash: h})
		}
	case *proto.TaskFrame_Results:
		return ls.results(l, b.Results)
	case *proto.TaskFrame_Progress:
		ref, err := refOf(b.Progress.GetTask())
		if err != nil {
			return err
		}
		j.post(market.ProgressSeen{From: l.worker, Ref: ref, Permille: b.Progress.Permille})
	case *proto.TaskFrame_Done:
		return ls.done(l, b.Done.GetDone(), b.Done.GetClaim())
	default:
		return proto.CodeMalformed.Errorf("unexpected frame %T", f.Body)
	}
	return nil
}

// results checks a batch of receipts and that each output is what its receipt
// says; large outputs are fetched first.
func (ls *leases) results(l *lease, b *proto.Results) error {
	receipts := make([][]byte, len(b.Items))
	for i, it := range b.Items {
		receipts[i] = it.GetReceipt()
	}
	s, signed, err := proto.OpenReceipts(ls.n.net.ID, b.GetBatch(), receipts)
	if err != nil {
		return err
	}
	if s.Signer != l.worker {
		return proto.CodeBadReceipt.Errorf("receipts signed by %s", s.Signer)
	}
	l.awaiting.Add(-int64(len(b.Items)))
	for i, it := range b.Items {
		r, ref, err := receiptOf(it)
		if err != nil {
			return err
		}
		if err := ledger.Answerable(signed[i]); err != nil {
			return err
		}
		if len(it.Log) > proto.MaxLog {
			return proto.CodeTooLarge.Errorf("log of %d bytes", len(it.Log))
		}
		want, err := proto.ToHash(r.OutputHash)
		if err != nil {
			return err
		}
		if it.ByCid {
			sr := signed[i]
			l.fetches <- struct{}{} // a worker that sends faster than it serves waits
			ls.n.goDo(func(ctx context.Context) {
				defer func() { <-l.fetches }()
				out, err := ls.n.fetchBlob(ctx, l.worker, want, it.Key, proto.MaxOutput)
				if err != nil {
					ls.n.jobs.post(market.RefusedSeen{From: l.worker, Ref: ref, Code: proto.CodeFetch, Reason: proto.Clip(err.Error(), 256)})
					return
				}
				ls.n.jobs.received(l.worker, ref, sr, r, out, it.Log)
			})
			continue
		}
		if proto.HashOf(it.Output) != want {
			return proto.CodeBadReceipt.Errorf("output of %s is not what its receipt says", ref)
		}
		ls.n.jobs.received(l.worker, ref, signed[i], r, it.Output, it.Log)
	}
	return nil
}

// done keeps the worker's signed Done, which the settlement will carry.
func (ls *leases) done(l *lease, raw, claim []byte) error {
	s, err := proto.Unseal(ls.n.net.ID, raw, proto.KindDone)
	if err != nil {
		return err
	}
	if s.Signer != l.worker {
		return proto.CodeBadSignature.Errorf("done signed by %s", s.Signer)
	}
	d := s.Payload.GetDone()
	hold, err := proto.ParseCID(d.Hold)
	if err != nil {
		return err
	}
	// Only the lane's own worker may speak for it, only for what this payer
	// promised, and only once: a stray Done would spoil the settlement.
	st, ok := ls.n.wallet.holdState(hold)
	if !ok || st.Payer != ls.n.self || uint64(d.Lane) >= uint64(len(st.Lanes)) || st.Lanes[d.Lane].Worker != l.worker {
		return proto.CodeNoLane.Errorf("done for a lane that is not the worker's")
	}
	if have, err := ls.n.kv.get(doneKey(hold, d.Lane)); err == nil {
		if old, err := proto.Inspect(have, proto.KindDone); err == nil && old.Payload.GetDone().GetAmount() == d.Amount {
			raw = have
		}
	}
	fuel, proven := proto.Fuel(0), false
	switch was := ls.promised(hold, d.Lane); {
	case proto.Credit(d.Amount) < was || proto.Credit(d.Amount) > was && len(claim) == 0:
		return nil // not what was promised last: it will be asked again
	case proto.Credit(d.Amount) > was:
		if fuel, proven, err = ls.owes(l, hold, d, claim); err != nil || !proven {
			return err
		}
	}
	if err := ls.n.kv.put(doneKey(hold, d.Lane), raw); err != nil {
		return fmt.Errorf("state store: %w", err)
	}
	ls.n.jobs.post(market.DoneSeen{From: l.worker, Hold: hold, Lane: d.Lane, Amount: proto.Credit(d.Amount), Proven: proven, Fuel: fuel})
	return nil
}

// promised is the newest total that the market stored for a lane.
func (ls *leases) promised(hold cid.Cid, lane uint32) proto.Credit {
	b, err := ls.n.kv.get(holdKey(hold))
	if err != nil {
		return 0
	}
	var r market.HoldRecord
	if json.Unmarshal(b, &r) != nil || uint64(lane) >= uint64(len(r.Lanes)) {
		return 0
	}
	return r.Lanes[lane].Amount
}

func doneKey(hold cid.Cid, lane uint32) string { return fmt.Sprintf("done/%s/%d", hold, lane) }
