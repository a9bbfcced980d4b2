package ledger_test

import (
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

const credit = uint64(proto.OneCredit)

var (
	alice = someone("alice")
	bob   = someone("bob")
	carol = someone("carol")
	dave  = someone("dave")
)

func job(b byte) []byte { j := make([]byte, 16); j[0] = b; return j }

func TestTransferAndReceive(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 10 * credit})
	l := w.ledger()
	if a := l.Account(alice.id); a.Opened || a.Avail != 10*proto.OneCredit {
		t.Fatalf("a grant is available before Open: %+v", a)
	}
	if _, err := l.Draft(alice.id, 0, 0, transfer(bob, 1)); proto.CodeOf(err) != proto.CodeInvalidEvent {
		t.Fatalf("transfer before Open: %v", err)
	}
	w.do(l, alice, &proto.Open{})
	tr := w.do(l, alice, transfer(bob, 3*credit))
	if a := l.Account(bob.id); a.Receivable != 3*proto.OneCredit || a.Avail != 0 || a.Opened {
		t.Fatalf("bob before he opens: %+v", a)
	}
	rs := l.Receivables(bob.id)
	if len(rs) != 1 || rs[0].From != alice.id || rs[0].Amount != 3*proto.OneCredit {
		t.Fatalf("receivables: %+v", rs)
	}
	w.receive(l, bob)
	w.do(l, bob, transfer(alice, credit))
	rc := w.receive(l, alice)
	a, b := l.Account(alice.id), l.Account(bob.id)
	if a.Avail != 8*proto.OneCredit || b.Avail != 2*proto.OneCredit || a.Receivable+b.Receivable != 0 {
		t.Fatalf("alice %+v, bob %+v", a, b)
	}
	if a.Seq != 2 || a.Head != rc.ID {
		t.Fatalf("alice's head is %d %s, want 2 %s", a.Seq, a.Head, rc.ID)
	}
	if kind, who, change := l.Describe(tr); kind != "transfer" || who != bob.id || change != -3*int64(credit) {
		t.Fatalf("described as %s %s %d", kind, who, change)
	}
	if kind, who, change := l.Describe(rc); kind != "receive" || who != bob.id || change != int64(credit) {
		t.Fatalf("described as %s %s %d", kind, who, change)
	}
	if h := l.History(alice.id, 2); len(h) != 2 || h[0] != rc || h[1] != tr {
		t.Fatal("history is not newest first")
	}
	_, err := l.Draft(alice.id, 0, 0, transfer(bob, 8*credit+1))
	wantCode(t, err, proto.CodeInsufficient)
	if want := "transfer: need 8.000001 credits, have 8 available"; err.Error() != want {
		t.Fatalf("error %q, want %q", err, want)
	}
	// The same receivable a second time.
	_, err = l.Draft(bob.id, 0, 0, &proto.Receive{Sources: []*proto.Source{rs[0].Source}})
	wantCode(t, err, proto.CodeInvalidEvent)
}

