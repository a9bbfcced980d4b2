package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// A worker keeps what proves its work until the hold that pays for it is
// closed: the payer's assignments that it took, its own receipts and the outputs,
// beside the newest voucher. When the hold's deadline is over and the payer has not
// settled, it files a claim with all witnesses, which close the hold after the
// grace. How a claim is made of it is in unpaid.go.

// Bounds of what is kept.
const (
	maxClaimLanes   = 1024
	maxPayerLanes   = 64       // of one payer
	maxClaimTasks   = 1024     // of one lane, as many as a claim may hold
	maxClaimOutputs = 64 << 20 // bytes of one lane's outputs
	maxClaimBytes   = 240 << 10
	maxClaimOrders  = 4 << 20   // bytes of one lane's assignments
	maxPayerClaims  = 256 << 20 // bytes of all that is kept of one payer
	maxClaims       = 2 << 30   // bytes of all
	// maxBatchBytes is what a signed batch of assignments has at most for each of
	// them: with a larger one no claim has room for what it orders.
	maxBatchBytes = 256
	// unprovenPart is what part of a lane's earnings may be neither promised nor
	// within what its claim has room for.
	unprovenPart = 8
	// gatherEvery is between two times that a lane's claim is made up to see how
	// much it has room for.
	gatherEvery = time.Second
)

// claims is this worker's side of unpaid work.
type claims struct {
	n  *Node
	mu sync.Mutex
	// lanes by laneKey; what they say is in the state store, too.
	lanes  map[string]*laneWork
	payers map[peer.ID]*payerWork // that have lanes
	bytes  int
}

// payerWork is what is kept of one payer.
type payerWork struct{ lanes, bytes int }

// laneWork counts what is kept of a lane.
type laneWork struct {
	hold    cid.Cid
	lane    uint32
	payer   peer.ID
	records uint32
	tasks   int
	outputs int  // bytes
	orders  int  // bytes of assignments
	results int  // bytes of receipts
	done    bool // Done was signed: it takes no more work

	earned    proto.Credit // by all that was delivered
	vouchered proto.Credit
	provable  proto.Credit // by a claim, when tallied results had been delivered
	delivered int
	tallied   int
	gathered  time.Time
	// Of run alone:
	tried   time.Time // to claim
	claimed uint64    // deadline of the hold for which a quorum keeps the claim
}

func (w *laneWork) bytes() int { return w.orders + w.results + min(w.outputs, maxClaimOutputs) }

func newClaims(n *Node) *claims {
	return &claims{n: n, lanes: map[string]*laneWork{}, payers: map[peer.ID]*payerWork{}}
}

// Keys: work/<hold>/<lane>/ and a with the batch's hash for assignments, r with a
// number for receipts, x with a receipt's hash for one that proves nothing, y once
// Done was signed; out/<hash>/<hold>/<lane> for outputs.
func laneKey(hold cid.Cid, lane uint32) string { return doneKey(hold, lane)[len("done/"):] }

func outputKey(h proto.Hash, lane string) string { return "out/" + h.String() + "/" + lane }

func (w *laneWork) key(kind byte, name string) string {
	return "work/" + laneKey(w.hold, w.lane) + "/" + string(kind) + name
}

// load finds what an earlier run kept.
func (c *claims) load() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.n.kv.scan("work/", func(key string, v []byte) error {
		part := strings.Split(key, "/")
		if len(part) != 4 || part[3] == "" {
			return nil
		}
		hold, err := cid.Decode(part[1])
		if err != nil {
			return nil
		}
		var lane uint32
		if _, err := fmt.Sscanf(part[2], "%d", &lane); err != nil {
			return nil
		}
		w := c.lanes[laneKey(hold, lane)]
		if w == nil { // its assignments come first
			var payer peer.ID
			if s, err := proto.Inspect(v, proto.KindAssignments); err == nil {
				payer = s.Signer
			}
			w = c.add(hold, lane, payer)
		}
		switch part[3][0] {
		case 'a':
			c.grow(w, &w.orders, len(v))
		case 'r':
			c.loadReceipts(w, part[3][1:], v)
		case 'y':
			w.done = true
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("state store: %w", err)
	}
	return nil
}

func (c *claims) loadReceipts(w *laneWork, number string, v []byte) {
	var r proto.Results
	var n uint32
	if _, err := fmt.Sscanf(number, "%d", &n); err != nil || goproto.Unmarshal(v, &r) != nil {
		return
	}
	w.records = max(w.records, n+1)
	c.grow(w, &w.results, len(v))
	for _, it := range r.Items {
		rc := new(proto.Receipt)
		if goproto.Unmarshal(it.GetReceipt(), rc) != nil {
			continue
		}
		w.tasks++
		w.delivered++
		w.earned += proto.PayFor(proto.Fuel(rc.Fuel), proto.Credit(rc.Price))
		c.grow(w, &w.outputs, int(min(rc.OutputSize, proto.MaxOutput)))
	}
}

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
	p := c.payers[payer]
	if p == nil {
		p = &payerWork{}
		c.payers[payer] = p
	}
	p.lanes++
	return w
}

