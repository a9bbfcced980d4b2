package node

import (
	"fmt"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
)

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
	p.lanes++
	c.count(w.payer, w.bytes())
}

func (c *claims) leave(w *laneWork) {
	c.count(w.payer, -w.bytes())
	if p := c.payers[w.payer]; p.lanes > 1 {
		p.lanes--
	} else {
		delete(c.payers, w.payer)
	}
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

// lane finds or makes a lane's entry; nil when there are too many, of all or of
// its payer. Then one under which nothing was delivered makes room, of the payer
// with the most: holds cost payers next to nothing. Call with mu held.
func (c *claims) lane(hold cid.Cid, lane uint32, payer peer.ID) *laneWork {
	if w := c.lanes[laneKey(hold, lane)]; w != nil {
		if w.payer != payer { // what was kept of it did not say whose it is: its hold does
			c.leave(w)
			w.payer = payer
			c.enter(w)
		}
		return w
	}
	switch p := c.payers[payer]; {
	case p != nil && p.lanes >= maxPayerLanes:
		if !c.makeRoom(func(w *laneWork) bool { return w.payer == payer }) {
			return nil
		}
	case len(c.lanes) >= maxClaimLanes:
		if !c.makeRoom(func(*laneWork) bool { return true }) {
			return nil
		}
	}
	return c.add(hold, lane, payer)
}

func (c *claims) makeRoom(may func(*laneWork) bool) bool {
	var least *laneWork
	for _, w := range c.lanes {
		if w.delivered == 0 && may(w) && (least == nil || c.payers[w.payer].lanes > c.payers[least.payer].lanes) {
			least = w
		}
	}
	if least == nil {
		return false
	}
	if err := c.erase(least); err != nil {
		c.n.log.Error("forget proof of work", zap.Error(err))
		return false
	}
	c.drop(least)
	return true
}

// room reports why a lane gets no more work: more of what was earned there is not
// promised than its claim has room to prove, be it that the assignments take so
// much or the outputs. Call with mu held.
func (c *claims) room(w *laneWork) error {
	if w.orders+w.results < maxClaimBytes && w.tasks < maxClaimTasks && w.outputs < maxClaimOutputs {
		return nil // all of it fits
	}
	owed := func() bool { return w.earned > max(w.vouchered, w.provable)+w.earned/unprovenPart }
	if owed() && w.delivered != w.tallied && time.Since(w.gathered) > gatherEvery {
		m, provable, err := c.gather(w)
		if err != nil || m == nil {
			return err
		}
		w.provable, w.tallied, w.gathered = provable, w.delivered, time.Now()
	}
	if owed() {
		return proto.CodeBusy.Errorf("%s credits were earned on this lane, %s are promised and a claim has no room for more than %s", w.earned, w.vouchered, w.provable)
	}
	return nil
}

// forget drops what was kept of a lane that is paid for good.
func (c *claims) forget(w *laneWork) error {
	if err := c.erase(w); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(w)
	return nil
}

// clear forgets a lane's work, which its voucher covers. Call with mu held.
func (c *claims) clear(w *laneWork) error {
	writes, err := c.records(w)
	if err == nil {
		err = c.n.kv.commit(writes)
	}
	if err != nil {
		return fmt.Errorf("state store: %w", err)
	}
	c.count(w.payer, -w.bytes())
	w.tasks, w.outputs, w.orders, w.results = 0, 0, 0, 0
	w.provable, w.tallied = 0, 0
	return nil
}

// erase drops a lane's records, and its voucher.
func (c *claims) erase(w *laneWork) error {
	writes, err := c.records(w)
	if err == nil {
		err = c.n.kv.commit(append(writes, write{voucherKey(w.hold, w.lane), nil}, write{w.key('y', ""), nil}))
	}
	if err != nil {
		return fmt.Errorf("state store: %w", err)
	}
	return nil
}

// records lists the deletion of what is kept of a lane's work.
func (c *claims) records(w *laneWork) (writes []write, err error) {
	key := laneKey(w.hold, w.lane)
	err = c.n.kv.scan("work/"+key+"/", func(k string, v []byte) error {
		kind := k[strings.LastIndexByte(k, '/')+1]
		if kind == 'y' {
			return nil
		}
		writes = append(writes, write{k, nil})
		var r proto.Results
		if kind == 'r' && goproto.Unmarshal(v, &r) == nil {
			for _, it := range r.Items {
				rc := new(proto.Receipt)
				if goproto.Unmarshal(it.GetReceipt(), rc) == nil {
					if h, err := proto.ToHash(rc.OutputHash); err == nil {
						writes = append(writes, write{outputKey(h, key), nil})
					}
				}
			}
		}
		return nil
	})
	return writes, err
}
