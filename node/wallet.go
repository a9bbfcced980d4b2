package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"

	"edgenet.dev/ledger"
	"edgenet.dev/market"
	"edgenet.dev/node/audit"
	"edgenet.dev/proto"
)

// wallet owns the ledger: it authors the node's own events, votes when the
// genesis names this node, and takes in what others certified.
type wallet struct {
	n     *Node
	votes *votes

	mu      sync.Mutex // guards what follows
	l       *ledger.Ledger
	witness *ledger.Witness // nil when not named
	talk    talk            // what this account is saying to the witnesses, or nil
	tick    time.Time       // when the witness' loop wakes next; zero: when told

	author     chan struct{}      // holds one token: one event at a time
	own        *owner             // this node's account; guarded by author
	guests     map[peer.ID]*owner // other accounts it signed for in this run; guarded by author
	unfinished chan struct{}      // an own event may be signed and left alone
	ops        *outbox[walletOp]  // holds and settlements, in order
	certified  *outbox[certifiedItem]
	income     chan struct{} // something may be receivable
	moved      chan struct{} // talk may have an answer
	due        chan struct{} // tick moved to an earlier time
	epochs     chan struct{} // a checkpoint may be new

	filing  *ledger.Filing // a claim on its way, or nil; guarded by mu
	filed   chan struct{}  // filing may have an answer
	fetches chan ledger.Fetch
}

type walletOp func(ctx context.Context)

func newWallet(n *Node) (*wallet, error) {
	open := func() (*ledger.Ledger, error) { return ledger.Open(n.net, n.store) }
	if n.light != nil {
		open = func() (*ledger.Ledger, error) { return ledger.OpenLight(n.net, n.store, n.self) }
	}
	l, err := open()
	if err != nil {
		return nil, err
	}
	w := &wallet{
		n: n, l: l, own: ownerOf(l, n.self), guests: map[peer.ID]*owner{}, unfinished: make(chan struct{}, 1), author: make(chan struct{}, 1), ops: newOutbox[walletOp](), certified: newOutbox[certifiedItem](),
		income: make(chan struct{}, 1), moved: make(chan struct{}, 1), due: make(chan struct{}, 1), epochs: make(chan struct{}, 1),
	}
	w.filed, w.fetches = make(chan struct{}, 1), make(chan ledger.Fetch, 256)
	w.author <- struct{}{}
	if w.votes, err = newVotes(n, w.heard); err != nil {
		return nil, err
	}
	if n.net.IsWitness(n.self) {
		w.witness, err = ledger.NewWitness(n.net, n.self, l, n.store, ledger.WitnessConfig{
			Sign: n.seal, T: n.cfg.VoteTimeout, Fetch: true, Reexecute: n.cfg.Executor != nil, Checkpoints: ledger.NewEpochs(l),
		})
		if err != nil {
			return nil, err
		}
	}
	return w, nil
}

// do queues an operation that must come to an end: it is tried until the
// witnesses certify or refuse it, or the node ends.
func (w *wallet) do(op walletOp) { w.ops.push(op) }

// run works through queued operations, claims income and, on a witness, votes
// and gossips what was certified.
func (w *wallet) run(ctx context.Context) error {
	if w.witness != nil {
		w.votes.meet()
		w.n.goDo(w.runWitness)
		w.n.goDo(w.probe)
		for range maxClaimFetches {
			w.n.goDo(w.lookInto)
		}
	}
	if w.n.light == nil {
		w.n.goDo(w.gossipCertified)
		w.n.goDo(w.prune)
	}
	w.n.goDo(w.claimIncome)
	w.n.goDo(w.resume)
	for {
		ops := w.ops.pull(ctx)
		if ops == nil {
			return nil
		}
		for _, op := range ops {
			op(ctx)
		}
	}
}

// heard takes a frame from a peer's stream. An error is this machine's fault.
func (w *wallet) heard(from peer.ID, f *proto.VoteFrame) error {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.witness == nil && !w.n.net.IsWitness(from) {
		w.votes.send(from, refusal(proto.CodeNotWitness, "this node is no witness of the network"))
		return nil
	}
	outs, err := w.hand(now, from, f)
	if err == nil {
		err = w.deliver(now, outs)
	}
	return err
}

func refusal(code proto.Code, reason string) *proto.VoteFrame {
	return &proto.VoteFrame{Body: &proto.VoteFrame_Error{Error: &proto.VoteError{Code: uint32(code), Reason: reason}}}
}