// A hold with two lanes: paid in steps, extended, one lane given up early.
func TestHoldSettleDone(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 100 * credit})
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	short := &proto.Hold{Job: job(1), Budget: 10*credit + credit/10 - 1, DeadlineUnixMs: 5, Lanes: []*proto.Lane{
		{Worker: []byte(bob.id), Cap: 4 * credit}, {Worker: []byte(carol.id), Payee: []byte(dave.id), Cap: 6 * credit},
	}}
	_, err := l.Draft(alice.id, 0, 0, short)
	wantCode(t, err, proto.CodeInvalidEvent) // one microcredit short of caps and fee
	short.Budget = 12 * credit
	hold := w.do(l, alice, short)

	see := func(avail, held, burned, bobs, daves uint64) {
		t.Helper()
		a, au := l.Account(alice.id), l.Audit()
		if uint64(a.Avail) != avail || uint64(a.Held) != held || uint64(au.Burned) != burned ||
			uint64(l.Account(bob.id).Receivable) != bobs || uint64(l.Account(dave.id).Receivable) != daves {
			t.Fatalf("avail %s held %s burned %s bob %s dave %s", a.Avail, a.Held, au.Burned,
				l.Account(bob.id).Receivable, l.Account(dave.id).Receivable)
		}
		h, _ := l.Hold(hold.ID)
		if h.Remaining != a.Held {
			t.Fatalf("hold has %s, account holds %s", h.Remaining, a.Held)
		}
	}
	pay := func(final bool, pays ...*proto.LanePay) {
		t.Helper()
		w.do(l, alice, &proto.Settle{Hold: hold.ID.Bytes(), Pays: pays, Final: final})
	}
	see(88*credit, 12*credit, 0, 0, 0)
	// The fee is on the total: 1 of 50 microcredits, not 1 of each.
	pay(false, &proto.LanePay{Lane: 0, Amount: 10})
	see(88*credit, 12*credit-11, 1, 10, 0)
	pay(false, &proto.LanePay{Lane: 0, Amount: 50})
	see(88*credit, 12*credit-51, 1, 50, 0)
	// Cumulative: the same or less pays nothing; above the cap pays the cap.
	pay(false, &proto.LanePay{Lane: 0, Amount: 20}, &proto.LanePay{Lane: 1, Amount: 0})
	see(88*credit, 12*credit-51, 1, 50, 0)
	pay(false, &proto.LanePay{Lane: 0, Amount: 9 * credit})
	see(88*credit, 12*credit-4*credit-credit/25, credit/25, 4*credit, 0)
	// Carol gives up the rest of her lane: 5 credits and their fee come back.
	pay(false, &proto.LanePay{Lane: 1, Amount: credit, Done: w.done(carol, hold.ID, 1, credit)})
	see(88*credit+5*credit+credit/20, 12*credit-10*credit-credit/10, credit/20, 4*credit, credit)
	// Her lane is closed: nothing more is paid, and it cannot be raised.
	pay(false, &proto.LanePay{Lane: 1, Amount: 6 * credit})
	see(88*credit+5*credit+credit/20, 12*credit-10*credit-credit/10, credit/20, 4*credit, credit)
	_, err = l.Draft(alice.id, 0, 0, &proto.Extend{Hold: hold.ID.Bytes(), Budget: 9 * credit, Lanes: []*proto.Lane{{Worker: []byte(carol.id), Cap: 1}}})
	wantCode(t, err, proto.CodeInvalidEvent)
	// Extend raises bob's cap out of the spare budget and the new one.
	w.do(l, alice, &proto.Extend{Hold: hold.ID.Bytes(), Budget: credit, Lanes: []*proto.Lane{{Worker: []byte(bob.id), Cap: 2 * credit}}})
	see(92*credit+credit/20, 2*credit+9*credit/10, credit/20, 4*credit, credit)
	pay(false, &proto.LanePay{Lane: 0, Amount: 6 * credit})
	see(92*credit+credit/20, 9*credit/10-credit/50, credit/20+credit/50, 6*credit, credit)

	_, err = l.Draft(alice.id, 0, 0, &proto.Settle{Hold: hold.ID.Bytes(), Final: true})
	wantCode(t, err, proto.CodeInvalidEvent) // bob is not done
	pay(true, &proto.LanePay{Lane: 0, Amount: 6 * credit, Done: w.done(bob, hold.ID, 0, 6*credit)})
	see(92*credit+credit/20+9*credit/10-credit/50, 0, credit/20+credit/50, 6*credit, credit)
	if h, ok := l.Hold(hold.ID); !ok || !h.Closed || len(l.Holds(alice.id)) != 0 {
		t.Fatalf("the hold is open: %+v", h)
	}
	_, err = l.Draft(alice.id, 0, 0, &proto.Settle{Hold: hold.ID.Bytes(), Pays: []*proto.LanePay{{Lane: 0, Amount: 7 * credit}}})
	wantCode(t, err, proto.CodeInvalidEvent)
	if es := l.HoldEvents(hold.ID); len(es) != 2 || es[0] != hold {
		t.Fatalf("%d hold events, want Hold and Extend", len(es))
	}
}

