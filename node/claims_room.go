package node

import (
	"fmt"
	"strings"
	"time"

	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
)

// owes reports that more of what was earned on a lane than a small part is neither
// promised nor among what its receipts prove.
func (w *laneWork) owes(provable proto.Credit) bool {
	return w.earned > max(w.vouchered, provable)+w.earned/unprovenPart
}

// fits reports that a claim has room for all that is kept of a lane, and for so
// many more receipts of so many bytes.
func (w *laneWork) fits(bytes, receipts int) bool {
	return w.orders+w.shown+bytes < maxClaimBytes && w.tasks+receipts <= maxClaimTasks
}

// room reports why a lane gets no more work, of which the signed assignments have
// so many bytes: more of what was earned there is not promised than its claim has
// room to prove. Call with mu held.
func (c *claims) room(w *laneWork, batch int) error {
	if time.Since(w.withheld) < withheldFor {
		return proto.CodeBusy.Errorf("results on this lane wait until what was earned is promised: %s were earned, %s are promised", w.earned, w.vouchered)
	}
	if w.orders+batch > maxClaimOrders || w.tasks >= maxKeptTasks || w.outputs >= maxClaimOutputs {
		if err := c.compact(w); err != nil {
			return err
		}
		if w.orders+batch > maxClaimOrders {
			return proto.CodeBusy.Errorf("too many assignments on this lane are under way")
		}
	}
	if w.forgotten == 0 && w.fits(0, 1) {
		return nil // all of it
	}
	return c.covered(w)
}

// covered reports what of a lane's earnings is neither promised nor provable, if
// that is too much. Call with mu held.
func (c *claims) covered(w *laneWork) error {
	if w.owes(w.provable) {
		if err := c.tally(w); err != nil {
			return err
		}
	}
	if w.owes(w.provable) {
		return proto.CodeBusy.Errorf("%s credits were earned on this lane, %s are promised and a claim has no room for more than %s", w.earned, w.vouchered, w.provable)
	}
	return nil
}

// tally finds what a claim of a lane would prove, unless that is known or was just
// looked for. After another start it is not known. Call with mu held.
func (c *claims) tally(w *laneWork) error {
	if w.delivered == w.tallied || time.Since(w.gathered) <= gatherEvery {
		return nil
	}
	_, provable, err := c.gather(w, w.payer)
	if err != nil {
		return err
	}
	w.provable, w.tallied, w.gathered = provable, w.delivered, time.Now()
	return nil
}

// leaving is what goes to a submitter with the next signature.
type leaving struct {
	pay             proto.Credit
	bytes, receipts int
}

// mayLeave reports whether a result goes to its submitter now, beside others of
// its lane, and counts it among them. One that no claim would have room for waits
// until the payer has promised enough of what it got before.
func (c *claims) mayLeave(d delivered, receipt []byte, with *leaving) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	rc := new(proto.Receipt)
	w := c.lanes[laneKey(d.hold, d.lane)]
	if w == nil || goproto.Unmarshal(receipt, rc) != nil {
		return true
	}
	next := *with
	next.pay, next.bytes, next.receipts = next.pay+payOf(rc), next.bytes+shownSize(receipt, nil, proto.MaxReceipts)+signatureSize, next.receipts+1
	for _, first := range []bool{true, false} {
		then := laneWork{earned: w.earned + next.pay, vouchered: w.vouchered, provable: w.provable}
		if w.fits(next.bytes, next.receipts) {
			then.provable += next.pay
		}
		if !then.owes(then.provable) {
			*with, w.withheld = next, time.Time{}
			return true
		}
		if first && c.tally(w) == nil && c.covered(w) == nil && !w.fits(next.bytes, next.receipts) {
			_ = c.compact(w) // else it waits
		}
	}
	w.withheld = time.Now()
	return false
}

