package node

import (
	"bufio"
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"

	"edgenet.dev/ledger"
	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// work is the worker's side of /task: streams that submitters opened, and in
// execute.go the executions they asked for.
type work struct {
	n     *Node
	mu    sync.Mutex
	links map[peer.ID]*link
	execs map[execKey]*execution
	// inputBytes is the sum of the inputs in execs, inputsOf that of a submitter's.
	inputBytes int
	inputsOf   map[peer.ID]int
	atWork     map[laneID]int // executions under way

	modules      *moduleCache
	shows        *shows   // holds that are verified
	fetching     *serving // inputs and modules on their way here
	done, failed atomic.Uint64
	accepted     atomic.Uint64 // results that vouchers paid for
}

type toSubmitter interface{}

func newWork(n *Node) *work {
	w := &work{
		n: n, links: map[peer.ID]*link{}, execs: map[execKey]*execution{}, inputsOf: map[peer.ID]int{}, atWork: map[laneID]int{}, shows: newShows(),
	}
	w.modules = newModuleCache(w.stakeOf)
	w.fetching = newServing(inputFetches, inputFetchesOf, fetchTurn, func(peer.ID) bool { return false }, w.stakeOf)
	w.fetching.queue, w.fetching.queueOf = maxExecutions, maxExecutions/4
	return w
}

// serve handles a stream that a submitter opened, until it ends. A newer
// stream of the same submitter replaces it.
func (w *work) serve(s network.Stream) {
	defer s.Reset()
	ctx, cancel := context.WithCancel(w.n.ctx)
	defer cancel()
	l := newLink(s.Conn().RemotePeer(), siteOf(s.Conn()))
	w.join(l)
	var writer sync.WaitGroup
	writer.Go(func() {
		defer s.Reset() // ends the reader
		if err := w.write(ctx, l, s); err != nil && ctx.Err() == nil {
			w.n.log.Debug("submitter's stream", zap.Stringer("submitter", l.from), zap.Error(err))
		}
	})
	err := w.read(l, s)
	l.out.close()
	cancel()
	writer.Wait()
	w.mu.Lock()
	current := w.links[l.from] == l
	if current {
		delete(w.links, l.from)
	}
	w.mu.Unlock()
	if current && w.n.ctx.Err() == nil {
		w.n.log.Debug("submitter left", zap.Stringer("submitter", l.from), zap.Error(err))
		w.n.jobs.post(market.SubmitterLost{Submitter: l.from})
	}
}

// send queues an item for a submitter; without a stream it is dropped, and the
// market has heard or will hear SubmitterLost.
func (w *work) send(to peer.ID, item toSubmitter) {
	w.mu.Lock()
	l := w.links[to]
	w.mu.Unlock()
	if l != nil {
		l.out.push(item)
	}
}

func (w *work) read(l *link, s network.Stream) error {
	r := frames(s, proto.MaxTaskFrame)
	for {
		var f proto.TaskFrame
		if err := r.Read(&f); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		if err := w.received(l, &f); err != nil {
			return err
		}
	}
}

func (w *work) received(l *link, f *proto.TaskFrame) error {
	switch b := f.Body.(type) {
	case *proto.TaskFrame_Assign:
		return w.assigned(l, b.Assign)
	case *proto.TaskFrame_Reveal:
		for _, t := range b.Reveal.GetTasks() {
			ref, err := refOf(t.GetTask())
			if err != nil {
				return err
			}
			if len(t.Commits) > proto.MaxRedundancy {
				return proto.CodeTooLarge.Errorf("%d commits in a reveal", len(t.Commits))
			}
			in := market.RevealSeen{From: l.from, Ref: ref}
			for _, c := range t.Commits {
				h, err := proto.ToHash(c.GetHash())
				if err != nil {
					return err
				}
				p, err := proto.ParsePeer(c.GetWorker())
				if err != nil {
					return err
				}
				in.Commits = append(in.Commits, market.Commitment{Worker: p, Hash: h})
			}
			w.n.jobs.post(in)
		}
	case *proto.TaskFrame_Abort:
		refs, err := refsOf(b.Abort.GetTasks())
		if err != nil {
			return err
		}
		if len(b.Abort.Votes) > 0 {
			return w.n.claims.outvoted(l.from, b.Abort)
		}
		w.n.jobs.post(market.AbortSeen{From: l.from, Refs: refs, Code: proto.Code(b.Abort.Code)})
	case *proto.TaskFrame_Pay:
		return w.paid(l, b.Pay)
	default:
		return proto.CodeMalformed.Errorf("unexpected frame %T", f.Body)
	}
	return nil
}

// assigned checks signatures and the lane, keeps the inputs and lets the
// market decide.
func (w *work) assigned(l *link, a *proto.Assign) error {
	s, err := proto.Unseal(w.n.net.ID, a.GetBatch(), proto.KindAssignments)
	if err != nil {
		return err
	}
	batch := s.Payload.GetAssignments()
	if s.Signer != l.from || string(batch.Worker) != string(w.n.self) {
		return proto.CodeBadSignature.Errorf("assignments of %s for another pair", s.Signer)
	}
	if len(batch.Assignments) == 0 || len(batch.Assignments) > 64 || len(a.Inputs) != len(batch.Assignments) {
		return proto.CodeMalformed.Errorf("%d assignments with %d inputs", len(batch.Assignments), len(a.Inputs))
	}
	if most := maxBatchBytes * (4 + len(batch.Assignments)); len(a.Batch) > most {
		return proto.CodeTooLarge.Errorf("%d assignments in %d bytes, at most %d", len(batch.Assignments), len(a.Batch), most)
	}
	hold, err := proto.ParseCID(batch.Hold)
	if err != nil {
		return err
	}
	if a.Hold != nil {
		if err := w.showHold(l, hold, a.Hold, a.Extends); err != nil {
			return err
		}
	}
	refuse := func(code proto.Code, reason string) error {
		for _, as := range batch.Assignments {
			if ref, err := assignmentRef(as); err == nil {
				l.out.push(refusedItem{ref: ref, code: code, reason: reason})
			}
		}
		return nil
	}
	lane, ok := w.lane(l, hold, batch.Lane)
	if !ok {
		return refuse(proto.CodeNoLane, "no certified lane of mine was shown")
	}
	switch err := w.n.claims.admits(hold, batch.Lane, l.from, a.Batch, lane.Cap-min(lane.Cap, lane.Paid)); {
	case err == errReplay:
		return nil
	case err != nil:
		return refuse(proto.CodeOf(err), err.Error())
	}
	fetch := make([]bool, len(batch.Assignments))
	for i, as := range batch.Assignments {
		ref, err := assignmentRef(as)
		if err != nil {
			return err
		}
		in, err := inputOf(a.Inputs[i])
		if err != nil {
			return err
		}
		fetch[i] = in.cid.Defined() || !w.modules.has(as)
		in.hold, in.lane, in.batch = hold, batch.Lane, a.Batch
		w.keepInput(execKey{l.from, ref}, in)
	}
	w.n.jobs.post(market.AssignSeen{From: l.from, Batch: batch, Lane: lane, Fetch: fetch})
	return nil
}

func assignmentRef(as *proto.Assignment) (proto.Ref, error) {
	return refOf(&proto.TaskRef{Job: as.GetJob(), Task: as.GetTask(), Attempt: as.GetAttempt()})
}

func (w *work) lane(l *link, hold cid.Cid, index uint32) (market.Lane, bool) {
	shown, ok := l.holds[hold]
	st := shown.state
	if !ok { // shown on an earlier stream, or so long ago that others took its place
		st, ok = w.n.wallet.holdState(hold)
		ok = ok && st.Payer == l.from
	}
	if !ok || uint64(index) >= uint64(len(st.Lanes)) || st.Lanes[index].Worker != w.n.self {
		return market.Lane{}, false
	}
	out := laneOf(st, index)
	// The own ledger may know more than the events shown: settlements.
	if now, ok := w.n.wallet.holdState(hold); ok && uint64(index) < uint64(len(now.Lanes)) {
		// A payer that leaves out an Extend shows another number than the lane has,
		// and with that nobody can claim.
		if now.Closed || now.Lanes[index].Done || now.Lanes[index].Worker != w.n.self {
			l.pays(hold, time.Time{}, 0)
			return market.Lane{}, false
		}
		out.Paid = now.Lanes[index].Paid
	}
	out.Promised, out.Earned = w.n.claims.books(hold, index)
	l.pays(hold, out.Deadline, out.Cap-min(out.Cap, out.Paid))
	return out, true
}

// laneOf is a lane of a certified hold as the market takes it; what was settled
// is known to the own ledger only.
func laneOf(st ledger.HoldState, index uint32) market.Lane {
	l := st.Lanes[index]
	return market.Lane{
		Hold: st.ID, Index: index, Payer: st.Payer, Worker: l.Worker, Payee: l.Payee, Cap: l.Cap,
		Deadline: proto.UnixMs(st.DeadlineUnixMs),
	}
}

// paid keeps a voucher before the market counts on it.
func (w *work) paid(l *link, p *proto.Pay) error {
	s, err := proto.Unseal(w.n.net.ID, p.GetVoucher(), proto.KindVoucher)
	if err != nil {
		return err
	}
	v := s.Payload.GetVoucher()
	hold, err := proto.ParseCID(v.Hold)
	if err != nil {
		return err
	}
	if s.Signer != l.from || string(v.Worker) != string(w.n.self) {
		return proto.CodeBadSignature.Errorf("voucher of %s for another pair", s.Signer)
	}
	if p.Hold != nil {
		if err := w.showHold(l, hold, p.Hold, p.Extends); err != nil {
			return err
		}
	}
	lane, ok := w.lane(l, hold, v.Lane)           // a lane that is not certified stays zero
	if ok && proto.Credit(v.Amount) <= lane.Cap { // above that it promises nothing
		if err := w.keepVoucher(hold, l.from, v, p.Voucher); err != nil {
			return err
		}
		l.out.push(promisedItem{})
	}
	w.n.light.soon() // the settlement is on its way
	w.n.jobs.post(market.VoucherSeen{From: l.from, Voucher: v, Finish: p.Finish, Lane: lane})
	return nil
}

// keepVoucher stores the highest voucher of a certified lane of this worker:
// should the payer vanish, it is what the worker can claim with.
func (w *work) keepVoucher(hold cid.Cid, payer peer.ID, v *proto.Voucher, raw []byte) error {
	key := voucherKey(hold, v.Lane)
	var upto uint64
	if have, err := w.n.kv.get(key); err == nil {
		if old, err := proto.Inspect(have, proto.KindVoucher); err == nil {
			if old.Payload.GetVoucher().GetAmount() >= v.Amount {
				return nil
			}
			upto = old.Payload.GetVoucher().GetUpto()
		}
	}
	if !w.n.claims.promised(hold, v.Lane, payer, proto.Credit(v.Amount)) {
		return nil
	}
	w.accepted.Add(v.Upto - min(v.Upto, upto))
	return w.n.kv.put(key, raw)
}

func (w *work) write(ctx context.Context, l *link, s network.Stream) error {
	buf := bufio.NewWriterSize(s, 32<<10)
	for {
		items := l.out.pull(ctx)
		if items == nil {
			return nil
		}
		fs, err := w.frames(l, items)
		if err != nil {
			return err
		}
		s.SetWriteDeadline(time.Now().Add(time.Minute))
		for _, f := range fs {
			if err := proto.WriteFrame(buf, f, proto.MaxTaskFrame); err != nil {
				return err
			}
		}
		if err := buf.Flush(); err != nil {
			return err
		}
	}
}

// frames turns queued items into frames: accepts, commits and results that
// wait together share a frame, and results one signature.
func (w *work) frames(l *link, items []toSubmitter) ([]*proto.TaskFrame, error) {
	var out []*proto.TaskFrame
	var accepted, waiting []proto.Ref
	var commits []*proto.Commitment
	results := l.withheld // some may leave now
	l.withheld = nil
	for _, item := range items {
		switch i := item.(type) {
		case acceptedItem:
			accepted, waiting = append(accepted, i.refs...), append(waiting, i.waiting...)
		case commitItem:
			commits = append(commits, &proto.Commitment{Task: wireRef(i.ref), Hash: i.hash[:]})
		case resultItem:
			results = append(results, i)
		case refusedItem:
			out = append(out, &proto.TaskFrame{Body: &proto.TaskFrame_Refused{Refused: &proto.Refused{
				Task: wireRef(i.ref), Code: uint32(i.code), Reason: proto.Clip(i.reason, 256), Fuel: uint64(i.fuel), Log: i.log, Output: i.output,
			}}})
		case progressItem:
			out = append(out, &proto.TaskFrame{Body: &proto.TaskFrame_Progress{Progress: &proto.Progress{Task: wireRef(i.ref), Permille: i.permille}}})
		}
	}
	if len(accepted) > 0 {
		out = append(out, &proto.TaskFrame{Body: &proto.TaskFrame_Accepted{Accepted: &proto.Accepted{Tasks: wireRefs(accepted), Waiting: wireRefs(waiting)}}})
	}
	if len(commits) > 0 {
		out = append(out, &proto.TaskFrame{Body: &proto.TaskFrame_Commits{Commits: &proto.Commits{Commitments: commits}}})
	}
	for len(results) > 0 {
		f, taken, err := w.resultFrame(l, results)
		if err != nil {
			return nil, err
		}
		results = results[taken:]
		if f != nil {
			out = append(out, f)
		}
	}
	// Done comes last: it says that nothing more is owed.
	for _, item := range items {
		if d, ok := item.(doneItem); ok {
			raw, claim, err := w.n.claims.done(d.done, l.from, d.most)
			if err != nil {
				return nil, err
			}
			if raw != nil {
				out = append(out, &proto.TaskFrame{Body: &proto.TaskFrame_Done{Done: &proto.DoneReply{Done: raw, Claim: claim}}})
			}
		}
	}
	return out, nil
}

// resultFrame signs as many results as fit one frame; taken counts them. Those that
// have to wait for a voucher are withheld.
func (w *work) resultFrame(l *link, results []resultItem) (f *proto.TaskFrame, taken int, err error) {
	var receipts [][]byte
	var items []*proto.ResultItem
	var kept []delivered
	var keys []execKey
	with := map[string]*leaving{}
	size := 0
	for _, r := range results {
		if taken == proto.MaxReceipts || size > proto.MaxTaskFrame/2 {
			break
		}
		taken++
		out, log, lane, ok := w.result(execKey{l.from, r.ref})
		if !ok {
			continue // forgotten meanwhile: the submitter no longer wants it
		}
		lane.output, lane.payer = out, l.from
		beside := with[laneKey(lane.hold, lane.lane)]
		if beside == nil {
			beside = &leaving{}
			with[laneKey(lane.hold, lane.lane)] = beside
		}
		if !w.n.claims.mayLeave(lane, r.receipt, beside) {
			l.withheld = append(l.withheld, r)
			continue
		}
		kept, keys = append(kept, lane), append(keys, execKey{l.from, r.ref})
		it := &proto.ResultItem{Receipt: r.receipt, Attempt: r.ref.Attempt, Log: log}
		if len(out) > proto.MaxInline {
			it.ByCid, it.Key = true, w.n.keyFor(proto.HashOf(out), l.from)
		} else {
			it.Output = out
		}
		size += len(it.Output) + len(log) + len(r.receipt)
		receipts = append(receipts, r.receipt)
		items = append(items, it)
	}
	if len(items) == 0 {
		return nil, taken, nil
	}
	batch, err := proto.SignReceipts(w.n.cfg.Key, w.n.net.ID, receipts, uint64(time.Now().UnixMilli()))
	if err != nil {
		return nil, 0, err
	}
	w.n.claims.delivered(batch, receipts, kept)
	w.delivered(keys)
	return &proto.TaskFrame{Body: &proto.TaskFrame_Results{Results: &proto.Results{Batch: batch, Items: items}}}, taken, nil
}
