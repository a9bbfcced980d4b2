package ledger_test

import (
	"errors"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	goproto "google.golang.org/protobuf/proto"
)

func TestWitnessCertifies(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 10 * credit})
	wit := w.witness(mem.New())
	l := w.ledger() // the author's
	for _, body := range []any{&proto.Open{}, transfer(bob, credit), transfer(carol, credit)} {
		ev, err := l.Draft(alice.id, 0, 0, body)
		if err != nil {
			t.Fatal(err)
		}
		raw := w.event(alice, ev)
		if err := l.SaveIntent(raw); err != nil {
			t.Fatal(err)
		}
		p := w.propose(alice, raw, l.Attachments(ev)...)
		got := wit.handle(p).GetCertified()
		if got == nil {
			t.Fatal("not certified")
		}
		if again := wit.handle(p).GetCertified(); !goproto.Equal(again, got) {
			t.Fatal("the same body gets another certificate")
		}
		if added, err := l.Add(got); err != nil || len(added) != 1 {
			t.Fatalf("added %d, %v", len(added), err)
		}
		if _, ok := l.Intent(alice.id); ok {
			t.Fatal("the intent outlives its event")
		}
	}
	if l.StateHash() != wit.l.StateHash() {
		t.Fatal("author and witness differ")
	}
}

// Two bodies for one slot: the second gets no certificate, neither at once
// nor after a restart, and the first keeps its own. That the slot was decided
// when the second came does not save its owner from punishment, once.
func TestDoubleSpendIsRefused(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 10 * credit})
	store := mem.New()
	wit := w.witness(store)
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	fill(t, wit.l, all(l)...)
	first := w.propose(alice, w.draft(l, alice, transfer(bob, 10*credit)).Event)
	second := w.propose(alice, w.draft(l, alice, transfer(carol, 10*credit)).Event)
	cert := wit.handle(first).GetCertified()
	if cert == nil {
		t.Fatal("the first transfer is not certified")
	}
	for _, restart := range []bool{false, true} {
		if restart {
			wit = w.witness(store.Clone())
		}
		// The answer is what has the place.
		if got := wit.handle(second).GetCertified(); !goproto.Equal(got, cert) {
			t.Fatal("the second transfer is not told of the first")
		}
		if again := wit.handle(first).GetCertified(); !goproto.Equal(again, cert) {
			t.Fatal("the first body lost its certificate")
		}
	}
	if r := wit.l.Account(carol.id).Receivable; r != 0 {
		t.Fatalf("carol got %s", r)
	}
	if a := wit.l.Account(alice.id); a.Offences != 1 || !a.Frozen || a.Seq != 2 {
		t.Fatalf("after two events for seq 1: %+v", a)
	}
}

// The law of the store: whenever the witness's key is asked to sign, the vote
// is durable already. The machine crashes at each signature; after a restart
// the other body is refused and the first one finished.
func TestVoteIsDurableBeforeItIsSigned(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 10 * credit})
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	firstBody := w.draft(l, alice, transfer(bob, 10*credit)).Event
	first := w.propose(alice, firstBody)
	second := w.propose(alice, w.draft(l, alice, transfer(carol, 10*credit)).Event)
	whole := 0
	for crashAt := 1; ; crashAt++ {
		store := mem.New()
		wit := w.witness(store)
		fill(t, wit.l, all(l)...)
		var wreck *mem.Store
		signed := 0
		sign := wit.key
		wit.key = func(p *proto.Payload) ([]byte, error) {
			if signed++; signed == crashAt {
				wreck = store.Clone()
				return nil, errors.New("crash")
			}
			return sign(p)
		}
		_, err := wit.try(first)
		if wreck == nil {
			if err != nil {
				t.Fatal(err)
			}
			whole = signed
			break
		}
		if err == nil {
			t.Fatal("an answer without a signature")
		}
		wit = w.witness(wreck)
		// The owner learns what it has to finish.
		r, err := wit.w.Head(alice.id, []byte("nonce"))
		if err != nil {
			t.Fatal(err)
		}
		raw := w.seal(w.witnesses[0], &proto.Payload{Body: &proto.Payload_HeadReport{HeadReport: r}})
		by, head, above, err := ledger.VerifyHead(w.net, raw, alice.id, []byte("nonce"))
		if err != nil || by != w.witnesses[0].id || head.Seq != 0 || len(above) != 1 || string(above[0]) != string(firstBody) {
			t.Fatalf("head report: %v, head %v, %d above", err, head, len(above))
		}
		if got := wit.handle(second).GetCertified(); got == nil || string(got.Event) != string(firstBody) {
			t.Fatal("the second body has the place")
		}
		if wit.handle(first).GetCertified() == nil {
			t.Fatal("the first body is not finished")
		}
		r, err = wit.w.Head(alice.id, nil)
		if err != nil || len(r.Above) != 0 || r.Head == nil {
			t.Fatalf("after the certificate: %d bodies above, %v", len(r.GetAbove()), err)
		}
		// Votes for a decided slot are gone: they cannot pile up.
		left := 0
		if err := wreck.Scan([]byte("va"), func(_, _ []byte) error { left++; return nil }); err != nil || left != 0 {
			t.Fatalf("%d vote records are left, %v", left, err)
		}
	}
	if whole != 2 {
		t.Fatalf("%d signatures, want a Prepare and a Commit", whole)
	}
}

