package node

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
)

// What a lane's work is worth to its worker: what a claim of it proves. A worker
// signs Done for no less, so a payer that has results pays for them, whatever it
// says of them, or waits until the witnesses make it.

// order is what an assignment orders and a receipt delivers.
type order struct {
	job, module, input string
	task, replica      uint32
	meter              uint32
	price, fuelLimit   uint64
}

func receiptOrder(r *proto.Receipt) order {
	return order{string(r.Job), string(r.Module), string(r.InputHash), r.Task, r.Replica, r.MeterVersion, r.Price, r.FuelLimit}
}

// once leaves what ledger.CheckClaim counts once.
func (o order) once() order {
	o.replica, o.meter, o.price = 0, 0, 0
	return o
}

// batch is a payer's signed assignments.
type batch struct {
	raw  []byte
	pay  proto.Credit // for what it orders and was delivered
	cost int          // bytes of it and of those receipts
}

// proven is a receipt with the assignments that order its work.
type proven struct {
	receipt *proto.SignedReceipt
	batch   *batch
	pay     proto.Credit
	size    int
	output  proto.Hash
	outputs int // bytes
}

// claim makes the signed claim of a lane from what is kept; nil when nothing is.
func (c *claims) claim(w *laneWork) ([]byte, error) {
	c.mu.Lock()
	payer := w.payer
	c.mu.Unlock()
	m, _, err := c.gather(w, payer)
	if err != nil || m == nil {
		return nil, err
	}
	return c.n.seal(&proto.Payload{Body: &proto.Payload_WorkClaim{WorkClaim: m}})
}

// gather makes a lane's claim, nil when nothing is kept, and says what its
// receipts prove. Without the lock payer alone says whose the lane is.
func (c *claims) gather(w *laneWork, payer peer.ID) (*proto.WorkClaim, proto.Credit, error) {
	m := &proto.WorkClaim{Hold: w.hold.Bytes(), Lane: w.lane}
	if v, err := c.n.kv.get(voucherKey(w.hold, w.lane)); err == nil {
		m.Voucher = v
	}
	work, err := c.proven(w, payer)
	if err != nil {
		return nil, 0, err
	}
	best, pay := choose(work, maxClaimBytes-goproto.Size(m), math.MaxInt)
	show(m, best)
	if len(m.Voucher)+len(m.Receipts) == 0 {
		return nil, 0, nil
	}
	return m, pay, nil
}

// choose takes the work that a claim shows: at most so many bytes of it, and of
// outputs. The payer decides what the assignments are that come with it, so these
// must not use up the claim's room: of two choices the better one is taken, the
// dearest work first or what is worth most for the room it takes.
func choose(work []proven, room, outputs int) (best []proven, pay proto.Credit) {
	slices.SortStableFunc(work, func(x, y proven) int { return cmp.Compare(y.pay, x.pay) })
	best, pay = fitting(work, room, outputs)
	slices.SortStableFunc(work, func(x, y proven) int {
		return cmp.Compare(float64(y.batch.pay)/float64(y.batch.cost), float64(x.batch.pay)/float64(x.batch.cost))
	})
	if dense, more := fitting(work, room, outputs); more > pay {
		best, pay = dense, more
	}
	return best, pay
}

// show puts work into a claim.
func show(m *proto.WorkClaim, work []proven) {
	has := map[*batch]bool{}
	for _, p := range work {
		if !has[p.batch] {
			has[p.batch] = true
			m.Assignments = append(m.Assignments, p.batch.raw)
		}
		m.Receipts = append(m.Receipts, p.receipt)
	}
}

// around is how many bytes there are around an item in a claim, at most.
const around = 8

// fitting takes work in its order as long as a claim has room for it, with the
// assignments that order it.
func fitting(work []proven, room, outputs int) (out []proven, pay proto.Credit) {
	has := map[*batch]bool{}
	for _, p := range work {
		more := p.size
		if !has[p.batch] {
			more += len(p.batch.raw) + around
		}
		if more > room || p.outputs > outputs || len(out) == maxClaimTasks {
			continue
		}
		room -= more
		outputs -= p.outputs
		has[p.batch] = true
		pay += p.pay
		out = append(out, p)
	}
	return out, pay
}

