package ledger_test

import (
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// drafted signs an event that a witness drafted and certifies it.
func (w *world) drafted(ev *proto.Event, err error) *proto.CertifiedEvent {
	w.tb.Helper()
	if err != nil {
		w.tb.Fatal(err)
	}
	return w.certify(w.event(w.witnesses[0], ev))
}

// made adds an event that a witness drafted.
func (w *world) made(l *ledger.Ledger, ev *proto.Event, err error) *ledger.Certified {
	w.tb.Helper()
	return w.add(l, w.drafted(ev, err))
}

func (w *world) add(l *ledger.Ledger, wire *proto.CertifiedEvent) *ledger.Certified {
	w.tb.Helper()
	added, err := l.Add(wire)
	if err != nil || len(added) != 1 {
		w.tb.Fatalf("%d added: %v", len(added), err)
	}
	if a := l.Audit(); !a.Conserved() {
		w.tb.Fatalf("not conserved: %+v", a)
	}
	return added[0]
}

func (w *world) refused(l *ledger.Ledger, wire *proto.CertifiedEvent, code proto.Code) {
	w.tb.Helper()
	before := l.StateHash()
	added, err := l.Add(wire)
	wantCode(w.tb, err, code)
	if len(added) != 0 || l.StateHash() != before {
		w.tb.Fatal("a refused event changed the state")
	}
}

func (w *world) skip(by person, account person, seq uint64) []byte {
	return w.seal(by, &proto.Payload{Body: &proto.Payload_Skip{Skip: &proto.Skip{Account: []byte(account.id), Seq: seq}}})
}

// twice is evidence that an account signed two events for its next slot.
func (w *world) twice(l *ledger.Ledger, by person) []byte {
	w.tb.Helper()
	var raw [2][]byte
	for i := range raw {
		ev, err := l.Draft(by.id, 0, uint64(i), transfer(frank, 1))
		if err != nil {
			w.tb.Fatal(err)
		}
		raw[i] = w.event(by, ev)
	}
	ev, err := ledger.NewEvidence(w.net, raw[0], raw[1])
	if err != nil {
		w.tb.Fatal(err)
	}
	if x, err := ledger.NewEvidence(w.net, raw[1], raw[0]); err != nil || string(x) != string(ev) {
		w.tb.Fatal("the order of the two matters")
	}
	return ev
}

var frank = someone("frank")

func TestVoidNeedsTheOwnersSkip(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 10 * credit})
	l := w.ledger()
	_, err := l.DraftVoid(alice.id, w.skip(bob, alice, 0))
	wantCode(t, err, proto.CodeBadSignature)
	// Even a place before Open can be given up.
	first := w.made(l, mustDraft(l.DraftVoid(alice.id, w.skip(alice, alice, 0))), nil)
	if a := l.Account(alice.id); a.Opened || first.Seq != 0 || a.Avail != 10*proto.OneCredit {
		t.Fatalf("after a void at seq 0: %+v", a)
	}
	_, err = l.Draft(alice.id, 0, 0, transfer(bob, 1))
	wantCode(t, err, proto.CodeInvalidEvent)
	w.do(l, alice, &proto.Open{RecoveryKey: []byte(carol.id)})
	if a := l.Account(alice.id); !a.Opened {
		t.Fatalf("after open: %+v", a)
	}
	for _, skip := range [][]byte{w.skip(alice, alice, 1), w.skip(alice, alice, 3), w.skip(alice, bob, 2), w.skip(bob, alice, 2), nil, {}} {
		if _, err := l.DraftVoid(alice.id, skip); err == nil {
			t.Fatal("voided without the owner's skip for this slot")
		}
	}
	ev := mustDraft(l.DraftVoid(alice.id, w.skip(carol, alice, 2)))
	w.refused(l, w.certify(w.event(alice, ev)), proto.CodeNotWitness)
	w.refused(l, w.certify(w.event(bob, ev)), proto.CodeNotWitness)
	before := l.Account(alice.id)
	c := w.made(l, ev, nil)
	after := l.Account(alice.id)
	if after.Avail != before.Avail || after.Seq != c.Seq || c.Seq != 2 {
		t.Fatalf("after a void: %+v", after)
	}
	w.do(l, alice, transfer(bob, credit))
}

func mustDraft(ev *proto.Event, err error) *proto.Event {
	if err != nil {
		panic(err)
	}
	return ev
}

func TestSlash(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 100 * credit})
	l := w.ledger()
	w.do(l, alice, &proto.Open{RecoveryKey: []byte(carol.id)})
	w.do(l, alice, ledger.Stake(40*credit))
	w.do(l, alice, ledger.Unstake(20*credit))
	first := w.twice(l, alice)
	w.made(l, mustDraft(l.DraftSlash(first)), nil)
	a := l.Account(alice.id)
	if a.Staked != 18*proto.OneCredit || a.Unbonding != 20*proto.OneCredit || !a.Frozen || l.Audit().Burned != 2*proto.OneCredit {
		t.Fatalf("after the first slash: %+v, %+v", a, l.Audit())
	}
	_, err := l.DraftSlash(first)
	wantCode(t, err, proto.CodeInvalidEvent)
	for _, body := range []any{transfer(bob, 1), ledger.Unstake(1), &proto.Rotate{Key: []byte(bob.id)}} {
		_, err := l.Draft(alice.id, 0, 0, body)
		wantCode(t, err, proto.CodeInvalidEvent)
	}
	rotate := mustDraft(l.Draft(alice.id, 0, 0, &proto.Rotate{Recovery: true}))
	w.refused(l, w.certify(w.event(alice, rotate)), proto.CodeBadSignature)
	w.add(l, w.certify(w.event(carol, rotate)))
	if l.Account(alice.id).Frozen {
		t.Fatal("still frozen")
	}
	w.made(l, mustDraft(l.DraftSlash(w.twice(l, alice))), nil)
	a = l.Account(alice.id)
	if a.Staked+a.Unbonding != 0 || l.Audit().Burned != 40*proto.OneCredit || a.Avail != 60*proto.OneCredit {
		t.Fatalf("after the second slash: %+v, %+v", a, l.Audit())
	}
}

