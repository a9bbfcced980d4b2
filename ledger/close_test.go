package ledger_test

import (
	"fmt"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	goproto "google.golang.org/protobuf/proto"
)

// lease is a hold of alice's with lanes for bob (0) and carol (1).
type lease struct {
	*world
	l    *ledger.Ledger
	hold *ledger.Certified
}

func newLease(tb testing.TB, witnesses int) *lease {
	w := newWorld(tb, witnesses, map[string]uint64{"alice": 1000 * credit})
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	hold := w.do(l, alice, &proto.Hold{Job: job(1), Budget: 101 * credit, DeadlineUnixMs: 1_000_000, Lanes: []*proto.Lane{
		{Worker: []byte(bob.id), Cap: 50 * credit}, {Worker: []byte(carol.id), Payee: []byte(dave.id), Cap: 50 * credit},
	}})
	return &lease{w, l, hold}
}

var workers = []person{bob, carol}

func (x *lease) voucher(by person, lane uint32, amount uint64) []byte {
	return x.seal(by, &proto.Payload{Body: &proto.Payload_Voucher{Voucher: &proto.Voucher{
		Hold: x.hold.ID.Bytes(), Lane: lane, Worker: []byte(workers[lane].id), Amount: amount, Fuel: amount * 60_000, Upto: 3,
	}}})
}

// task is one assignment; a receipt for it has fuel worth credits.
func (x *lease) assignments(by person, lane uint32, tasks ...uint32) []byte {
	b := &proto.AssignmentBatch{Worker: []byte(workers[lane].id), Hold: x.hold.ID.Bytes(), Lane: lane}
	for _, n := range tasks {
		b.Assignments = append(b.Assignments, &proto.Assignment{
			Job: job(1), Task: n, Replicas: 1, Module: proto.CIDOf([]byte("module")).Bytes(), MeterVersion: 1,
			InputHash: hash("input"), Price: credit, FuelLimit: 10 * uint64(proto.PriceUnit),
		})
	}
	return x.seal(by, &proto.Payload{Body: &proto.Payload_Assignments{Assignments: b}})
}

func hash(s string) []byte {
	h := proto.HashOf([]byte(s))
	return h[:]
}

func (x *lease) receipt(lane uint32, task uint32, credits uint64, change ...func(*proto.Receipt)) *proto.SignedReceipt {
	return x.receiptBy(workers[lane], task, credits, change...)
}

func (x *lease) receiptBy(by person, task uint32, credits uint64, change ...func(*proto.Receipt)) *proto.SignedReceipt {
	x.tb.Helper()
	r := &proto.Receipt{
		Worker: []byte(by.id), Submitter: []byte(alice.id), Job: job(1), Task: task,
		Module: proto.CIDOf([]byte("module")).Bytes(), MeterVersion: 1, InputHash: hash("input"),
		OutputHash: hash(fmt.Sprint("output ", task)), Fuel: credits * uint64(proto.PriceUnit), Status: uint32(proto.StatusOK), Price: credit,
		FuelLimit: 10 * uint64(proto.PriceUnit),
	}
	for _, f := range change {
		f(r)
	}
	raw, err := goproto.Marshal(r)
	if err != nil {
		x.tb.Fatal(err)
	}
	batch, err := proto.SignReceipts(by.key, x.net.ID, [][]byte{raw}, 0)
	if err != nil {
		x.tb.Fatal(err)
	}
	_, out, err := proto.OpenReceipts(x.net.ID, batch, [][]byte{raw})
	if err != nil {
		x.tb.Fatal(err)
	}
	return out[0]
}

func (x *lease) claim(by person, c *proto.WorkClaim) []byte {
	c.Hold = x.hold.ID.Bytes()
	return x.seal(by, &proto.Payload{Body: &proto.Payload_WorkClaim{WorkClaim: c}})
}

func (x *lease) list(by person, entries ...*proto.ClaimEntry) []byte {
	return x.seal(by, &proto.Payload{Body: &proto.Payload_ClaimList{ClaimList: &proto.ClaimList{
		Hold: x.hold.ID.Bytes(), DeadlineUnixMs: 1_000_000, Entries: entries,
	}}})
}

func entry(lane uint32, amount uint64) *proto.ClaimEntry {
	return &proto.ClaimEntry{Lane: lane, Amount: amount, Fuel: amount * 60_000}
}

