package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"

	"edgenet.dev/ledger"
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

	waiting map[uint64]string // what a hold waits for that has not the credits, by the market's request

	filing *ledger.Filing // a claim on its way, or nil; guarded by mu
	filed  chan struct{}  // filing may have an answer
	looks  *looks         // others' claims, on a witness
	checks chan struct{}  // claims of which signatures are checked
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
		n: n, l: l, own: ownerOf(l, n.self), guests: map[peer.ID]*owner{}, waiting: map[uint64]string{}, unfinished: make(chan struct{}, 1), author: make(chan struct{}, 1), ops: newOutbox[walletOp](), certified: newOutbox[certifiedItem](),
		income: make(chan struct{}, 1), moved: make(chan struct{}, 1), due: make(chan struct{}, 1), epochs: make(chan struct{}, 1),
	}
	w.filed, w.looks, w.checks = make(chan struct{}, 1), newLooks(), make(chan struct{}, maxChecks)
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
		for range maxLookers {
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
	if _, ok := f.GetBody().(*proto.VoteFrame_WorkClaim); ok && w.witness != nil {
		return w.claim(from, f)
	}
	if w.witness != nil && w.n.instances.mayVote(w.n.ctx) != nil {
		return nil // who votes twice is punished; others' answers to this account go with it, for it signs nothing either
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.witness == nil && !w.n.net.IsWitness(from) {
		w.votes.send(from, refusal(proto.CodeNotWitness, "this node is no witness of the network"))
		return nil
	}
	outs, err := w.hand(now, from, f)
	return cmp.Or(w.deliver(now, outs), err)
}

func refusal(code proto.Code, reason string) *proto.VoteFrame {
	return &proto.VoteFrame{Body: &proto.VoteFrame_Error{Error: &proto.VoteError{Code: uint32(code), Reason: reason}}}
}

// hand gives a frame to whom it may concern: the witness, the author, or both
// of them. What it returns is to be delivered even beside an error. Call with
// mu held.
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
		outs, err = w.witness.Handle(now, from, f)
		if next := w.witness.Next(); err == nil && !next.IsZero() && !next.After(now) { // a single witness waits for nobody
			var more []ledger.Output
			more, err = w.witness.Tick(now)
			outs = append(outs, more...)
		}
		w.wakeWitness()
		if err != nil {
			return outs, err
		}
	}
	if answer && w.talk != nil {
		more, err := w.talk.Handle(now, from, f)
		if err != nil && !faulty(err) {
			return outs, err
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

// worth is what an account has, in whatever form.
func (w *wallet) worth(id peer.ID) proto.Credit {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.l.Account(id)
	sum := a.Avail + a.Held + a.Staked + a.Unbonding + a.Receivable
	if !a.Opened {
		sum += w.n.net.Grants[id]
	}
	return sum
}

// deliver does what the state machines want done, all of it even when something
// fails. Call with mu held.
func (w *wallet) deliver(now time.Time, outs []ledger.Output) (failed error) {
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
				failed, outs = cmp.Or(failed, err), append(outs, more...)
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
			if gone := w.looks.push(o); gone.Defined() { // its worker files again
				more, err := w.witness.Fetched(now, gone, errNoTurn)
				failed, outs = cmp.Or(failed, err), append(outs, more...)
			}
		case ledger.Reexecute:
			a := w.l.Account(peer.ID(o.Receipt.Submitter))
			w.n.evidence.suspect(o, a.Avail+a.Held+a.Staked, w.l.Epoch())
		case ledger.Misconduct:
			w.n.log.Warn("two votes or events for one place", zap.Stringer("by", o.By), zap.Uint64("seq", o.Slot.GetAccount().GetSeq()))
			more, err := w.accuse(now, o.Evidence)
			failed, outs = cmp.Or(failed, err), append(outs, more...)
		}
	}
	return failed
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
		if w.n.instances.mayVote(ctx) != nil {
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
			c, ok := w.l.Get(s.ID)
			known = ok && c.Equals(e) // one with another certificate is passed on only when that is good
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
		w.n.sync.news()
	}
	for _, c := range added {
		if c.Account == w.n.self && (c.Event.GetSlash() != nil || c.Event.GetRotate() != nil) {
			wake(w.n.halting)
		}
		if c.Account == w.n.self && c.Event.GetSlash() != nil {
			w.n.log.Error("this account was punished for two events in one place, or two votes; it is frozen until a rotate by its recovery key", zap.Stringer("event", c.ID))
			w.n.record(audit.Slashed, "event", c.ID.String(), "seq", fmt.Sprint(c.Seq))
		}
	}
}

// claimPause is the time from one claim of income to the next, so that many
// payments share an event.
const claimPause = 300 * time.Millisecond

// claimIncome turns receivables into available balance: the first ones at once,
// and those that follow on it together.
func (w *wallet) claimIncome(ctx context.Context) {
	for {
		if w.n.instances.err() != nil {
			return
		}
		w.mu.Lock()
		list := w.l.Receivables(w.n.self)
		w.mu.Unlock()
		if len(list) == 0 {
			select {
			case <-w.income:
			case <-ctx.Done():
				return
			}
			continue
		}
		r, pause := receiveOf(list), claimPause
		if len(r.Sources) < len(list) { // the event is full
			pause = 0
		}
		if _, err := w.certify(ctx, r); err != nil {
			if ctx.Err() != nil {
				return
			}
			w.n.log.Warn("income not claimed yet", zap.Error(err))
			pause = 5 * time.Second
		} else {
			got := amountOf(list[:len(r.Sources)])
			w.n.activity.count(func(c *Counts) { c.Received += got })
			w.n.activity.say("income received", zap.Stringer("credits", got), zap.Int("payments", len(r.Sources)))
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

func amountOf(list []ledger.Receivable) (sum proto.Credit) {
	for _, r := range list {
		sum += r.Amount
	}
	return sum
}

func (w *wallet) account(id peer.ID) ledger.Account {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.l.Account(id)
}

// Account reads an account's balances from this node's ledger.
func (n *Node) Account(id peer.ID) ledger.Account { return n.wallet.account(id) }

// Transfer sends credits with a memo of at most 140 bytes. It returns once the
// event is certified. When ctx ends first, or the error says that the event
// waits, it may still be certified later: see History before sending again.
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
	n.activity.count(func(c *Counts) { c.Transferred += amount })
	n.activity.say("transfer sent", zap.Stringer("to", to), zap.Stringer("credits", amount), zap.Stringer("event", c.ID))
	return c.ID, nil
}

// until derives a context that also ends with the node.
func (n *Node) until(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(n.ctx, func() { cancel(ErrClosed) })
	return ctx, func() { stop(); cancel(nil) }
}