// An offence may be in a place that comes later: it is slashed at once, and
// the place itself, which two events claim, is then void.
func TestVoidAfterSlash(t *testing.T) {
	w, l := victim(t)
	next := l.Account(alice.id).Seq + 1
	post := l.History(alice.id, 1)[0].Event.Post
	var raw [2][]byte
	for i := range raw {
		raw[i] = w.event(alice, &proto.Event{
			Account: []byte(alice.id), Seq: next + 1, Prev: proto.CIDOf([]byte("prev")).Bytes(), Post: post,
			AuthorTimeUnixMs: uint64(i), Body: &proto.Event_Transfer{Transfer: transfer(bob, 1)},
		})
	}
	proof, err := ledger.NewEvidence(w.net, raw[0], raw[1])
	if err != nil {
		t.Fatal(err)
	}
	if c := w.made(l, mustDraft(l.DraftSlash(proof)), nil); c.Seq != next {
		t.Fatalf("slashed at seq %d", c.Seq)
	}
	w.made(l, mustDraft(l.DraftVoid(alice.id, nil)), nil)
	_, err = l.DraftVoid(alice.id, nil)
	wantCode(t, err, proto.CodeInvalidEvent)
}

// What is no proof of anything.
func TestEvidenceIsRefused(t *testing.T) {
	w, l := victim(t)
	body := func(by person, seq uint64, amount uint64) []byte {
		ev := mustDraft(l.Draft(alice.id, 0, 0, transfer(bob, amount)))
		ev.Seq = seq
		ev.Post.Key = nil
		if by.id != alice.id {
			ev.Post.Key = []byte(by.id)
		}
		return w.event(by, ev)
	}
	void := mustDraft(l.DraftVoid(alice.id, w.skip(alice, alice, 2)))
	foreign := newWorld(t, 4, map[string]uint64{"alice": 1})
	for name, pair := range map[string][2][]byte{
		"one event":                 {body(alice, 2, 1), body(alice, 2, 1)},
		"two places":                {body(alice, 2, 1), body(alice, 3, 1)},
		"two accounts":              {body(alice, 2, 1), w.event(bob, mustDraft(l.Draft(bob.id, 0, 0, transfer(alice, 1))))},
		"two signers":               {body(alice, 2, 1), body(thief, 2, 2)},
		"what a witness made":       {body(alice, 2, 1), w.event(w.witnesses[0], void)},
		"another network":           {body(alice, 2, 1), foreign.event(alice, mustDraft(l.Draft(alice.id, 0, 0, transfer(bob, 2))))},
		"an event and a vote":       {body(alice, 2, 1), w.commits(body(alice, 2, 1), 0)[0]},
		"an event and nothing else": {body(alice, 2, 1), nil},
	} {
		if _, err := ledger.NewEvidence(w.net, pair[0], pair[1]); err == nil {
			t.Errorf("%s: evidence", name)
		}
	}
	// Two events by a key that never was the account's: evidence against who
	// claims it, not against the account.
	proof, err := ledger.NewEvidence(w.net, body(thief, 2, 1), body(thief, 2, 2))
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.DraftSlash(proof)
	wantCode(t, err, proto.CodeInvalidEvent)
	ev := mustDraft(l.DraftSlash(w.twice(l, alice)))
	for _, by := range []person{alice, thief, carol} {
		w.refused(l, w.certify(w.event(by, ev)), proto.CodeNotWitness)
	}
}

func TestVotesAreEvidence(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"witness 1": 100 * credit})
	bad := w.witnesses[1]
	l := w.ledger()
	w.do(l, bad, &proto.Open{})
	w.do(l, bad, ledger.Stake(10*credit))
	vote := func(by person, round uint32, id string) []byte {
		return w.seal(by, &proto.Payload{Body: &proto.Payload_Commit{Commit: &proto.Commit{
			Slot: ledger.AccountSlot(alice.id, 4), Round: round, Id: proto.CIDOf([]byte(id)).Bytes(),
		}}})
	}
	for name, pair := range map[string][2][]byte{
		"one id":        {vote(bad, 0, "a"), vote(bad, 0, "a")},
		"two rounds":    {vote(bad, 0, "a"), vote(bad, 1, "b")},
		"two witnesses": {vote(bad, 0, "a"), vote(w.witnesses[2], 0, "b")},
		"a stranger":    {vote(alice, 0, "a"), vote(alice, 0, "b")},
	} {
		if _, err := ledger.NewEvidence(w.net, pair[0], pair[1]); err == nil {
			t.Errorf("%s: evidence", name)
		}
	}
	proof, err := ledger.NewEvidence(w.net, vote(bad, 3, "a"), vote(bad, 3, "b"))
	if err != nil {
		t.Fatal(err)
	}
	o, err := ledger.CheckEvidence(w.net, proof)
	if err != nil || o.Account != bad.id || !o.Votes {
		t.Fatalf("%+v, %v", o, err)
	}
	w.made(l, mustDraft(l.DraftSlash(proof)), nil)
	if a := l.Account(bad.id); a.Staked != 95*proto.OneCredit/10 {
		t.Fatalf("after the slash: %+v", a)
	}
}
