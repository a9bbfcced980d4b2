package node

import (
	"testing"
	"time"

	"edgenet.dev/proto"
)

// begin has assignments taken, as the market does: they are under way.
func (e *earner) begin(list ...*proto.Assignment) {
	e.t.Helper()
	raw := e.batch(nil, list...)
	var refs []proto.Ref
	for _, a := range list {
		ref, err := assignmentRef(a)
		if err != nil {
			e.t.Fatal(err)
		}
		refs = append(refs, ref)
		e.n.work.keepInput(execKey{e.n.self, ref}, input{hold: e.hold, batch: raw})
	}
	e.n.work.taken(e.n.self, refs)
}

// end sends the results of work that is under way, and says how many left.
func (e *earner) end(output string, list ...*proto.Assignment) (left int) {
	e.t.Helper()
	var items []toSubmitter
	for _, a := range list {
		ref, err := assignmentRef(a)
		if err != nil {
			e.t.Fatal(err)
		}
		x := e.n.work.execs[execKey{e.n.self, ref}]
		x.ended, x.output = true, []byte(output)
		raw, _ := e.receipt(e.n.cfg.Key, e.n.self, a, output)
		items = append(items, resultItem{ref: ref, receipt: raw})
	}
	fs, err := e.n.work.frames(e.l, items)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, f := range fs {
		left += len(f.GetResults().GetItems())
	}
	if len(e.l.withheld) == 0 { // in time the market says so
		for _, item := range items {
			e.n.work.forget(e.n.self, item.(resultItem).ref)
		}
	}
	return left
}

// more asks whether the lane takes more work, at once.
func (e *earner) more(task uint32) error {
	if w := e.n.claims.lanes[laneKey(e.hold, 0)]; w != nil {
		w.gathered, w.crowded = time.Time{}, time.Time{}
	}
	return e.n.claims.admits(e.hold, 0, e.n.self, e.batch(nil, e.order(task, 1)), 0)
}

// pay has the payer send a voucher, and says how many results left upon it.
func (e *earner) pay(amount proto.Credit) (left int) {
	e.t.Helper()
	raw, err := e.n.seal(&proto.Payload{Body: &proto.Payload_Voucher{Voucher: &proto.Voucher{
		Hold: e.hold.Bytes(), Worker: []byte(e.n.self), Amount: uint64(amount),
	}}})
	if err == nil {
		err = e.n.work.paid(e.l, &proto.Pay{Voucher: raw})
	}
	if err != nil {
		e.t.Fatal(err)
	}
	return e.end("output")
}

// micro is an assignment of a task that costs a microcredit.
func (e *earner) micro(task uint32) *proto.Assignment {
	a := e.order(task, 1)
	a.Price, a.FuelLimit = 1, uint64(proto.PriceUnit)
	return a
}

// tasks are so many assignments, from a number on.
func tasks(of func(uint32) *proto.Assignment, from, n uint32) (list []*proto.Assignment) {
	for i := range n {
		list = append(list, of(from+i))
	}
	return list
}

// A lane makes room by forgetting what its voucher covers. Work that is under way
// meanwhile keeps its proof: the payer that assigned it first and pays for all that
// came before owes it as before.
func TestWorkUnderWayKeepsItsProof(t *testing.T) {
	e := newEarner(t)
	dear := tasks(func(n uint32) *proto.Assignment { return e.order(n, 1) }, 0, 60)
	e.begin(dear...)
	var paid proto.Credit
	for n := uint32(100); n < 100+maxKeptTasks+64; n += 64 {
		if err := e.more(n); err != nil {
			t.Fatal(err)
		}
		tiny := tasks(e.micro, n, 64)
		e.begin(tiny...)
		e.end("output", tiny...)
		paid += 64
		e.pay(paid)
	}
	if err := e.more(9999); err != nil {
		t.Fatal(err)
	}
	e.again() // and a crash changes nothing
	if w := e.n.claims.lanes[laneKey(e.hold, 0)]; w.forgotten == 0 || w.earned != paid {
		t.Errorf("%s of %s are forgotten", w.forgotten, w.earned)
	}
	e.end("output", dear...)
	if got := e.claimed(); got < 60*proto.OneCredit {
		t.Errorf("the claim is worth %s of 60 credits", got)
	}
}

// However a payer pays, what the worker can neither claim nor was promised is an
// eighth of what it earned on a lane, also when older work was forgotten.
func TestForgottenWorkWasPaid(t *testing.T) {
	e := newEarner(t)
	w := func() *laneWork { return e.n.claims.lanes[laneKey(e.hold, 0)] }
	one := func(n uint32) *proto.Assignment { return e.micro(n) }
	n := uint32(0)
	work := func() bool {
		if e.more(n) != nil {
			return false
		}
		list := tasks(one, n, 32)
		n += 32
		e.begin(list...)
		e.end("output", list...)
		return true
	}
	for n < 3*maxKeptTasks { // it pays for all
		if !work() {
			t.Fatalf("after %d tasks that are paid: %v", n, e.more(n))
		}
		e.pay(proto.Credit(n))
	}
	if w().forgotten == 0 {
		t.Fatal("nothing was forgotten")
	}
	paid := n
	for work() && n < 2*paid {
	}
	if n == paid || n == 2*paid {
		t.Errorf("%d more tasks were taken and none is paid", n-paid)
	}
	earned := w().earned
	if got, want := e.claimed(), earned-earned/unprovenPart; earned <= proto.Credit(paid) || got < want {
		t.Errorf("%d were earned, %d paid, the claim is worth %d", earned, paid, got)
	}
	e.again()
	if w().earned != earned {
		t.Errorf("after another start %d of %d are counted as earned", w().earned, earned)
	}
}

