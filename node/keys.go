package node

import (
	"context"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"

	"edgenet.dev/ledger"
	"edgenet.dev/node/audit"
	"edgenet.dev/proto"
)

// privateKey finds the private half of a key: the node's identity, or one that
// Config.Keys has.
func (n *Node) privateKey(id peer.ID) (crypto.PrivKey, error) {
	if id == n.self {
		return n.cfg.Key, nil
	}
	if n.cfg.Keys != nil {
		switch key, err := n.cfg.Keys(id); {
		case err != nil:
			return nil, fmt.Errorf("key %s: %w", id, err)
		case key != nil:
			return key, nil
		}
	}
	return nil, proto.CodeNotFound.Errorf("this node does not have the key %s, which signs for the account", id)
}

// HasKey reports whether this node can sign with a key.
func (n *Node) HasKey(id peer.ID) bool {
	_, err := n.privateKey(id)
	return err == nil
}

// record notes a security-relevant act. A log that cannot be written stops
// nothing: what is logged has happened.
func (n *Node) record(act string, pairs ...string) {
	if n.cfg.Record == nil {
		return
	}
	if err := n.cfg.Record(time.Now(), act, pairs...); err != nil {
		n.log.Error("audit log", zap.String("act", act), zap.Error(err))
	}
}

// Rotation says which keys of an account change. What is empty stays.
type Rotation struct {
	// Key signs the account's events: seven days later, or at once with
	// Recovery. The node must have its private half (see Config.Keys).
	Key peer.ID
	// RecoveryKey replaces the recovery key, or is the first one. Only the
	// recovery key itself replaces it.
	RecoveryKey peer.ID
	// Recovery is the private half of the account's recovery key, which then
	// signs: everything is at once, a Rotate that waits is over, and so is a
	// freeze. It is not kept.
	Recovery crypto.PrivKey
}

// Rotate changes an account's keys and returns once that is certified. The
// account is this node's, or another whose key this node or the caller has.
func (n *Node) Rotate(ctx context.Context, account peer.ID, r Rotation) error {
	if r.Key != "" && !n.HasKey(r.Key) {
		return proto.CodeNotFound.Errorf("this node does not have the key %s, so it would lock itself out of the account", r.Key)
	}
	body := &proto.Rotate{Key: []byte(r.Key), RecoveryKey: []byte(r.RecoveryKey), Recovery: r.Recovery != nil}
	if _, err := n.authorFor(ctx, account, r.Recovery, body); err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	n.record(audit.Rotate, "account", account.String(), "key", r.Key.String(), "recovery_key", r.RecoveryKey.String(), "by_recovery", fmt.Sprint(r.Recovery != nil))
	return nil
}

// authorFor authors one event of an account, by key or else by the key that
// the ledger names. Of another account than this node's it receives what can
// be received first.
func (n *Node) authorFor(ctx context.Context, account peer.ID, key crypto.PrivKey, body any) (*ledger.Certified, error) {
	if err := n.isReady(); err != nil {
		return nil, err
	}
	ctx, cancel := n.until(ctx)
	defer cancel()
	w := n.wallet
	if account == n.self && key == nil {
		return w.certify(ctx, body)
	}
	if n.light != nil && account != n.self {
		return nil, proto.CodeNotFound.Errorf("a light node knows its own account only, not %s", account)
	}
	if err := w.lock(ctx); err != nil {
		return nil, err
	}
	defer w.unlock()
	defer wake(w.unfinished) // an order may wait behind this
	if err := n.light.fresh(ctx); err != nil {
		return nil, err
	}
	o := w.own
	if account != n.self {
		if o = w.guests[account]; o == nil {
			// Another machine may have signed anything for it.
			w.mu.Lock()
			o = ownerOf(w.l, account)
			w.mu.Unlock()
			o.lost = true
			w.guests[account] = o
		}
	}
	if key != nil {
		o.key = key
		defer func() { o.key = nil }()
	}
	if err := w.recover(ctx, o); err != nil {
		return nil, err
	}
	if !w.account(account).Opened {
		return nil, proto.CodeNotFound.Errorf("account %s has no events", account)
	}
	if key == nil {
		if err := w.receiveAll(ctx, o); err != nil {
			return nil, err
		}
	}
	return w.sign(ctx, o, body)
}

// TransferFrom is Transfer of another account, whose key this node has. What
// that account can receive it receives first.
func (n *Node) TransferFrom(ctx context.Context, account, to peer.ID, amount proto.Credit, memo string) (cid.Cid, error) {
	if to == account {
		return cid.Undef, proto.CodeMalformed.Errorf("a transfer to oneself moves nothing")
	}
	c, err := n.authorFor(ctx, account, nil, &proto.Transfer{To: []byte(to), Amount: uint64(amount), Memo: memo})
	if err != nil {
		return cid.Undef, fmt.Errorf("transfer %s credits from %s to %s: %w", amount, account, to, err)
	}
	return c.ID, nil
}

// UnstakeFrom is Unstake of another account, whose key this node has.
func (n *Node) UnstakeFrom(ctx context.Context, account peer.ID, amount proto.Credit) error {
	if _, err := n.authorFor(ctx, account, nil, ledger.Unstake(amount)); err != nil {
		return fmt.Errorf("unstake %s credits of %s: %w", amount, account, err)
	}
	return nil
}

// WithdrawFrom is Withdraw of another account, whose key this node has.
func (n *Node) WithdrawFrom(ctx context.Context, account peer.ID, amount proto.Credit) error {
	if _, err := n.authorFor(ctx, account, nil, ledger.Withdraw(amount)); err != nil {
		return fmt.Errorf("withdraw %s credits of %s: %w", amount, account, err)
	}
	return nil
}

// receiveAll claims everything that an account can. Call with the author's
// token.
func (w *wallet) receiveAll(ctx context.Context, o *owner) error {
	for {
		w.mu.Lock()
		list := w.l.Receivables(o.account)
		w.mu.Unlock()
		if len(list) == 0 {
			return nil
		}
		if _, err := w.sign(ctx, o, receiveOf(list)); err != nil {
			return err
		}
	}
}

// receiveOf claims payments, as many as one event takes with room for a bonus
// on each.
func receiveOf(list []ledger.Receivable) *proto.Receive {
	r := &proto.Receive{}
	for _, x := range list[:min(len(list), ledger.MaxSources/2)] {
		r.Sources = append(r.Sources, &proto.Source{Event: x.Source.Event, Index: x.Source.Index, Amount: x.Source.Amount})
	}
	return r
}
