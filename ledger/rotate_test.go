package ledger_test

import (
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

var (
	thief = someone("thief")
	newer = someone("newer key")
)

// victim has a recovery key, carol's, and a stake.
func victim(tb testing.TB, change ...func(*proto.Genesis)) (*world, *ledger.Ledger) {
	w := newWorld(tb, 4, map[string]uint64{"alice": 100 * credit, "bob": 10 * credit}, change...)
	l := w.ledger()
	w.do(l, alice, &proto.Open{RecoveryKey: []byte(carol.id)})
	w.do(l, bob, &proto.Open{})
	w.do(l, alice, ledger.Stake(60*credit))
	return w, l
}

func TestRotateByTheCurrentKeyWaits(t *testing.T) {
	w, l := victim(t)
	w.do(l, alice, &proto.Rotate{Key: []byte(newer.id)})
	a := l.Account(alice.id)
	if a.Key != alice.id || a.PendingKey != newer.id || a.PendingFrom != week {
		t.Fatalf("after rotate: %+v", a)
	}
	w.refused(l, w.signedIn(l, 0, alice, newer, transfer(bob, 1)), proto.CodeBadSignature)
	until(t, l, week)
	// An event of an epoch before still wants the old key, a later one the new.
	w.add(l, w.signedIn(l, week-1, alice, alice, transfer(bob, 1)))
	if l.Signer(alice.id, week-1) != alice.id || l.Signer(alice.id, week) != newer.id || !l.MaySign(alice.id, carol.id, week) || l.MaySign(alice.id, bob.id, week) {
		t.Fatal("wrong signer")
	}
	late := w.signedIn(l, week, alice, alice, transfer(bob, 1))
	w.refused(l, late, proto.CodeBadSignature)
	w.add(l, w.signedIn(l, week, alice, newer, transfer(bob, 1)))
	a = l.Account(alice.id)
	if a.Key != newer.id || a.PendingKey != "" || a.PendingFrom != 0 {
		t.Fatalf("a week later: %+v", a)
	}
	// Back to its own key: the state has one form for it.
	w.add(l, w.signedIn(l, week, alice, newer, &proto.Rotate{Key: []byte(alice.id)}))
	until(t, l, 2*week)
	c := w.add(l, w.signedIn(l, 2*week, alice, alice, transfer(bob, 1)))
	if len(c.Event.Post.Key) != 0 || l.Account(alice.id).Key != alice.id {
		t.Fatal("not its own key again")
	}
}

func TestRotateByTheRecoveryKeyIsAtOnce(t *testing.T) {
	w, l := victim(t)
	w.do(l, alice, &proto.Rotate{Key: []byte(thief.id)})
	w.add(l, w.signedIn(l, 0, alice, carol, &proto.Rotate{Recovery: true, Key: []byte(newer.id)}))
	a := l.Account(alice.id)
	if a.Key != newer.id || a.PendingKey != "" || a.Recovery != carol.id {
		t.Fatalf("after recovery: %+v", a)
	}
	w.refused(l, w.signedIn(l, 0, alice, alice, transfer(bob, 1)), proto.CodeBadSignature)
	w.add(l, w.signedIn(l, 0, alice, newer, transfer(bob, 1)))
	// The recovery key may replace itself; nobody else may replace it.
	_, err := l.Draft(alice.id, 0, 0, &proto.Rotate{RecoveryKey: []byte(thief.id)})
	wantCode(t, err, proto.CodeInvalidEvent)
	w.add(l, w.signedIn(l, 0, alice, carol, &proto.Rotate{Recovery: true, RecoveryKey: []byte(dave.id)}))
	w.refused(l, w.signedIn(l, 0, alice, carol, &proto.Rotate{Recovery: true, Key: []byte(alice.id)}), proto.CodeBadSignature)
	w.add(l, w.signedIn(l, 0, alice, dave, &proto.Rotate{Recovery: true, Key: []byte(alice.id)}))
	// It signs nothing else.
	w.refused(l, w.signedIn(l, 0, alice, dave, transfer(dave, 1)), proto.CodeBadSignature)
	_, err = l.Draft(alice.id, 0, 0, &proto.Rotate{Recovery: true})
	wantCode(t, err, proto.CodeInvalidEvent)
	_, err = l.Draft(bob.id, 0, 0, &proto.Rotate{Recovery: true, Key: []byte(newer.id)})
	wantCode(t, err, proto.CodeInvalidEvent)
}

func TestRecoveryKeyCanBeAddedOnce(t *testing.T) {
	w, l := victim(t)
	w.do(l, bob, &proto.Rotate{RecoveryKey: []byte(dave.id)})
	if l.Account(bob.id).Recovery != dave.id {
		t.Fatal("no recovery key")
	}
	_, err := l.Draft(bob.id, 0, 0, &proto.Rotate{RecoveryKey: []byte(thief.id)})
	wantCode(t, err, proto.CodeInvalidEvent)
}

// Without any state an event is signed by the key that its own post names: a
// certificate proves the rest. So a stranger's event is no body to vote for
// and no evidence.
func TestSignerIsClaimedInPost(t *testing.T) {
	w, l := victim(t)
	ev := mustDraft(l.Draft(alice.id, 0, 0, transfer(thief, 1)))
	if _, err := ledger.Verify(w.net, w.certify(w.event(thief, ev))); proto.CodeOf(err) != proto.CodeBadSignature {
		t.Fatalf("a stranger's event: %v", err)
	}
	// A thief who claims the key in post gets past that, and not past judging.
	ev.Post.Key = []byte(thief.id)
	wire := w.certify(w.event(thief, ev))
	if _, err := ledger.Verify(w.net, wire); err != nil {
		t.Fatal(err)
	}
	w.refused(l, wire, proto.CodeBadSignature)
	if err := l.SaveIntent(wire.Event); proto.CodeOf(err) != proto.CodeBadSignature {
		t.Fatalf("saved a stranger's intent: %v", err)
	}
}
