package ledger

import (
	"fmt"
	"slices"

	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// MaxClaims bounds the lanes in one claim list, so that a quorum of lists fits
// an event.
const MaxClaims = 128

// maxClaimReceipts bounds the receipts in one WorkClaim.
const maxClaimReceipts = 1024

// Claimed is what a valid WorkClaim proves.
type Claimed struct {
	Hold    cid.Cid
	Lane    uint32
	Worker  peer.ID
	Amount  proto.Credit // cumulative on the lane, at most its cap
	Fuel    proto.Fuel   // cumulative
	Outputs []proto.Hash // results that the worker must still serve, sorted; none when the voucher decides
}

// CheckClaim checks a marshalled Envelope of WorkClaim against an open hold of
// the state. The amount is the larger of the payer's newest voucher and the
// sum over the receipts in the claim: a voucher does not say which receipts
// it covers, so adding both could count work twice. Receipts count when the
// payer signed an assignment of this lane for exactly that work; a task counts
// once. Whether the work is right cannot be seen here, nor whether its Outputs
// can be fetched, which is the caller's to find out.
func (l *Ledger) CheckClaim(raw []byte) (Claimed, error) {
	s, err := openSigned(l.net.ID, raw, proto.KindWorkClaim)
	if err != nil {
		return Claimed{}, fmt.Errorf("claim: %w", err)
	}
	w := s.Payload.GetWorkClaim()
	id, err := proto.ParseCID(w.Hold)
	if err != nil {
		return Claimed{}, fmt.Errorf("claim: %w", err)
	}
	h := l.hold(id)
	switch {
	case h == nil:
		return Claimed{}, proto.CodeNotFinal.Errorf("claim: hold %s is not certified here", id)
	case h.closed:
		return Claimed{}, proto.CodeExpired.Errorf("claim: hold %s is closed", id)
	case uint64(w.Lane) >= uint64(len(h.lanes)):
		return Claimed{}, proto.CodeInvalidEvent.Errorf("claim: hold %s has no lane %d", id, w.Lane)
	case h.lanes[w.Lane].Worker != s.Signer:
		return Claimed{}, proto.CodeBadSignature.Errorf("claim: lane %d is not %s's", w.Lane, s.Signer)
	case len(w.Receipts) > maxClaimReceipts:
		return Claimed{}, proto.CodeTooLarge.Errorf("claim: %d receipts, at most %d", len(w.Receipts), maxClaimReceipts)
	}
	lane := h.lanes[w.Lane]
	c := Claimed{Hold: id, Lane: w.Lane, Worker: s.Signer}
	if len(w.Voucher) > 0 {
		if err := l.checkVoucher(h, w, &c); err != nil {
			return Claimed{}, fmt.Errorf("claim: voucher: %w", err)
		}
	}
	amount, fuel, err := l.checkWork(h, w, &c)
	if err != nil {
		return Claimed{}, fmt.Errorf("claim: %w", err)
	}
	if amount > c.Amount {
		c.Amount, c.Fuel = amount, max(fuel, c.Fuel)
	} else {
		c.Outputs = nil // the payer had them before it signed the voucher
	}
	c.Amount = min(c.Amount, lane.Cap)
	c.Fuel = min(c.Fuel, proto.Fuel(maxCumulativeFuel))
	slices.SortFunc(c.Outputs, func(a, b proto.Hash) int { return slices.Compare(a[:], b[:]) })
	return c, nil
}

// byPayer: vouchers and assignments are signed with the key of the payer's
// peer id, whatever key signs its events.
func (l *Ledger) byPayer(h *hold, raw []byte, kind proto.Kind) (*proto.Signed, error) {
	s, err := openSigned(l.net.ID, raw, kind)
	if err != nil {
		return nil, err
	}
	if s.Signer != h.payer {
		return nil, proto.CodeBadSignature.Errorf("signed by %s, the payer is %s", s.Signer, h.payer)
	}
	return s, nil
}

func (l *Ledger) checkVoucher(h *hold, w *proto.WorkClaim, c *Claimed) error {
	s, err := l.byPayer(h, w.Voucher, proto.KindVoucher)
	if err != nil {
		return err
	}
	v := s.Payload.GetVoucher()
	if string(v.Hold) != string(w.Hold) || v.Lane != w.Lane || string(v.Worker) != string(c.Worker) {
		return proto.CodeInvalidEvent.Errorf("it is for another lane")
	}
	c.Amount, c.Fuel = proto.Credit(v.Amount), proto.Fuel(v.Fuel)
	return nil
}

// workKey names what an assignment orders and a receipt delivers.
type workKey struct {
	job               proto.JobID
	task, replica     uint32
	module, inputHash string
	meter             uint32
	price             uint64
}

type taskKey struct {
	job  proto.JobID
	task uint32
}

func (l *Ledger) checkWork(h *hold, w *proto.WorkClaim, c *Claimed) (proto.Credit, proto.Fuel, error) {
	limits, err := l.assigned(h, w, c.Worker)
	if err != nil {
		return 0, 0, err
	}
	var amount, fuel uint64
	seen := map[taskKey]bool{}
	for i, sr := range w.Receipts {
		if sr == nil {
			return 0, 0, proto.CodeMalformed.Errorf("receipt %d is missing", i)
		}
		r, err := proto.VerifyReceipt(l.net.ID, sr)
		if err != nil {
			return 0, 0, fmt.Errorf("receipt %d: %w", i, err)
		}
		key := workKey{proto.JobID{}, r.Task, r.Replica, string(r.Module), string(r.InputHash), r.MeterVersion, r.Price}
		if key.job, err = proto.ToJobID(r.Job); err != nil {
			return 0, 0, fmt.Errorf("receipt %d: %w", i, err)
		}
		limit, ok := limits[key]
		output, oerr := proto.ToHash(r.OutputHash)
		switch {
		case peer.ID(r.Worker) != c.Worker || peer.ID(r.Submitter) != h.payer:
			return 0, 0, proto.CodeBadReceipt.Errorf("receipt %d is of another pair", i)
		case !ok && !l.s.off.has(guardAssigned):
			return 0, 0, proto.CodeBadReceipt.Errorf("receipt %d is for work that the payer did not assign on this lane", i)
		case r.Fuel > limit && ok || !proto.Status(r.Status).Votable() || oerr != nil:
			return 0, 0, proto.CodeBadReceipt.Errorf("receipt %d: fuel %d of %d, status %d", i, r.Fuel, limit, r.Status)
		case seen[taskKey{key.job, key.task}]:
			return 0, 0, proto.CodeDuplicate.Errorf("receipt %d: task %s/%d is claimed twice", i, key.job, key.task)
		}
		seen[taskKey{key.job, key.task}] = true
		c.Outputs = append(c.Outputs, output)
		pay := uint64(proto.PayFor(proto.Fuel(r.Fuel), proto.Credit(r.Price)))
		if amount, err = sum(amount, min(pay, maxAmount)); err != nil {
			return 0, 0, err
		}
		fuel += r.Fuel // at most 1024 · 2^52
	}
	return proto.Credit(amount), proto.Fuel(fuel), nil
}

// assigned reads the payer's assignments for the lane: work to fuel limit.
func (l *Ledger) assigned(h *hold, w *proto.WorkClaim, worker peer.ID) (map[workKey]uint64, error) {
	limits := map[workKey]uint64{}
	for i, raw := range w.Assignments {
		s, err := l.byPayer(h, raw, proto.KindAssignments)
		if err != nil {
			return nil, fmt.Errorf("assignments %d: %w", i, err)
		}
		b := s.Payload.GetAssignments()
		if string(b.Hold) != string(w.Hold) || b.Lane != w.Lane || peer.ID(b.Worker) != worker {
			return nil, proto.CodeInvalidEvent.Errorf("assignments %d are for another lane", i)
		}
		for _, a := range b.Assignments {
			job, err := proto.ToJobID(a.GetJob())
			if err != nil {
				return nil, fmt.Errorf("assignments %d: %w", i, err)
			}
			key := workKey{job, a.Task, a.Replica, string(a.Module), string(a.InputHash), a.MeterVersion, a.Price}
			limits[key] = min(max(limits[key], a.FuelLimit), uint64(proto.MaxFuel))
		}
	}
	return limits, nil
}

// ClaimList is what a witness signs when a hold's deadline and grace are over
// by its clock: the best claim it accepted on each lane. From then on it must
// accept no claim on the hold. Claims on other holds are left out. Above
// MaxClaims lanes the least amounts are left out.
func (l *Ledger) ClaimList(hold cid.Cid, claims []Claimed) (*proto.ClaimList, error) {
	h := l.hold(hold)
	if h == nil || h.closed {
		return nil, proto.CodeInvalidEvent.Errorf("claim list: %s is no open hold", hold)
	}
	best := map[uint32]*proto.ClaimEntry{}
	for _, c := range claims {
		if !c.Hold.Equals(hold) || int(c.Lane) >= len(h.lanes) || c.Amount <= h.lanes[c.Lane].Paid {
			continue
		}
		if e := best[c.Lane]; e == nil || uint64(c.Amount) > e.Amount {
			best[c.Lane] = &proto.ClaimEntry{Lane: c.Lane, Amount: uint64(c.Amount), Fuel: uint64(c.Fuel)}
		}
	}
	out := &proto.ClaimList{Hold: hold.Bytes(), DeadlineUnixMs: h.deadline}
	for lane := range h.lanes {
		if e := best[uint32(lane)]; e != nil {
			out.Entries = append(out.Entries, e)
		}
	}
	if len(out.Entries) > MaxClaims {
		slices.SortStableFunc(out.Entries, func(a, b *proto.ClaimEntry) int {
			switch {
			case a.Amount > b.Amount:
				return -1
			case a.Amount < b.Amount:
				return 1
			}
			return 0
		})
		out.Entries = out.Entries[:MaxClaims]
		slices.SortFunc(out.Entries, func(a, b *proto.ClaimEntry) int { return int(a.Lane) - int(b.Lane) })
	}
	return out, nil
}

// CloseDue reports whether an open hold's deadline and grace are over at
// nowUnixMs. Only witnesses ask, about a first, unjustified proposal or to
// start one.
func (l *Ledger) CloseDue(h HoldState, nowUnixMs uint64) bool {
	over := uint64(l.over(&hold{deadline: h.DeadlineUnixMs}).UnixMilli())
	return !h.Closed && nowUnixMs >= over
}

// DraftClose is the event that closes an open hold with the claim lists (each
// a marshalled Envelope of ClaimList) of a quorum of witnesses; more than a
// quorum are cut to it, in the genesis' order. A witness signs it with
// proto.Seal. It takes the next slot of the payer's chain. Errors carry
// CodeInvalidEvent or CodeTooLarge.
func (l *Ledger) DraftClose(hold cid.Cid, lists [][]byte) (*proto.Event, error) {
	h := l.hold(hold)
	if h == nil {
		return nil, proto.CodeInvalidEvent.Errorf("close: %s is no hold", hold)
	}
	by := map[peer.ID][]byte{}
	for _, raw := range lists {
		if s, _, err := l.claimList(h, raw, true); err == nil {
			by[s] = raw
		}
	}
	b := &proto.Close{Hold: hold.Bytes()}
	for _, w := range l.net.Witnesses {
		if raw := by[w]; raw != nil && len(b.ClaimLists) < l.net.Quorum() {
			b.ClaimLists = append(b.ClaimLists, raw)
		}
	}
	t := newTx(l.net, &l.s)
	var err error
	if b.Payouts, err = t.payouts(h, b.ClaimLists); err != nil {
		return nil, fmt.Errorf("close: %w", err)
	}
	return l.draftWitness(h.payer, &proto.Event{Body: &proto.Event_Close{Close: b}})
}

func (l *Ledger) claimList(h *hold, raw []byte, check bool) (peer.ID, *proto.ClaimList, error) {
	return claimList(l.net, h, raw, check)
}

// claimList reads one witness's list for the hold as it is now.
func claimList(net *proto.Network, h *hold, raw []byte, check bool) (peer.ID, *proto.ClaimList, error) {
	s, err := unseal(net, raw, proto.KindClaimList, check)
	if err != nil {
		return "", nil, err
	}
	c := s.Payload.GetClaimList()
	switch {
	case !net.IsWitness(s.Signer):
		return "", nil, proto.CodeNotWitness.Errorf("claim list by %s, who is no witness", s.Signer)
	case string(c.Hold) != string(h.id.CID().Bytes()):
		return "", nil, proto.CodeInvalidEvent.Errorf("the claim list is for another hold")
	case c.DeadlineUnixMs != h.deadline:
		return "", nil, proto.CodeInvalidEvent.Errorf("the claim list is for another deadline")
	case len(c.Entries) > MaxClaims || hasUnknown(s.Payload):
		return "", nil, proto.CodeInvalidEvent.Errorf("claim list of %d entries", len(c.Entries))
	}
	for i, e := range c.Entries {
		if e == nil || i > 0 && e.Lane <= c.Entries[i-1].Lane || uint64(e.Lane) >= uint64(len(h.lanes)) {
			return "", nil, proto.CodeInvalidEvent.Errorf("entry %d is out of order or names no lane", i)
		}
	}
	return s.Signer, c, nil
}

// payouts is what q lists prove together: a lane is paid the largest amount
// that f+1 of them reach, so one honest witness checked it, and an amount that
// all honest witnesses found proven cannot be kept from the worker.
func (t *tx) payouts(h *hold, lists [][]byte) ([]*proto.LanePay, error) {
	if len(lists) != t.net.Quorum() && !t.base.off.has(guardLists) {
		return nil, proto.CodeInvalidEvent.Errorf("%d claim lists, want %d", len(lists), t.net.Quorum())
	}
	amounts, fuels := map[uint32][]uint64{}, map[uint32][]uint64{}
	seen := map[peer.ID]bool{}
	for i, raw := range lists {
		by, c, err := claimList(t.net, h, raw, !t.trusted)
		if err != nil {
			return nil, fmt.Errorf("claim list %d: %w", i, err)
		}
		if seen[by] {
			return nil, proto.CodeInvalidEvent.Errorf("two claim lists by %s", by)
		}
		seen[by] = true
		for _, e := range c.Entries {
			amounts[e.Lane] = append(amounts[e.Lane], e.Amount)
			fuels[e.Lane] = append(fuels[e.Lane], e.Fuel)
		}
	}
	var out []*proto.LanePay
	for i := range h.lanes {
		ln, lane := &h.lanes[i], uint32(i)
		amount := min(reached(amounts[lane], t.claimVotes()), uint64(ln.Cap))
		if ln.Done || amount <= uint64(ln.Paid) {
			continue
		}
		fuel := min(reached(fuels[lane], t.claimVotes()), maxCumulativeFuel)
		out = append(out, &proto.LanePay{Lane: lane, Amount: amount, Fuel: fuel})
	}
	return out, nil
}

func (t *tx) claimVotes() int {
	if t.base.off.has(guardClaimVotes) {
		return 1
	}
	return t.net.F() + 1
}

// reached is the largest value that n of vs reach, or 0.
func reached(vs []uint64, n int) uint64 {
	if len(vs) < n {
		return 0
	}
	slices.Sort(vs)
	return vs[len(vs)-n]
}

// close pays what the lists prove and returns the rest of the hold.
func (t *tx) close(account peer.ID, b *proto.Close, e *effect) error {
	h, err := t.own(account, b.Hold)
	if err != nil {
		return err
	}
	want, err := t.payouts(h, b.ClaimLists)
	if err != nil {
		return err
	}
	if !slices.EqualFunc(want, b.Payouts, func(x, y *proto.LanePay) bool { return goproto.Equal(x, y) }) {
		return proto.CodeInvalidEvent.Errorf("the payouts are not what the claim lists prove")
	}
	heldBefore, feeBefore := h.remaining(t.net), fee(t.net, h.paid)
	for i, p := range want {
		h.pay(t.net, uint32(i), p, e)
	}
	h.released += h.remaining(t.net)
	h.closed = true
	return t.leaveHold(h, heldBefore, feeBefore, e)
}
