package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"go.uber.org/zap"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// A worker keeps what proves its work until the hold that pays for it is
// closed: the payer's assignments, its own receipts and the outputs, beside the
// newest voucher. When the hold's deadline is over and the payer has not settled,
// it files a claim with all witnesses, which close the hold after the grace.

// Bounds of what is kept.
const (
	maxClaimLanes   = 1024
	maxClaimTasks   = 1024     // of one lane, as many as a claim may hold
	maxClaimOutputs = 64 << 20 // bytes of one lane's outputs
	maxClaimBytes   = 240 << 10
	maxClaimOrders  = 4 << 20 // bytes of one lane's assignments
	// maxBatchBytes is what a signed batch of assignments has at most for each of
	// them: with a larger one no claim has room for what it orders.
	maxBatchBytes = 256
)

// claims is this worker's side of unpaid work.
type claims struct {
	n  *Node
	mu sync.Mutex
	// lanes by laneKey; what they say is in the state store, too.
	lanes map[string]*laneWork
}

// laneWork counts what is kept of a lane.
type laneWork struct {
	hold    cid.Cid
	lane    uint32
	records uint32
	tasks   int
	outputs int
	orders  int // bytes of assignments
	// Of run alone:
	tried   time.Time // to claim
	claimed uint64    // deadline of the hold for which a quorum keeps the claim
}

func newClaims(n *Node) *claims { return &claims{n: n, lanes: map[string]*laneWork{}} }

// Keys: work/<hold>/<lane>/ and a or r with a number for assignments and
// receipts, out/<hash>/<hold>/<lane> for outputs.
func laneKey(hold cid.Cid, lane uint32) string { return doneKey(hold, lane)[len("done/"):] }

func outputKey(h proto.Hash, lane string) string { return "out/" + h.String() + "/" + lane }

// load finds what an earlier run kept.
func (c *claims) load() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.n.kv.scan("work/", func(key string, v []byte) error {
		part := strings.Split(key, "/")
		if len(part) != 4 {
			return nil
		}
		hold, err := cid.Decode(part[1])
		if err != nil {
			return nil
		}
		var lane, n uint32
		if _, err := fmt.Sscanf(part[2]+" "+part[3][1:], "%d %d", &lane, &n); err != nil {
			return nil
		}
		w := c.lane(hold, lane)
		if w == nil {
			return nil
		}
		w.records = max(w.records, n+1)
		if part[3][0] == 'a' {
			w.orders += len(v)
		}
		if part[3][0] == 'r' {
			var r proto.Results
			if goproto.Unmarshal(v, &r) == nil {
				w.tasks += len(r.Items)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("state store: %w", err)
	}
	return nil
}

// lane finds or makes a lane's entry; nil when there are too many. One under
// which nothing was delivered makes room: holds cost payers next to nothing.
// Call with mu held.
func (c *claims) lane(hold cid.Cid, lane uint32) *laneWork {
	key := laneKey(hold, lane)
	if w := c.lanes[key]; w != nil {
		return w
	}
	if len(c.lanes) >= maxClaimLanes && !c.makeRoom() {
		return nil
	}
	w := &laneWork{hold: hold, lane: lane}
	c.lanes[key] = w
	return w
}

func (c *claims) makeRoom() bool {
	for key, w := range c.lanes {
		if w.tasks > 0 {
			continue
		}
		if err := c.erase(w); err != nil {
			c.n.log.Error("forget proof of work", zap.Error(err))
			return false
		}
		delete(c.lanes, key)
		return true
	}
	return false
}

// keep stores one record of a lane; it is on disk with the next commit.
func (c *claims) keep(w *laneWork, kind byte, v []byte) {
	key := fmt.Sprintf("work/%s/%c%d", laneKey(w.hold, w.lane), kind, w.records)
	w.records++
	if err := c.n.kv.put(key, v); err != nil {
		c.n.log.Error("keep proof of work", zap.Error(err))
	}
}

// assigned keeps a payer's signed assignments. It reports false when the payer
// has sent more of them than its lane's work can take.
func (c *claims) assigned(hold cid.Cid, lane uint32, batch []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.lane(hold, lane)
	if w == nil || w.tasks >= maxClaimTasks {
		return true
	}
	if w.orders+len(batch) > maxClaimOrders {
		return false
	}
	w.orders += len(batch)
	c.keep(w, 'a', batch)
	return true
}

// delivered is a result of a lane that goes to its submitter.
type delivered struct {
	hold   cid.Cid
	lane   uint32
	output []byte
}

// delivered keeps the receipts of one signed batch, and the outputs: witnesses
// ask for them before they count a receipt.
func (c *claims) delivered(batch []byte, receipts [][]byte, list []delivered) {
	c.mu.Lock()
	defer c.mu.Unlock()
	done := map[*laneWork]bool{}
	for _, d := range list {
		w := c.lane(d.hold, d.lane)
		if w == nil || w.tasks >= maxClaimTasks {
			continue
		}
		w.tasks++
		if w.outputs += len(d.output); w.outputs <= maxClaimOutputs {
			if err := c.n.kv.put(outputKey(proto.HashOf(d.output), laneKey(d.hold, d.lane)), d.output); err != nil {
				c.n.log.Error("keep proof of work", zap.Error(err))
			}
		}
		if done[w] {
			continue
		}
		done[w] = true
		r := &proto.Results{Batch: batch}
		for _, raw := range receipts { // all of them: the signature is over all
			r.Items = append(r.Items, &proto.ResultItem{Receipt: raw})
		}
		v, err := goproto.Marshal(r)
		if err != nil {
			continue
		}
		c.keep(w, 'r', v)
	}
}

// output finds an output that a claim names.
func (c *claims) output(h proto.Hash) (body []byte, ok bool) {
	err := c.n.kv.scan("out/"+h.String()+"/", func(_ string, v []byte) error {
		body, ok = v, true
		return errStop
	})
	return body, ok && errors.Is(err, errStop)
}

var errStop = errors.New("found")

// run looks after the lanes: what is closed is forgotten, what is over is
// claimed.
func (c *claims) run(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		c.mu.Lock()
		list := make([]*laneWork, 0, len(c.lanes))
		for _, w := range c.lanes {
			list = append(list, w)
		}
		c.mu.Unlock()
		for _, w := range list {
			if ctx.Err() != nil {
				return
			}
			if err := c.look(ctx, w); err != nil && ctx.Err() == nil {
				c.n.log.Warn("claim unpaid work", zap.Stringer("hold", w.hold), zap.Error(err))
			}
		}
	}
}

// ended reports that a hold's deadline and grace are over.
func (c *claims) ended(st ledger.HoldState) bool {
	end := proto.UnixMs(st.DeadlineUnixMs).Add(c.n.net.Grace())
	return time.Now().After(end)
}

// over reports that a hold pays nothing any more. A light node may find one
// closed so long ago that the witnesses have forgotten it.
func (c *claims) over(st ledger.HoldState) bool { return st.Closed || st.Forgotten && c.ended(st) }

// of lists what is kept of work under a hold.
func (c *claims) of(hold cid.Cid) (list []*laneWork) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.lanes {
		if w.hold.Equals(hold) {
			list = append(list, w)
		}
	}
	return list
}

