package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"edgenet.dev/ledger"
	"edgenet.dev/node/audit"
	"edgenet.dev/proto"
)

// An order is an event that somebody asked for and may not wait for: a transfer,
// stake, a key. When its place goes to what witnesses made, or the witnesses
// refuse it after a long absence because the epoch in it has passed, the order
// is signed again. The record of it is on disk from its first signature until an
// event for it is certified or whoever asked knows that it failed for good, so a
// crash or a failing disk loses nothing. What the node wants for itself (holds, settlements, payments to
// receive) it asks for anew anyway.

var orderKey = ledger.NodeKey("order")

// orderOf is what to draft for an event that is an order, or nil.
func orderOf(ev *proto.Event) any {
	switch b := ev.GetBody().(type) {
	case *proto.Event_Transfer:
		return b.Transfer
	case *proto.Event_Stake:
		return ledger.Stake(b.Stake.GetAmount())
	case *proto.Event_Unstake:
		return ledger.Unstake(b.Unstake.GetAmount())
	case *proto.Event_Withdraw:
		return ledger.Withdraw(b.Withdraw.GetAmount())
	case *proto.Event_Rotate:
		if !b.Rotate.GetRecovery() { // which another key signs
			return b.Rotate
		}
	}
	return nil
}

// order is the record of one, to be written with its intent. A key that other
// machines may have cannot say what they did meanwhile.
func (w *wallet) order(o *owner, ev *proto.Event, raw []byte) []ledger.Record {
	if o != w.own || orderOf(ev) == nil {
		return nil
	}
	return []ledger.Record{{Key: orderKey, Value: raw}}
}

// ordered forgets the order whose newest event is raw.
func (w *wallet) ordered(raw []byte) error {
	if now, err := w.n.store.Get(orderKey); now == nil || err != nil || !bytes.Equal(now, raw) {
		return err
	}
	return w.n.store.Append(ledger.Record{Key: orderKey})
}

// reorder signs again what an earlier event was for, unless it was certified
// or may have been done meanwhile. Call with the author's token, once what the
// witnesses know of the account is here. While the recovery key signs, an order
// waits.
func (w *wallet) reorder(ctx context.Context, o *owner) error {
	if o != w.own || o.key != nil {
		return nil
	}
	for try := 0; try < maxDrafts; try++ {
		raw, err := w.n.store.Get(orderKey)
		if raw == nil || err != nil {
			return err
		}
		s, err := proto.Inspect(raw, proto.KindEvent)
		if err != nil {
			return err
		}
		body, seq := orderOf(s.Payload.GetEvent()), s.Payload.GetEvent().Seq
		w.mu.Lock()
		open := seq > w.l.Account(o.account).Seq
		c, known := w.l.At(o.account, seq)
		done := known && c.ID.Equals(s.ID)
		alone := w.untouched(o, seq, body)
		w.mu.Unlock()
		switch {
		case open:
			return proto.CodeBusy.Errorf("event %s of this account still waits for the witnesses; try again", s.ID)
		case done:
			return w.ordered(raw)
		case !alone || o.lost:
			w.drop(s, errors.New("the account has signed something else since, or its events are below a checkpoint"))
			return w.ordered(raw)
		}
		again, _, err := w.draft(o, body)
		if err != nil {
			if !final(err) {
				return fmt.Errorf("sign again what event %s was for: %w", s.ID, err)
			}
			w.drop(s, err)
			return w.ordered(raw)
		}
		w.n.log.Info("an event whose epoch had passed is signed again", zap.Stringer("was", s.ID), zap.Uint64("place", seq))
		switch _, err := w.finish(ctx, o, again); {
		case err == nil:
			return w.ordered(again)
		case ctx.Err() != nil || !faulty(err):
			return fmt.Errorf("sign again what event %s was for: %w", s.ID, err)
		}
	}
	return proto.CodeBusy.Errorf("what an earlier event of this account was for is not certified yet; try again")
}

// final tells errors that no later try can change.
func final(err error) bool {
	switch proto.CodeOf(err) {
	case proto.CodeInsufficient, proto.CodeInvalidEvent, proto.CodeMalformed, proto.CodeTooLarge:
		return true
	}
	return false
}

// untouched reports that only witnesses, or the recovery key, made events of the
// account from seq on, all of them known here: none is what body is for. A Rotate
// by the recovery key is the last word on keys. Call with mu held.
func (w *wallet) untouched(o *owner, seq uint64, body any) bool {
	_, keys := body.(*proto.Rotate)
	for head := w.l.Account(o.account).Seq; seq <= head; seq++ {
		if c, ok := w.l.At(o.account, seq); !ok || !madeByWitness(c.Event) && (keys || !c.Event.GetRotate().GetRecovery()) {
			return false
		}
	}
	return true
}

// drop tells the operator of an order that comes to nothing.
func (w *wallet) drop(s *proto.Signed, why error) {
	w.n.log.Error("an event of this account was refused and cannot be signed again; look at wallet history before asking for it once more",
		zap.Stringer("event", s.ID), zap.Error(why))
	w.n.record(audit.Dropped, "event", s.ID.String(), "seq", fmt.Sprint(s.Payload.GetEvent().Seq), "why", why.Error())
}
