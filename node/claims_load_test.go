package node

import (
	"testing"

	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// again has the worker forget all that it keeps in memory of unpaid work, as a
// crash does.
func (e *earner) again() {
	e.t.Helper()
	e.n.claims = newClaims(e.n)
	if err := e.n.claims.load(); err != nil {
		e.t.Fatal(err)
	}
}

// assign has the payer send assignments on its stream, and the market judge them.
func (e *earner) assign(list ...*proto.Assignment) {
	e.t.Helper()
	var in []*proto.Input
	for range list {
		in = append(in, &proto.Input{Where: &proto.Input_Inline{Inline: []byte("input")}})
	}
	if err := e.n.work.assigned(e.l, &proto.Assign{Batch: e.batch(nil, list...), Inputs: in}); err != nil {
		e.t.Fatal(err)
	}
	if err := e.n.tell(e.n.ctx, market.Tick{}); err != nil {
		e.t.Fatal(err)
	}
}

// Whatever is left of a lane names its payer after another start: more work on it
// is counted as that payer's.
func TestLanesKnowTheirPayer(t *testing.T) {
	for name, leave := range map[string]func(e *earner){
		"assignments": func(e *earner) { e.take(e.batch(nil, e.order(0, 2))) },
		"receipts":    func(e *earner) { e.deliver(e.order(0, 2)) },
		"done":        func(e *earner) { e.finish(1) },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEarner(t)
			leave(e)
			e.again()
			c := e.n.claims
			for _, when := range []string{"after another start", "with more work"} {
				if p := c.payers[e.n.self]; len(c.payers) != 1 || p == nil || p.entries != 1 || p.bytes != c.bytes {
					t.Errorf("%s %+v of %d payers", when, p, len(c.payers))
				}
				e.assign(e.order(1, 1))
			}
		})
	}
}

// A lane of which nothing says whose it is, as an earlier version left it, is its
// certified payer's.
func TestLanesWithoutAPayerAreAdopted(t *testing.T) {
	e := newEarner(t)
	w := &laneWork{hold: e.hold}
	e.n.claims.put(w.key('y', ""), []byte{})
	e.again()
	e.assign(e.order(1, 1))
	c := e.n.claims
	if p := c.payers[e.n.self]; len(c.payers) != 1 || p == nil || p.lanes != 1 {
		t.Errorf("%+v of %d payers", p, len(c.payers))
	}
}
