package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"

	"edgenet.dev/ledger"
	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// The /vote stream: one request, one reply. The witness's state machine is
// ledger.Witness; here it meets the network.

// serveVote answers proposals and head requests.
func (w *wallet) serveVote(s network.Stream) {
	s.SetDeadline(time.Now().Add(30 * time.Second))
	var req proto.VoteFrame
	if err := frames(s, proto.MaxVoteFrame).Read(&req); err != nil {
		s.Reset()
		return
	}
	reply, err := w.vote(s.Conn().RemotePeer(), &req)
	if err != nil {
		w.n.log.Error("witness", zap.Error(err)) // a fault of this machine: say nothing
		s.Reset()
		return
	}
	if err := proto.WriteFrame(s, reply, proto.MaxVoteFrame); err != nil {
		s.Reset()
		return
	}
	s.Close()
}

func (w *wallet) vote(from peer.ID, req *proto.VoteFrame) (*proto.VoteFrame, error) {
	refuse := func(code proto.Code, reason string) *proto.VoteFrame {
		return &proto.VoteFrame{Body: &proto.VoteFrame_Error{Error: &proto.VoteError{Code: uint32(code), Reason: reason}}}
	}
	if w.witness == nil {
		return refuse(proto.CodeNotWitness, "this node is no witness of the network"), nil
	}
	now := time.Now()
	w.mu.Lock()
	outs, err := w.witness.Handle(now, from, req)
	if next := w.witness.Next(); err == nil && !next.IsZero() && !next.After(now) {
		var more []ledger.Output
		more, err = w.witness.Tick(now)
		outs = append(outs, more...)
	}
	w.mu.Unlock()
	if err != nil {
		return nil, err
	}
	reply := refuse(proto.CodeBusy, "not decided yet")
	for _, o := range outs {
		switch o := o.(type) {
		case ledger.Send:
			if slices.Contains(o.To, from) {
				reply = o.Frame
			}
		case ledger.Added:
			for _, c := range o.Events {
				w.certified.push(c.Wire)
			}
			w.noticedAny()
		}
	}
	return reply, nil
}

func (w *wallet) noticedAny() {
	select {
	case w.income <- struct{}{}:
	default:
	}
}

// ask sends one proposal to the witness, which may be this node.
func (w *wallet) ask(ctx context.Context, raw []byte, attach []*proto.CertifiedEvent) (*proto.VoteFrame, error) {
	p, err := ledger.NewPropose(raw, attach)
	if err != nil {
		return nil, err
	}
	env, err := w.n.seal(p)
	if err != nil {
		return nil, err
	}
	return w.exchange(ctx, &proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: env}})
}

func (w *wallet) exchange(ctx context.Context, req *proto.VoteFrame) (*proto.VoteFrame, error) {
	if w.witness != nil {
		return w.vote(w.n.self, req)
	}
	if len(w.n.net.Witnesses) == 0 {
		return nil, errNoWitness
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s, err := w.n.stream(ctx, w.n.net.Witnesses[0], "vote")
	if err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	defer s.Reset()
	if t, ok := ctx.Deadline(); ok {
		s.SetDeadline(t)
	}
	// The deadline bounds a dead witness, ctx a node that ends meanwhile.
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	if err := proto.WriteFrame(s, req, proto.MaxVoteFrame); err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	if err := s.CloseWrite(); err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	var reply proto.VoteFrame
	if err := frames(s, proto.MaxVoteFrame).Read(&reply); err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	return &reply, nil
}

// recover brings this account's chain up to what the witness knows before
// anything is signed: an own event on disk is finished first, and so is a body
// that only the witness has (after a restore from backup, say), because a
// second body for its place would be equivocation. Call with the author's token.
func (w *wallet) recover(ctx context.Context) error {
	w.mu.Lock()
	raw, open := w.l.Intent(w.n.self)
	w.mu.Unlock()
	if w.recovered && !open {
		return nil
	}
	if !w.recovered {
		if err := w.recoverHead(ctx); err != nil {
			return fmt.Errorf("recover this account's head: %w", err)
		}
		w.recovered = true
		w.mu.Lock()
		raw, open = w.l.Intent(w.n.self)
		w.mu.Unlock()
	}
	if !open {
		return nil
	}
	c, err := w.propose(ctx, raw)
	if err != nil {
		return fmt.Errorf("finish an earlier event: %w", err)
	}
	w.lateHold(c)
	return nil
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

func (w *wallet) recoverHead(ctx context.Context) error {
	if w.witness != nil {
		return nil // its own store is the witness's
	}
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		err := w.askHead(ctx)
		if err == nil || final(err) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the witness does not answer: %w", context.Cause(ctx))
		}
		w.n.log.Info("witness does not answer yet", zap.Error(err))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

func (w *wallet) askHead(ctx context.Context) error {
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return err
	}
	reply, err := w.exchange(ctx, &proto.VoteFrame{Body: &proto.VoteFrame_HeadRequest{
		HeadRequest: &proto.HeadRequest{Account: []byte(w.n.self), Nonce: nonce},
	}})
	if err != nil {
		return err
	}
	if e := reply.GetError(); e != nil {
		return proto.Code(e.Code).Errorf("witness: %s", clip(e.Reason, 256))
	}
	_, head, above, err := ledger.VerifyHead(w.n.net, reply.GetHeadReport(), w.n.self, nonce)
	if err != nil {
		return err
	}
	if head != nil {
		w.mu.Lock()
		has := w.l.Has(head.ID)
		w.mu.Unlock()
		if !has { // the chain in between comes by reconciliation
			if _, err := w.n.sync.with(ctx, w.n.net.Witnesses[0]); err != nil {
				return fmt.Errorf("fetch this account's events: %w", err)
			}
			w.mu.Lock()
			has = w.l.Has(head.ID)
			w.mu.Unlock()
			if !has {
				return errors.New("this account's newest event did not arrive")
			}
		}
	}
	for _, body := range above {
		w.mu.Lock()
		err := w.l.SaveIntent(body)
		w.mu.Unlock()
		if err != nil && proto.CodeOf(err) != proto.CodeConflict {
			return err
		}
		c, err := w.propose(ctx, body)
		if err != nil {
			return err
		}
		w.lateHold(c)
	}
	return nil
}

// gossipCertified publishes what this witness certified, batched: everyone
// hears of an event within a flush, and a burst costs few messages.
func (w *wallet) gossipCertified(ctx context.Context) {
	const flush = 100 * time.Millisecond // decisions.md: within 200 ms
	for {
		events := w.certified.pull(ctx)
		if events == nil {
			return
		}
		select {
		case <-time.After(flush):
		case <-ctx.Done():
			return
		}
		events = append(events, w.certified.take()...)
		for len(events) > 0 {
			batch, rest := cutBatch(events)
			events = rest
			if err := w.publish(ctx, batch); err != nil && ctx.Err() == nil {
				w.n.log.Warn("gossip certified events", zap.Error(err))
			}
		}
	}
}
