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
// once for each fuel limit. Whether the work is right cannot be seen here, nor
// whether its Outputs can be fetched, which is the caller's to find out.
func (l *Ledger) CheckClaim(raw []byte) (Claimed, error) {
	c, err := ReadClaim(raw)
	if err != nil {
		return Claimed{}, err
	}
	got, _, err := l.claim(c)
	if err == nil {
		err = c.Verify(l.net)
	}
	if err != nil {
		return Claimed{}, err
	}
	return got, nil
}

// SignedClaim is a WorkClaim that was read. The three parts of CheckClaim cost
// differently: ReadClaim and Verify, up to thousands of signatures, need no
// ledger; what is asked of the ledger is little. For use by one goroutine.
type SignedClaim struct {
	raw  []byte
	id   cid.Cid
	body *proto.WorkClaim
	says Claimed // before the lane's cap
	// payer signed the voucher and the assignments and is named by the receipts;
	// empty when there are none.
	payer      peer.ID
	unassigned error // receipts for work that no assignment of the claim orders

	checked bool
	bad     error // of the signatures, once checked
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
	c := &SignedClaim{raw: raw, id: s.ID, body: w, says: Claimed{Hold: id, Lane: w.Lane, Worker: s.Signer}}
	if len(w.Voucher) > 0 {
		if err := c.readVoucher(); err != nil {
			return nil, fmt.Errorf("claim: voucher: %w", err)
		}
	}
	amount, fuel, err := c.readWork()
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	if amount > c.says.Amount {
		c.says.Amount, c.says.Fuel = amount, max(fuel, c.says.Fuel)
	} else {
		c.says.Outputs = nil // the payer had them before it signed the voucher
	}
	c.says.Fuel = min(c.says.Fuel, proto.Fuel(maxCumulativeFuel))
	slices.SortFunc(c.says.Outputs, func(a, b proto.Hash) int { return slices.Compare(a[:], b[:]) })
	c.says.Outputs = slices.Compact(c.says.Outputs)
	return c, nil
}

// by notes who is the payer. Vouchers and assignments are signed with the key
// of the payer's peer id, whatever key signs its events.
func (c *SignedClaim) by(payer peer.ID) error {
	if c.payer == "" {
		c.payer = payer
	}
	if c.payer != payer {
		return proto.CodeBadSignature.Errorf("signed by %s, the payer is %s", payer, c.payer)
	}
	return nil
}

