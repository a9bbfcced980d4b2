package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"

	"edgenet.dev/ledger"
	"edgenet.dev/market"
	"edgenet.dev/node/audit"
	"edgenet.dev/proto"
)

// talk is what the account is saying to the witnesses: a ledger.Proposal or a
// ledger.Recovery.
type talk interface {
	Next() time.Time
	Tick(now time.Time) []ledger.Output
	Handle(now time.Time, from peer.ID, f *proto.VoteFrame) ([]ledger.Output, error)
}

type recoveryTalk struct{ *ledger.Recovery }

func (r recoveryTalk) Handle(now time.Time, from peer.ID, f *proto.VoteFrame) ([]ledger.Output, error) {
	return nil, r.Recovery.Handle(now, from, f)
}

// owner is an account that this node signs for: its own, and others whose keys
// it has.
type owner struct {
	account peer.ID
	// key signs instead of the one that the ledger names; nil but for a Rotate
	// by the recovery key.
	key crypto.PrivKey
	// What the store knew of the account when the node began: whatever certified
	// event is above it and not the intent was signed by a run that the store
	// does not remember.
	next   uint64 // seq
	intent cid.Cid
	// lost: the store may lack anything, as after a restore.
	lost      bool
	recovered bool // head known to agree with a quorum of witnesses; guarded by the author's token
}

// ownerOf reads what the store knows of an account.
func ownerOf(l *ledger.Ledger, account peer.ID) *owner {
	o := &owner{account: account}
	if a := l.Account(account); a.Head.Defined() {
		o.next = a.Seq + 1
	}
	if raw, ok := l.Intent(account); ok {
		if s, err := proto.Inspect(raw, proto.KindEvent); err == nil {
			o.intent = s.ID
		}
	}
	return o
}

// signer is the key with which o signs now. Call with mu held.
func (w *wallet) signer(o *owner) (crypto.PrivKey, error) {
	if o.key != nil {
		return o.key, nil
	}
	return w.n.privateKey(w.l.Signer(o.account, w.l.Epoch()))
}

func (w *wallet) authorConfig(key crypto.PrivKey) ledger.AuthorConfig {
	return ledger.AuthorConfig{Sign: func(p *proto.Payload) ([]byte, error) { return proto.Seal(key, w.n.net.ID, p) }}
}