// hand gives a frame to whom it may concern: the witness, the author, or both
// of them. Call with mu held.
func (w *wallet) hand(now time.Time, from peer.ID, f *proto.VoteFrame) (outs []ledger.Output, err error) {
	answer, vote := false, w.witness != nil
	switch f.GetBody().(type) {
	case *proto.VoteFrame_HeadReport:
		answer, vote = true, false
	case *proto.VoteFrame_ClaimReply:
		if vote = false; w.filing != nil {
			w.filing.Handle(now, from, f)
			wake(w.filed)
		}
	case *proto.VoteFrame_Commit, *proto.VoteFrame_Certified, *proto.VoteFrame_Error:
		answer = true
	}
	if vote {
		if outs, err = w.witness.Handle(now, from, f); err != nil {
			return nil, err
		}
		if next := w.witness.Next(); !next.IsZero() && !next.After(now) { // a single witness waits for nobody
			more, err := w.witness.Tick(now)
			if err != nil {
				return nil, err
			}
			outs = append(outs, more...)
		}
		w.wakeWitness()
	}
	if answer && w.talk != nil {
		more, err := w.talk.Handle(now, from, f)
		if err != nil && !faulty(err) {
			return nil, err
		}
		if err != nil {
			w.n.log.Debug("answer of a witness", zap.Stringer("witness", from), zap.Error(err))
		}
		outs = append(outs, more...)
		wake(w.moved)
	}
	return outs, nil
}

// faulty tells a sender's fault, which carries a code, from one of this machine.
func faulty(err error) bool {
	var wire *proto.Error
	return errors.As(err, &wire)
}

// deliver does what the state machines want done. Call with mu held.
func (w *wallet) deliver(now time.Time, outs []ledger.Output) error {
	for len(outs) > 0 {
		o := outs[0]
		outs = outs[1:]
		switch o := o.(type) {
		case ledger.Send:
			for _, to := range o.To {
				if to != w.n.self {
					w.votes.send(to, o.Frame)
					continue
				}
				more, err := w.hand(now, to, o.Frame)
				if err != nil {
					return err
				}
				outs = append(outs, more...)
			}
		case ledger.Added:
			if w.n.light == nil { // else others publish it
				for _, c := range o.Events {
					w.publishLater(now, c)
				}
			}
			w.noticed(o.Events)
		case ledger.CheckpointAdded:
			w.checkpointed(now, o.Wire)
		case ledger.Fetch:
			select {
			case w.fetches <- o:
			default: // the worker files again
			}
		case ledger.Reexecute:
			a := w.l.Account(peer.ID(o.Receipt.Submitter))
			w.n.evidence.suspect(o, a.Avail+a.Held+a.Staked, w.l.Epoch())
		case ledger.Misconduct:
			w.n.log.Warn("two votes or events for one place", zap.Stringer("by", o.By), zap.Uint64("seq", o.Slot.GetAccount().GetSeq()))
			more, err := w.accuse(now, o.Evidence)
			if err != nil {
				return err
			}
			outs = append(outs, more...)
		}
	}
	return nil
}

func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// wakeWitness lets the witness' loop look again when it would sleep too long.
// Call with mu held.
func (w *wallet) wakeWitness() {
	if next := w.witness.Next(); !next.IsZero() && (w.tick.IsZero() || next.Before(w.tick)) {
		wake(w.due)
	}
}

// runWitness does what is due by the clock: repetitions, rounds, checkpoints.
func (w *wallet) runWitness(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-w.due:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		w.mu.Lock()
		outs, err := w.witness.Tick(now)
		if err == nil {
			err = w.deliver(now, outs)
		}
		w.tick = w.witness.Next()
		wait := time.Duration(1<<63 - 1)
		switch {
		case err != nil: // the disk; nothing was sent
			w.n.log.Error("witness", zap.Error(err))
			wait = time.Second
		case !w.tick.IsZero():
			wait = max(time.Until(w.tick), time.Millisecond)
		}
		w.mu.Unlock()
		timer.Reset(wait)
	}
}

// absorb takes in certified events from anywhere. An error with a code is the
// sender's fault; one without is this machine's.
func (w *wallet) absorb(events []*proto.CertifiedEvent) error {
	var checked []*ledger.Certified
	for _, e := range events {
		w.mu.Lock()
		known := false
		if s, err := proto.Inspect(e.GetEvent(), proto.KindEvent); err == nil {
			known = w.l.Has(s.ID)
		}
		w.mu.Unlock()
		if known {
			continue
		}
		c, err := ledger.Verify(w.n.net, e) // signatures outside the lock
		if err != nil {
			return err
		}
		checked = append(checked, c)
	}
	if len(checked) == 0 {
		return nil
	}
	w.mu.Lock()
	added, err := w.l.AddVerified(nil, checked...)
	w.mu.Unlock()
	w.noticed(added)
	return err
}

// noticed wakes whoever waits for new events.
func (w *wallet) noticed(added []*ledger.Certified) {
	if len(added) > 0 {
		wake(w.income)
		wake(w.moved)
	}
	for _, c := range added {
		if c.Account == w.n.self && c.Event.GetSlash() != nil {
			w.n.log.Error("this account was punished for two events in one place, or two votes; it is frozen until a rotate by its recovery key", zap.Stringer("event", c.ID))
			w.n.record(audit.Slashed, "event", c.ID.String(), "seq", fmt.Sprint(c.Seq))
		}
	}
}

