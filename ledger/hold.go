package ledger

import (
	"fmt"
	"slices"

	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Lane is one worker's part of a hold.
type Lane struct {
	Worker, Payee peer.ID
	Cap           proto.Credit // most that the lane can ever pay
	Paid          proto.Credit // settled so far
	Fuel          proto.Fuel   // settled so far
	Done          bool         // the worker released the rest; no more is paid
}

// HoldState is a hold after all its effective Extends and Settles.
type HoldState struct {
	ID             cid.Cid
	Payer          peer.ID
	Job            proto.JobID
	Budget         proto.Credit // everything that was put in
	Remaining      proto.Credit // still held
	DeadlineUnixMs uint64
	Lanes          []Lane // a lane's number is its index
	Closed         bool
	// Forgotten: a light ledger heard from f+1 witnesses that they know no such
	// hold. It was closed long ago, or they have not heard of it yet.
	Forgotten bool
}

// Lane finds the lane of a worker. A worker has at most one lane in a hold.
func (h HoldState) Lane(worker peer.ID) (number uint32, lane Lane, ok bool) {
	for i, l := range h.Lanes {
		if l.Worker == worker {
			return uint32(i), l, true
		}
	}
	return 0, Lane{}, false
}

// hold is the working form. Between events
//
//	budget − released = reserve() + Fee(reserve()) + spare, spare ≥ 0
//	remaining = budget − released − paid − Fee(paid)
//
// so that whatever the lanes may still ask for is there, fee included.
type hold struct {
	id       proto.Hash
	payer    peer.ID
	job      proto.JobID
	budget   uint64
	released uint64 // went back to avail
	paid     uint64 // sum over lanes
	deadline uint64
	lanes    []Lane
	closed   bool
	events   []*Certified // the Hold and its Extends
}

func (h *hold) clone() *hold {
	c := *h
	c.lanes = slices.Clone(h.lanes)
	c.events = slices.Clip(h.events)
	return &c
}

// reserve is what lanes have been or may still be paid.
func (h *hold) reserve() (uint64, error) {
	var total uint64
	var err error
	for i := range h.lanes {
		v := h.lanes[i].Cap
		if h.lanes[i].Done {
			v = h.lanes[i].Paid
		}
		if total, err = sum(total, uint64(v)); err != nil {
			return 0, err
		}
	}
	return total, nil
}

// reserved is reserve with its fee.
func (h *hold) reserved(net *proto.Network) (uint64, error) {
	r, err := h.reserve()
	if err != nil {
		return 0, err
	}
	return sum(r, fee(net, r))
}

func fee(net *proto.Network, amount uint64) uint64 {
	return uint64(proto.Fee(proto.Credit(amount), net.Genesis.FeePpm))
}

func (h *hold) remaining(net *proto.Network) uint64 {
	return h.budget - h.released - h.paid - fee(net, h.paid)
}

// covered checks that the budget covers every cap and the fee on them.
func (h *hold) covered(net *proto.Network) error {
	need, err := h.reserved(net)
	if err != nil {
		return err
	}
	if have := h.budget - h.released; have < need {
		return proto.CodeInvalidEvent.Errorf("hold of %s credits, its lanes and their fee need %s", proto.Credit(have), proto.Credit(need))
	}
	return nil
}

func newHold(net *proto.Network, payer peer.ID, b *proto.Hold) (*hold, error) {
	h := &hold{payer: payer, job: proto.JobID(b.Job), budget: b.Budget, deadline: b.DeadlineUnixMs}
	if err := h.addLanes(b.Lanes); err != nil {
		return nil, err
	}
	return h, h.covered(net)
}

func (h *hold) addLanes(lanes []*proto.Lane) error {
	for _, l := range lanes {
		w := peer.ID(l.Worker)
		payee := peer.ID(l.Payee)
		if payee == "" {
			payee = w
		}
		i := slices.IndexFunc(h.lanes, func(x Lane) bool { return x.Worker == w })
		if i < 0 {
			if len(h.lanes) == MaxHoldLanes {
				return proto.CodeInvalidEvent.Errorf("hold has %d lanes already", MaxHoldLanes)
			}
			h.lanes = append(h.lanes, Lane{Worker: w, Payee: payee, Cap: proto.Credit(l.Cap)})
			continue
		}
		x := &h.lanes[i]
		switch {
		case x.Done:
			// Were it opened again, the worker's old Done could close it.
			return proto.CodeInvalidEvent.Errorf("lane %d is closed by its worker; use another hold", i)
		case len(l.Payee) > 0 && payee != x.Payee:
			return proto.CodeInvalidEvent.Errorf("lane %d pays %s, not %s", i, x.Payee, payee)
		}
		c, err := sum(uint64(x.Cap), l.Cap)
		if err != nil {
			return err
		}
		x.Cap = proto.Credit(c)
	}
	return nil
}

// grow applies an Extend to a copy that the caller made.
func (h *hold) grow(net *proto.Network, b *proto.Extend) error {
	var err error
	if h.budget, err = sum(h.budget, b.Budget); err != nil {
		return err
	}
	if b.DeadlineUnixMs != 0 {
		if b.DeadlineUnixMs < h.deadline {
			return proto.CodeInvalidEvent.Errorf("the deadline moves earlier")
		}
		h.deadline = b.DeadlineUnixMs
	}
	if err := h.addLanes(b.Lanes); err != nil {
		return err
	}
	return h.covered(net)
}

// own finds an open hold of the account.
func (t *tx) own(account peer.ID, id []byte) (*hold, error) {
	c, err := proto.ParseCID(id)
	if err != nil {
		return nil, err
	}
	key, err := proto.CIDHash(c)
	if err != nil {
		return nil, err
	}
	h := t.hold(key)
	switch {
	case h == nil || h.payer != account:
		return nil, proto.CodeInvalidEvent.Errorf("%s is no hold of this account", c)
	case h.closed:
		return nil, proto.CodeInvalidEvent.Errorf("hold %s is closed", c)
	}
	return h.clone(), nil
}

func (t *tx) extend(account peer.ID, b *proto.Extend) (*hold, error) {
	h, err := t.own(account, b.Hold)
	if err != nil {
		return nil, err
	}
	if len(h.events) > MaxExtends {
		return nil, proto.CodeInvalidEvent.Errorf("hold %s was extended %d times; use another hold", h.id.CID(), MaxExtends)
	}
	return h, h.grow(t.net, b)
}

// settle pays lanes up to cumulative amounts, releases what workers gave up
// and burns the fee. The fee is a function of the hold's total, so it is the
// same however payments are split into events.
func (t *tx) settle(account peer.ID, b *proto.Settle, e *effect) error {
	h, err := t.own(account, b.Hold)
	if err != nil {
		return err
	}
	before, err := h.reserved(t.net)
	if err != nil {
		return err
	}
	heldBefore, feeBefore := h.remaining(t.net), fee(t.net, h.paid)
	for i, p := range b.Pays {
		if uint64(p.Lane) >= uint64(len(h.lanes)) {
			return proto.CodeInvalidEvent.Errorf("hold has no lane %d", p.Lane)
		}
		l := &h.lanes[p.Lane]
		h.pay(t.net, uint32(i), p, e)
		if len(p.Done) > 0 {
			if err := t.checkDone(h, p.Lane, p.Done); err != nil {
				return fmt.Errorf("lane %d: %w", p.Lane, err)
			}
			l.Done = true
		}
	}
	after, err := h.reserved(t.net)
	if err != nil {
		return err
	}
	h.released += before - after
	if b.Final {
		for i := range h.lanes {
			if !h.lanes[i].Done && !t.base.off.has(guardFinal) {
				return proto.CodeInvalidEvent.Errorf("final, but lane %d is not done", i)
			}
		}
		h.released += h.remaining(t.net)
		h.closed = true
	}
	return t.leaveHold(h, heldBefore, feeBefore, e)
}

// pay raises a lane to a cumulative amount, never above its cap, and makes the
// receivable with the given index.
func (h *hold) pay(net *proto.Network, index uint32, p *proto.LanePay, e *effect) {
	l := &h.lanes[p.Lane]
	if l.Done {
		return
	}
	fuel := max(l.Fuel, proto.Fuel(p.Fuel))
	if due := proto.Credit(min(uint64(l.Cap), p.Amount)); due > l.Paid {
		paid := uint64(due - l.Paid)
		// What earns a bonus is work at the base price, whatever was paid.
		worth := mulDiv(uint64(fuel-l.Fuel), net.Genesis.BasePrice, uint64(proto.PriceUnit))
		e.gives = append(e.gives, give{index, l.Payee, paid, min(paid, worth), l.Worker})
		h.paid += paid
		l.Paid = due
	}
	l.Fuel = fuel
}

// leaveHold books what an event took out of the hold h, which is a copy of the
// state's: payments leave held, the fee is burned, what was released is
// available.
func (t *tx) leaveHold(h *hold, heldBefore, feeBefore uint64, e *effect) error {
	freed := h.released - t.hold(h.id).released
	spent := heldBefore - h.remaining(t.net)
	if e.post.held < spent {
		return proto.CodeInvalidEvent.Errorf("held %s is below the hold's %s", proto.Credit(e.post.held), proto.Credit(spent))
	}
	e.post.held -= spent
	var err error
	if e.post.avail, err = sum(e.post.avail, freed); err != nil {
		return err
	}
	if t.base.off.has(guardPump) {
		for _, g := range e.gives {
			e.worked += g.eligible
		}
	}
	e.fee = fee(t.net, h.paid) - feeBefore
	e.burned += e.fee
	e.hold = h
	return nil
}

// checkDone wants the worker's own word that it asks for no more than the
// lane has paid.
func (t *tx) checkDone(h *hold, lane uint32, raw []byte) error {
	var s *proto.Signed
	var err error
	if t.trusted {
		s, err = proto.Inspect(raw, proto.KindDone)
	} else {
		s, err = proto.Unseal(t.net.ID, raw, proto.KindDone)
	}
	if err != nil {
		return err
	}
	d := s.Payload.GetDone()
	l := h.lanes[lane]
	switch {
	case s.Signer != l.Worker:
		return proto.CodeInvalidEvent.Errorf("done by %s, the lane is %s's", s.Signer, l.Worker)
	case string(d.Hold) != string(h.id.CID().Bytes()) || d.Lane != lane:
		return proto.CodeInvalidEvent.Errorf("done is for another lane")
	case d.Amount > uint64(l.Paid):
		return proto.CodeInvalidEvent.Errorf("done at %s credits, the lane has paid %s", proto.Credit(d.Amount), l.Paid)
	}
	return nil
}

func (h *hold) state(net *proto.Network) HoldState {
	return HoldState{
		ID: h.id.CID(), Payer: h.payer, Job: h.job, Budget: proto.Credit(h.budget), Remaining: proto.Credit(h.remaining(net)),
		DeadlineUnixMs: h.deadline, Lanes: slices.Clone(h.lanes), Closed: h.closed,
	}
}

// VerifyLane checks a certified Hold and its certified Extends without any
// state: for a worker that has none of the payer's chain. Certificates prove
// that witnesses checked the payer's balance, so the lanes' caps are money
// that is held. Settlements are not seen: Paid, Done and Closed stay zero and
// Remaining equals Budget. Extends must be complete and in order: leaving one
// out can only show lower caps, but lane numbers may then differ.
func VerifyLane(net *proto.Network, wire *proto.CertifiedEvent, extends []*proto.CertifiedEvent) (HoldState, error) {
	h, err := verifyHold(net, wire, extends, true)
	if err != nil {
		return HoldState{}, err
	}
	return h.state(net), nil
}

// HoldOf is the id of a Hold and the account that it says it is of. No signature is
// checked: it tells for whom that would be done.
func HoldOf(net *proto.Network, wire *proto.CertifiedEvent) (id cid.Cid, payer peer.ID, err error) {
	c, err := decode(net, wire.GetEvent(), false)
	if err != nil {
		return cid.Undef, "", err
	}
	if _, ok := c.Event.Body.(*proto.Event_Hold); !ok {
		return cid.Undef, "", proto.CodeInvalidEvent.Errorf("%s is no Hold", c.ID)
	}
	return c.ID, c.Account, nil
}

// verifyHold is VerifyLane. With check false signatures were checked before.
func verifyHold(net *proto.Network, wire *proto.CertifiedEvent, extends []*proto.CertifiedEvent, check bool) (*hold, error) {
	open := func(w *proto.CertifiedEvent) (c *Certified, err error) {
		if check {
			return Verify(net, w)
		}
		if c, err = decode(net, w.GetEvent(), false); err == nil {
			c.Wire = w
		}
		return c, err
	}
	c, err := open(wire)
	if err != nil {
		return nil, err
	}
	b, ok := c.Event.Body.(*proto.Event_Hold)
	if !ok {
		return nil, proto.CodeInvalidEvent.Errorf("%s is no Hold", c.ID)
	}
	h, err := newHold(net, c.Account, b.Hold)
	if err != nil {
		return nil, fmt.Errorf("hold %s: %w", c.ID, err)
	}
	h.id, h.events = c.hash, []*Certified{c}
	last := c.Seq
	for _, w := range extends {
		x, err := open(w)
		if err != nil {
			return nil, err
		}
		xb, ok := x.Event.Body.(*proto.Event_Extend)
		if !ok || x.Account != c.Account || string(xb.Extend.Hold) != string(c.ID.Bytes()) || x.Seq <= last {
			return nil, proto.CodeInvalidEvent.Errorf("%s does not extend %s in order", x.ID, c.ID)
		}
		last = x.Seq
		h.events = append(h.events, x)
		// What Settles released in between is unknown here, so the budget
		// cannot be held against the caps again; the witnesses did.
		if h.budget, err = sum(h.budget, xb.Extend.Budget); err != nil {
			return nil, err
		}
		h.deadline = max(h.deadline, xb.Extend.DeadlineUnixMs)
		if err := h.addLanes(xb.Extend.Lanes); err != nil {
			return nil, fmt.Errorf("extend %s: %w", x.ID, err)
		}
	}
	return h, nil
}
