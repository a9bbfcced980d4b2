package ledger_test

import (
	"testing"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	goproto "google.golang.org/protobuf/proto"
)

// An Open that was signed and became too old to be certified can be replaced,
// which is no offence: at seq 0 nothing can be skipped, so the account could
// never be opened otherwise. Later events cannot.
func TestOpenCanBeReplaced(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 10 * credit})
	store := mem.New()
	l := w.open(store)
	sign := func(body any) []byte {
		ev, err := l.Draft(alice.id, 0, 0, body)
		if err != nil {
			t.Fatal(err)
		}
		return w.event(alice, ev)
	}
	first := sign(&proto.Open{})
	if err := l.SaveIntent(first); err != nil {
		t.Fatal(err)
	}
	second := sign(&proto.Open{RecoveryKey: []byte(bob.id)})
	if err := l.SaveIntent(second); err != nil {
		t.Fatal(err)
	}
	if raw, _ := w.open(store).Intent(alice.id); string(raw) != string(second) {
		t.Error("after a restart another Open is proposed")
	}
	if _, err := ledger.NewEvidence(w.net, first, second); err == nil {
		t.Error("two Opens are evidence")
	}
	if _, err := l.Add(w.certify(first)); err != nil { // a witness had it all the same
		t.Fatal(err)
	}
	if _, ok := l.Intent(alice.id); ok {
		t.Error("the place is decided and the intent stays")
	}
	a, b := sign(transfer(bob, 1)), sign(transfer(bob, 2))
	if err := l.SaveIntent(a); err != nil {
		t.Fatal(err)
	}
	wantCode(t, l.SaveIntent(b), proto.CodeConflict)
	_, err := l.Draft(alice.id, 0, 0, transfer(bob, 3))
	wantCode(t, err, proto.CodeConflict)
	if _, err := ledger.NewEvidence(w.net, a, b); err != nil {
		t.Errorf("two events of seq 1 are no evidence: %v", err)
	}
}

// What a witness reports of another's two votes is evidence as it stands,
// whichever came first.
func TestMisconductIsEvidence(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 10 * credit})
	var votes [2][]byte
	slot := ledger.AccountSlot(alice.id, 0)
	for i := range votes {
		votes[i] = w.seal(w.witnesses[1], &proto.Payload{Body: &proto.Payload_Prepare{Prepare: &proto.Prepare{
			Slot: slot, Id: proto.CIDOf([]byte{byte(i)}).Bytes(),
		}}})
	}
	for first := range votes {
		x := w.witness(mem.New())
		var found *proto.Evidence
		for _, raw := range [][]byte{votes[first], votes[1-first]} {
			outs, err := x.w.Handle(clock, w.witnesses[1].id, &proto.VoteFrame{Body: &proto.VoteFrame_Prepare{Prepare: raw}})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range outs {
				if m, ok := o.(ledger.Misconduct); ok {
					found = m.Evidence
				}
			}
		}
		if found == nil {
			t.Fatal("two votes of one round go unseen")
		}
		raw, err := goproto.Marshal(found)
		if err != nil {
			t.Fatal(err)
		}
		if o, err := ledger.CheckEvidence(w.net, raw); err != nil || o.Account != w.witnesses[1].id {
			t.Errorf("votes in order %d: %v", first, err)
		}
	}
}