// compact forgets of a lane's work what its claim would not show: nothing when the
// payer promised what was earned, else what is worth most, so that no more than a
// small part is lost if the payer never pays again. Assignments of work under way
// stay. Call with mu held.
func (c *claims) compact(w *laneWork) error {
	if time.Since(w.crowded) < gatherEvery {
		return errCrowded
	}
	var best []proven
	var pay proto.Credit
	if w.vouchered < w.earned {
		work, err := c.proven(w, w.payer)
		if err != nil {
			return err
		}
		best, pay = choose(work, maxClaimBytes/2, maxClaimOutputs/2)
		if w.owes(pay) {
			w.crowded = time.Now() // or nearly: this takes long for what it brings
			best, pay = choose(work, maxClaimBytes, maxClaimOutputs/2)
		}
		if w.owes(pay) {
			return errCrowded
		}
	}
	return c.reduce(w, best, pay)
}

// reduce keeps of a lane's work what is best, which earned so much, and what is
// under way. Call with mu held.
func (c *claims) reduce(w *laneWork, best []proven, pay proto.Credit) error {
	stays := map[string]bool{w.key('y', ""): true}
	for h := range c.n.work.underWay(w.hold, w.lane) {
		stays[w.key('a', h.String())] = true
	}
	next := laneWork{tasks: len(best)}
	for _, p := range best {
		stays[outputKey(p.output, laneKey(w.hold, w.lane))] = true
		next.outputs += p.outputs
	}
	writes, err := c.records(w, stays)
	if err != nil {
		return err
	}
	for key := range stays {
		if kind := key[strings.LastIndexByte(key, '/')+1]; kind == 'a' {
			if v, err := c.n.kv.get(key); err == nil {
				next.orders += len(v)
			}
		}
	}
	if next.tasks > 0 {
		m := &proto.WorkClaim{Hold: w.hold.Bytes(), Lane: w.lane}
		show(m, best)
		v, err := goproto.Marshal(m)
		if err != nil {
			return fmt.Errorf("proof of work: %w", err)
		}
		next.results, next.shown = len(v), len(v)
		writes = append(writes, write{w.key('c', ""), v})
	}
	if w.earned > pay {
		writes = append(writes, write{w.key('e', ""), creditsText(w.earned - pay)})
	}
	if err := c.n.kv.commit(writes); err != nil {
		return fmt.Errorf("state store: %w", err)
	}
	c.count(w.payer, next.bytes()-w.bytes())
	w.tasks, w.outputs, w.orders, w.results, w.shown = next.tasks, next.outputs, next.orders, next.results, next.shown
	w.forgotten = w.earned - min(w.earned, pay)
	w.provable, w.tallied = pay, w.delivered
	return nil
}

var errCrowded = proto.CodeBusy.Errorf("too much was done on this lane for what was paid")

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

// erase drops a lane's records, and its voucher.
func (c *claims) erase(w *laneWork) error {
	writes, err := c.records(w, nil)
	if err == nil {
		err = c.n.kv.commit(append(writes, write{voucherKey(w.hold, w.lane), nil}))
	}
	if err != nil {
		return fmt.Errorf("state store: %w", err)
	}
	return nil
}

// records lists the deletion of what is kept of a lane's work, but what stays.
func (c *claims) records(w *laneWork, stays map[string]bool) (writes []write, err error) {
	lane := laneKey(w.hold, w.lane)
	remove := func(key string) {
		if !stays[key] {
			writes = append(writes, write{key, nil})
		}
	}
	err = c.n.kv.scan("work/"+lane+"/", func(k string, v []byte) error {
		remove(k)
		for _, raw := range rawReceipts(k[strings.LastIndexByte(k, '/')+1], v) {
			rc := new(proto.Receipt)
			if goproto.Unmarshal(raw, rc) == nil {
				if h, err := proto.ToHash(rc.OutputHash); err == nil {
					remove(outputKey(h, lane))
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("state store: %w", err)
	}
	return writes, nil
}

// rawReceipts are the receipts in a record, of other lanes, too.
func rawReceipts(kind byte, record []byte) (out [][]byte) {
	switch kind {
	case 'c':
		for _, sr := range claimOf(record).GetReceipts() {
			out = append(out, sr.GetReceipt())
		}
	case 'r':
		var r proto.Results
		if goproto.Unmarshal(record, &r) == nil {
			for _, it := range r.Items {
				out = append(out, it.GetReceipt())
			}
		}
	}
	return out
}
