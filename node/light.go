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
	"edgenet.dev/proto"
)

// A light node does not follow the ledger: it asks the witnesses about its own
// account, often while something may have changed and seldom else. See
// ledger.OpenLight for what it believes.

const (
	lightSoon    = 2 * time.Second  // after something that may change the account
	lightSeldom  = 30 * time.Second // between two looks at most
	lightTimeout = 10 * time.Second // of one witness's answer
)

// lightClient asks the witnesses; nil on a node with the whole ledger.
type lightClient struct {
	n    *Node
	wake chan struct{}

	polling chan struct{} // holds one token: one round of questions at a time
	mu      sync.Mutex
	heard   time.Time // when f+1 witnesses answered last
}

func newLightClient(n *Node) *lightClient {
	c := &lightClient{n: n, wake: make(chan struct{}, 1), polling: make(chan struct{}, 1)}
	c.polling <- struct{}{}
	return c
}

// Light reports whether this node keeps its own account only.
func (n *Node) Light() bool { return n.light != nil }

// soon lets the next round be in lightSoon at the latest. On a full node it
// does nothing.
func (c *lightClient) soon() {
	if c != nil {
		wake(c.wake)
	}
}

// seldom is the longest time between two rounds: an event names an epoch, and
// witnesses refuse one that is two epochs old.
func (c *lightClient) seldom() time.Duration {
	epoch := min(c.n.net.Epoch(), time.Hour)
	return max(200*time.Millisecond, min(lightSeldom, epoch/2))
}

func (c *lightClient) run(ctx context.Context) {
	wait := time.Duration(0)
	next := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			if err := c.poll(ctx); err != nil && ctx.Err() == nil {
				c.n.log.Debug("ask the witnesses", zap.Error(err))
			}
			c.tidy()
			wait = min(max(2*wait, lightSoon), c.seldom())
			next = time.Now().Add(wait)
		case <-c.wake:
			wait = min(lightSoon, c.seldom())
			if at := time.Now().Add(wait); at.Before(next) {
				next = at
			}
		case <-ctx.Done():
			return
		}
		timer.Reset(time.Until(next))
	}
}

// poll asks every witness once and waits for the answers. It fails when fewer
// than f+1 answer.
func (c *lightClient) poll(ctx context.Context) error {
	select {
	case <-c.polling:
		defer func() { c.polling <- struct{}{} }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	w := c.n.wallet
	w.mu.Lock()
	q := w.l.Ask()
	epoch := w.l.Epoch()
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, lightTimeout)
	defer cancel()
	var asked sync.WaitGroup
	answers := make(chan error, len(c.n.net.Witnesses))
	for _, p := range c.n.net.Witnesses {
		asked.Go(func() { answers <- c.ask(ctx, p, q) })
	}
	asked.Wait()
	good, need := 0, c.n.net.F()+1
	var failed error
	for range c.n.net.Witnesses {
		if err := <-answers; err != nil {
			failed = err
		} else {
			good++
		}
	}
	w.mu.Lock()
	moved := w.l.Epoch() != epoch
	income := len(w.l.Receivables(c.n.self)) > 0
	w.mu.Unlock()
	if moved {
		w.newEpoch()
	}
	if income {
		wake(w.income)
	}
	if good < need {
		return fmt.Errorf("%d of %d witnesses answer, %d are needed: %w", good, len(c.n.net.Witnesses), need, failed)
	}
	c.mu.Lock()
	c.heard = time.Now().Round(0) // by the wall clock: the other one may stand still while a machine sleeps
	c.mu.Unlock()
	return nil
}

func (c *lightClient) ask(ctx context.Context, witness peer.ID, q *proto.ProofRequest) error {
	r, err := c.n.askProof(ctx, witness, q)
	if err != nil {
		return err
	}
	w := c.n.wallet
	w.mu.Lock()
	added, err := w.l.Heard(witness, q, r)
	w.mu.Unlock()
	w.noticed(added)
	if err != nil {
		return fmt.Errorf("what %s says: %w", witness, err)
	}
	return nil
}

// fresh asks first when the last answer is old, until f+1 witnesses answer. On
// a full node it does nothing.
func (c *lightClient) fresh(ctx context.Context) error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	old := time.Since(c.heard) > 2*c.seldom()
	c.mu.Unlock()
	if !old {
		return nil
	}
	return c.insist(ctx)
}

// insist asks until f+1 witnesses answer: in the beginning there may be no way
// to them yet.
func (c *lightClient) insist(ctx context.Context) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := c.poll(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// catchUp brings the account's chain up to a head that a quorum named. What
// the witnesses have pruned is left out.
func (c *lightClient) catchUp(ctx context.Context, head *ledger.Certified) error {
	w := c.n.wallet
	for {
		before := w.account(c.n.self).Seq
		if err := c.insist(ctx); err != nil {
			return fmt.Errorf("fetch this account's events: %w", err)
		}
		if w.has(head) {
			return nil
		}
		if w.account(c.n.self).Seq != before { // more than one answer holds
			continue
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.l.Resume(head)
	}
}

// tidy forgets lanes of holds that are over and for which nothing is kept. A
// closed one stays until its deadline: its payer could show it again as if it
// were open.
func (c *lightClient) tidy() {
	for _, st := range c.watched() {
		if !c.n.claims.over(st) || !c.n.claims.ended(st) || len(c.n.claims.of(st.ID)) > 0 {
			continue
		}
		if err := c.unwatch(st.ID); err != nil {
			c.n.log.Error("forget a hold", zap.Error(err))
		}
	}
}

func (c *lightClient) watched() []ledger.HoldState {
	c.n.wallet.mu.Lock()
	defer c.n.wallet.mu.Unlock()
	return c.n.wallet.l.Watched()
}

func (c *lightClient) unwatch(hold cid.Cid) error {
	c.n.wallet.mu.Lock()
	defer c.n.wallet.mu.Unlock()
	return c.n.wallet.l.Unwatch(hold)
}

// watch keeps a hold that ledger.VerifyLane found good. When there are too many,
// another one goes: payers make them for next to nothing, and one of them must
// not keep the others out.
func (c *lightClient) watch(hold *proto.CertifiedEvent, extends []*proto.CertifiedEvent) (ledger.HoldState, error) {
	c.soon() // the payer shows what it likes: witnesses know if the hold is closed, say
	keep := func() (ledger.HoldState, error) {
		c.n.wallet.mu.Lock()
		defer c.n.wallet.mu.Unlock()
		return c.n.wallet.l.Watch(hold, extends)
	}
	st, err := keep()
	if proto.CodeOf(err) != proto.CodeBusy {
		return st, err
	}
	least, ok := dispensable(c.watched(), c.n.claims.worked)
	if !ok {
		return st, err
	}
	for _, w := range c.n.claims.of(least.ID) {
		if err := c.n.claims.forget(w); err != nil {
			return st, err
		}
	}
	if err := c.unwatch(least.ID); err != nil {
		return st, err
	}
	return keep()
}

// dispensable is a hold under which nothing was worked, of the payer that has
// the most holds here.
func dispensable(list []ledger.HoldState, worked func(cid.Cid) bool) (least ledger.HoldState, ok bool) {
	of := map[peer.ID]int{}
	for _, st := range list {
		of[st.Payer]++
	}
	for _, st := range list {
		if (!ok || of[st.Payer] > of[least.Payer]) && !worked(st.ID) {
			least, ok = st, true
		}
	}
	return least, ok
}
