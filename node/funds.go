package node

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// A node that started a moment ago may not know what its account has: what was
// sent to it comes with the first reconciliation, and has to be claimed before it
// can be spent.

const (
	fundsWait = 10 * time.Second      // for credits that may be on their way
	fundsLook = 50 * time.Millisecond // between two looks
)

// whenFunded tries an event again that failed for want of credits, for as long as
// there may be some that this node has not seen or not claimed.
func (w *wallet) whenFunded(ctx context.Context, body any, short error, waits func(string)) (*ledger.Certified, error) {
	look := time.NewTicker(fundsLook)
	defer look.Stop()
	defer waits("")
	told := false
	for end := time.Now().Add(fundsWait); ; {
		why := w.expects()
		waits(why)
		if why != "" && !told {
			told = true
			w.n.log.Info("the balance does not suffice yet", zap.String("waiting for", why), zap.Duration("at most", fundsWait))
		}
		if why == "" || time.Now().After(end) {
			c, err := w.certifyNow(ctx, body) // it may have come by now
			if err == nil {
				return c, nil
			}
			return nil, err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil, short
		}
		w.mu.Lock()
		_, err := w.l.Draft(w.n.self, w.l.Epoch(), 0, body)
		w.mu.Unlock()
		if proto.CodeOf(err) == proto.CodeInsufficient {
			continue
		}
		if c, err := w.certifyNow(ctx, body); proto.CodeOf(err) != proto.CodeInsufficient {
			return c, err
		}
	}
}

// expects is what may still bring credits to this account, or "".
func (w *wallet) expects() string {
	switch {
	case w.account(w.n.self).Receivable > 0:
		return "payments that this account is about to claim"
	case !w.n.caughtUp():
		return "the ledger: no peer was reconciled with since this node started"
	}
	return ""
}

// covers refuses a job whose first hold is more than this account has, unless
// credits may be on their way. What is on hold for other jobs may come back.
func (w *wallet) covers(hold proto.Credit) error {
	a := w.account(w.n.self)
	if a.Avail+a.Held >= hold || w.expects() != "" {
		return nil
	}
	return proto.CodeInsufficient.Errorf("the balance is %s credits and the job puts %s on hold at first: it needs %s more; earn them by working, or have them sent with 'edgenetd wallet transfer %s AMOUNT' on a node that has them",
		a.Avail+a.Held, hold, hold-a.Avail-a.Held, w.n.self)
}

// short says in one sentence that the first hold of a job, which was not asked
// for yet, is more than the account has, or "".
func (w *wallet) short(hold proto.Credit) string {
	a := w.account(w.n.self)
	if a.Avail >= hold {
		return ""
	}
	line := fmt.Sprintf("The balance of %s credits does not cover the first hold, %s; ", a.Avail, hold)
	if why := w.expects(); why != "" {
		return line + "waiting for " + why + "."
	}
	return line + "the job fails unless credits come before its workers do."
}

// caughtUp reports whether this node has seen, since its start, what others know
// of the ledger. The only witness of a network knows it all.
func (n *Node) caughtUp() bool {
	if n.light != nil {
		n.light.mu.Lock()
		defer n.light.mu.Unlock()
		return !n.light.heard.IsZero()
	}
	return n.sync.first.Load() || len(n.net.Witnesses) == 1 && n.net.IsWitness(n.self)
}

// waitFor keeps what the hold of a request waits for, for whoever asks why its
// jobs do not run.
func (w *wallet) waitFor(req uint64, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting[req] = what; what == "" {
		delete(w.waiting, req)
	}
}
