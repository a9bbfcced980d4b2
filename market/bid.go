package market

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// bid is an offer of another node that this worker may answer.
type bid struct {
	from     peer.ID
	offer    *proto.Offer
	module   cid.Cid
	round    uint32
	rivals   map[peer.ID]uint32 // slots claimed by others in this round
	slots    uint64             // Σ rivals
	timer    *timer
	answered bool
	poor     bool         // its submitter cannot pay, as far as that is known
	funds    proto.Credit // of its submitter, the most there is where that is not known
	said     Grant        // most that others said they grant, who do not grant what it asks for
}

// busySteps is how many steps later a worker answers whose slots are taken.
const busySteps = 16

// offerSeen decides whether and when to answer an offer. Workers answer one
// after another in an order that follows from the offer and their ids, and
// fall silent once enough have answered.
func (m *Machine) offerSeen(in OfferSeen) {
	o := in.Offer
	if o == nil || in.From == m.cfg.Self {
		return
	}
	id, err := proto.ToJobID(o.Id)
	if err != nil {
		return
	}
	module, err := proto.ParseCID(o.Module)
	if err != nil {
		return
	}
	w := &m.work
	w.heard++
	b := w.bids[id]
	if b == nil {
		if b = w.track(m, id, in.From); b == nil {
			return
		}
	} else if b.from != in.From || b.round >= o.Round {
		return // not its owner, or heard already
	}
	b.offer, b.module, b.round, b.answered = o, module, o.Round, false
	b.rivals, b.slots, b.said, b.poor, b.funds = nil, 0, Grant{}, m.poor(in), math.MaxInt64
	if in.Funds != nil {
		b.funds = *in.Funds
	}
	if w.why = m.declines(b); w.why != "" && w.why != w.below(o) {
		m.stop(b.timer)
		return
	}
	m.stop(b.timer)
	rank := m.rank(b)
	if w.held >= w.cfg.Slots { // those who could start at once answer first
		steps := min(w.neighbours, busySteps)
		if m.makeWay(w.customers[b.from], cmp.Or(o.MemoryLimit, proto.DefaultMemory)) {
			steps /= 4
		}
		rank += uint64(steps)
	}
	if n := m.dearest(b.from, b.module); n > 1 { // and those who know no better of the submitter
		rank += uint64(min(w.neighbours, busySteps) * n)
	}
	if b.poor { // and those who take it for one that pays
		rank += uint64(min(w.neighbours, busySteps))
	}
	if rank > 0 {
		m.at(b.timer, m.now.Add(time.Duration(rank)*m.cfg.ClaimStep))
		return
	}
	m.claim(b)
}

// track makes room for an offer: bounded per submitter, of which the oldest goes
// first, and in all.
func (w *workside) track(m *Machine, id proto.JobID, from peer.ID) *bid {
	if own := w.bidsOf[from] >= maxOfferPeer; own || len(w.bids) >= maxOffers {
		if i := w.givesWay(from, own); i >= 0 {
			w.dropBid(m, w.bidOrder[i])
			w.bidOrder = append(w.bidOrder[:i], w.bidOrder[i+1:]...)
		}
	}
	if len(w.bidOrder) > 2*maxOffers { // ids of withdrawn offers remain in it
		kept := w.bidOrder[:0]
		for _, old := range w.bidOrder {
			if w.bids[old] != nil {
				kept = append(kept, old)
			}
		}
		w.bidOrder = kept
	}
	b := &bid{from: from}
	b.timer = m.timers.make(func() { m.claim(b) })
	w.bids[id] = b
	w.bidsOf[from]++
	w.bidOrder = append(w.bidOrder, id)
	return b
}

// givesWay is where in bidOrder the offer stands that makes room for another one of
// from: its own oldest one, or of all the oldest that is decided, else one whose
// submitter has least for each that waits.
func (w *workside) givesWay(from peer.ID, own bool) int {
	least, has := -1, proto.Credit(0)
	for i, id := range w.bidOrder {
		b := w.bids[id]
		switch {
		case b == nil || own && b.from != from:
			continue
		case own || b.answered || !b.timer.armed():
			return i
		}
		if each := b.funds / proto.Credit(w.bidsOf[b.from]); least < 0 || each < has {
			least, has = i, each
		}
	}
	return least
}

func (w *workside) dropBid(m *Machine, id proto.JobID) {
	b := w.bids[id]
	if b == nil {
		return
	}
	m.stop(b.timer)
	delete(w.bids, id)
	if w.bidsOf[b.from]--; w.bidsOf[b.from] <= 0 {
		delete(w.bidsOf, b.from)
	}
}

func (m *Machine) withdrawalSeen(in WithdrawalSeen) {
	if b := m.work.bids[in.Offer]; b != nil && b.from == in.From {
		m.work.dropBid(m, in.Offer)
	}
}