// drop forgets a lane's entry. Call with mu held.
func (c *claims) drop(w *laneWork) {
	key := laneKey(w.hold, w.lane)
	if c.lanes[key] != w {
		return
	}
	delete(c.lanes, key)
	c.count(w.payer, -w.bytes())
	if p := c.payers[w.payer]; p.lanes > 1 {
		p.lanes--
	} else {
		delete(c.payers, w.payer)
	}
}

// lane finds or makes a lane's entry; nil when there are too many, of all or of
// its payer. Then one under which nothing was delivered makes room, of the payer
// with the most: holds cost payers next to nothing. Call with mu held.
func (c *claims) lane(hold cid.Cid, lane uint32, payer peer.ID) *laneWork {
	if w := c.lanes[laneKey(hold, lane)]; w != nil {
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

func (c *claims) put(key string, v []byte) {
	if err := c.n.kv.put(key, v); err != nil {
		c.n.log.Error("keep proof of work", zap.Error(err))
	}
}

// errReplay is of assignments that were taken before.
var errReplay = errors.New("these assignments were taken before")

// admits reports why a payer's signed assignments for a lane are not taken:
// errReplay, or that what proves the work could not be kept or would not fit the
// lane's claim. Nothing is written: the market has not judged them.
func (c *claims) admits(hold cid.Cid, lane uint32, payer peer.ID, batch []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.lane(hold, lane, payer)
	if w == nil {
		return proto.CodeBusy.Errorf("too many lanes are not settled yet")
	}
	if _, err := c.n.kv.get(w.key('a', proto.HashOf(batch).String())); err == nil {
		return errReplay
	}
	if w.done {
		return proto.CodeNoLane.Errorf("Done was signed for the lane")
	}
	if w.orders+len(batch) > maxClaimOrders || w.tasks >= maxClaimTasks {
		if w.vouchered < w.earned {
			return proto.CodeBusy.Errorf("too many assignments on this lane for what was paid")
		}
		if err := c.clear(w); err != nil { // the voucher is worth as much
			c.n.log.Error("forget proof of work", zap.Error(err))
		}
	}
	if c.payers[payer].bytes > maxPayerClaims || c.bytes > maxClaims {
		return proto.CodeBusy.Errorf("too much work is not settled yet")
	}
	return c.room(w)
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

// taken keeps signed assignments of which the market took some.
func (c *claims) taken(hold cid.Cid, lane uint32, payer peer.ID, batch []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.lane(hold, lane, payer)
	if w == nil {
		return
	}
	key := w.key('a', proto.HashOf(batch).String())
	if _, err := c.n.kv.get(key); err == nil {
		return
	}
	c.grow(w, &w.orders, len(batch))
	c.put(key, batch)
}

// kept is how many bytes are kept of all lanes.
func (c *claims) kept() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return uint64(max(0, c.bytes))
}

// promised notes the newest voucher of a lane.
func (c *claims) promised(hold cid.Cid, lane uint32, amount proto.Credit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.lanes[laneKey(hold, lane)]; w != nil {
		w.vouchered = max(w.vouchered, amount)
	}
}

// earned is what the receipts of a lane are worth.
func (c *claims) earned(hold cid.Cid, lane uint32) proto.Credit {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.lanes[laneKey(hold, lane)]; w != nil {
		return w.earned
	}
	return 0
}

// delivered is a result of a lane that goes to its submitter.
type delivered struct {
	hold   cid.Cid
	lane   uint32
	payer  peer.ID
	output []byte
}

// delivered keeps the receipts of one signed batch, one for each result, and the
// outputs: witnesses ask for them before they count a receipt.
func (c *claims) delivered(batch []byte, receipts [][]byte, list []delivered) {
	c.mu.Lock()
	defer c.mu.Unlock()
	done := map[*laneWork]bool{}
	for i, d := range list {
		w := c.lane(d.hold, d.lane, d.payer)
		if w == nil {
			continue
		}
		rc := new(proto.Receipt)
		if goproto.Unmarshal(receipts[i], rc) == nil {
			w.earned += proto.PayFor(proto.Fuel(rc.Fuel), proto.Credit(rc.Price))
		}
		w.tasks++
		w.delivered++
		c.grow(w, &w.outputs, len(d.output))
		if w.outputs <= maxClaimOutputs {
			c.put(outputKey(proto.HashOf(d.output), laneKey(d.hold, d.lane)), d.output)
		} else { // one that cannot be shown would spoil the claim
			c.put(w.key('x', proto.HashOf(receipts[i]).String()), []byte{})
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
		c.grow(w, &w.results, len(v))
		c.put(w.key('r', fmt.Sprint(w.records)), v)
		w.records++
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