func TestClaim(t *testing.T) {
	x := newLease(t, 4)
	three := x.assignments(alice, 0, 0, 1, 2)
	receipts := []*proto.SignedReceipt{x.receipt(0, 0, 2), x.receipt(0, 1, 3), x.receipt(0, 2, 4)}
	for _, tt := range []struct {
		name  string
		claim []byte
		want  uint64 // microcredits; 0 = refused
	}{
		{"nothing", x.claim(bob, &proto.WorkClaim{}), 0},
		{"a voucher", x.claim(bob, &proto.WorkClaim{Voucher: x.voucher(alice, 0, 7*credit)}), 7 * credit},
		{"a voucher above the cap", x.claim(bob, &proto.WorkClaim{Voucher: x.voucher(alice, 0, 70*credit)}), 50 * credit},
		{"receipts", x.claim(bob, &proto.WorkClaim{Assignments: [][]byte{three}, Receipts: receipts}), 9 * credit},
		{"receipts above the voucher", x.claim(bob, &proto.WorkClaim{Voucher: x.voucher(alice, 0, 5*credit), Assignments: [][]byte{three}, Receipts: receipts}), 9 * credit},
		{"a voucher above the receipts", x.claim(bob, &proto.WorkClaim{Voucher: x.voucher(alice, 0, 10*credit), Assignments: [][]byte{three}, Receipts: receipts[:1]}), 10 * credit},
		{"a voucher by the worker", x.claim(bob, &proto.WorkClaim{Voucher: x.voucher(bob, 0, 7*credit)}), 0},
		{"another lane's voucher", x.claim(bob, &proto.WorkClaim{Voucher: x.voucher(alice, 1, 7*credit)}), 0},
		{"another's lane", x.claim(bob, &proto.WorkClaim{Lane: 1, Voucher: x.voucher(alice, 1, 7*credit)}), 0},
		{"no such lane", x.claim(bob, &proto.WorkClaim{Lane: 2}), 0},
		{"a stranger", x.claim(dave, &proto.WorkClaim{Voucher: x.voucher(alice, 0, 7*credit)}), 0},
		{"work that was not assigned", x.claim(bob, &proto.WorkClaim{Assignments: [][]byte{three}, Receipts: []*proto.SignedReceipt{x.receipt(0, 3, 1)}}), 0},
		{"no assignment", x.claim(bob, &proto.WorkClaim{Receipts: receipts}), 0},
		{"an assignment by the worker", x.claim(bob, &proto.WorkClaim{Assignments: [][]byte{x.assignments(bob, 0, 0)}, Receipts: receipts[:1]}), 0},
		{"an assignment of another lane", x.claim(bob, &proto.WorkClaim{Assignments: [][]byte{x.assignments(alice, 1, 0)}, Receipts: receipts[:1]}), 0},
		{"one task twice", x.claim(bob, &proto.WorkClaim{Assignments: [][]byte{three}, Receipts: []*proto.SignedReceipt{receipts[0], receipts[0]}}), 2 * credit},
		{"one task with two results", x.claim(bob, &proto.WorkClaim{Assignments: [][]byte{three}, Receipts: []*proto.SignedReceipt{receipts[0], x.receipt(0, 0, 1)}}), 2 * credit},
		{"another worker's receipt", x.claim(bob, &proto.WorkClaim{Assignments: [][]byte{three}, Receipts: []*proto.SignedReceipt{x.receiptBy(carol, 0, 2)}}), 0},
		{"a higher price", x.claim(bob, &proto.WorkClaim{Assignments: [][]byte{three}, Receipts: []*proto.SignedReceipt{x.receipt(0, 0, 2, func(r *proto.Receipt) { r.Price *= 2 })}}), 0},
		{"another input", x.claim(bob, &proto.WorkClaim{Assignments: [][]byte{three}, Receipts: []*proto.SignedReceipt{x.receipt(0, 0, 2, func(r *proto.Receipt) { r.InputHash = hash("x") })}}), 0},
		{"more fuel than allowed", x.claim(bob, &proto.WorkClaim{Assignments: [][]byte{three}, Receipts: []*proto.SignedReceipt{x.receipt(0, 0, 11)}}), 0},
		{"a result that cannot vote", x.claim(bob, &proto.WorkClaim{Assignments: [][]byte{three}, Receipts: []*proto.SignedReceipt{x.receipt(0, 0, 2, func(r *proto.Receipt) { r.Status = uint32(proto.StatusTimeout) })}}), 0},
	} {
		got, err := x.l.CheckClaim(tt.claim)
		switch {
		case tt.name == "nothing":
			if err != nil || got.Amount != 0 {
				t.Errorf("%s: %+v, %v", tt.name, got, err)
			}
		case tt.want == 0 && err == nil:
			t.Errorf("%s: accepted with %s", tt.name, got.Amount)
		case tt.want > 0 && (err != nil || uint64(got.Amount) != tt.want || got.Worker != bob.id):
			t.Errorf("%s: %s, %v; want %s", tt.name, got.Amount, err, proto.Credit(tt.want))
		}
	}
	got, err := x.l.CheckClaim(x.claim(bob, &proto.WorkClaim{Assignments: [][]byte{three}, Receipts: receipts}))
	if err != nil || len(got.Outputs) != 3 || uint64(got.Fuel) != 9*uint64(proto.PriceUnit) {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestClose(t *testing.T) {
	x := newLease(t, 4)
	x.do(x.l, alice, &proto.Settle{Hold: x.hold.ID.Bytes(), Pays: []*proto.LanePay{{Lane: 0, Amount: 5 * credit, Fuel: 1}}})
	w := x.witnesses
	var claims []ledger.Claimed
	for _, c := range []struct {
		lane   uint32
		amount uint64
	}{{0, 8}, {0, 20}, {0, 10}, {1, 30}} {
		got, err := x.l.CheckClaim(x.claim(workers[c.lane], &proto.WorkClaim{Lane: c.lane, Voucher: x.voucher(alice, c.lane, c.amount*credit)}))
		if err != nil {
			t.Fatal(err)
		}
		claims = append(claims, got)
	}
	honest, err := x.l.ClaimList(x.hold.ID, claims)
	if err != nil || len(honest.Entries) != 2 || honest.Entries[0].Amount != 20*credit || honest.Entries[1].Amount != 30*credit {
		t.Fatalf("%v, %v", honest, err)
	}
	mine := x.seal(w[0], &proto.Payload{Body: &proto.Payload_ClaimList{ClaimList: honest}})
	// One witness lies for bob, another conceals carol's claim.
	lists := [][]byte{mine, x.list(w[1], entry(0, 50*credit), entry(1, 30*credit)), x.list(w[2], entry(0, 20*credit))}
	_, err = x.l.DraftClose(x.hold.ID, lists[:2])
	wantCode(t, err, proto.CodeInvalidEvent)
	_, err = x.l.DraftClose(x.hold.ID, [][]byte{mine, mine, mine})
	wantCode(t, err, proto.CodeInvalidEvent)
	_, err = x.l.DraftClose(x.hold.ID, [][]byte{mine, lists[1], x.list(bob, entry(0, 50*credit))})
	wantCode(t, err, proto.CodeInvalidEvent)

	ev := mustDraft(x.l.DraftClose(x.hold.ID, lists))
	for name, change := range map[string]func(*proto.Close){
		"pays more":          func(c *proto.Close) { c.Payouts[0].Amount++ },
		"pays less":          func(c *proto.Close) { c.Payouts[0].Amount-- },
		"pays nothing":       func(c *proto.Close) { c.Payouts = nil },
		"leaves a lane out":  func(c *proto.Close) { c.Payouts = c.Payouts[:1] },
		"has two lists":      func(c *proto.Close) { c.ClaimLists = c.ClaimLists[:2] },
		"has a list twice":   func(c *proto.Close) { c.ClaimLists[2] = c.ClaimLists[0] },
		"has another's list": func(c *proto.Close) { c.ClaimLists[2] = x.list(alice) },
	} {
		bad := goproto.Clone(ev).(*proto.Event)
		change(bad.GetClose())
		added, err := x.l.Add(x.certify(x.event(w[0], bad)))
		if err == nil || len(added) != 0 {
			t.Errorf("%s: accepted", name)
		}
	}
	x.made(x.l, ev, nil)
	h, _ := x.l.Hold(x.hold.ID)
	if !h.Closed || h.Lanes[0].Paid != 20*proto.OneCredit || h.Lanes[1].Paid != 30*proto.OneCredit {
		t.Fatalf("after close: %+v", h)
	}
	a := x.l.Account(alice.id)
	if a.Held != 0 || uint64(a.Avail) != 1000*credit-50*credit-credit/2 || x.l.Audit().Burned != proto.OneCredit/2 {
		t.Fatalf("after close: %+v", a)
	}
	if b := x.l.Account(bob.id); b.Receivable != 20*proto.OneCredit {
		t.Fatalf("bob has %s", b.Receivable)
	}
	if d := x.l.Account(dave.id); d.Receivable != 30*proto.OneCredit {
		t.Fatalf("carol's payee has %s", d.Receivable)
	}
	// Once.
	_, err = x.l.DraftClose(x.hold.ID, lists)
	wantCode(t, err, proto.CodeInvalidEvent)
	_, err = x.l.Draft(alice.id, 0, 0, &proto.Settle{Hold: x.hold.ID.Bytes(), Pays: []*proto.LanePay{{Lane: 0, Amount: 30 * credit}}})
	wantCode(t, err, proto.CodeInvalidEvent)
	_, err = x.l.CheckClaim(x.claim(bob, &proto.WorkClaim{Voucher: x.voucher(alice, 0, 40*credit)}))
	wantCode(t, err, proto.CodeExpired)
}

// A deadline that moved later makes lists for the earlier one void.
func TestClaimListsAreForOneDeadline(t *testing.T) {
	x := newLease(t, 1)
	list := x.list(x.witnesses[0])
	mustDraft(x.l.DraftClose(x.hold.ID, [][]byte{list}))
	x.do(x.l, alice, &proto.Extend{Hold: x.hold.ID.Bytes(), DeadlineUnixMs: 2_000_000})
	_, err := x.l.DraftClose(x.hold.ID, [][]byte{list})
	wantCode(t, err, proto.CodeInvalidEvent)
	h, _ := x.l.Hold(x.hold.ID)
	grace := x.net.Genesis.GraceSeconds * 1000
	if x.l.CloseDue(h, 2_000_000+grace) || !x.l.CloseDue(h, 2_000_001+grace) || x.l.CloseDue(h, 0) {
		t.Fatal("due at the wrong time")
	}
}
