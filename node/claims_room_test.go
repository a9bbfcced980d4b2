package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// Payers' assignments do not fill what others' work has to be proven with: of those
// with the most lanes one gives way under which nothing was delivered, and nobody
// has more than a share.
func TestClaimsMakeRoom(t *testing.T) {
	c := alone(t).claims
	payer := func(i int) peer.ID { return peer.ID(fmt.Sprint("payer ", i)) }
	hold := func(i int) []byte { return fmt.Append(nil, "hold ", i) }
	for i := range maxClaimLanes {
		c.taken(proto.CIDOf(hold(i)), 0, payer(i/maxPayerLanes), []byte("assignments"))
	}
	if len(c.lanes) != maxClaimLanes {
		t.Fatalf("%d lanes", len(c.lanes))
	}
	// One more of the first payer takes the place of one of its own.
	c.taken(proto.CIDOf([]byte("one more")), 0, payer(0), []byte("assignments"))
	if p := c.payers[payer(0)]; p.lanes != maxPayerLanes || c.payers[payer(1)].lanes != maxPayerLanes || len(c.lanes) != maxClaimLanes {
		t.Fatalf("%+v of %d lanes", p, len(c.lanes))
	}
	other := proto.CIDOf([]byte("another payer's"))
	c.delivered([]byte("batch"), [][]byte{[]byte("receipt")}, []delivered{{hold: other, payer: "another", output: []byte("output")}})
	w := c.lanes[laneKey(other, 0)]
	if w == nil || w.tasks != 1 || len(c.lanes) != maxClaimLanes {
		t.Fatalf("%+v of %d lanes", w, len(c.lanes))
	}
	// What is owed gives way to a lane that can pay a thousand times as much, the
	// least first, and is known to be owed.
	for _, x := range c.lanes {
		x.earned = 10
	}
	least := c.lanes[laneKey(proto.CIDOf(hold(70)), 0)]
	least.earned = 9
	late := func(stake proto.Credit) *laneWork {
		return c.lane(proto.CIDOf(fmt.Append(nil, "late ", stake)), 0, "a third", stake)
	}
	if late(9*maxClaimLanes-1) != nil || least.bare {
		t.Fatal("proof of work gave way for nothing")
	}
	if late(9*maxClaimLanes) == nil || !least.bare || c.proofs != maxClaimLanes || c.n.claims.lanes[laneKey(least.hold, 0)] != least {
		t.Fatalf("%+v of %d lanes", least, c.proofs)
	}
	// The newcomer is owed nothing, so it is the next to go.
	if late(10*maxClaimLanes-1) == nil || c.proofs != maxClaimLanes {
		t.Fatalf("%d lanes", c.proofs)
	}
	// A payer's own debts give way to nothing of its own.
	for range 2 * maxPayerLanes {
		c.lane(proto.CIDOf(fmt.Append(nil, "own ", c.payers[payer(2)].lanes)), 0, payer(2), 1<<40)
	}
	if p := c.payers[payer(2)]; p.lanes > maxPayerLanes || p.entries > maxPayerLanes {
		t.Fatalf("%+v", p)
	}
	records := 0
	if err := c.n.kv.scan("work/", func(string, []byte) error { records++; return nil }); err != nil {
		t.Fatal(err)
	}
	if records > 2*maxClaimLanes {
		t.Errorf("%d records of %d lanes", records, maxClaimLanes)
	}
}

// One identity has no more than its share of what is kept, and what is counted is
// what another start counts.
func TestPayersShareOfClaims(t *testing.T) {
	c := alone(t).claims
	admits := func(hold string, payer peer.ID) error {
		return c.admits(proto.CIDOf([]byte(hold)), 0, payer, []byte("a batch"), 0)
	}
	if err := admits("hold", "payer"); err != nil {
		t.Fatal(err)
	}
	c.taken(proto.CIDOf([]byte("hold")), 0, "payer", []byte("some"))
	most := int(c.n.cfg.MaxClaims)
	c.payers["payer"].bytes += most / payerClaims
	c.bytes += most / payerClaims
	if err := admits("hold", "payer"); proto.CodeOf(err) != proto.CodeBusy {
		t.Errorf("above its share: %v", err)
	}
	if err := admits("another hold", "another"); err != nil {
		t.Errorf("another payer: %v", err)
	}
	c.bytes = most + 100
	if err := admits("another hold", "another"); proto.CodeOf(err) != proto.CodeBusy {
		t.Errorf("above what all have: %v", err)
	}
}

