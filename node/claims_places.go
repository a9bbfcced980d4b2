package node

import (
	"cmp"
	"math"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"

	"edgenet.dev/proto"
)

// Who has a place for proofs. Identities and holds cost payers next to nothing, so
// lanes go by what the worker would lose with them. What is promised needs its
// voucher and no proof: such a lane gives way first and loses nothing. Then comes
// the one of which least is owed and not promised, for a lane that can pay a
// thousand times as much: to keep a payer out, others must owe as much as it
// brings, and claims will make them pay. Work that is under way keeps no place, for
// its payer may never ask for it: its assignments stay without one until it is over.

// always is the stake of work that was taken: it has a place.
const always = proto.Credit(math.MaxInt64)

// grow counts bytes that are kept of a lane. Call with mu held.
func (c *claims) grow(w *laneWork, what *int, n int) {
	before := w.bytes()
	*what += n
	c.count(w.payer, w.bytes()-before)
}

func (c *claims) count(payer peer.ID, n int) {
	c.bytes += n
	c.payers[payer].bytes += n
}

// add makes a lane's entry. Call with mu held.
func (c *claims) add(hold cid.Cid, lane uint32, payer peer.ID) *laneWork {
	w := &laneWork{hold: hold, lane: lane, payer: payer}
	if v, err := c.n.kv.get(voucherKey(hold, lane)); err == nil {
		if s, err := proto.Inspect(v, proto.KindVoucher); err == nil {
			w.vouchered = proto.Credit(s.Payload.GetVoucher().GetAmount())
			if payer == "" {
				w.payer = s.Signer
			}
		}
	}
	c.lanes[laneKey(hold, lane)] = w
	c.enter(w)
	return w
}

// enter counts a lane as its payer's, leave no more. Call with mu held.
func (c *claims) enter(w *laneWork) {
	p := c.payers[w.payer]
	if p == nil {
		p = &payerWork{}
		c.payers[w.payer] = p
	}
	p.entries++
	if !w.bare {
		p.lanes++
		c.proofs++
	}
	c.count(w.payer, w.bytes())
}

func (c *claims) leave(w *laneWork) {
	c.count(w.payer, -w.bytes())
	p := c.payers[w.payer]
	if !w.bare {
		p.lanes--
		c.proofs--
	}
	if p.entries--; p.entries == 0 {
		delete(c.payers, w.payer)
	}
}

// strip has of a lane its voucher only, or gives it a place for proofs. Call with
// mu held.
func (c *claims) strip(w *laneWork, bare bool) {
	c.leave(w)
	w.bare = bare
	c.enter(w)
}

// drop forgets a lane's entry. Call with mu held.
func (c *claims) drop(w *laneWork) {
	key := laneKey(w.hold, w.lane)
	if c.lanes[key] != w {
		return
	}
	delete(c.lanes, key)
	c.leave(w)
}

// find is the entry of a lane, which is payer's. Call with mu held.
func (c *claims) find(hold cid.Cid, lane uint32, payer peer.ID) *laneWork {
	w := c.lanes[laneKey(hold, lane)]
	if w != nil && w.payer != payer { // what was kept of it did not say whose it is: its hold does
		c.leave(w)
		w.payer = payer
		c.enter(w)
	}
	return w
}

// lane finds or makes a lane's entry with a place for proofs; nil when there is
// none for a lane that may still pay so much. Call with mu held.
func (c *claims) lane(hold cid.Cid, lane uint32, payer peer.ID, stake proto.Credit) *laneWork {
	w := c.find(hold, lane, payer)
	switch {
	case w != nil && !w.bare:
		return w
	case !c.place(payer, stake) && stake != always:
		return nil
	case w != nil:
		c.strip(w, false)
		return w
	case len(c.lanes) >= maxLaneEntries && !c.dropVoucher(stake) && stake != always:
		return nil
	}
	return c.add(hold, lane, payer)
}