// A refusal that names no slot is the answer to something else that the author
// sent, and so is one of what it proposed for the slot before: a Skip is not
// refused by late answers to the event. Others count, f+1 of them.
func TestRefusalsOfOtherThings(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 10 * credit})
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
	p, err := ledger.NewProposal(l, raw, ledger.AuthorConfig{Sign: func(b *proto.Payload) ([]byte, error) {
		return proto.Seal(alice.key, w.net.ID, b)
	}})
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(p *ledger.Proposal, slot *proto.Slot, what []byte) (refused bool) {
		for _, x := range w.witnesses[:w.net.F()+1] {
			f := &proto.VoteFrame{Body: &proto.VoteFrame_Error{Error: &proto.VoteError{Code: uint32(proto.CodeInvalidEvent), Slot: slot, Refused: what}}}
			if _, err := p.Handle(clock, x.id, f); err != nil {
				t.Fatal(err)
			}
		}
		_, err, ok := p.Result()
		return ok && err != nil
	}
	skip, err := ledger.NewSkip(l, w.skip(alice, alice, 0), ledger.AuthorConfig{})
	if err != nil {
		t.Fatal(err)
	}
	id, slot := s.ID.Bytes(), ledger.AccountSlot(alice.id, 0)
	switch {
	case refuse(p, nil, id):
		t.Error("refusals of other things end the proposal")
	case refuse(p, ledger.AccountSlot(alice.id, 1), id):
		t.Error("refusals of another place end the proposal")
	case refuse(p, slot, nil), refuse(skip, slot, id):
		t.Error("refusals of what was proposed before end the proposal")
	case !refuse(p, slot, id):
		t.Error("f+1 refusals do not end the proposal")
	}
}

// A hold is over by the clocks of three witnesses and not by the fourth's,
// which is ten minutes behind: they wait for it without a storm of rounds, and
// close the hold soon after.
func TestCloseWaitsForClocksQuietly(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 100 * credit}, func(g *proto.Genesis) { g.GraceSeconds = 60 })
	base := w.ledger()
	w.do(base, alice, &proto.Open{})
	hold := w.do(base, alice, &proto.Hold{
		Job: job(1), Budget: 10 * credit, DeadlineUnixMs: uint64(clock.UnixMilli()), Lanes: []*proto.Lane{{Worker: []byte(bob.id), Cap: credit}},
	})
	const behind = 10 * time.Minute
	var all4 []*ledger.Witness
	var ledgers []*ledger.Ledger
	for _, p := range w.witnesses {
		store := mem.New()
		l := w.open(store)
		fill(t, l, all(base)...)
		m, err := ledger.NewWitness(w.net, p.id, l, store, ledger.WitnessConfig{
			Sign: func(b *proto.Payload) ([]byte, error) { return proto.Seal(p.key, w.net.ID, b) },
		})
		if err != nil {
			t.Fatal(err)
		}
		all4, ledgers = append(all4, m), append(ledgers, l)
	}
	// The witness that is away makes the one behind necessary.
	const away, slow = 2, 3
	sent := 0
	var closed time.Duration
	for at := time.Duration(0); at < 13*time.Minute && closed == 0; at += time.Second {
		type letter struct {
			to, from int
			f        *proto.VoteFrame
		}
		var mail []letter
		clockOf := func(i int) time.Time {
			if i == slow {
				return clock.Add(at - behind)
			}
			return clock.Add(at)
		}
		post := func(i int, outs []ledger.Output, err error) {
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range outs {
				if s, ok := o.(ledger.Send); ok {
					for k, p := range w.witnesses {
						for _, to := range s.To {
							if to == p.id && k != away {
								sent++
								mail = append(mail, letter{k, i, s.Frame})
							}
						}
					}
				}
			}
		}
		for i, m := range all4 {
			if i != away {
				outs, err := m.Tick(clockOf(i))
				post(i, outs, err)
			}
		}
		for len(mail) > 0 {
			x := mail[0]
			mail = mail[1:]
			outs, err := all4[x.to].Handle(clockOf(x.to), w.witnesses[x.from].id, x.f)
			post(x.to, outs, err)
		}
		if h, _ := ledgers[0].Hold(hold.ID); h.Closed {
			closed = at
		}
	}
	t.Logf("closed after %s with %d messages", closed, sent)
	if over := behind + time.Minute; closed < over || closed > over+time.Minute {
		t.Errorf("closed after %s, the last clock was there after %s", closed, over)
	}
	if sent > 1500 {
		t.Errorf("%d messages in ten minutes of waiting", sent)
	}
}