// worked reports whether results under a hold were delivered.
func (c *claims) worked(hold cid.Cid) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.lanes {
		if w.hold.Equals(hold) && w.tasks > 0 {
			return true
		}
	}
	return false
}

const (
	claimAgain    = 3 * time.Second  // until a claim that failed is tried again
	claimPatience = 15 * time.Second // before the next lane has its turn
)

func (c *claims) look(ctx context.Context, w *laneWork) error {
	st, ok := c.n.wallet.holdState(w.hold)
	switch {
	case !ok || int(w.lane) >= len(st.Lanes): // not heard of yet
		return nil
	case c.over(st) || st.Lanes[w.lane].Done:
		return c.forget(w)
	case time.Now().Before(proto.UnixMs(st.DeadlineUnixMs)):
		return nil
	case w.claimed == st.DeadlineUnixMs || time.Since(w.tried) < claimAgain:
		return nil
	}
	w.tried = time.Now()
	raw, err := c.claim(w)
	if err != nil || raw == nil {
		return err
	}
	c.n.wallet.mu.Lock()
	got, err := c.n.wallet.l.CheckClaim(raw)
	c.n.wallet.mu.Unlock()
	if err != nil {
		return err
	}
	if got.Amount <= st.Lanes[w.lane].Paid {
		return nil // paid already
	}
	c.n.log.Info("the payer has not settled; unpaid work is claimed", zap.Stringer("hold", w.hold), zap.String("payer", peerText(st.Payer)), zap.Stringer("credits", got.Amount))
	end, cancel := context.WithTimeout(ctx, claimPatience)
	defer cancel()
	if err := c.n.wallet.file(end, raw); err != nil {
		return err
	}
	w.claimed = st.DeadlineUnixMs
	return nil
}

// order is what an assignment orders and a receipt delivers.
type order struct {
	job, module, input string
	task, replica      uint32
	meter              uint32
	price, fuelLimit   uint64
}

// once leaves what ledger.CheckClaim counts once.
func (o order) once() order {
	o.replica, o.meter, o.price = 0, 0, 0
	return o
}

// proven is a receipt with the assignments that order its work.
type proven struct {
	receipt *proto.SignedReceipt
	batch   string
	pay     proto.Credit
}

