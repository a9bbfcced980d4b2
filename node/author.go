package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"

	"edgenet.dev/ledger"
	"edgenet.dev/market"
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

func (w *wallet) authorConfig() ledger.AuthorConfig {
	return ledger.AuthorConfig{Sign: w.n.seal}
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
		return proto.CodeBusy.Errorf("an earlier event of this account still waits for the witnesses; try again when enough of them can be reached")
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

// maxDrafts bounds how often an operation is signed again because its place
// went to what the witnesses made (Close, Slash, Void).
const maxDrafts = 4

// sign drafts, makes durable and proposes. Call with the author's token.
func (w *wallet) sign(ctx context.Context, body any) (*ledger.Certified, error) {
	for try := 1; ; try++ {
		raw, epoch, err := w.draft(body)
		if err != nil {
			return nil, err
		}
		c, err := w.finish(ctx, raw)
		if err == nil || try == maxDrafts || ctx.Err() != nil {
			return c, err
		}
		if !errors.Is(err, errPlaceTaken) {
			w.mu.Lock()
			moved := w.l.Epoch() != epoch
			w.mu.Unlock()
			if !moved { // the refusal stands
				return nil, err
			}
		}
		w.n.log.Info("the event is signed again for another place", zap.Error(err))
	}
}

// draft signs the next event of this account and keeps it on disk.
func (w *wallet) draft(body any) (raw []byte, epoch uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	epoch = w.l.Epoch()
	ev, err := w.l.Draft(w.n.self, epoch, uint64(time.Now().UnixMilli()), body)
	if err != nil {
		return nil, epoch, err
	}
	if raw, err = w.n.seal(&proto.Payload{Body: &proto.Payload_Event{Event: ev}}); err != nil {
		return nil, epoch, err
	}
	return raw, epoch, w.l.SaveIntent(raw)
}

// errPlaceTaken: another event has the place, and it will have it for ever.
var errPlaceTaken = proto.CodeConflict.Errorf("another event of this account has the place: was its key used elsewhere?")

// finish brings a signed event to its end: it is certified, or its place
// belongs to another event. What the witnesses refuse is given up, or no other
// event could ever be signed. Call with the author's token.
func (w *wallet) finish(ctx context.Context, raw []byte) (*ledger.Certified, error) {
	s, err := proto.Inspect(raw, proto.KindEvent)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	p, err := ledger.NewProposal(w.l, raw, w.authorConfig())
	w.mu.Unlock()
	if err != nil {
		return nil, err
	}
	won, refused, err := w.decide(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("the event is signed and waits for the witnesses: %w", err)
	}
	if refused != nil && s.Payload.GetEvent().Seq > 0 {
		w.n.log.Warn("the witnesses refuse an event of this account; its place is given up", zap.Stringer("event", s.ID), zap.Error(refused))
		if won, err = w.skip(ctx, s.Payload.GetEvent().Seq); err != nil {
			return nil, fmt.Errorf("witness: %w (and giving up its place: %v)", refused, err)
		}
	}
	switch {
	case won != nil && won.ID.Equals(s.ID):
		return won, nil
	case refused != nil:
		return nil, fmt.Errorf("witness: %w", refused)
	}
	return nil, errPlaceTaken
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
func (w *wallet) skip(ctx context.Context, seq uint64) (*ledger.Certified, error) {
	raw, err := w.n.seal(&proto.Payload{Body: &proto.Payload_Skip{Skip: &proto.Skip{Account: []byte(w.n.self), Seq: seq}}})
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	p, err := ledger.NewSkip(w.l, raw, w.authorConfig())
	w.mu.Unlock()
	if err != nil {
		return nil, err
	}
	won, refused, err := w.decide(ctx, p)
	return won, errors.Join(refused, err)
}

// recover brings this account's chain up to what a quorum of witnesses knows
// before anything is signed: an own event on disk is finished first, and so is
// a body that only witnesses have (after a restore from backup, say), because
// a second body for its place would be equivocation. Call with the author's token.
func (w *wallet) recover(ctx context.Context) error {
	if !w.recovered {
		if err := w.recoverHead(ctx); err != nil {
			return fmt.Errorf("recover this account's head: %w", err)
		}
		w.recovered = true
	}
	w.mu.Lock()
	raw, open := w.l.Intent(w.n.self)
	w.mu.Unlock()
	if !open {
		return nil
	}
	c, err := w.finish(ctx, raw)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("finish an earlier event: %w", err)
	}
	if err != nil { // its place is taken: what it was for is asked for anew
		w.n.log.Warn("an earlier event was not certified", zap.Error(err))
		return nil
	}
	w.lateHold(c)
	return nil
}

// recoverHead asks a quorum where this account's chain ends and what they have
// seen above.
func (w *wallet) recoverHead(ctx context.Context) error {
	nonce := make([]byte, 32)
	if _, err := rand.Read(nonce); err != nil {
		return err
	}
	w.mu.Lock()
	r, err := ledger.NewRecovery(w.l, w.n.self, nonce, w.authorConfig())
	w.mu.Unlock()
	if err != nil {
		return err
	}
	var said *ledger.Recovered
	err = w.converse(ctx, recoveryTalk{r}, func() (ok bool) {
		said, ok = r.Result(false)
		return ok
	})
	if err != nil {
		return fmt.Errorf("too few witnesses answer: %w", err)
	}
	if said.Head != nil {
		if err := w.fetchHead(ctx, said.Head); err != nil {
			return err
		}
	}
	w.mu.Lock()
	if again, ok := r.Result(w.lost(said.Head)); ok {
		said = again
	}
	_, open := w.l.Intent(w.n.self)
	w.mu.Unlock()
	for _, body := range said.Finish {
		w.mu.Lock()
		err := w.l.SaveIntent(body)
		w.mu.Unlock()
		if err != nil && !faulty(err) {
			return err
		}
		c, err := w.finish(ctx, body)
		switch {
		case err == nil:
			w.lateHold(c)
		case ctx.Err() != nil:
			return err
		default:
			w.n.log.Warn("an event of an earlier run was not certified", zap.Error(err))
		}
	}
	if said.Skip != nil && !open {
		w.n.log.Info("this store is older than its account; one place is given up", zap.Uint64("seq", said.Skip.Seq))
		if _, err := w.skip(ctx, said.Skip.Seq); err != nil {
			return fmt.Errorf("give up place %d: %w", said.Skip.Seq, err)
		}
	}
	return nil
}

// lost reports whether the account signed something that this store did not
// know when the node began. Call with mu held.
func (w *wallet) lost(head *ledger.Certified) bool {
	if head == nil {
		return false
	}
	for seq := w.start.next; seq <= head.Seq; seq++ {
		c, ok := w.l.At(w.n.self, seq)
		if !ok {
			return true // below a checkpoint that came meanwhile
		}
		if c.Signer == w.n.self && !c.ID.Equals(w.start.intent) {
			return true
		}
	}
	return false
}

// fetchHead reconciles with witnesses until this account's newest event is
// here.
func (w *wallet) fetchHead(ctx context.Context, head *ledger.Certified) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		var errs []error
		for _, p := range slices.Concat(w.n.net.Witnesses, w.n.host.Network().Peers()) {
			if w.has(head) {
				return nil
			}
			if p == w.n.self || ctx.Err() != nil {
				continue
			}
			if _, err := w.n.sync.with(ctx, p); err != nil {
				errs = append(errs, err)
			}
		}
		if w.has(head) {
			return nil
		}
		w.n.log.Info("this account's newest event did not arrive yet", zap.Error(errors.Join(errs...)))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("fetch this account's events: %w", context.Cause(ctx))
		}
	}
}

func (w *wallet) has(c *ledger.Certified) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.l.Has(c.ID) || w.l.Account(c.Account).Head.Defined() && w.l.Account(c.Account).Seq >= c.Seq
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
