package node

import (
	"context"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"

	"edgenet.dev/ledger"
	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// Holds and settlements: what the market asks of the wallet.

// hold answers the market's RequestHold.
func (w *wallet) hold(ctx context.Context, o market.RequestHold) {
	var body any = newHold(o)
	if o.Hold.Defined() {
		body = newExtend(o)
	}
	c, err := w.certifyOr(ctx, body, func(why string) { w.waitFor(o.Req, why) })
	if err != nil {
		if ctx.Err() == nil {
			w.n.jobs.post(market.HoldFailed{Req: o.Req, Code: proto.CodeOf(err), Reason: err.Error()})
		}
		return
	}
	id := c.ID
	if o.Hold.Defined() {
		id = o.Hold
	}
	st, _ := w.holdState(id)
	w.n.jobs.post(market.HoldCertified{Req: o.Req, Hold: holdRecord(st)})
}

func newHold(o market.RequestHold) *proto.Hold {
	return &proto.Hold{Job: o.Job[:], Budget: uint64(o.Budget), DeadlineUnixMs: uint64(o.Deadline.UnixMilli()), Lanes: newLanes(o.Lanes)}
}

func newExtend(o market.RequestHold) *proto.Extend {
	return &proto.Extend{Hold: o.Hold.Bytes(), Budget: uint64(o.Budget), DeadlineUnixMs: uint64(o.Deadline.UnixMilli()), Lanes: newLanes(o.Lanes)}
}

func newLanes(add []market.LaneRecord) []*proto.Lane {
	lanes := make([]*proto.Lane, len(add))
	for i, l := range add {
		lanes[i] = &proto.Lane{Worker: []byte(l.Worker), Cap: uint64(l.Cap)}
		if l.Payee != "" && l.Payee != l.Worker {
			lanes[i].Payee = []byte(l.Payee)
		}
	}
	return lanes
}

// settle pays lane totals and answers with what is paid now.
func (w *wallet) settle(ctx context.Context, o market.Settle) {
	before, _ := w.holdState(o.Hold)
	s := &proto.Settle{Hold: o.Hold.Bytes(), Final: o.Final}
	for _, p := range o.Pays {
		lp := &proto.LanePay{Lane: p.Lane, Amount: uint64(p.Amount), Fuel: uint64(p.Fuel)}
		if p.Done {
			done, err := w.n.kv.get(doneKey(o.Hold, p.Lane))
			if err != nil {
				w.n.log.Error("a worker's Done is lost", zap.Stringer("hold", o.Hold), zap.Error(err))
			}
			lp.Done = done
		}
		s.Pays = append(s.Pays, lp)
	}
	for _, part := range ledger.SplitSettle(s) {
		if _, err := w.certify(ctx, part); err != nil {
			if ctx.Err() != nil {
				return
			}
			// The totals are on disk; the market settles again later.
			w.n.log.Error("settlement refused", zap.Stringer("hold", o.Hold), zap.Error(err))
			break
		}
	}
	st, _ := w.holdState(o.Hold)
	if paid := paidOf(st) - paidOf(before); paid > 0 && st.ID.Equals(before.ID) {
		w.n.activity.count(func(c *Counts) { c.Paid += paid })
		w.n.activity.say("workers paid", zap.Stringer("hold", o.Hold), zap.Stringer("job", st.Job), zap.Stringer("credits", paid), zap.Int("workers", len(o.Pays)))
	}
	in := market.Settled{Hold: o.Hold, Closed: st.Closed}
	for _, l := range st.Lanes {
		in.Paid = append(in.Paid, l.Paid)
		in.Done = append(in.Done, l.Done)
	}
	w.n.jobs.post(in)
}

// paidOf is what a hold has paid to all its lanes.
func paidOf(st ledger.HoldState) (paid proto.Credit) {
	for _, l := range st.Lanes {
		paid += l.Paid
	}
	return paid
}

func holdRecord(st ledger.HoldState) market.HoldRecord {
	r := market.HoldRecord{Hold: st.ID, Job: st.Job, Budget: st.Budget, Deadline: proto.UnixMs(st.DeadlineUnixMs), Closed: st.Closed}
	for _, l := range st.Lanes {
		lane := market.LaneRecord{Worker: l.Worker, Cap: l.Cap, Amount: l.Paid, Fuel: l.Fuel, Settled: l.Paid, Done: l.Done}
		if l.Payee != l.Worker { // to the ledger every lane has a payee, to the market only one that is not the worker
			lane.Payee = l.Payee
		}
		r.Lanes = append(r.Lanes, lane)
	}
	return r
}

// reconcileHolds brings saved holds and the ledger's together: what an earlier
// run promised is in the record, what was settled is in the ledger, and a hold
// that was certified just before a crash has no record at all.
func (w *wallet) reconcileHolds(saved []market.HoldRecord) []market.HoldRecord {
	w.mu.Lock()
	defer w.mu.Unlock()
	byID := map[cid.Cid]market.HoldRecord{}
	for _, r := range saved {
		byID[r.Hold] = r
	}
	var out []market.HoldRecord
	for _, st := range w.l.Holds(w.n.self) {
		now := holdRecord(st)
		if old, ok := byID[st.ID]; ok {
			for i := range now.Lanes {
				if i < len(old.Lanes) && old.Lanes[i].Worker == now.Lanes[i].Worker {
					now.Lanes[i].Amount = max(now.Lanes[i].Amount, old.Lanes[i].Amount)
					now.Lanes[i].Fuel = max(now.Lanes[i].Fuel, old.Lanes[i].Fuel)
					now.Lanes[i].Upto = old.Lanes[i].Upto
				}
			}
		}
		out = append(out, now)
	}
	return out
}

func (w *wallet) holdState(id cid.Cid) (ledger.HoldState, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.l.Hold(id)
}

func (w *wallet) hasHold(id cid.Cid) bool {
	_, ok := w.holdState(id)
	return ok
}

func (w *wallet) holdEvents(id cid.Cid) []*proto.CertifiedEvent {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*proto.CertifiedEvent
	for _, c := range w.l.HoldEvents(id) {
		out = append(out, c.Wire)
	}
	return out
}

// setAside is what open lanes of this node may still pay a worker.
func (w *wallet) setAside(worker peer.ID) (sum proto.Credit) {
	w.lanesOf(worker, func(l ledger.Lane) { sum += l.Cap - min(l.Cap, l.Paid) })
	return sum
}

// hasLane reports whether an open hold of this node has an open lane for a
// worker. After deadline and grace the worker is not waited for any more.
func (w *wallet) hasLane(worker peer.ID) (has bool) {
	w.lanesOf(worker, func(ledger.Lane) { has = true })
	return has
}

// lanesOf visits the open lanes of this node for a worker, until deadline and grace
// of their holds are over.
func (w *wallet) lanesOf(worker peer.ID, visit func(ledger.Lane)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	late := uint64(time.Now().Add(-w.n.net.Grace()).UnixMilli())
	for _, h := range w.l.Holds(w.n.self) {
		if h.DeadlineUnixMs < late {
			continue
		}
		if _, l, ok := h.Lane(worker); ok && !l.Done {
			visit(l)
		}
	}
}