// converse lets t speak until over says, within the ledger's lock, that it has
// its answer. Call with the author's token.
func (w *wallet) converse(ctx context.Context, t talk, over func() bool) error {
	w.mu.Lock()
	w.talk = t
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.talk = nil
		w.mu.Unlock()
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		w.mu.Lock()
		err := w.deliver(now, t.Tick(now))
		ended := err == nil && over()
		next := t.Next()
		w.mu.Unlock()
		if err != nil || ended {
			return err
		}
		timer.Reset(max(time.Until(next), time.Millisecond))
		select {
		case <-w.moved:
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// resume finishes an event that an earlier run signed, or one whose caller did
// not wait, so that it does not wait for the next operation.
func (w *wallet) resume(ctx context.Context) {
	const pause = 5 * time.Second // before another try
	for ctx.Err() == nil {
		var again <-chan time.Time
		if w.waits() && w.lock(ctx) == nil {
			if err := w.recover(ctx, w.own); err != nil && ctx.Err() == nil {
				w.n.log.Warn("finish the event of an earlier run", zap.Error(err))
			}
			w.unlock()
			if w.waits() {
				again = time.After(pause)
			}
		}
		select {
		case <-w.unfinished:
		case <-again:
		case <-ctx.Done():
		}
	}
}

// waits reports whether this account has signed something, or was asked for it,
// that is not certified.
func (w *wallet) waits() bool {
	w.mu.Lock()
	_, open := w.l.Intent(w.n.self)
	w.mu.Unlock()
	order, err := w.n.store.Get(orderKey)
	if err != nil {
		w.n.log.Error("ledger", zap.Error(err))
	}
	return open || order != nil
}

func (w *wallet) lock(ctx context.Context) error {
	if err := w.n.instances.check(ctx); err != nil {
		return err
	}
	select {
	case <-w.author:
		if err := w.n.instances.err(); err != nil { // found meanwhile
			w.unlock()
			return err
		}
		return nil
	case <-ctx.Done():
		return proto.CodeBusy.Errorf("an earlier event of this account still waits for the witnesses; try again when enough of them can be reached")
	}
}

func (w *wallet) unlock() { w.author <- struct{}{} }

// certify authors one event of this account and returns once it is certified.
// When ctx ends or the disk fails in between, the signed event stays on disk and
// is finished later; nothing else is signed for its place. It waits a little for
// credits that the account may have and this node has not seen yet.
func (w *wallet) certify(ctx context.Context, body any) (*ledger.Certified, error) {
	return w.certifyOr(ctx, body, func(string) {})
}

// certifyOr is certify that says what it waits for, and "" once it does not.
func (w *wallet) certifyOr(ctx context.Context, body any, waits func(string)) (*ledger.Certified, error) {
	c, err := w.certifyNow(ctx, body)
	if proto.CodeOf(err) != proto.CodeInsufficient {
		return c, err
	}
	return w.whenFunded(ctx, body, err, waits)
}

func (w *wallet) certifyNow(ctx context.Context, body any) (c *ledger.Certified, err error) {
	o := w.own
	if err := w.lock(ctx); err != nil {
		return nil, err
	}
	defer w.unlock()
	defer func() {
		if err != nil {
			wake(w.unfinished)
		}
	}()
	if err := w.n.light.fresh(ctx); err != nil {
		return nil, err
	}
	if err := w.recover(ctx, o); err != nil {
		return nil, err
	}
	if a := w.account(o.account); !a.Opened {
		// Opening may cost something, and all there is may have to be claimed.
		w.mu.Lock()
		first := receiveOf(w.l.Receivables(o.account))
		w.mu.Unlock()
		open := &proto.Open{Sources: first.Sources}
		if o == w.own {
			open.Referrer = []byte(w.n.cfg.Referrer)
		}
		c, err := w.sign(ctx, o, open)
		if err != nil {
			return nil, fmt.Errorf("open the account: %w", err)
		}
		if _, ok := body.(*proto.Receive); ok {
			return c, nil // it claimed what was asked for, or the next one does
		}
	}
	return w.sign(ctx, o, body)
}

// maxDrafts bounds how often an operation is signed again because its place
// went to what the witnesses made (Close, Slash, Void).
const maxDrafts = 4

// sign drafts, makes durable and proposes. Call with the author's token.
func (w *wallet) sign(ctx context.Context, o *owner, body any) (*ledger.Certified, error) {
	c, raw, err := w.signed(ctx, o, body)
	w.mu.Lock()
	intent, open := w.l.Intent(o.account)
	w.mu.Unlock()
	// An event that may still be certified stays an order, and so does one whose
	// place is lost when whoever asked is gone.
	if err == nil || ctx.Err() == nil && !(open && bytes.Equal(intent, raw)) {
		if bad := w.ordered(raw); err != nil {
			err = errors.Join(err, bad)
		} else if bad != nil { // the event is certified, and found so later
			w.n.log.Error("forget an order", zap.Error(bad))
		}
	}
	return c, err
}

// signed returns what it drafted last, too.
func (w *wallet) signed(ctx context.Context, o *owner, body any) (c *ledger.Certified, raw []byte, err error) {
	for try := 1; ; try++ {
		next, epoch, err := w.draft(o, body)
		if err != nil {
			return nil, raw, err
		}
		raw = next
		c, err := w.finish(ctx, o, raw)
		if err == nil || try == maxDrafts || ctx.Err() != nil {
			return c, raw, err
		}
		s, bad := proto.Inspect(raw, proto.KindEvent)
		if bad != nil {
			return nil, raw, bad
		}
		seq := s.Payload.GetEvent().Seq
		w.mu.Lock()
		won, known := w.l.At(o.account, seq)
		// Of an Open nothing can be done twice.
		free := seq == 0 || known && w.untouched(o, seq, body)
		moved := w.l.Epoch() != epoch
		w.mu.Unlock()
		switch {
		case known && won.ID.Equals(s.ID): // after all
			return won, raw, nil
		case !errors.Is(err, errPlaceTaken) && proto.CodeOf(err) == proto.CodeNotFound: // pruned meanwhile: nothing must be done twice
			return nil, raw, fmt.Errorf("the place of this event is below the checkpoint, so whether it was certified is not known here; look at the account before trying again: %w", err)
		case !free || !moved && !errors.Is(err, errPlaceTaken): // it may still be certified, or the refusal stands
			return nil, raw, err
		}
		w.n.log.Info("the event is signed again for another place", zap.Error(err))
	}
}

// draft signs the next event of an account and keeps it on disk.
func (w *wallet) draft(o *owner, body any) (raw []byte, epoch uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	epoch = w.l.Epoch()
	key, err := w.signer(o)
	if err != nil {
		return nil, epoch, err
	}
	if r, ok := body.(*proto.Receive); ok { // a bonus is claimed with its payment or not at all
		w.l.FillBonus(o.account, epoch, r.Sources)
	}
	now := time.Now()
	ev, err := w.l.Draft(o.account, epoch, uint64(now.UnixMilli()), body)
	if err == nil { // witnesses would refuse it, and its place were lost
		err = ledger.CheckDeadline(w.n.net, ev, now, 0)
	}
	if err != nil {
		return nil, epoch, err
	}
	if raw, err = proto.Seal(key, w.n.net.ID, &proto.Payload{Body: &proto.Payload_Event{Event: ev}}); err != nil {
		return nil, epoch, err
	}
	return raw, epoch, w.l.SaveIntent(raw, w.order(o, ev, raw)...)
}

// errPlaceTaken: another event has the place, and it will have it for ever.
var errPlaceTaken = proto.CodeConflict.Errorf("another event of this account has the place: was its key used elsewhere?")

// finish brings a signed event to its end: it is certified, or its place
// belongs to another event. What the witnesses refuse is given up, or no other
// event could ever be signed. Call with the author's token.
func (w *wallet) finish(ctx context.Context, o *owner, raw []byte) (*ledger.Certified, error) {
	s, err := proto.Inspect(raw, proto.KindEvent)
	if err != nil {
		return nil, err
	}
	var won *ledger.Certified
	key, refused := w.proposer(o, s.Signer)
	if refused == nil {
		w.mu.Lock()
		p, err := ledger.NewProposal(w.l, raw, w.authorConfig(key))
		w.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if won, refused, err = w.decide(ctx, p); err != nil {
			return nil, fmt.Errorf("the event is signed and waits for the witnesses: %w", err)
		}
	}
	if refused != nil && s.Payload.GetEvent().Seq > 0 {
		w.n.log.Warn("the witnesses refuse an event of this account; its place is given up", zap.Stringer("event", s.ID), zap.Error(refused))
		if won, err = w.skip(ctx, o, s.Payload.GetEvent().Seq); err != nil {
			return nil, fmt.Errorf("witness: %w (and giving up its place: %v)", refused, err)
		}
	}
	switch {
	case won != nil && won.ID.Equals(s.ID):
		return won, nil
	case refused != nil:
		return nil, fmt.Errorf("witness: %w", refused)
	}
	if won != nil && !madeByWitness(won.Event) {
		w.n.record(audit.Conflict, "account", o.account.String(), "seq", fmt.Sprint(won.Seq), "signed", s.ID.String(), "certified", won.ID.String())
	}
	return nil, errPlaceTaken
}

// proposer is the key that proposes an event: who signed it, also when the
// account's key has changed since.
func (w *wallet) proposer(o *owner, signer peer.ID) (crypto.PrivKey, error) {
	if o.key != nil {
		if id, err := peer.IDFromPrivateKey(o.key); err == nil && id == signer {
			return o.key, nil
		}
	}
	return w.n.privateKey(signer)
}

// madeByWitness reports the kinds that witnesses sign.
func madeByWitness(ev *proto.Event) bool {
	return ev.GetClose() != nil || ev.GetSlash() != nil || ev.GetVoid() != nil
}

// decide waits for the decision of a place. refused is the witnesses' word.
func (w *wallet) decide(ctx context.Context, p *ledger.Proposal) (won *ledger.Certified, refused, err error) {
	err = w.converse(ctx, p, func() (ok bool) {
		won, refused, ok = p.Result()
		return ok
	})
	return won, refused, err
}

// skip gives up a place. The witnesses certify Void for it, or an event that
// they voted for before.
func (w *wallet) skip(ctx context.Context, o *owner, seq uint64) (*ledger.Certified, error) {
	w.mu.Lock()
	key, err := w.signer(o)
	w.mu.Unlock()
	if err != nil {
		return nil, err
	}
	cfg := w.authorConfig(key)
	raw, err := cfg.Sign(&proto.Payload{Body: &proto.Payload_Skip{Skip: &proto.Skip{Account: []byte(o.account), Seq: seq}}})
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	p, err := ledger.NewSkip(w.l, raw, cfg)
	w.mu.Unlock()
	if err != nil {
		return nil, err
	}
	won, refused, err := w.decide(ctx, p)
	return won, errors.Join(refused, err)
}

// recover brings an account's chain up to what a quorum of witnesses knows
// before anything is signed: an own event on disk is finished first, and so is
// a body that only witnesses have (after a restore from backup, say), because
// a second body for its place would be equivocation. Call with the author's token.
func (w *wallet) recover(ctx context.Context, o *owner) error {
	if !o.recovered {
		if err := w.recoverHead(ctx, o); err != nil {
			return fmt.Errorf("recover this account's head: %w", err)
		}
		o.recovered = true
	}
	w.mu.Lock()
	raw, open := w.l.Intent(o.account)
	w.mu.Unlock()
	if open {
		c, err := w.finish(ctx, o, raw)
		switch {
		case err == nil:
			w.lateHold(c)
		case ctx.Err() != nil:
			return fmt.Errorf("finish an earlier event: %w", err)
		default:
			w.mu.Lock()
			now, open := w.l.Intent(o.account)
			w.mu.Unlock()
			if s, bad := proto.Inspect(now, proto.KindEvent); open && (bad != nil || s.Payload.GetEvent().Seq > 0) { // an Open is replaced by another
				return fmt.Errorf("finish an earlier event: %w", err)
			}
			// Its place is taken: what it was for is asked for anew.
			w.n.log.Warn("an earlier event was not certified", zap.Error(err))
		}
	}
	return w.reorder(ctx, o)
}

// lateHold tells the market of a hold that an earlier run asked for and that
// was certified only now, so that it is closed like the others of that run.
func (w *wallet) lateHold(c *ledger.Certified) {
	id := c.ID
	if x := c.Event.GetExtend(); x != nil {
		var err error
		if id, err = proto.ParseCID(x.Hold); err != nil {
			return
		}
	} else if c.Event.GetHold() == nil {
		return
	}
	st, ok := w.holdState(id)
	if !ok {
		return
	}
	for _, l := range st.Lanes {
		w.n.leases.miss(l.Worker)
	}
	w.n.jobs.post(market.HoldCertified{Hold: holdRecord(st)})
}