// rivalClaim counts a competitor's answer.
func (m *Machine) rivalClaim(id proto.JobID, from peer.ID, c *proto.Claim) {
	b := m.work.bids[id]
	if b == nil || b.answered || peer.ID(c.Submitter) != b.from || c.Round != b.round {
		return
	}
	if g, said := grantOf(c); c.Slots == 0 || said && !g.covers(b.offer.FuelLimit, b.offer.MemoryLimit) {
		b.said = b.said.or(g)
		return // it will not get the work
	}
	if _, known := b.rivals[from]; known || len(b.rivals) >= maxSeen {
		return
	}
	if b.rivals == nil {
		b.rivals = map[peer.ID]uint32{}
	}
	if 2*m.weight(from) < m.weight(m.cfg.Self) {
		return // somebody with so much less to lose does not answer in this worker's place
	}
	b.rivals[from] = c.Slots
	b.slots += uint64(min(c.Slots, maxSlots))
}

// rank is this worker's place in the order of answers: its rendezvous position
// among as many competitors as it sees, weighted by its reputation and stake.
func (m *Machine) rank(b *bid) uint64 {
	key := append([]byte("edgenet/rank/1\x00"), b.offer.Id...)
	key = binary.BigEndian.AppendUint32(key, b.round)
	h := proto.HashOf(append(key, m.cfg.Self...))
	before := 1 - math.Exp(-weighted(h, m.weight(m.cfg.Self))) // the share of others, of weight 1, that come earlier
	return min(uint64(before*float64(m.work.neighbours)), 10_000)
}

// declines says why this worker does not answer an offer, "" when it does.
func (m *Machine) declines(b *bid) string {
	w, o := &m.work, b.offer
	if why := w.cfg.Blocked.why(b.from, b.module); why != "" {
		return why
	}
	switch {
	case !w.cfg.Enabled:
		return "the worker is paused"
	case o.DeadlineUnixMs <= uint64(m.now.UnixMilli()):
		return "its deadline passed"
	case o.MeterVersion != proto.MeterVersion:
		return fmt.Sprintf("it asks for meter version %d", o.MeterVersion)
	case !w.runs(o.Type, b.module):
		if o.Type == "" {
			return "it brings its own module and this worker runs built-in types only"
		}
		return fmt.Sprintf("task type %q is not among this worker's types", proto.Clip(o.Type, 64))
	case o.FuelLimit == 0:
		return "it grants its tasks no fuel"
	case w.below(o) != "":
		return w.below(o)
	case o.ModuleSize > proto.MaxModule:
		return "its module is too large"
	case proto.Credit(o.PriceCap) < m.leastPrice(proto.Priority(o.Priority)):
		return fmt.Sprintf("at %s priority it pays at most %s credits per 60 Gfuel, the minimum is %s",
			proto.Priority(o.Priority), proto.Credit(o.PriceCap), m.leastPrice(proto.Priority(o.Priority)))
	case o.WallMs > uint64(m.cfg.MaxRun/time.Millisecond):
		return fmt.Sprintf("a try of it may run for %d ms, in this network it is %s at most", o.WallMs, m.cfg.MaxRun)
	case w.room(w.customers[b.from]) == 0:
		return "all slots are taken"
	}
	return w.late(b.module, proto.Fuel(o.FuelLimit), proto.Millis(o.WallMs))
}

// claim answers an offer unless enough others have by now.
func (m *Machine) claim(b *bid) {
	w, o := &m.work, b.offer
	if w.why = m.declines(b); w.why != "" || b.answered {
		if w.why == w.below(o) && !b.answered && !b.said.covers(uint64(w.cfg.MaxFuel), w.cfg.MaxMemory) && m.answers(b, w.customers[b.from]) {
			b.answered = true
			m.send(PublishClaim{Offer: o, Claim: m.grantsOnly(b)})
		}
		return
	}
	if uint32(len(b.rivals)) >= o.WorkersWanted && b.slots >= uint64(o.SlotsWanted) {
		w.why = "enough other workers answered first"
		return
	}
	if !m.answers(b, w.customers[b.from]) {
		w.why = "more offers come than it answers, and their submitters offer again"
		return
	}
	b.answered = true
	priority := proto.Priority(o.Priority)
	price := min(m.asks(priority), proto.Credit(o.PriceCap)) // which is leastPrice at least
	expires := m.now.Add(proto.LeaseDuration)
	c := m.customer(b.from)
	if !m.place(c, 0) { // its assignments may have a place yet, with a lane
		c = nil
	} else if !c.grant(grantKey{b.module, priority}, grant{expires: expires, price: price}, m.now) {
		w.why = "it has claims for too many modules of that submitter"
		return
	}
	m.send(PublishClaim{Offer: o, Claim: &proto.Claim{
		Offer: o.Id, Submitter: []byte(b.from), Slots: uint32(max(1, min(w.room(c), m.soon(c, b.module)))), Price: uint64(price),
		ExpiresUnixMs: uint64(expires.UnixMilli()), Payee: payeeBytes(w.cfg.Payee, m.cfg.Self),
		Operator: w.cfg.Operator, Site: w.cfg.Site, Round: b.round,
		CpuPercent: uint32(w.share()), Parallel: uint32(w.cfg.Slots), Held: uint32(w.held),
		MaxFuel: uint64(w.cfg.MaxFuel), MaxMemory: w.cfg.MaxMemory,
	}})
}

func payeeBytes(payee, self peer.ID) []byte {
	if payee == "" || payee == self {
		return nil
	}
	return []byte(payee)
}