// place makes sure of a place for proofs: of the payer's share its own lanes make
// room, and only for nothing, or it would have its debts forgotten.
func (c *claims) place(payer peer.ID, stake proto.Credit) bool {
	most := func(w *laneWork) int { return c.payers[w.payer].lanes }
	switch p := c.payers[payer]; {
	case p != nil && p.lanes >= maxPayerLanes:
		if time.Since(p.full) < gatherEvery { // each look goes through all lanes
			return false
		}
		if !c.makeRoom(0, most, func(w *laneWork) bool { return !w.bare && w.payer == payer }) {
			p.full = time.Now()
			return false
		}
	case c.proofs >= maxClaimLanes:
		return c.makeRoom(stake, most, func(w *laneWork) bool { return !w.bare })
	}
	return true
}

// placed is a lane's entry with a place for proofs, of which trim makes up for one
// too many. Call with mu held.
func (c *claims) placed(hold cid.Cid, lane uint32, payer peer.ID) *laneWork {
	w := c.find(hold, lane, payer)
	if w == nil {
		return c.add(hold, lane, payer)
	}
	if w.bare {
		c.strip(w, false)
	}
	return w
}

// trim takes back places above what the payer and all may have. Call with mu held.
func (c *claims) trim(payer peer.ID) {
	if p := c.payers[payer]; p != nil && p.lanes > maxPayerLanes {
		c.place(payer, 0)
	}
	if c.proofs > maxClaimLanes {
		c.place("", always)
	}
	if len(c.lanes) > maxLaneEntries {
		c.dropVoucher(always)
	}
}

// space makes sure that a lane's payer, and all, have no more bytes than they may.
func (c *claims) space(w *laneWork, stake proto.Credit) bool {
	most := func(x *laneWork) int { return c.payers[x.payer].bytes + x.bytes() }
	all := c.n.cfg.MaxClaims
	for uint64(c.payers[w.payer].bytes) > all/payerClaims {
		if !c.makeRoom(0, most, func(x *laneWork) bool { return x != w && x.payer == w.payer && x.bytes() > 0 }) {
			return false
		}
	}
	for uint64(c.bytes) > all {
		if !c.makeRoom(stake, most, func(x *laneWork) bool { return x != w && x.bytes() > 0 }) {
			return false
		}
	}
	return true
}

// makeRoom takes the proofs of the lane with least to lose, of equals the one with
// most of what is short.
func (c *claims) makeRoom(stake proto.Credit, most func(*laneWork) int, may func(*laneWork) bool) bool {
	var least *laneWork
	for _, w := range c.lanes {
		if !may(w) || w.bare && c.n.work.laneBusy(w.hold, w.lane) { // of which no more than the assignments are left
			continue
		}
		if least == nil || cmp.Or(cmp.Compare(w.unpromised(), least.unpromised()), cmp.Compare(most(least), most(w))) < 0 {
			least = w
		}
	}
	if least == nil || least.unpromised() > stake/maxClaimLanes {
		return false
	}
	var err error
	if least.earned == 0 && least.vouchered == 0 && !least.done && !c.n.work.laneBusy(least.hold, least.lane) {
		if err = c.erase(least); err == nil {
			c.drop(least)
		}
	} else if err = c.reduce(least, nil, 0); err == nil {
		c.strip(least, true)
	}
	if err != nil {
		c.n.log.Error("forget proof of work", zap.Error(err))
	}
	return err == nil
}

// unpromised is what the worker would lose without a lane's proofs.
func (w *laneWork) unpromised() proto.Credit { return w.earned - min(w.earned, w.vouchered) }

// dropVoucher forgets the least of the vouchers that are kept alone, in the same
// way. A lane that is done stays: it must not take more work. So do assignments of
// work that is under way.
func (c *claims) dropVoucher(stake proto.Credit) bool {
	var least *laneWork
	for _, w := range c.lanes {
		if w.bare && !w.done && (least == nil || max(w.earned, w.vouchered) < max(least.earned, least.vouchered)) && !c.n.work.laneBusy(w.hold, w.lane) {
			least = w
		}
	}
	if least == nil || max(least.earned, least.vouchered) > stake/maxClaimLanes {
		return false
	}
	if err := c.erase(least); err != nil {
		c.n.log.Error("forget a voucher", zap.Error(err))
		return false
	}
	c.drop(least)
	return true
}