// claim makes the signed claim of a lane from what is kept; nil when nothing is.
// The dearest work comes first, with the assignments that order it and no others:
// the payer decides what those are, so they must not use up the claim's room.
func (c *claims) claim(w *laneWork) ([]byte, error) {
	m := &proto.WorkClaim{Hold: w.hold.Bytes(), Lane: w.lane}
	if v, err := c.n.kv.get(voucherKey(w.hold, w.lane)); err == nil {
		m.Voucher = v
	}
	work, err := c.proven(w)
	if err != nil {
		return nil, err
	}
	const field = 8 // bytes around one in the message
	size := goproto.Size(m)
	has := map[string]bool{}
	for _, p := range work {
		more := goproto.Size(p.receipt) + field
		if !has[p.batch] {
			more += len(p.batch) + field
		}
		if size+more > maxClaimBytes || len(m.Receipts) == maxClaimTasks {
			continue
		}
		size += more
		if !has[p.batch] {
			has[p.batch] = true
			m.Assignments = append(m.Assignments, []byte(p.batch))
		}
		m.Receipts = append(m.Receipts, p.receipt)
	}
	if len(m.Voucher)+len(m.Receipts) == 0 {
		return nil, nil
	}
	return c.n.seal(&proto.Payload{Body: &proto.Payload_WorkClaim{WorkClaim: m}})
}

// proven lists a lane's work that the payer ordered on it, each once, the
// dearest first. Assignments are read before receipts, because their keys sort
// first.
func (c *claims) proven(w *laneWork) ([]proven, error) {
	orders := map[order]string{}
	seen := map[order]bool{}
	var out []proven
	err := c.n.kv.scan("work/"+laneKey(w.hold, w.lane)+"/", func(key string, v []byte) error {
		if key[strings.LastIndexByte(key, '/')+1] == 'a' {
			s, err := proto.Inspect(v, proto.KindAssignments)
			if err != nil {
				return nil
			}
			batch := string(v)
			for _, a := range s.Payload.GetAssignments().GetAssignments() {
				o := order{string(a.GetJob()), string(a.GetModule()), string(a.GetInputHash()), a.GetTask(), a.GetReplica(), a.GetMeterVersion(), a.GetPrice(), a.GetFuelLimit()}
				if _, known := orders[o]; !known {
					orders[o] = batch
				}
			}
			return nil
		}
		var r proto.Results
		if err := goproto.Unmarshal(v, &r); err != nil {
			return nil
		}
		var raws [][]byte
		for _, it := range r.Items {
			raws = append(raws, it.GetReceipt())
		}
		_, signed, err := proto.OpenReceipts(c.n.net.ID, r.Batch, raws)
		if err != nil {
			return nil
		}
		for _, sr := range signed {
			rc := new(proto.Receipt)
			if goproto.Unmarshal(sr.Receipt, rc) != nil || !proto.Status(rc.Status).Votable() || rc.Fuel > rc.FuelLimit {
				continue
			}
			o := order{string(rc.Job), string(rc.Module), string(rc.InputHash), rc.Task, rc.Replica, rc.MeterVersion, rc.Price, rc.FuelLimit}
			if batch, ok := orders[o]; ok && !seen[o.once()] {
				seen[o.once()] = true
				out = append(out, proven{sr, batch, proto.PayFor(proto.Fuel(rc.Fuel), proto.Credit(rc.Price))})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("state store: %w", err)
	}
	slices.SortStableFunc(out, func(x, y proven) int { return cmp.Compare(y.pay, x.pay) })
	return out, nil
}

// forget drops what was kept of a lane that is paid for good.
func (c *claims) forget(w *laneWork) error {
	if err := c.erase(w); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.lanes, laneKey(w.hold, w.lane))
	return nil
}

// erase drops a lane's records.
func (c *claims) erase(w *laneWork) error {
	key := laneKey(w.hold, w.lane)
	writes := []write{{voucherKey(w.hold, w.lane), nil}}
	err := c.n.kv.scan("work/"+key+"/", func(k string, v []byte) error {
		writes = append(writes, write{k, nil})
		var r proto.Results
		if k[strings.LastIndexByte(k, '/')+1] == 'r' && goproto.Unmarshal(v, &r) == nil {
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
	if err == nil {
		err = c.n.kv.commit(writes)
	}
	if err != nil {
		return fmt.Errorf("state store: %w", err)
	}
	return nil
}

// file brings a claim to the witnesses. One at a time.
func (w *wallet) file(ctx context.Context, raw []byte) error {
	w.mu.Lock()
	f, err := ledger.NewFiling(w.l, raw, ledger.AuthorConfig{})
	if err == nil {
		w.filing = f
	}
	w.mu.Unlock()
	if err != nil {
		return err
	}
	defer func() {
		w.mu.Lock()
		w.filing = nil
		w.mu.Unlock()
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		w.mu.Lock()
		err := w.deliver(now, f.Tick(now))
		result, ended := f.Result()
		next := f.Next()
		w.mu.Unlock()
		if err != nil {
			return err
		}
		if ended {
			return result
		}
		timer.Reset(max(time.Until(next), time.Millisecond))
		select {
		case <-w.filed:
		case <-timer.C:
		case <-ctx.Done():
			return fmt.Errorf("too few witnesses keep the claim: %w", context.Cause(ctx))
		}
	}
}