func TestWitnessRefuses(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 10 * credit, "bob": credit})
	wit := w.witness(mem.New())
	l := w.ledger()
	open := w.do(l, alice, &proto.Open{})
	body := func(change func(*proto.Event)) []byte {
		ev, err := l.Draft(alice.id, 0, 0, transfer(bob, credit))
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(ev)
		}
		return w.event(alice, ev)
	}
	good := body(nil)

	e := wantRefusal(t, wit.handle(w.propose(alice, good)), proto.CodeMissing)
	if len(e.Missing) != 1 || string(e.Missing[0]) != string(open.ID.Bytes()) {
		t.Fatalf("missing %x, want prev", e.Missing)
	}
	forged := &proto.CertifiedEvent{Event: open.Wire.Event, Certificate: &proto.Certificate{Commits: [][]byte{
		w.seal(alice, &proto.Payload{Body: &proto.Payload_Commit{Commit: &proto.Commit{Slot: ledger.AccountSlot(alice.id, 0), Id: open.ID.Bytes()}}}),
	}}}
	wantRefusal(t, wit.handle(w.propose(alice, good, forged)), proto.CodeNotWitness)
	wantRefusal(t, wit.handle([]byte("noise")), proto.CodeMalformed)
	wantRefusal(t, wit.handle(w.propose(bob, good, open.Wire)), proto.CodeInvalidEvent)
	wantRefusal(t, wit.handle(w.propose(alice, body(func(e *proto.Event) { e.Post.Avail++ }), open.Wire)), proto.CodeInvalidEvent)
	wantRefusal(t, wit.handle(w.propose(alice, body(func(e *proto.Event) { e.Epoch = 3 }), open.Wire)), proto.CodeNotFinal)
	wantRefusal(t, wit.handle(w.propose(alice, body(func(e *proto.Event) {
		e.GetTransfer().Amount = 11 * credit
		e.Post.Avail = 0
	}), open.Wire)), proto.CodeInsufficient)
	slot := &proto.Propose{Slot: ledger.AccountSlot(alice.id, 2), Body: good}
	wantRefusal(t, wit.handle(w.seal(alice, &proto.Payload{Body: &proto.Payload_Propose{Propose: slot}})), proto.CodeInvalidEvent)
	slot = &proto.Propose{Slot: ledger.AccountSlot(alice.id, 1), Body: good, Round: 1}
	wantRefusal(t, wit.handle(w.seal(alice, &proto.Payload{Body: &proto.Payload_Propose{Propose: slot}})), proto.CodeInvalidEvent)
	for i := range 3 { // none of these refusals took the slot
		if wit.handle(w.propose(alice, good, open.Wire)).GetCertified() == nil {
			t.Fatalf("attempt %d: the good event is not certified", i)
		}
	}

	config := ledger.WitnessConfig{Sign: wit.key}
	if _, err := ledger.NewWitness(w.net, alice.id, l, mem.New(), config); proto.CodeOf(err) != proto.CodeNotWitness {
		t.Errorf("alice is no witness: %v", err)
	}
	if _, err := ledger.NewWitness(w.net, w.witnesses[0].id, l, mem.New(), config); err == nil {
		t.Error("votes may live elsewhere than events")
	}
	if _, err := ledger.NewWitness(w.net, w.witnesses[0].id, wit.l, wit.store, ledger.WitnessConfig{}); err == nil {
		t.Error("a witness without a key")
	}
}

