package node

import (
	"context"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"go.uber.org/zap"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// run looks after the lanes: what is closed is forgotten, what is over is
// claimed.
func (c *claims) run(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		c.mu.Lock()
		list := make([]*laneWork, 0, len(c.lanes))
		for _, w := range c.lanes {
			list = append(list, w)
		}
		c.mu.Unlock()
		for _, w := range list {
			if ctx.Err() != nil {
				return
			}
			if err := c.look(ctx, w); err != nil && ctx.Err() == nil {
				c.n.log.Warn("claim unpaid work", zap.Stringer("hold", w.hold), zap.Error(err))
			}
		}
	}
}

// ended reports that a hold's deadline and grace are over.
func (c *claims) ended(st ledger.HoldState) bool {
	end := proto.UnixMs(st.DeadlineUnixMs).Add(c.n.net.Grace())
	return time.Now().After(end)
}

// over reports that a hold pays nothing any more. A light node may find one
// closed so long ago that the witnesses have forgotten it.
func (c *claims) over(st ledger.HoldState) bool { return st.Closed || st.Forgotten && c.ended(st) }

// of lists what is kept of work under a hold.
func (c *claims) of(hold cid.Cid) (list []*laneWork) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.lanes {
		if w.hold.Equals(hold) {
			list = append(list, w)
		}
	}
	return list
}

// worked reports whether something was earned or promised under a hold.
func (c *claims) worked(hold cid.Cid) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.lanes {
		if w.hold.Equals(hold) && max(w.earned, w.vouchered) > 0 {
			return true
		}
	}
	return false
}

const (
	claimAgain    = 3 * time.Second  // until a claim that failed is tried again
	claimPatience = 15 * time.Second // before the next lane has its turn
)

func (c *claims) look(ctx context.Context, w *laneWork) error {
	st, ok := c.n.wallet.holdState(w.hold)
	switch {
	case !ok || int(w.lane) >= len(st.Lanes): // not heard of yet
		return nil
	case c.over(st) || st.Lanes[w.lane].Done:
		return c.forget(w)
	case time.Now().Before(proto.UnixMs(st.DeadlineUnixMs)):
		return nil
	case w.claimed == st.DeadlineUnixMs || time.Since(w.tried) < claimAgain:
		return nil
	}
	w.tried = time.Now()
	raw, err := c.claim(w)
	if err != nil || raw == nil {
		return err
	}
	c.n.wallet.mu.Lock()
	got, err := c.n.wallet.l.CheckClaim(raw)
	c.n.wallet.mu.Unlock()
	if err != nil {
		return err
	}
	if got.Amount <= st.Lanes[w.lane].Paid {
		return nil // paid already
	}
	c.n.log.Info("the payer has not settled; unpaid work is claimed", zap.Stringer("hold", w.hold), zap.String("payer", peerText(st.Payer)), zap.Stringer("credits", got.Amount))
	end, cancel := context.WithTimeout(ctx, claimPatience)
	defer cancel()
	if err := c.n.wallet.file(end, raw); err != nil {
		return err
	}
	w.claimed = st.DeadlineUnixMs
	return nil
}

// file brings a claim to the witnesses. One at a time.
func (w *wallet) file(ctx context.Context, raw []byte) error {
	w.mu.Lock()
	f, err := ledger.NewFiling(w.l, raw, ledger.AuthorConfig{})
	if err == nil {
		w.filing = f
	}
	w.mu.Unlock()
	if err != nil {
		return err
	}
	defer func() {
		w.mu.Lock()
		w.filing = nil
		w.mu.Unlock()
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		w.mu.Lock()
		err := w.deliver(now, f.Tick(now))
		result, ended := f.Result()
		next := f.Next()
		w.mu.Unlock()
		if err != nil {
			return err
		}
		if ended {
			return result
		}
		timer.Reset(max(time.Until(next), time.Millisecond))
		select {
		case <-w.filed:
		case <-timer.C:
		case <-ctx.Done():
			return fmt.Errorf("too few witnesses keep the claim: %w", context.Cause(ctx))
		}
	}
}