// claimIncome turns receivables into available balance, a little later so
// that payments of one moment share an event.
func (w *wallet) claimIncome(ctx context.Context) {
	for {
		w.mu.Lock()
		list := w.l.Receivables(w.n.self)
		w.mu.Unlock()
		if len(list) == 0 {
			select {
			case <-w.income:
			case <-ctx.Done():
				return
			}
			select {
			case <-time.After(300 * time.Millisecond):
			case <-ctx.Done():
				return
			}
			continue
		}
		if _, err := w.certify(ctx, receiveOf(list)); err != nil {
			if ctx.Err() != nil {
				return
			}
			w.n.log.Warn("income not claimed yet", zap.Error(err))
			select {
			case <-time.After(5 * time.Second):
			case <-ctx.Done():
				return
			}
		}
	}
}

// hold answers the market's RequestHold.
func (w *wallet) hold(ctx context.Context, o market.RequestHold) {
	lanes := make([]*proto.Lane, len(o.Lanes))
	for i, l := range o.Lanes {
		lanes[i] = &proto.Lane{Worker: []byte(l.Worker), Cap: uint64(l.Cap)}
		if l.Payee != "" && l.Payee != l.Worker {
			lanes[i].Payee = []byte(l.Payee)
		}
	}
	var body any
	if o.Hold.Defined() {
		body = &proto.Extend{Hold: o.Hold.Bytes(), Budget: uint64(o.Budget), DeadlineUnixMs: uint64(o.Deadline.UnixMilli()), Lanes: lanes}
	} else {
		body = &proto.Hold{Job: o.Job[:], Budget: uint64(o.Budget), DeadlineUnixMs: uint64(o.Deadline.UnixMilli()), Lanes: lanes}
	}
	c, err := w.certify(ctx, body)
	if err != nil {
		if ctx.Err() == nil {
			w.n.jobs.post(market.HoldFailed{Req: o.Req, Code: proto.CodeOf(err), Reason: err.Error()})
		}
		return
	}
	id := c.ID
	if o.Hold.Defined() {
		id = o.Hold
	}
	st, _ := w.holdState(id)
	w.n.jobs.post(market.HoldCertified{Req: o.Req, Hold: holdRecord(st)})
}

// settle pays lane totals and answers with what is paid now.
func (w *wallet) settle(ctx context.Context, o market.Settle) {
	s := &proto.Settle{Hold: o.Hold.Bytes(), Final: o.Final}
	for _, p := range o.Pays {
		lp := &proto.LanePay{Lane: p.Lane, Amount: uint64(p.Amount), Fuel: uint64(p.Fuel)}
		if p.Done {
			done, err := w.n.kv.get(doneKey(o.Hold, p.Lane))
			if err != nil {
				w.n.log.Error("a worker's Done is lost", zap.Stringer("hold", o.Hold), zap.Error(err))
			}
			lp.Done = done
		}
		s.Pays = append(s.Pays, lp)
	}
	for _, part := range ledger.SplitSettle(s) {
		if _, err := w.certify(ctx, part); err != nil {
			if ctx.Err() != nil {
				return
			}
			// The totals are on disk; the market settles again later.
			w.n.log.Error("settlement refused", zap.Stringer("hold", o.Hold), zap.Error(err))
			break
		}
	}
	st, _ := w.holdState(o.Hold)
	in := market.Settled{Hold: o.Hold, Closed: st.Closed}
	for _, l := range st.Lanes {
		in.Paid = append(in.Paid, l.Paid)
		in.Done = append(in.Done, l.Done)
	}
	w.n.jobs.post(in)
}

func holdRecord(st ledger.HoldState) market.HoldRecord {
	r := market.HoldRecord{Hold: st.ID, Job: st.Job, Budget: st.Budget, Deadline: time.UnixMilli(int64(st.DeadlineUnixMs)), Closed: st.Closed}
	for _, l := range st.Lanes {
		r.Lanes = append(r.Lanes, market.LaneRecord{Worker: l.Worker, Cap: l.Cap, Amount: l.Paid, Fuel: l.Fuel, Settled: l.Paid, Done: l.Done})
	}
	return r
}