// The author's machine restarts between signing and the certificate: it
// proposes the same bytes again and drafts nothing else meanwhile.
func TestIntentSurvivesRestart(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 10 * credit})
	wit := w.witness(mem.New())
	store := mem.New()
	l := w.open(store)
	w.do(l, alice, &proto.Open{})
	fill(t, wit.l, all(l)...)
	raw := w.draft(l, alice, transfer(bob, credit)).Event
	other := w.draft(l, alice, transfer(carol, credit)).Event
	mine := ledger.Record{Key: ledger.NodeKey("outbox"), Value: []byte("bob")}
	if err := l.SaveIntent(raw, mine); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		wantCode(t, l.SaveIntent(other), proto.CodeConflict)
		_, err := l.Draft(alice.id, 0, 0, transfer(carol, credit))
		wantCode(t, err, proto.CodeConflict)
		if got, ok := l.Intent(alice.id); !ok || string(got) != string(raw) {
			t.Fatal("the intent is not the bytes that were signed")
		}
		if v, _ := store.Get(mine.Key); string(v) != "bob" {
			t.Fatal("the node's record is not in the batch")
		}
		if err := l.SaveIntent(raw); err != nil {
			t.Fatalf("the same event again: %v", err)
		}
		store = store.Clone()
		l = w.open(store) // restart
	}
	got, _ := l.Intent(alice.id)
	cert := wit.handle(w.propose(alice, got)).GetCertified()
	if _, err := l.Add(cert); err != nil {
		t.Fatal(err)
	}
	l = w.open(store.Clone())
	if _, ok := l.Intent(alice.id); ok || l.Account(alice.id).Seq != 1 {
		t.Fatal("the intent outlives its event")
	}
	w.do(l, alice, transfer(carol, credit))
}

func TestQuorumsOfSeveralWitnesses(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": credit})
	l := w.ledger()
	ev, err := l.Draft(alice.id, 0, 0, &proto.Open{})
	if err != nil {
		t.Fatal(err)
	}
	raw := w.event(alice, ev)
	s, err := proto.Inspect(raw, proto.KindEvent)
	if err != nil {
		t.Fatal(err)
	}
	slot := ledger.AccountSlot(alice.id, 0)
	vote := func(by int, round uint32) []byte {
		return w.seal(w.witnesses[by], &proto.Payload{Body: &proto.Payload_Commit{Commit: &proto.Commit{Slot: slot, Round: round, Id: s.ID.Bytes()}}})
	}
	stranger := w.seal(bob, &proto.Payload{Body: &proto.Payload_Commit{Commit: &proto.Commit{Slot: slot, Id: s.ID.Bytes()}}})
	for name, set := range map[string][][]byte{
		"two":             {vote(0, 0), vote(1, 0)},
		"one twice":       {vote(0, 0), vote(1, 0), vote(1, 0)},
		"two rounds":      {vote(0, 0), vote(1, 0), vote(2, 1)},
		"with a stranger": {vote(0, 0), vote(1, 0), stranger},
		"with noise":      {vote(0, 0), vote(1, 0), {1, 2}},
	} {
		if _, ok := ledger.Certify(w.net, slot, s.ID, set); ok {
			t.Errorf("%s make a certificate", name)
		}
		if _, err := l.Add(&proto.CertifiedEvent{Event: raw, Certificate: &proto.Certificate{Commits: set}}); err == nil {
			t.Errorf("%s pass as a certificate", name)
		}
	}
	a, ok := ledger.Certify(w.net, slot, s.ID, [][]byte{vote(3, 1), vote(0, 0), vote(1, 1), stranger, vote(0, 1)})
	b, ok2 := ledger.Certify(w.net, slot, s.ID, [][]byte{vote(1, 1), vote(0, 1), vote(3, 1)})
	if !ok || !ok2 || !goproto.Equal(a, b) {
		t.Fatal("equal votes make different certificates")
	}
	if added, err := l.Add(&proto.CertifiedEvent{Event: raw, Certificate: a}); err != nil || len(added) != 1 {
		t.Fatalf("a certificate of three of four is refused: %v", err)
	}
}