// A result that gets lost on its way is never paid, and its lane goes on.
func TestLostResultsEndNoLane(t *testing.T) {
	e := newEarner(t, func(c *Config) { c.Dir = t.TempDir() })
	var paid proto.Credit
	for n := uint32(0); n < 2*maxKeptTasks; n += 64 {
		if err := e.more(n); err != nil {
			t.Fatalf("after %d tasks: %v", n, err)
		}
		list := tasks(e.micro, n, 64)
		e.begin(list...)
		e.end("output", list...)
		paid += 62
		e.pay(paid)
		if n == maxKeptTasks {
			e.again()
		}
	}
}

// Results of two lanes that leave together are counted on their own, also after
// another start; and one that was outvoted is not earned any more.
func TestReceiptsCountOnTheirLane(t *testing.T) {
	e := newEarner(t)
	a, b := e.order(0, 2), e.order(1, 3)
	e.take(e.batch(nil, a))
	x, _ := e.receipt(e.n.cfg.Key, e.n.self, a, "output")
	y, _ := e.receipt(e.n.cfg.Key, e.n.self, b, "output")
	signed, err := proto.SignReceipts(e.n.cfg.Key, e.n.net.ID, [][]byte{x, y}, 0)
	if err != nil {
		t.Fatal(err)
	}
	other := proto.CIDOf([]byte("another hold"))
	e.n.claims.delivered(signed, [][]byte{x, y}, []delivered{
		{hold: e.hold, payer: e.n.self, output: []byte("output")}, {hold: other, payer: e.n.self, output: []byte("output")},
	})
	for _, when := range []string{"at first", "after another start"} {
		w, o := e.n.claims.lanes[laneKey(e.hold, 0)], e.n.claims.lanes[laneKey(other, 0)]
		if w.earned != 2*proto.OneCredit || o.earned != 3*proto.OneCredit || w.tasks != 1 || o.tasks != 1 {
			t.Errorf("%s %s of %d tasks and %s of %d", when, w.earned, w.tasks, o.earned, o.tasks)
		}
		if got := e.claimed(); got != 2*proto.OneCredit {
			t.Errorf("%s the claim is worth %s", when, got)
		}
		e.again()
	}
}

// However much is under way when it comes to an end, with large outputs, too, the
// worker can prove it.
func TestOutputsUnderWayAreProvable(t *testing.T) {
	e := newEarner(t)
	output := string(make([]byte, proto.MaxOutput))
	list := tasks(func(n uint32) *proto.Assignment { return e.order(n, 1) }, 0, 2*maxClaimOutputs/proto.MaxOutput)
	e.begin(list...)
	last := "the last one" + output[12:]
	for _, a := range list[1:] {
		e.end(output, a)
	}
	e.end(last, list[0])
	want := proto.Credit(len(list)) * proto.OneCredit
	if got := e.claimed(); got != want {
		t.Errorf("the claim is worth %s of %s", got, want)
	}
	if _, ok := e.n.claims.output(proto.HashOf([]byte(last))); !ok {
		t.Error("the last output cannot be had")
	}
	if err := e.more(9999); proto.CodeOf(err) != proto.CodeBusy {
		t.Errorf("with so much of outputs more work is taken: %v", err)
	}
	e.pay(want)
	if err := e.more(9999); err != nil {
		t.Error(err)
	}
	if w := e.n.claims.lanes[laneKey(e.hold, 0)]; w.outputs > maxClaimOutputs/2 {
		t.Errorf("%d bytes of outputs are kept of what is paid", w.outputs)
	}
}

// A payer that has more under way than a claim has room for gets the results as it
// pays: what left is promised or provable but for an eighth.
func TestResultsWaitForPay(t *testing.T) {
	e := newEarner(t)
	const pay = proto.OneCredit / 10
	of := func(n uint32) *proto.Assignment {
		a := e.order(n, 1)
		a.FuelLimit /= 10
		return a
	}
	var list []*proto.Assignment
	for n := uint32(0); n < 448; n += 64 {
		more := tasks(of, n, 64)
		e.begin(more...)
		list = append(list, more...)
	}
	left := 0
	for i := 0; i < len(list); i += 16 {
		left += e.end("output", list[i:i+16]...)
	}
	earned := proto.Credit(left) * pay
	if got := e.claimed(); left == len(list) || left < len(list)/4 || got < earned-earned/unprovenPart {
		t.Fatalf("%d of %d results left, the claim is worth %s of %s", left, len(list), got, earned)
	}
	for range 20 {
		left += e.pay(proto.Credit(left) * pay)
	}
	if left != len(list) {
		t.Errorf("%d of %d results left though all are paid", left, len(list))
	}
}

// What an earlier run of the worker earned and was paid holds no later result
// back: all of it is provable, whether it was promised or not.
func TestResultsLeaveAfterAnotherStart(t *testing.T) {
	e := newEarner(t)
	first := e.order(0, 1)
	e.begin(first)
	if left := e.end("output", first); left != 1 {
		t.Fatal("the first result waits")
	}
	e.pay(proto.OneCredit)
	e.again()
	second := e.order(1, 1)
	e.begin(second)
	if left := e.end("output", second); left != 1 {
		t.Error("a result waits though a claim shows all that was earned")
	}
}