// What all claims may take is what the configuration says, and of it an eighth is
// one payer's.
func TestSizeOfClaimsIsConfigured(t *testing.T) {
	n := alone(t)
	n.cfg.MaxClaims = 8000
	if err := (Config{Network: n.net, Key: n.cfg.Key, MaxClaims: 1 << 61}).Validate(); err == nil {
		t.Error("2⁶¹ bytes of claims are accepted")
	}
	c := n.claims
	fill := func(payer peer.ID, bytes int) error {
		hold := proto.CIDOf([]byte("hold of " + payer))
		if err := c.admits(hold, 0, payer, []byte("a batch"), 0); err != nil {
			return err
		}
		c.taken(hold, 0, payer, make([]byte, bytes))
		c.lanes[laneKey(hold, 0)].earned = 1 // it is owed
		return c.admits(hold, 0, payer, []byte("another batch"), 0)
	}
	if err := fill("small", 900); err != nil {
		t.Errorf("900 of 1000 bytes: %v", err)
	}
	if err := fill("large", 1100); proto.CodeOf(err) != proto.CodeBusy {
		t.Errorf("1100 of 1000 bytes: %v", err)
	}
	for i := range 7 {
		_ = fill(peer.ID(fmt.Sprint("payer ", i)), 950)
	}
	if err := fill("last", 10); proto.CodeOf(err) != proto.CodeBusy {
		t.Errorf("above what all have: %v", err)
	}
	for _, s := range n.Stores() {
		if s.Name == "claims" && (s.Limit != 8000 || s.Bytes < 8000) {
			t.Errorf("claims are said to take %d of %d bytes", s.Bytes, s.Limit)
		}
	}
}

// What is promised needs its voucher and no place for proofs: it gives way first,
// loses nothing by that, and has a place again when there is more work.
func TestPromisedWorkNeedsItsVoucher(t *testing.T) {
	e := newEarner(t)
	list := tasks(func(n uint32) *proto.Assignment { return e.order(n, 1) }, 0, 3)
	e.begin(list...)
	e.end("output", list...)
	e.pay(3 * proto.OneCredit)
	c := e.n.claims
	for i := range maxClaimLanes - 1 {
		c.lane(proto.CIDOf(fmt.Append(nil, "hold ", i)), 0, peer.ID(fmt.Sprint("payer ", i)), 0).earned = 10
	}
	if c.lane(proto.CIDOf([]byte("late")), 0, "late", 0) == nil {
		t.Fatal("no room beside what is promised")
	}
	for _, when := range []string{"at first", "after another start"} {
		w := c.lanes[laneKey(e.hold, 0)]
		if w == nil || !w.bare || w.bytes() != 0 || w.earned != 3*proto.OneCredit {
			t.Fatalf("%s %+v", when, w)
		}
		if got := e.claimed(); got != 3*proto.OneCredit {
			t.Errorf("%s the claim is worth %s of 3 credits", when, got)
		}
		e.again()
		c = e.n.claims
	}
	if err := e.more(9); err != nil || c.lanes[laneKey(e.hold, 0)].bare {
		t.Errorf("more work: %v", err)
	}
}