// proven lists a lane's work that the payer ordered on it, each once. Every record
// is judged again: one that is bad leaves the others what they are. Assignments
// are read before receipts, because their keys sort first.
func (c *claims) proven(w *laneWork, payer peer.ID) ([]proven, error) {
	orders := map[order][]*batch{}
	byPayer := map[*batch]peer.ID{}
	useless := map[string]bool{} // hashes of receipts
	seen := map[order]bool{}
	type done struct {
		proven
		order
		payer peer.ID
		hash  string
	}
	var list []done
	ordered := func(raw []byte) {
		b := c.ordered(w, payer, raw)
		if b == nil {
			return
		}
		x := &batch{raw: raw, cost: len(raw) + around}
		byPayer[x] = b.Signer
		for _, a := range b.Payload.GetAssignments().GetAssignments() {
			o := order{string(a.GetJob()), string(a.GetModule()), string(a.GetInputHash()), a.GetTask(), a.GetReplica(), a.GetMeterVersion(), a.GetPrice(), a.GetFuelLimit()}
			orders[o] = append(orders[o], x)
		}
	}
	err := c.n.kv.scan("work/"+laneKey(w.hold, w.lane)+"/", func(key string, v []byte) error {
		name := key[strings.LastIndexByte(key, '/')+1:]
		switch name[0] {
		case 'a':
			ordered(v)
		case 'c':
			for _, raw := range claimOf(v).GetAssignments() {
				ordered(raw)
			}
		case 'x':
			useless[name[1:]] = true
		}
		for _, sr := range c.receipts(name[0], v) {
			rc := new(proto.Receipt)
			if goproto.Unmarshal(sr.Receipt, rc) != nil || !proto.Status(rc.Status).Votable() || rc.Fuel > rc.FuelLimit {
				continue
			}
			d := done{
				proven{receipt: sr, pay: payOf(rc), size: goproto.Size(sr) + around, outputs: sizeOf(rc)},
				receiptOrder(rc), peer.ID(rc.Submitter), proto.HashOf(sr.Receipt).String(),
			}
			d.output, _ = proto.ToHash(rc.OutputHash) // of a receipt that this node signed
			list = append(list, d)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("state store: %w", err)
	}
	// Of several batches that order the same, the one with the most work in it.
	for _, d := range list {
		for _, b := range orders[d.order] {
			b.pay += d.pay
			b.cost += d.size
		}
	}
	var out []proven
	for _, d := range list {
		for _, b := range orders[d.order] {
			if byPayer[b] == d.payer && (d.batch == nil || b.pay > d.batch.pay || b.pay == d.batch.pay && len(b.raw) < len(d.batch.raw)) {
				d.batch = b
			}
		}
		if d.batch != nil && !useless[d.hash] && !seen[d.once()] {
			seen[d.once()] = true
			out = append(out, d.proven)
		}
	}
	return out, nil
}

// ordered are a record's assignments if they are a lane's: for this worker, by its
// payer, if that is known.
func (c *claims) ordered(w *laneWork, payer peer.ID, raw []byte) *proto.Signed {
	s, err := proto.Inspect(raw, proto.KindAssignments)
	if err != nil {
		return nil
	}
	b := s.Payload.GetAssignments()
	if b == nil || peer.ID(b.Worker) != c.n.self || string(b.Hold) != w.hold.KeyString() || b.Lane != w.lane || payer != "" && payer != s.Signer {
		return nil
	}
	return s
}

// receipts are those of a record that are its lane's, with their places in the
// signed batch.
func (c *claims) receipts(kind byte, record []byte) (out []*proto.SignedReceipt) {
	switch kind {
	case 'c':
		return claimOf(record).GetReceipts()
	case 'r':
	default:
		return nil
	}
	var r proto.Results
	if goproto.Unmarshal(record, &r) != nil {
		return nil
	}
	var raws [][]byte
	for _, it := range r.Items {
		raws = append(raws, it.GetReceipt())
	}
	_, all, err := proto.OpenReceipts(c.n.net.ID, r.Batch, raws)
	if err != nil {
		return nil
	}
	for i, sr := range all {
		if !r.Items[i].GetByCid() {
			out = append(out, sr)
		}
	}
	return out
}

// claimOf reads what compact wrote.
func claimOf(record []byte) *proto.WorkClaim {
	m := new(proto.WorkClaim)
	if goproto.Unmarshal(record, m) != nil {
		return nil
	}
	return m
}

func payOf(rc *proto.Receipt) proto.Credit {
	return proto.PayFor(proto.Fuel(rc.Fuel), proto.Credit(rc.Price))
}

func sizeOf(rc *proto.Receipt) int { return int(min(rc.OutputSize, proto.MaxOutput)) }

// done signs Done for a lane whose payer asked for it, and takes no more work on
// it. The amount is what the payer promised, or what the receipts kept here prove,
// up to the lane's cap, where that is more: then the claim that shows it comes with
// it. Nothing comes when there is no room to remember it.
func (c *claims) done(d *proto.Done, payer peer.ID, most proto.Credit) (done, claim []byte, err error) {
	hold, err := proto.ParseCID(d.Hold)
	if err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	w := c.find(hold, d.Lane, payer)
	if w == nil {
		w = c.lane(hold, d.Lane, payer, proto.Credit(d.Amount))
	}
	if w != nil && !w.done {
		w.done = true
		c.put(w.key('y', ""), []byte(payer))
	}
	c.mu.Unlock()
	if w == nil {
		return nil, nil, nil
	}
	m, pay, err := c.gather(w, payer)
	if err != nil {
		return nil, nil, err
	}
	if pay = min(pay, most); m != nil && uint64(pay) > d.Amount {
		c.n.log.Info("the payer ends a lane and has not paid all of it", zap.Stringer("hold", hold), zap.Stringer("payer", payer),
			zap.Stringer("promised", proto.Credit(d.Amount)), zap.Stringer("earned", pay))
		d = &proto.Done{Hold: d.Hold, Lane: d.Lane, Amount: uint64(pay)}
		if claim, err = c.n.seal(&proto.Payload{Body: &proto.Payload_WorkClaim{WorkClaim: m}}); err != nil {
			return nil, nil, err
		}
	}
	done, err = c.n.seal(&proto.Payload{Body: &proto.Payload_Done{Done: d}})
	return done, claim, err
}

// leastVotes is how many others must agree on another result for one to have
// lost: with it they are three.
const leastVotes = 2

// outvoted takes a payer's word that a result of this worker lost the vote, with
// the receipts of those that won, and does not ask to be paid for it any more.
func (c *claims) outvoted(from peer.ID, a *proto.Abort) error {
	hold, err := proto.ParseCID(a.GetHold())
	if err != nil {
		return err
	}
	if len(a.Votes) > proto.MaxRedundancy {
		return proto.CodeTooLarge.Errorf("%d votes", len(a.Votes))
	}
	c.mu.Lock()
	w := c.lanes[laneKey(hold, a.Lane)]
	his := w != nil && w.payer == from
	c.mu.Unlock()
	if !his {
		return nil
	}
	var first *proto.Receipt
	votes := map[string]bool{}
	for _, sr := range a.Votes {
		r, err := proto.VerifyReceipt(c.n.net.ID, sr)
		if err != nil {
			return err
		}
		if first == nil {
			first = r
		}
		if peer.ID(r.Worker) == c.n.self || peer.ID(r.Submitter) != from || !sameTask(r, first) || !sameResult(r, first) {
			return proto.CodeBadReceipt.Errorf("votes of %s are not for one result of others", from)
		}
		votes[string(r.Worker)] = true
	}
	if len(votes) < leastVotes {
		return proto.CodeBadReceipt.Errorf("%d votes against a result, at least %d are needed", len(votes), leastVotes)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var lost []write
	var less proto.Credit
	err = c.n.kv.scan("work/"+laneKey(w.hold, w.lane)+"/", func(key string, v []byte) error {
		for _, sr := range c.receipts(key[strings.LastIndexByte(key, '/')+1], v) {
			r := new(proto.Receipt)
			if goproto.Unmarshal(sr.GetReceipt(), r) != nil || !sameTask(r, first) || sameResult(r, first) {
				continue
			}
			x := w.key('x', proto.HashOf(sr.GetReceipt()).String())
			if _, err := c.n.kv.get(x); err == nil {
				continue // shown before
			}
			lost = append(lost, write{x, creditsText(payOf(r))})
			less += payOf(r)
		}
		return nil
	})
	if err == nil {
		err = c.n.kv.lazily(lost)
	}
	if err != nil {
		return fmt.Errorf("state store: %w", err)
	}
	w.earned -= min(w.earned, less)
	w.provable -= min(w.provable, less)
	return nil
}

// sameTask reports whether two receipts are for the same work. Replicas may be
// paid differently for it.
func sameTask(a, b *proto.Receipt) bool {
	x, y := receiptOrder(a).once(), receiptOrder(b).once()
	return x == y && a.MeterVersion == b.MeterVersion
}

func sameResult(a, b *proto.Receipt) bool {
	return a.Status == b.Status && a.ExitCode == b.ExitCode && a.Fuel == b.Fuel && string(a.OutputHash) == string(b.OutputHash)
}