func TestDoneMustBeTheWorkers(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 100 * credit})
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	lanes := []*proto.Lane{{Worker: []byte(bob.id), Cap: 4 * credit}, {Worker: []byte(carol.id), Cap: 4 * credit}}
	hold := w.do(l, alice, &proto.Hold{Job: job(1), Budget: 10 * credit, DeadlineUnixMs: 5, Lanes: lanes})
	other := w.do(l, alice, &proto.Hold{Job: job(2), Budget: 10 * credit, DeadlineUnixMs: 5, Lanes: lanes})
	foreign := newWorld(t, 1, map[string]uint64{"alice": 1})
	good := w.done(bob, hold.ID, 0, credit)
	broken := append([]byte{}, good...)
	broken[len(broken)-1] ^= 1
	for name, done := range map[string][]byte{
		"signed by the payer":      w.done(alice, hold.ID, 0, credit),
		"signed by another worker": w.done(carol, hold.ID, 0, credit),
		"of another hold":          w.done(bob, other.ID, 0, credit),
		"of another lane":          w.done(bob, hold.ID, 1, credit),
		"above what is paid":       w.done(bob, hold.ID, 0, credit+1),
		"of another network":       foreign.done(bob, hold.ID, 0, credit),
		"with a changed signature": broken,
		"no envelope":              {1, 2, 3},
	} {
		_, err := l.Draft(alice.id, 0, 0, &proto.Settle{Hold: hold.ID.Bytes(), Pays: []*proto.LanePay{{Lane: 0, Amount: credit, Done: done}}})
		if err == nil {
			t.Errorf("done %s is accepted", name)
		}
	}
	w.do(l, alice, &proto.Settle{Hold: hold.ID.Bytes(), Pays: []*proto.LanePay{{Lane: 0, Amount: credit, Done: good}}})
}

func TestVerifyLane(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 100 * credit})
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	hold := w.do(l, alice, &proto.Hold{Job: job(1), Budget: 5 * credit, DeadlineUnixMs: 5, Lanes: []*proto.Lane{{Worker: []byte(bob.id), Cap: 4 * credit}}})
	w.do(l, alice, transfer(carol, credit))
	ext := w.do(l, alice, &proto.Extend{Hold: hold.ID.Bytes(), Budget: 5 * credit, DeadlineUnixMs: 9, Lanes: []*proto.Lane{{Worker: []byte(carol.id), Cap: credit}, {Worker: []byte(bob.id), Cap: credit}}})
	h, err := ledger.VerifyLane(w.net, hold.Wire, []*proto.CertifiedEvent{ext.Wire})
	if err != nil {
		t.Fatal(err)
	}
	n, lane, ok := h.Lane(bob.id)
	if !ok || n != 0 || lane.Cap != 5*proto.OneCredit || lane.Payee != bob.id || h.Payer != alice.id || h.DeadlineUnixMs != 9 || h.Budget != 10*proto.OneCredit {
		t.Fatalf("hold %+v", h)
	}
	if n, lane, ok = h.Lane(carol.id); !ok || n != 1 || lane.Cap != proto.OneCredit {
		t.Fatalf("hold %+v", h)
	}
	full, _ := l.Hold(hold.ID)
	if len(full.Lanes) != 2 || full.Lanes[0] != h.Lanes[0] || full.Lanes[1] != h.Lanes[1] {
		t.Fatalf("the ledger sees %+v, the worker %+v", full.Lanes, h.Lanes)
	}
	for name, ext := range map[string][]*proto.CertifiedEvent{
		"twice":         {ext.Wire, ext.Wire},
		"not an extend": {hold.Wire},
		"uncertified":   {{Event: ext.Wire.Event}},
	} {
		if _, err := ledger.VerifyLane(w.net, hold.Wire, ext); err == nil {
			t.Errorf("extend %s is accepted", name)
		}
	}
	if _, err := ledger.VerifyLane(w.net, &proto.CertifiedEvent{Event: hold.Wire.Event}, nil); err == nil {
		t.Error("a hold without certificate is accepted")
	}
}