// Work that is under way keeps no place from others, be it that its payer never
// asks for the results. Its assignments stay without one: who asks late owes as much.
func TestWorkUnderWayKeepsNoPlace(t *testing.T) {
	e := newEarner(t)
	c := e.n.claims
	list := tasks(func(n uint32) *proto.Assignment { return e.order(n, 1) }, 0, 3)
	e.begin(list...)
	for i := range maxClaimLanes - 1 {
		payer, ref := peer.ID(fmt.Sprint("payer ", i)), proto.Ref{Attempt: 1}
		in := input{hold: proto.CIDOf(fmt.Append(nil, "hold ", i)), batch: []byte("assignments")}
		e.n.work.keepInput(execKey{payer, ref}, in)
		e.n.work.taken(payer, []proto.Ref{ref})
	}
	late := func(name string, stake proto.Credit) error {
		return c.admits(proto.CIDOf([]byte(name)), 0, peer.ID(name), []byte("a batch"), stake)
	}
	if err := late("late", 1); err != nil || c.proofs != maxClaimLanes {
		t.Fatalf("beside work that is under way: %v, %d lanes", err, c.proofs)
	}
	for _, w := range c.lanes {
		if w.payer != e.n.self {
			w.earned = 10
		}
	}
	w := c.lane(e.hold, 0, e.n.self, always)
	if err := late("later", 1); err != nil || !w.bare || w.orders == 0 || c.lanes[laneKey(e.hold, 0)] != w {
		t.Fatalf("%v, %+v", err, w)
	}
	// Nor do the bounds of vouchers and bytes take them.
	for i := range maxLaneEntries {
		c.promised(proto.CIDOf(fmt.Append(nil, "voucher ", i)), 0, "payer", 3)
	}
	c.promised(proto.CIDOf([]byte("dear")), 0, "payer", 4*maxClaimLanes)
	c.bytes += int(c.n.cfg.MaxClaims)
	_ = late("last", 1)
	c.bytes -= int(c.n.cfg.MaxClaims)
	if left := e.end("output", list...); left != len(list) || w.bare {
		t.Errorf("%d of %d results left, %+v", left, len(list), w)
	}
	if got := e.claimed(); got != 3*proto.OneCredit {
		t.Errorf("the claim is worth %s of 3 credits", got)
	}
}

// What is kept of a lane without a place gives way, too, when bytes are short and
// its work is over.
func TestOrdersWithoutAPlaceGiveWay(t *testing.T) {
	e := newEarner(t)
	c, a := e.n.claims, e.order(0, 1)
	e.begin(a)
	w := c.lanes[laneKey(e.hold, 0)]
	if !c.makeRoom(0, func(*laneWork) int { return 0 }, func(*laneWork) bool { return true }) || w.orders == 0 {
		t.Fatalf("%+v", w)
	}
	ref, err := assignmentRef(a)
	if err != nil {
		t.Fatal(err)
	}
	e.n.work.forget(e.n.self, ref)
	other := c.lane(proto.CIDOf([]byte("hold")), 0, "payer", 0)
	other.earned = 1
	c.grow(other, &other.outputs, int(c.n.cfg.MaxClaims))
	if err := c.admits(proto.CIDOf([]byte("late")), 0, "late", []byte("a batch"), 0); err != nil || c.lanes[laneKey(e.hold, 0)] != nil {
		t.Errorf("%v, %+v", err, w)
	}
}

// Results of two lanes that leave together are all proven, also when the place of
// one is needed for the other.
func TestReceiptsOfOneFrameKeepEachOther(t *testing.T) {
	e := newEarner(t)
	c := e.n.claims
	a, b, d := e.micro(0), e.micro(1), e.order(2, 3)
	e.begin(a, d)
	w := c.lanes[laneKey(e.hold, 0)]
	c.strip(w, true)
	for i := range maxClaimLanes {
		c.lane(proto.CIDOf(fmt.Append(nil, "hold ", i)), 0, peer.ID(fmt.Sprint("payer ", i)), 0).earned = 10
	}
	var receipts [][]byte
	for _, x := range []*proto.Assignment{a, b, d} {
		raw, _ := e.receipt(e.n.cfg.Key, e.n.self, x, "output")
		receipts = append(receipts, raw)
	}
	signed, err := proto.SignReceipts(e.n.cfg.Key, e.n.net.ID, receipts, 0)
	if err != nil {
		t.Fatal(err)
	}
	mine := delivered{hold: e.hold, payer: e.n.self, output: []byte("output")}
	other := mine
	other.hold = proto.CIDOf([]byte("another hold"))
	c.delivered(signed, receipts, []delivered{mine, other, mine})
	if got := e.claimed(); got != 3*proto.OneCredit+1 {
		t.Errorf("the claim is worth %d", got)
	}
}