// reconcileHolds brings saved holds and the ledger's together: what an earlier
// run promised is in the record, what was settled is in the ledger, and a hold
// that was certified just before a crash has no record at all.
func (w *wallet) reconcileHolds(saved []market.HoldRecord) []market.HoldRecord {
	w.mu.Lock()
	defer w.mu.Unlock()
	byID := map[cid.Cid]market.HoldRecord{}
	for _, r := range saved {
		byID[r.Hold] = r
	}
	var out []market.HoldRecord
	for _, st := range w.l.Holds(w.n.self) {
		now := holdRecord(st)
		if old, ok := byID[st.ID]; ok {
			for i := range now.Lanes {
				if i < len(old.Lanes) && old.Lanes[i].Worker == now.Lanes[i].Worker {
					now.Lanes[i].Amount = max(now.Lanes[i].Amount, old.Lanes[i].Amount)
					now.Lanes[i].Fuel = max(now.Lanes[i].Fuel, old.Lanes[i].Fuel)
					now.Lanes[i].Upto = old.Lanes[i].Upto
				}
			}
		}
		out = append(out, now)
	}
	return out
}

func (w *wallet) account(id peer.ID) ledger.Account {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.l.Account(id)
}

func (w *wallet) holdState(id cid.Cid) (ledger.HoldState, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.l.Hold(id)
}

func (w *wallet) holdEvents(id cid.Cid) []*proto.CertifiedEvent {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*proto.CertifiedEvent
	for _, c := range w.l.HoldEvents(id) {
		out = append(out, c.Wire)
	}
	return out
}

// hasLane reports whether an open hold of this node has an open lane for a
// worker. After deadline and grace the worker is not waited for any more.
func (w *wallet) hasLane(worker peer.ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	late := uint64(time.Now().Add(-time.Duration(w.n.net.Genesis.GraceSeconds) * time.Second).UnixMilli())
	for _, h := range w.l.Holds(w.n.self) {
		if h.DeadlineUnixMs < late {
			continue
		}
		if _, l, ok := h.Lane(worker); ok && !l.Done {
			return true
		}
	}
	return false
}

// Account reads an account's balances from this node's ledger.
func (n *Node) Account(id peer.ID) ledger.Account { return n.wallet.account(id) }

// Transfer sends credits with a memo of at most 140 bytes. It returns once the
// event is certified. When ctx ends first, the event may still be certified
// later: see History before sending again.
func (n *Node) Transfer(ctx context.Context, to peer.ID, amount proto.Credit, memo string) (cid.Cid, error) {
	if err := n.isReady(); err != nil {
		return cid.Undef, err
	}
	if to == n.self {
		return cid.Undef, proto.CodeMalformed.Errorf("a transfer to oneself moves nothing")
	}
	ctx, cancel := n.until(ctx)
	defer cancel()
	c, err := n.wallet.certify(ctx, &proto.Transfer{To: []byte(to), Amount: uint64(amount), Memo: memo})
	if err != nil {
		return cid.Undef, fmt.Errorf("transfer %s credits to %s: %w", amount, to, err)
	}
	return c.ID, nil
}

// until derives a context that also ends with the node.
func (n *Node) until(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(n.ctx, func() { cancel(ErrClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

// HistoryEntry is one event of an account as its owner reads it.
type HistoryEntry struct {
	*ledger.Certified
	Kind         string
	Counterparty peer.ID // "" unless there is exactly one
	Change       int64   // of what can be spent, microcredits
	Held         int64   // change of what is held, microcredits
}

// Witnesses are those whose commits certify the event.
func (e HistoryEntry) Witnesses() []peer.ID {
	var out []peer.ID
	for _, raw := range e.Wire.GetCertificate().GetCommits() {
		if s, err := proto.Inspect(raw, proto.KindCommit); err == nil {
			out = append(out, s.Signer)
		}
	}
	return out
}

// History lists an account's events, newest first.
func (n *Node) History(id peer.ID, limit int) []HistoryEntry {
	n.wallet.mu.Lock()
	defer n.wallet.mu.Unlock()
	var out []HistoryEntry
	for _, c := range n.wallet.l.History(id, limit) {
		e := HistoryEntry{Certified: c, Held: n.wallet.l.HeldChange(c)}
		e.Kind, e.Counterparty, e.Change = n.wallet.l.Describe(c)
		out = append(out, e)
	}
	return out
}

// Audit sums every term of the conservation law on its own.
func (n *Node) Audit() ledger.Audit {
	n.wallet.mu.Lock()
	defer n.wallet.mu.Unlock()
	return n.wallet.l.Audit()
}

// Accounts is the number of accounts that have events.
func (n *Node) Accounts() int {
	n.wallet.mu.Lock()
	defer n.wallet.mu.Unlock()
	return len(n.wallet.l.Accounts())
}

// StateHash is equal on nodes whose ledgers hold equal sets.
func (n *Node) StateHash() proto.Hash {
	n.wallet.mu.Lock()
	defer n.wallet.mu.Unlock()
	return n.wallet.l.StateHash()
}

// Events is the number of certified events this node holds.
func (n *Node) Events() int {
	n.wallet.mu.Lock()
	defer n.wallet.mu.Unlock()
	return n.wallet.l.Len()
}
