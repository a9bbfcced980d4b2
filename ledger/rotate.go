package ledger

import (
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// flagFrozen stops everything but a Rotate by the recovery key and what
// witnesses make.
const flagFrozen = 1

// flagUnopened: all events so far are Voids, Open is still to come.
const flagUnopened = 2

func (p *post) frozen() bool { return p.flags&flagFrozen != 0 }

// advance lets a key that waited take its place when epoch is late enough.
// seq is that of the event which is judged; it is the first one that the new
// key signs.
func (p *post) advance(account peer.ID, seq, epoch uint64) {
	if p.pendingKey != "" && epoch >= p.pendingEpoch {
		p.key, p.keySeq = storedKey(account, []byte(p.pendingKey)), seq
		p.pendingKey, p.pendingEpoch = "", 0
	}
}

// signer is the key of an account with this state.
func (p *post) signer(account peer.ID) peer.ID {
	if p.key != "" {
		return peer.ID(p.key)
	}
	return account
}

// storedKey is how post writes key: the account's own key is the empty one,
// so that a state has one form.
func storedKey(account peer.ID, key []byte) string {
	if string(key) == string(account) {
		return ""
	}
	return string(key)
}

func validateRotate(r *proto.Rotate) error {
	if err := optionalPeer(r.GetKey()); err != nil {
		return err
	}
	if err := optionalPeer(r.GetRecoveryKey()); err != nil {
		return err
	}
	if !r.GetRecovery() && len(r.GetKey()) == 0 && len(r.GetRecoveryKey()) == 0 {
		return proto.CodeInvalidEvent.Errorf("rotate changes nothing")
	}
	return nil
}

// rotate changes keys. By the current key a new one waits, so that the owner
// of the recovery key can end it; by the recovery key everything is at once.
// Whose key signed is checked by checkSigner.
func (t *tx) rotate(account peer.ID, ev *proto.Event, e *effect) error {
	r, p := ev.GetRotate(), &e.post
	if !r.Recovery {
		if len(r.RecoveryKey) > 0 {
			if p.recoveryKey != "" {
				return proto.CodeInvalidEvent.Errorf("only the recovery key replaces itself")
			}
			p.recoveryKey = string(r.RecoveryKey)
		}
		if len(r.Key) == 0 {
			return nil
		}
		if storedKey(account, r.Key) == p.key {
			return proto.CodeInvalidEvent.Errorf("this is the account's key already")
		}
		p.pendingKey, p.pendingEpoch = string(r.Key), ev.Epoch+lockEpochs(t.net)
		if t.base.off.has(guardDelay) {
			p.pendingEpoch = ev.Epoch
		}
		return nil
	}
	if p.recoveryKey == "" {
		return proto.CodeInvalidEvent.Errorf("the account has no recovery key")
	}
	before := *p
	if k := storedKey(account, r.Key); len(r.Key) > 0 && k != p.key {
		// From here on an offence by the old key cannot be held against the
		// account any more: recovery ends the thief's power to burn stake.
		p.key, p.keySeq = k, ev.Seq+1
	}
	if len(r.RecoveryKey) > 0 {
		p.recoveryKey = string(r.RecoveryKey)
	}
	p.pendingKey, p.pendingEpoch = "", 0
	p.flags &^= flagFrozen
	if *p == before {
		return proto.CodeInvalidEvent.Errorf("rotate changes nothing")
	}
	return nil
}

// payRotate takes the cost of a Rotate by the recovery key from what there is:
// a thief who spent all that was available could prevent it otherwise.
func (p *post) payRotate(cost uint64) (burned uint64) {
	for _, from := range []*uint64{&p.avail, &p.unbonding, &p.staked} {
		x := min(cost-burned, *from)
		*from -= x
		burned += x
	}
	return burned
}

// madeByWitness reports the kinds that a genesis witness signs.
func madeByWitness(ev *proto.Event) bool {
	switch ev.GetBody().(type) {
	case *proto.Event_Close, *proto.Event_Slash, *proto.Event_Void:
		return true
	}
	return false
}

// claimedSigner checks what needs no state: events that witnesses make are
// signed by one, and every other event by the key that its own post names.
// That post is right follows from the state or, for those who have none, from
// the certificate. A Rotate by the recovery key may replace that key, so its
// signer is not in post.
func claimedSigner(net *proto.Network, account peer.ID, ev *proto.Event, signer peer.ID) error {
	if madeByWitness(ev) {
		if !net.IsWitness(signer) {
			return proto.CodeNotWitness.Errorf("%s by %s, who is no witness", kindName(ev), signer)
		}
		return nil
	}
	if ev.GetRotate().GetRecovery() {
		return nil
	}
	p := postOf(ev.Post)
	if want := p.signer(account); signer != want {
		return proto.CodeBadSignature.Errorf("account %s with key %s, signed by %s", account, want, signer)
	}
	return nil
}

// checkSigner checks the signer against the state before the event.
func (t *tx) checkSigner(account peer.ID, ev *proto.Event, signer peer.ID) error {
	if madeByWitness(ev) || t.base.off.has(guardSigner) {
		return nil
	}
	p := t.account(account).post
	p.advance(account, ev.Seq, ev.Epoch)
	want := p.signer(account)
	if ev.GetRotate().GetRecovery() {
		want = peer.ID(p.recoveryKey)
	}
	if signer != want {
		return proto.CodeBadSignature.Errorf("signed by %s, want %s", signer, want)
	}
	return nil
}

// Signer is the key that signs the account's events of epoch after its head.
func (l *Ledger) Signer(account peer.ID, epoch uint64) peer.ID {
	a := l.s.accounts[account]
	if a == nil {
		return account
	}
	p := a.post
	p.advance(account, a.next(), epoch)
	return p.signer(account)
}

// MaySign reports whether signer is the account's key in an event of epoch
// that follows its head, or its recovery key: who may propose for the account.
func (l *Ledger) MaySign(account, signer peer.ID, epoch uint64) bool {
	if signer == l.Signer(account, epoch) {
		return true
	}
	a := l.s.accounts[account]
	return a != nil && a.post.recoveryKey != "" && signer == peer.ID(a.post.recoveryKey)
}
