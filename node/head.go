package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"edgenet.dev/ledger"
)

// Where an account's chain ends: to be known before anything is signed.

// recoverHead asks a quorum where an account's chain ends and what they have
// seen above, and finishes that. An owner that lost what it signed gives up the
// place behind all of it: something signed there may still arrive.
func (w *wallet) recoverHead(ctx context.Context, o *owner) error {
	for {
		said, lost, err := w.askHead(ctx, o)
		if err != nil {
			return err
		}
		for _, body := range said.Finish {
			w.mu.Lock()
			err := w.l.SaveIntent(body)
			w.mu.Unlock()
			if err != nil && !faulty(err) {
				return err
			}
			c, err := w.finish(ctx, o, body)
			switch {
			case err == nil:
				w.lateHold(c)
			case ctx.Err() != nil || !faulty(err):
				return err
			default:
				w.n.log.Warn("an event of an earlier run was not certified", zap.Error(err))
			}
		}
		if lost && len(said.Finish) > 0 {
			continue // and give up the place behind what was finished
		}
		w.mu.Lock()
		_, open := w.l.Intent(o.account)
		w.mu.Unlock()
		if said.Skip != nil && (!open || o.lost) {
			w.n.log.Info("this store is older than its account; one place is given up", zap.Stringer("account", o.account), zap.Uint64("seq", said.Skip.Seq))
			if _, err := w.skip(ctx, o, said.Skip.Seq); err != nil {
				return fmt.Errorf("give up place %d: %w", said.Skip.Seq, err)
			}
		}
		if lost {
			return w.found(o, said)
		}
		return nil
	}
}

// askHead asks until a quorum answered and the head is here. lost says that
// the account signed what this store did not know when the node began.
func (w *wallet) askHead(ctx context.Context, o *owner) (said *ledger.Recovered, lost bool, err error) {
	nonce := make([]byte, 32)
	if _, err := rand.Read(nonce); err != nil {
		return nil, false, err
	}
	w.mu.Lock()
	r, err := ledger.NewRecovery(w.l, o.account, nonce, ledger.AuthorConfig{})
	w.mu.Unlock()
	if err != nil {
		return nil, false, err
	}
	err = w.converse(ctx, recoveryTalk{r}, func() (ok bool) {
		said, ok = r.Result(false)
		return ok
	})
	if err != nil {
		return nil, false, fmt.Errorf("too few witnesses answer: %w", err)
	}
	if said.Head != nil {
		if err := w.fetchHead(ctx, said.Head); err != nil {
			return nil, false, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	lost = o.lost || w.lost(o, said.Head)
	if again, ok := r.Result(lost); ok {
		said = again
	}
	return said, lost, nil
}

// lost reports whether an account signed something that this store did not
// know when the node began. Call with mu held.
func (w *wallet) lost(o *owner, head *ledger.Certified) bool {
	if head == nil {
		return false
	}
	for seq := o.next; seq <= head.Seq; seq++ {
		c, ok := w.l.At(o.account, seq)
		if !ok {
			return true // below a checkpoint that came meanwhile
		}
		if !madeByWitness(c.Event) && !c.ID.Equals(o.intent) {
			return true
		}
	}
	return false
}

// fetchHead reconciles with witnesses until this account's newest event is
// here.
func (w *wallet) fetchHead(ctx context.Context, head *ledger.Certified) error {
	if w.n.light != nil {
		return w.n.light.catchUp(ctx, head)
	}
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
