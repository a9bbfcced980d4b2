package ledger

import (
	"fmt"
	"slices"

	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// maxClaimReceipts bounds the receipts in one WorkClaim.
const maxClaimReceipts = 1024

// Claimed is what a valid WorkClaim proves.
type Claimed struct {
	Hold    cid.Cid
	Lane    uint32
	Worker  peer.ID
	Amount  proto.Credit // cumulative on the lane, at most its cap
	Fuel    proto.Fuel   // cumulative
	Outputs []proto.Hash // results that the worker must still serve, sorted, each once; none when the voucher decides
}

// CheckClaim checks a marshalled Envelope of WorkClaim against an open hold of
// the state. The amount is the larger of the payer's newest voucher and the
// sum over the receipts in the claim: a voucher does not say which receipts
// it covers, so adding both could count work twice. Receipts count when the
// payer signed an assignment of this lane for exactly that work; a task counts
// once for each fuel limit. What does not count is left out, and the rest is not
// worth less for it: payers sign what they like, and a worker that keeps one bad
// item must not lose the others. Whether the work is right cannot be seen here, nor
// whether its Outputs can be fetched, which is the caller's to find out.
func (l *Ledger) CheckClaim(raw []byte) (Claimed, error) {
	c, err := ReadClaim(raw)
	if err != nil {
		return Claimed{}, err
	}
	return l.Proves(c)
}

// Proves is CheckClaim for a claim that is read. It checks signatures unless
// Verify was called before, which needs no ledger and takes long.
func (l *Ledger) Proves(c *SignedClaim) (Claimed, error) {
	if _, _, err := l.claim(c); err != nil {
		return Claimed{}, err
	}
	if err := c.Verify(l.net); err != nil {
		return Claimed{}, err
	}
	got, _, err := l.claim(c)
	if err != nil {
		return Claimed{}, err
	}
	return got, nil
}

// SignedClaim is a WorkClaim that was read. The three parts of CheckClaim cost
// differently: ReadClaim and Verify, up to thousands of signatures, need no
// ledger; what is asked of the ledger is little. For use by one goroutine.
type SignedClaim struct {
	raw    []byte
	id     cid.Cid
	body   *proto.WorkClaim
	hold   cid.Cid
	worker peer.ID

	voucher  voucherSaid
	batches  []batchSaid   // as in body
	receipts []receiptSaid // as in body

	checked bool
	bad     error // the worker's own signature, once checked
	tally   tally
}

// What an item of a claim says, and why it is left out, if it is. Vouchers and
// assignments are signed with the key of the payer's peer id, whatever key signs
// its events.
type (
	voucherSaid struct {
		payer  peer.ID
		amount proto.Credit
		fuel   proto.Fuel
		err    error
	}
	batchSaid struct {
		payer  peer.ID
		orders []workKey
		err    error
	}
	receiptSaid struct {
		payer  peer.ID
		work   workKey
		pay    uint64
		fuel   uint64
		output proto.Hash
		err    error
	}
)

// tally is what a claim's items come to for one payer.
type tally struct {
	payer   peer.ID
	ordered bool // only work that is ordered
	known   bool
	says    Claimed
	leftOut error // the first item's, when nothing counts
}

// ReadClaim reads a marshalled Envelope of WorkClaim: all that neither
// signatures nor the state decide. Errors carry a code.
func ReadClaim(raw []byte) (*SignedClaim, error) {
	s, err := openUnchecked(raw, proto.KindWorkClaim)
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	w := s.Payload.GetWorkClaim()
	id, err := proto.ParseCID(w.GetHold())
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	if len(w.Receipts) > maxClaimReceipts {
		return nil, proto.CodeTooLarge.Errorf("claim: %d receipts, at most %d", len(w.Receipts), maxClaimReceipts)
	}
	c := &SignedClaim{raw: raw, id: s.ID, body: w, hold: id, worker: s.Signer}
	if len(w.Voucher) > 0 {
		c.voucher = c.readVoucher()
	}
	for i, raw := range w.Assignments {
		c.batches = append(c.batches, c.readBatch(i, raw))
	}
	for i, sr := range w.Receipts {
		c.receipts = append(c.receipts, c.readReceipt(i, sr))
	}
	return c, nil
}

func (c *SignedClaim) readVoucher() (v voucherSaid) {
	s, err := openUnchecked(c.body.Voucher, proto.KindVoucher)
	if err != nil {
		return voucherSaid{err: fmt.Errorf("voucher: %w", err)}
	}
	b := s.Payload.GetVoucher()
	if string(b.GetHold()) != string(c.body.Hold) || b.Lane != c.body.Lane || string(b.Worker) != string(c.worker) {
		return voucherSaid{err: proto.CodeInvalidEvent.Errorf("voucher: it is for another lane")}
	}
	return voucherSaid{payer: s.Signer, amount: proto.Credit(b.Amount), fuel: proto.Fuel(b.Fuel)}
}

// workKey names what an assignment orders and a receipt delivers.
type workKey struct {
	job               proto.JobID
	task, replica     uint32
	module, inputHash string
	meter             uint32
	price, fuelLimit  uint64
}

// once names what a claim counts once. A task that is tried with growing fuel
// limits is as much work as there are limits.
type once struct {
	job               proto.JobID
	task              uint32
	module, inputHash string
	fuelLimit         uint64
}

func (k workKey) once() once { return once{k.job, k.task, k.module, k.inputHash, k.fuelLimit} }

// readBatch reads one batch of the payer's assignments for the lane.
func (c *SignedClaim) readBatch(i int, raw []byte) (x batchSaid) {
	s, err := openUnchecked(raw, proto.KindAssignments)
	if err != nil {
		return batchSaid{err: fmt.Errorf("assignments %d: %w", i, err)}
	}
	b := s.Payload.GetAssignments()
	if string(b.GetHold()) != string(c.body.Hold) || b.Lane != c.body.Lane || peer.ID(b.Worker) != c.worker {
		return batchSaid{err: proto.CodeInvalidEvent.Errorf("assignments %d are for another lane", i)}
	}
	x.payer = s.Signer
	for _, a := range b.Assignments {
		if job, err := proto.ToJobID(a.GetJob()); err == nil {
			x.orders = append(x.orders, workKey{job, a.Task, a.Replica, string(a.Module), string(a.InputHash), a.MeterVersion, a.Price, a.FuelLimit})
		}
	}
	return x
}

func (c *SignedClaim) readReceipt(i int, sr *proto.SignedReceipt) (x receiptSaid) {
	bad := func(err error) receiptSaid { return receiptSaid{err: err} }
	if sr == nil {
		return bad(proto.CodeMalformed.Errorf("receipt %d is missing", i))
	}
	r := new(proto.Receipt)
	if err := goproto.Unmarshal(sr.Receipt, r); err != nil {
		return bad(proto.CodeMalformed.Errorf("receipt %d: %v", i, err))
	}
	job, err := proto.ToJobID(r.Job)
	if err != nil {
		return bad(fmt.Errorf("receipt %d: %w", i, err))
	}
	output, err := proto.ToHash(r.OutputHash)
	switch {
	case peer.ID(r.Worker) != c.worker:
		return bad(proto.CodeBadReceipt.Errorf("receipt %d is of another worker", i))
	case r.Fuel > min(r.FuelLimit, uint64(proto.MaxFuel)) || !proto.Status(r.Status).Votable() || err != nil:
		return bad(proto.CodeBadReceipt.Errorf("receipt %d: fuel %d of %d, status %d", i, r.Fuel, r.FuelLimit, r.Status))
	}
	return receiptSaid{
		payer: peer.ID(r.Submitter), fuel: r.Fuel, output: output,
		work: workKey{job, r.Task, r.Replica, string(r.Module), string(r.InputHash), r.MeterVersion, r.Price, r.FuelLimit},
		pay:  min(uint64(proto.PayFor(proto.Fuel(r.Fuel), proto.Credit(r.Price))), maxAmount),
	}
}

// count is what the claim says of a payer's lane, before the lane's cap. The
// error is why an item is left out, when nothing counts.
func (c *SignedClaim) count(payer peer.ID, ordered bool) (Claimed, error) {
	if k := c.tally; k.known && k.payer == payer && k.ordered == ordered {
		return k.says, k.leftOut
	}
	says := Claimed{Hold: c.hold, Lane: c.body.Lane, Worker: c.worker}
	var leftOut error
	out := func(err error) {
		if leftOut == nil {
			leftOut = fmt.Errorf("claim: %w", err)
		}
	}
	of := func(by peer.ID, err error) bool {
		if err == nil && by != payer {
			err = proto.CodeBadSignature.Errorf("signed by %s, the payer is %s", by, payer)
		}
		if err != nil {
			out(err)
		}
		return err == nil
	}
	if len(c.body.Voucher) > 0 && of(c.voucher.payer, c.voucher.err) {
		says.Amount, says.Fuel = c.voucher.amount, c.voucher.fuel
	}
	orders := map[workKey]bool{}
	for _, b := range c.batches {
		if of(b.payer, b.err) {
			for _, k := range b.orders {
				orders[k] = true
			}
		}
	}
	var amount, fuel uint64
	seen := map[once]bool{}
	var outputs []proto.Hash
	for i, r := range c.receipts {
		switch {
		case !of(r.payer, r.err):
		case ordered && !orders[r.work]:
			out(proto.CodeBadReceipt.Errorf("receipt %d is for work that the payer did not assign on this lane", i))
		case seen[r.work.once()]:
			out(proto.CodeDuplicate.Errorf("receipt %d: task %s/%d is claimed twice", i, r.work.job, r.work.task))
		case amount > maxAmount-r.pay:
			out(proto.CodeTooLarge.Errorf("receipt %d: the sum is above every hold", i))
		default:
			seen[r.work.once()] = true
			amount += r.pay
			fuel += r.fuel // at most 1024 · 2^52
			outputs = append(outputs, r.output)
		}
	}
	if proto.Credit(amount) > says.Amount { // else the payer had them before it signed the voucher
		says.Amount, says.Fuel = proto.Credit(amount), max(proto.Fuel(fuel), says.Fuel)
		slices.SortFunc(outputs, func(a, b proto.Hash) int { return slices.Compare(a[:], b[:]) })
		says.Outputs = slices.Compact(outputs)
	}
	says.Fuel = min(says.Fuel, proto.Fuel(maxCumulativeFuel))
	if says.Amount > 0 {
		leftOut = nil
	}
	c.tally = tally{payer, ordered, true, says, leftOut}
	return says, leftOut
}

// Verify checks the signatures in a claim, the worker's own first. Other items
// with bad ones are left out. It needs no ledger and is done once. Errors carry
// a code.
func (c *SignedClaim) Verify(net *proto.Network) error {
	if !c.checked {
		c.checked, c.tally = true, tally{}
		if _, err := openSigned(net.ID, c.raw, proto.KindWorkClaim); err != nil {
			c.bad = fmt.Errorf("claim: %w", err)
			return c.bad
		}
		if len(c.body.Voucher) > 0 && c.voucher.err == nil {
			if _, err := openSigned(net.ID, c.body.Voucher, proto.KindVoucher); err != nil {
				c.voucher.err = fmt.Errorf("voucher: %w", err)
			}
		}
		for i := range c.batches {
			if x := &c.batches[i]; x.err == nil {
				if _, err := openSigned(net.ID, c.body.Assignments[i], proto.KindAssignments); err != nil {
					x.err = fmt.Errorf("assignments %d: %w", i, err)
				}
			}
		}
		for i := range c.receipts {
			if x := &c.receipts[i]; x.err == nil {
				if _, err := proto.VerifyReceipt(net.ID, c.body.Receipts[i]); err != nil {
					x.err = fmt.Errorf("receipt %d: %w", i, err)
				}
			}
		}
	}
	return c.bad
}

// claim is what a claim proves of its lane if its signatures are good.
func (l *Ledger) claim(c *SignedClaim) (got Claimed, lane Lane, err error) {
	h, at := l.hold(c.hold), c.body.Lane
	switch {
	case h == nil:
		err = proto.CodeNotFinal.Errorf("claim: hold %s is not certified here", c.hold)
	case h.closed:
		err = proto.CodeExpired.Errorf("claim: hold %s is closed", c.hold)
	case uint64(at) >= uint64(len(h.lanes)):
		err = proto.CodeInvalidEvent.Errorf("claim: hold %s has no lane %d", c.hold, at)
	case h.lanes[at].Worker != c.worker:
		err = proto.CodeBadSignature.Errorf("claim: lane %d is not %s's", at, c.worker)
	default:
		got, err = c.count(h.payer, !l.s.off.has(guardAssigned))
		lane = h.lanes[at]
		got.Amount = min(got.Amount, lane.Cap)
	}
	return got, lane, err
}