func (c *SignedClaim) readVoucher() error {
	s, err := openUnchecked(c.body.Voucher, proto.KindVoucher)
	if err != nil {
		return err
	}
	v := s.Payload.GetVoucher()
	if string(v.GetHold()) != string(c.body.Hold) || v.Lane != c.body.Lane || string(v.Worker) != string(c.says.Worker) {
		return proto.CodeInvalidEvent.Errorf("it is for another lane")
	}
	c.says.Amount, c.says.Fuel = proto.Credit(v.Amount), proto.Fuel(v.Fuel)
	return c.by(s.Signer)
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

func (c *SignedClaim) readWork() (proto.Credit, proto.Fuel, error) {
	ordered, err := c.assigned()
	if err != nil {
		return 0, 0, err
	}
	var amount, fuel uint64
	seen := map[once]bool{}
	for i, sr := range c.body.Receipts {
		if sr == nil {
			return 0, 0, proto.CodeMalformed.Errorf("receipt %d is missing", i)
		}
		r := new(proto.Receipt)
		if err := goproto.Unmarshal(sr.Receipt, r); err != nil {
			return 0, 0, proto.CodeMalformed.Errorf("receipt %d: %v", i, err)
		}
		key := workKey{proto.JobID{}, r.Task, r.Replica, string(r.Module), string(r.InputHash), r.MeterVersion, r.Price, r.FuelLimit}
		if key.job, err = proto.ToJobID(r.Job); err != nil {
			return 0, 0, fmt.Errorf("receipt %d: %w", i, err)
		}
		output, oerr := proto.ToHash(r.OutputHash)
		switch {
		case peer.ID(r.Worker) != c.says.Worker || c.by(peer.ID(r.Submitter)) != nil:
			return 0, 0, proto.CodeBadReceipt.Errorf("receipt %d is of another pair", i)
		case r.Fuel > min(r.FuelLimit, uint64(proto.MaxFuel)) || !proto.Status(r.Status).Votable() || oerr != nil:
			return 0, 0, proto.CodeBadReceipt.Errorf("receipt %d: fuel %d of %d, status %d", i, r.Fuel, r.FuelLimit, r.Status)
		case seen[key.once()]:
			return 0, 0, proto.CodeDuplicate.Errorf("receipt %d: task %s/%d is claimed twice", i, key.job, key.task)
		case !ordered[key] && c.unassigned == nil:
			c.unassigned = proto.CodeBadReceipt.Errorf("claim: receipt %d is for work that the payer did not assign on this lane", i)
		}
		seen[key.once()] = true
		c.says.Outputs = append(c.says.Outputs, output)
		pay := uint64(proto.PayFor(proto.Fuel(r.Fuel), proto.Credit(r.Price)))
		if amount, err = sum(amount, min(pay, maxAmount)); err != nil {
			return 0, 0, err
		}
		fuel += min(r.Fuel, uint64(proto.MaxFuel)) // at most 1024 · 2^52
	}
	return proto.Credit(amount), proto.Fuel(fuel), nil
}

// assigned reads the payer's assignments for the lane.
func (c *SignedClaim) assigned() (map[workKey]bool, error) {
	ordered := map[workKey]bool{}
	for i, raw := range c.body.Assignments {
		s, err := openUnchecked(raw, proto.KindAssignments)
		if err == nil {
			err = c.by(s.Signer)
		}
		if err != nil {
			return nil, fmt.Errorf("assignments %d: %w", i, err)
		}
		b := s.Payload.GetAssignments()
		if string(b.GetHold()) != string(c.body.Hold) || b.Lane != c.body.Lane || peer.ID(b.Worker) != c.says.Worker {
			return nil, proto.CodeInvalidEvent.Errorf("assignments %d are for another lane", i)
		}
		for _, a := range b.Assignments {
			job, err := proto.ToJobID(a.GetJob())
			if err != nil {
				return nil, fmt.Errorf("assignments %d: %w", i, err)
			}
			ordered[workKey{job, a.Task, a.Replica, string(a.Module), string(a.InputHash), a.MeterVersion, a.Price, a.FuelLimit}] = true
		}
	}
	return ordered, nil
}

// Verify checks the signatures in a claim, the worker's own first. It needs no
// ledger and is done once. Errors carry a code.
func (c *SignedClaim) Verify(net *proto.Network) error {
	if !c.checked {
		c.checked = true
		if err := c.verify(net); err != nil {
			c.bad = fmt.Errorf("claim: %w", err)
		}
	}
	return c.bad
}

func (c *SignedClaim) verify(net *proto.Network) error {
	if _, err := openSigned(net.ID, c.raw, proto.KindWorkClaim); err != nil {
		return err
	}
	if len(c.body.Voucher) > 0 {
		if _, err := openSigned(net.ID, c.body.Voucher, proto.KindVoucher); err != nil {
			return fmt.Errorf("voucher: %w", err)
		}
	}
	for i, raw := range c.body.Assignments {
		if _, err := openSigned(net.ID, raw, proto.KindAssignments); err != nil {
			return fmt.Errorf("assignments %d: %w", i, err)
		}
	}
	for i, sr := range c.body.Receipts {
		if _, err := proto.VerifyReceipt(net.ID, sr); err != nil {
			return fmt.Errorf("receipt %d: %w", i, err)
		}
	}
	return nil
}

// claim is what a claim proves of its lane if its signatures are good.
func (l *Ledger) claim(c *SignedClaim) (got Claimed, lane Lane, err error) {
	got = c.says
	h := l.hold(got.Hold)
	switch {
	case h == nil:
		err = proto.CodeNotFinal.Errorf("claim: hold %s is not certified here", got.Hold)
	case h.closed:
		err = proto.CodeExpired.Errorf("claim: hold %s is closed", got.Hold)
	case uint64(got.Lane) >= uint64(len(h.lanes)):
		err = proto.CodeInvalidEvent.Errorf("claim: hold %s has no lane %d", got.Hold, got.Lane)
	case h.lanes[got.Lane].Worker != got.Worker:
		err = proto.CodeBadSignature.Errorf("claim: lane %d is not %s's", got.Lane, got.Worker)
	case c.payer != "" && c.payer != h.payer:
		err = proto.CodeBadSignature.Errorf("claim: signed by %s, the payer is %s", c.payer, h.payer)
	case c.unassigned != nil && !l.s.off.has(guardAssigned):
		err = c.unassigned
	default:
		lane = h.lanes[got.Lane]
		got.Amount = min(got.Amount, lane.Cap)
	}
	return got, lane, err
}
