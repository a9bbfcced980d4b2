package ledger_test

import (
	"slices"
	"testing"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// Of a lane one claim at a time is looked into, a voucher needs no look, and
// where the lane's cap is proven nothing is looked at any more, signatures
// included.
func TestOneLookPerLane(t *testing.T) {
	c := newCouncil(t, 1)
	s := c.seats[0]
	s.config = func(cfg *ledger.WitnessConfig) { cfg.Fetch = true }
	c.restart(s)
	claim := func(tasks ...uint32) *proto.WorkClaim {
		w := &proto.WorkClaim{Assignments: [][]byte{c.assignments(alice, 0, tasks...)}}
		for _, n := range tasks {
			w.Receipts = append(w.Receipts, c.receipt(0, n, 2))
		}
		return w
	}
	forged := func(raw []byte) []byte { // changes the signature, which is a payload's last field
		out := slices.Clone(raw)
		out[len(out)-1] ^= 1
		return out
	}
	want := func(fetches int, answers ...proto.Code) {
		t.Helper()
		c.pass(time.Second)
		if got := c.replies(bob); !slices.Equal(got, answers) || len(c.fetch) != fetches {
			t.Fatalf("answers %v and %d looks, want %v and %d", got, len(c.fetch), answers, fetches)
		}
	}
	bad := claim(0)
	bad.Receipts[0].Batch = forged(bad.Receipts[0].Batch)
	c.file(bob, bad)
	want(0, proto.CodeBadSignature)
	c.file(bob, claim(0, 1))
	want(1)
	c.file(bob, claim(0, 1, 2))
	want(1, proto.CodeBusy)
	c.file(bob, &proto.WorkClaim{Voucher: c.voucher(alice, 0, 10*credit)})
	want(1, proto.CodeOK)
	id := c.fetch[0].Claim
	if until := c.fetch[0].Until; !until.Equal(c.over().Add(time.Millisecond)) || c.fetch[0].Payer != alice.id || c.fetch[0].Amount != 4*proto.OneCredit {
		t.Fatalf("%+v, the hold is over at %s", c.fetch[0], c.over())
	}
	c.act(s, func(now time.Time) ([]ledger.Output, error) {
		return s.w.Fetched(now, id, proto.CodeBusy.Errorf("later"))
	})
	want(1, proto.CodeBusy)
	c.file(bob, bad) // for less than the voucher
	want(1, proto.CodeOK)
	c.file(bob, claim(0, 1, 2, 3, 4, 5))
	want(2)
	c.act(s, func(now time.Time) ([]ledger.Output, error) { return s.w.Fetched(now, c.fetch[1].Claim, nil) })
	want(2, proto.CodeOK)

	raw := c.claim(bob, claim(0, 1, 2, 3, 4, 5, 6))
	x, err := ledger.ReadClaim(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !s.w.Wants(c.now, x) {
		t.Fatal("a better claim is not wanted")
	}
	if err := x.Verify(c.net); err != nil {
		t.Fatal(err)
	}
	outs, err := s.w.Claim(c.now, bob.id, x)
	if err != nil || len(outs) != 1 {
		t.Fatal(outs, err)
	}
	if s.w.Wants(c.now, x) {
		t.Fatal("what is looked into is wanted")
	}
	if x, err = ledger.ReadClaim(forged(raw)); err != nil || x.Verify(c.net) == nil {
		t.Fatalf("a forged claim: %v", err)
	}
	c.file(bob, &proto.WorkClaim{Voucher: c.voucher(alice, 0, 50*credit)})
	want(2, proto.CodeOK)
	var tasks []uint32
	for n := range uint32(30) {
		tasks = append(tasks, n)
	}
	capped := claim(tasks...)
	capped.Receipts[3].Batch = forged(capped.Receipts[3].Batch)
	c.file(bob, capped)
	want(2, proto.CodeOK)
}

// A task that was tried with a low fuel limit and then with a high one was
// executed twice, as ordered, and counts twice. A limit that nobody ordered
// counts nothing.
func TestTrialsAreClaimed(t *testing.T) {
	x := newLease(t, 4)
	const unit = uint64(proto.PriceUnit)
	trial, task := x.receipt(0, 0, 1, func(r *proto.Receipt) { r.FuelLimit = unit }), x.receipt(0, 0, 8)
	orders := [][]byte{x.assignments(alice, 0, 0), x.seal(alice, &proto.Payload{Body: &proto.Payload_Assignments{Assignments: &proto.AssignmentBatch{
		Worker: []byte(bob.id), Hold: x.hold.ID.Bytes(), Assignments: []*proto.Assignment{{
			Job: job(1), Replicas: 1, Module: proto.CIDOf([]byte("module")).Bytes(), MeterVersion: 1, InputHash: hash("input"), Price: credit, FuelLimit: unit,
		}},
	}}})}
	claim := func(list ...*proto.SignedReceipt) (ledger.Claimed, error) {
		return x.l.CheckClaim(x.claim(bob, &proto.WorkClaim{Assignments: orders, Receipts: list}))
	}
	if got, err := claim(trial, task); err != nil || got.Amount != 9*proto.OneCredit {
		t.Errorf("%s, %v", got.Amount, err)
	}
	for name, more := range map[string]*proto.SignedReceipt{
		"a limit that nobody ordered": x.receipt(0, 0, 1, func(r *proto.Receipt) { r.FuelLimit = 2 * unit }), "one limit twice": x.receipt(0, 0, 7),
	} {
		if got, err := claim(trial, task, more); err != nil || got.Amount != 9*proto.OneCredit {
			t.Errorf("%s: %s, %v", name, got.Amount, err)
		}
	}
}

// A claim counts what is valid in it: what its payer, or anybody, slipped in
// between does not make the rest worth less, and is worth nothing itself.
func TestBadItemsAreLeftOut(t *testing.T) {
	x := newLease(t, 4)
	three := x.assignments(alice, 0, 0, 1, 2)
	receipts := []*proto.SignedReceipt{x.receipt(0, 0, 2), x.receipt(0, 1, 3), x.receipt(0, 2, 4)}
	forged := func(raw []byte) []byte {
		out := slices.Clone(raw)
		out[len(out)-1] ^= 1
		return out
	}
	other := x.receipt(0, 1, 3)
	other.Batch = forged(other.Batch)
	for name, c := range map[string]*proto.WorkClaim{
		"a batch that names another worker": {Assignments: [][]byte{x.assignments(alice, 1, 0, 1, 2), three}, Receipts: receipts},
		"a batch of another payer":          {Assignments: [][]byte{x.assignments(carol, 0, 0, 1, 2), three}, Receipts: receipts},
		"a batch with a forged signature":   {Assignments: [][]byte{forged(three), three}, Receipts: receipts},
		"a batch that is none":              {Assignments: [][]byte{[]byte("none"), three}, Receipts: receipts},
		"a voucher of another lane":         {Voucher: x.voucher(alice, 1, 40*credit), Assignments: [][]byte{three}, Receipts: receipts},
		"a voucher with a forged signature": {Voucher: forged(x.voucher(alice, 0, 40*credit)), Assignments: [][]byte{three}, Receipts: receipts},
		"a receipt nobody ordered":          {Assignments: [][]byte{three}, Receipts: append(slices.Clone(receipts), x.receipt(0, 9, 9))},
		"a receipt of another worker":       {Assignments: [][]byte{three}, Receipts: append(slices.Clone(receipts), x.receiptBy(carol, 0, 9))},
		"a receipt that comes twice":        {Assignments: [][]byte{three}, Receipts: append(slices.Clone(receipts), receipts...)},
		"a receipt with a forged signature": {Assignments: [][]byte{three}, Receipts: append([]*proto.SignedReceipt{other}, receipts...)},
		"a receipt that is none":            {Assignments: [][]byte{three}, Receipts: append([]*proto.SignedReceipt{{Receipt: []byte{1}}}, receipts...)},
	} {
		got, err := x.l.CheckClaim(x.claim(bob, c))
		if err != nil || got.Amount != 9*proto.OneCredit || len(got.Outputs) != 3 {
			t.Errorf("%s: %s for %d outputs, %v", name, got.Amount, len(got.Outputs), err)
		}
	}
	// With nothing else in it the claim says why it is worth nothing.
	_, err := x.l.CheckClaim(x.claim(bob, &proto.WorkClaim{Assignments: [][]byte{forged(three)}, Receipts: receipts}))
	wantCode(t, err, proto.CodeBadSignature)
}
