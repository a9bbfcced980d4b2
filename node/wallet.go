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
	"edgenet.dev/proto"
)

// wallet owns the ledger: it authors the node's own events, votes when the
// genesis names this node, and takes in what others certified.
type wallet struct {
	n *Node

	mu      sync.Mutex // guards l and witness
	l       *ledger.Ledger
	witness *ledger.Witness // nil when not named

	author    chan struct{}     // holds one token: one event of this account at a time
	recovered bool              // head known to agree with the witness; guarded by author
	ops       *outbox[walletOp] // holds and settlements, in order
	certified *outbox[*proto.CertifiedEvent]
	income    chan struct{} // something may be receivable
}

type walletOp func(ctx context.Context)

func newWallet(n *Node) (*wallet, error) {
	// The ledger's agreement serves any number; this node asks one witness and
	// waits for its answer.
	if w := len(n.net.Witnesses); w > 1 {
		return nil, fmt.Errorf("node: the genesis names %d witnesses; this version runs networks of one", w)
	}
	l, err := ledger.Open(n.net, n.store)
	if err != nil {
		return nil, err
	}
	w := &wallet{
		n: n, l: l, author: make(chan struct{}, 1), ops: newOutbox[walletOp](),
		certified: newOutbox[*proto.CertifiedEvent](), income: make(chan struct{}, 1),
	}
	w.author <- struct{}{}
	if n.net.IsWitness(n.self) {
		if w.witness, err = ledger.NewWitness(n.net, n.self, l, n.store, ledger.WitnessConfig{Sign: n.seal}); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// do queues an operation that must come to an end: it is tried until the
// witness certifies or refuses it, or the node ends.
func (w *wallet) do(op walletOp) { w.ops.push(op) }

// run works through queued operations, claims income and gossips what this
// witness certified.
func (w *wallet) run(ctx context.Context) error {
	w.n.goDo(w.gossipCertified)
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

// resume finishes an event that an earlier run signed but did not see
// certified, so that it does not wait for the next operation.
func (w *wallet) resume(ctx context.Context) {
	w.mu.Lock()
	_, open := w.l.Intent(w.n.self)
	w.mu.Unlock()
	if !open {
		return
	}
	if err := w.lock(ctx); err != nil {
		return
	}
	defer w.unlock()
	if err := w.recover(ctx); err != nil && ctx.Err() == nil {
		w.n.log.Warn("finish the event of an earlier run", zap.Error(err))
	}
}

func (w *wallet) lock(ctx context.Context) error {
	select {
	case <-w.author:
		return nil
	case <-ctx.Done():
		return proto.CodeBusy.Errorf("an earlier event of this account still waits for the witness; try again when it can be reached")
	}
}

func (w *wallet) unlock() { w.author <- struct{}{} }

// certify authors one event of this account and returns once it is certified.
// When ctx ends in between the signed event stays on disk and is finished
// later; nothing else is signed for its place.
func (w *wallet) certify(ctx context.Context, body any) (*ledger.Certified, error) {
	if err := w.lock(ctx); err != nil {
		return nil, err
	}
	defer w.unlock()
	if err := w.recover(ctx); err != nil {
		return nil, err
	}
	if a := w.account(w.n.self); !a.Opened {
		if _, err := w.sign(ctx, &proto.Open{}); err != nil {
			return nil, fmt.Errorf("open the account: %w", err)
		}
	}
	return w.sign(ctx, body)
}

// sign drafts, makes durable and proposes. Call with the author's token.
func (w *wallet) sign(ctx context.Context, body any) (*ledger.Certified, error) {
	w.mu.Lock()
	ev, err := w.l.Draft(w.n.self, w.l.Epoch(), uint64(time.Now().UnixMilli()), body)
	var raw []byte
	if err == nil {
		raw, err = w.n.seal(&proto.Payload{Body: &proto.Payload_Event{Event: ev}})
	}
	if err == nil {
		err = w.l.SaveIntent(raw)
	}
	w.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return w.propose(ctx, raw)
}

// propose asks the witness until it certifies or refuses. Call with the
// author's token.
func (w *wallet) propose(ctx context.Context, raw []byte) (*ledger.Certified, error) {
	s, err := proto.Inspect(raw, proto.KindEvent)
	if err != nil {
		return nil, err
	}
	ev := s.Payload.GetEvent()
	w.mu.Lock()
	attach := w.l.Attachments(ev)
	w.mu.Unlock()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		reply, err := w.ask(ctx, raw, attach)
		if err == nil {
			var done *ledger.Certified
			if done, attach, err = w.answered(s.ID, reply, attach); done != nil || final(err) {
				return done, err
			}
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("the event is signed and waits for the witness: %w", context.Cause(ctx))
		}
		w.n.log.Info("witness did not certify yet", zap.Stringer("event", s.ID), zap.Error(err))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// final tells a refusal from trouble that passes.
func final(err error) bool {
	switch proto.CodeOf(err) {
	case proto.CodeOK, proto.CodeInternal, proto.CodeMissing, proto.CodeBusy, proto.CodeShutdown, proto.CodeRateLimited:
		return false
	}
	return true
}

// answered handles one VoteFrame. On CodeMissing it returns what to attach.
func (w *wallet) answered(id cid.Cid, reply *proto.VoteFrame, attach []*proto.CertifiedEvent) (*ledger.Certified, []*proto.CertifiedEvent, error) {
	switch b := reply.Body.(type) {
	case *proto.VoteFrame_Certified:
		if err := w.absorb([]*proto.CertifiedEvent{b.Certified}); err != nil {
			return nil, attach, err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if c, ok := w.l.Get(id); ok {
			return c, attach, nil
		}
		return nil, attach, proto.CodeConflict.Errorf("another event of this account has the place: was its key used elsewhere?")
	case *proto.VoteFrame_Error:
		code := proto.Code(b.Error.Code)
		err := code.Errorf("witness: %s", clip(b.Error.Reason, 256))
		if code == proto.CodeMissing {
			w.mu.Lock()
			for _, m := range b.Error.Missing {
				if c, e := proto.ParseCID(m); e == nil {
					if have, ok := w.l.Get(c); ok && len(attach) < 64 {
						attach = append(attach, have.Wire)
					}
				}
			}
			w.mu.Unlock()
		}
		return nil, attach, err
	}
	return nil, attach, proto.CodeMalformed.Errorf("witness answered with %T", reply.Body)
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
	if len(added) == 0 {
		return
	}
	select {
	case w.income <- struct{}{}:
	default:
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
		r := &proto.Receive{}
		for _, x := range list[:min(len(list), ledger.MaxSources/2)] {
			r.Sources = append(r.Sources, &proto.Source{Event: x.Source.Event, Index: x.Source.Index, Amount: x.Source.Amount})
		}
		if _, err := w.certify(ctx, r); err != nil {
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

var errNoWitness = errors.New("the genesis names no witness that this node can ask")
