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