// Space that others hold for little is taken from them.
func TestSpaceGoesByWhatIsOwed(t *testing.T) {
	c := alone(t).claims
	most := int(c.n.cfg.MaxClaims)
	cheap := c.lane(proto.CIDOf([]byte("cheap")), 0, "payer", 0)
	dear := c.lane(proto.CIDOf([]byte("dear")), 0, "another", 0)
	cheap.earned, dear.earned = 16, 1000
	c.grow(cheap, &cheap.outputs, most/2)
	c.grow(dear, &dear.outputs, most/2+1)
	admits := func(stake proto.Credit) error {
		return c.admits(proto.CIDOf([]byte("hold")), 0, "late", []byte("a batch"), stake)
	}
	if err := admits(16*maxClaimLanes - 1); proto.CodeOf(err) != proto.CodeBusy {
		t.Errorf("for nothing: %v", err)
	}
	if err := admits(16 * maxClaimLanes); err != nil || !cheap.bare || dear.bare {
		t.Errorf("%v, %+v, %+v", err, cheap, dear)
	}
}

// Vouchers alone are bounded, too: the least goes, for one of a thousand times as
// much, and those of earlier runs are claimed and forgotten like others.
func TestVouchersMakeRoom(t *testing.T) {
	e := newEarner(t)
	c := e.n.claims
	e.pay(2)
	if w := c.lanes[laneKey(e.hold, 0)]; w == nil || !w.bare || c.proofs != 0 {
		t.Fatalf("%+v", w)
	}
	e.again()
	c = e.n.claims
	if got := e.claimed(); got != 2 {
		t.Errorf("after another start the claim is worth %d", got)
	}
	for i := range maxLaneEntries - 1 {
		c.promised(proto.CIDOf(fmt.Append(nil, "hold ", i)), 0, "payer", 3)
	}
	late := proto.CIDOf([]byte("late"))
	if c.promised(late, 0, "late", 2*maxClaimLanes-1) || c.lanes[laneKey(e.hold, 0)] == nil {
		t.Error("a voucher gave way for nothing")
	}
	if !c.promised(late, 0, "late", 2*maxClaimLanes) || c.lanes[laneKey(e.hold, 0)] != nil || len(c.lanes) != maxLaneEntries {
		t.Errorf("%d vouchers", len(c.lanes))
	}
	if _, err := c.n.kv.get(voucherKey(e.hold, 0)); err == nil {
		t.Error("what gave way is still stored")
	}
}

// Claims are made while the market's goroutine learns whose a lane is (with -race).
func TestClaimsAreMadeWhileLanesAreAdopted(t *testing.T) {
	e := newEarner(t)
	e.take(e.batch(nil, e.order(0, 1)))
	e.deliver(e.order(0, 1))
	c := e.n.claims
	w := c.lanes[laneKey(e.hold, 0)]
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := range 200 {
			c.promised(e.hold, 0, []peer.ID{"another", e.n.self}[i%2], 0)
		}
	}()
	for range 20 {
		if _, err := c.claim(w); err != nil {
			t.Error(err)
		}
		if err := c.outvoted("third", &proto.Abort{Hold: e.hold.Bytes()}); err != nil {
			t.Error(err)
		}
	}
	<-ended
	if got := e.claimed(); got != proto.OneCredit {
		t.Errorf("the claim is worth %s", got)
	}
}

// A payer that has all its places owing is looked at once a second, and at once
// when it promised something.
func TestFullPayersAreLookedAtOnceASecond(t *testing.T) {
	c := alone(t).claims
	lane := func(i int) *laneWork { return c.lane(proto.CIDOf(fmt.Append(nil, "hold ", i)), 0, "payer", 0) }
	for i := range maxPayerLanes {
		lane(i).earned = 10
	}
	if lane(-1) != nil {
		t.Fatal("a debt gave way")
	}
	lane(0).earned = 0
	if lane(-1) != nil {
		t.Error("all lanes were looked through again")
	}
	c.promised(proto.CIDOf([]byte("hold 1")), 0, "payer", 1)
	if lane(-1) == nil {
		t.Error("no place though something was promised")
	}
	lane(1).earned = 0
	c.payers["payer"].full = time.Now().Add(-gatherEvery)
	if lane(-2) == nil {
		t.Error("no place a second later")
	}
}
