package node

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
)

// A worker keeps what proves its work until the hold that pays for it is
// closed: the payer's assignments that it took, its own receipts and the outputs,
// beside the newest voucher. When the hold's deadline is over and the payer has not
// settled, it files a claim with all witnesses, which close the hold after the
// grace. How a claim is made of it is in unpaid.go.

// Bounds of what is kept.
const (
	maxClaimLanes   = 1024     // with proofs
	maxLaneEntries  = 16 << 10 // with those of which only the voucher is kept
	maxPayerLanes   = 64       // of one payer
	maxClaimTasks   = 1024     // of one lane, as many as a claim may hold
	maxKeptTasks    = 2048     // of one lane, before those that no claim shows are forgotten
	maxClaimOutputs = 64 << 20 // bytes of one lane's outputs, before it gets no more work
	maxClaimBytes   = 240 << 10
	maxClaimOrders  = 4 << 20 // bytes of one lane's assignments
	payerClaims     = 8       // the part of Config.MaxClaims that one payer may have
	// maxBatchBytes is what a signed batch of assignments has at most for each of
	// them: with a larger one no claim has room for what it orders.
	maxBatchBytes = 256
	// unprovenPart is what part of a lane's earnings may be neither promised nor
	// within what its claim has room for.
	unprovenPart = 8
	// gatherEvery is between two times that a lane's claim is made up to see how
	// much it has room for.
	gatherEvery = time.Second
	// withheldFor is for how long a lane gets no work while its results wait for a
	// voucher: they may not be wanted any more.
	withheldFor = 10 * time.Second
)

// claims is this worker's side of unpaid work.
type claims struct {
	n  *Node
	mu sync.Mutex
	// lanes by laneKey; what they say is in the state store, too.
	lanes  map[string]*laneWork
	payers map[peer.ID]*payerWork // that have lanes
	proofs int                    // lanes that have a place for proofs
	bytes  int
}

// payerWork is what is kept of one payer.
type payerWork struct {
	entries int
	lanes   int // of those, with a place for proofs
	bytes   int
	full    time.Time // none of its lanes gave way for another; nothing was promised since
}

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
	shown   int  // bytes that a claim of all receipts would have
	done    bool // Done was signed: it takes no more work
	bare    bool // only its voucher is kept, and what was earned

	earned    proto.Credit // by all that was delivered and not outvoted
	forgotten proto.Credit // of that, by work of which the proof is not kept
	vouchered proto.Credit
	provable  proto.Credit // by a claim, when tallied results had been delivered
	delivered int
	tallied   int
	gathered  time.Time
	crowded   time.Time // nothing more could be forgotten
	withheld  time.Time // a result had to wait for a voucher, see mayLeave; none came since
	// Of run alone:
	tried   time.Time // to claim
	claimed uint64    // deadline of the hold for which a quorum keeps the claim
}

func (w *laneWork) bytes() int { return w.orders + w.results + w.outputs }

func newClaims(n *Node) *claims {
	return &claims{n: n, lanes: map[string]*laneWork{}, payers: map[peer.ID]*payerWork{}}
}

// Keys: work/<hold>/<lane>/ and a with the batch's hash for assignments, c for the
// claim of older work (compact), e for what was earned by work that is in none, r
// with a number for receipts, x with an outvoted receipt's hash for what it would
// have earned, y with the payer once Done was signed; out/<hash>/<hold>/<lane> for
// outputs. A record of receipts has all that were signed at once; those of other
// lanes are marked by_cid.
func laneKey(hold cid.Cid, lane uint32) string { return doneKey(hold, lane)[len("done/"):] }

func outputKey(h proto.Hash, lane string) string { return "out/" + h.String() + "/" + lane }

func (w *laneWork) key(kind byte, name string) string {
	return "work/" + laneKey(w.hold, w.lane) + "/" + string(kind) + name
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
// lane's claim. stake is what the lane may still pay. Nothing is written: the
// market has not judged them.
func (c *claims) admits(hold cid.Cid, lane uint32, payer peer.ID, batch []byte, stake proto.Credit) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.lane(hold, lane, payer, stake)
	if w == nil {
		return proto.CodeBusy.Errorf("too many lanes are not settled yet")
	}
	if _, err := c.n.kv.get(w.key('a', proto.HashOf(batch).String())); err == nil {
		return errReplay
	}
	if w.done {
		return proto.CodeNoLane.Errorf("Done was signed for the lane")
	}
	if !c.space(w, stake) {
		return proto.CodeBusy.Errorf("too much work is not settled yet")
	}
	return c.room(w, len(batch))
}

// taken keeps signed assignments of which the market took some.
func (c *claims) taken(hold cid.Cid, lane uint32, payer peer.ID, batch []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.lane(hold, lane, payer, always)
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

// promised notes a voucher for a payer's lane that is higher than those before; false
// when there is no room for it.
func (c *claims) promised(hold cid.Cid, lane uint32, payer peer.ID, amount proto.Credit) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.find(hold, lane, payer)
	if w == nil {
		if len(c.lanes) >= maxLaneEntries && !c.dropVoucher(amount) {
			return false
		}
		w = c.add(hold, lane, payer)
		c.strip(w, true)
	}
	if amount > w.vouchered {
		w.vouchered, w.withheld = amount, time.Time{}
		c.payers[payer].full = time.Time{}
	}
	return true
}

// books are what was promised on a lane and what its receipts are worth.
func (c *claims) books(hold cid.Cid, lane uint32) (promised, earned proto.Credit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.lanes[laneKey(hold, lane)]; w != nil {
		return w.vouchered, w.earned
	}
	if v, err := c.n.kv.get(voucherKey(hold, lane)); err == nil {
		if s, err := proto.Inspect(v, proto.KindVoucher); err == nil {
			promised = proto.Credit(s.Payload.GetVoucher().GetAmount())
		}
	}
	return promised, 0
}

// delivered is a result of a lane that goes to its submitter.
type delivered struct {
	hold   cid.Cid
	lane   uint32
	payer  peer.ID
	output []byte
}

// delivered keeps the receipts of one signed batch for one payer, one for each
// result, and the outputs: witnesses ask for them before they count a receipt.
func (c *claims) delivered(batch []byte, receipts [][]byte, list []delivered) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.proofs
	done := map[*laneWork]bool{}
	for i, d := range list {
		w := c.placed(d.hold, d.lane, d.payer)
		rc := new(proto.Receipt)
		if goproto.Unmarshal(receipts[i], rc) == nil {
			w.earned += payOf(rc)
		}
		w.tasks++
		w.shown += shownSize(receipts[i], batch, len(receipts))
		if w.fits(0, 0) { // with all before it
			if w.provable += payOf(rc); w.tallied == w.delivered {
				w.tallied++
			}
		}
		w.delivered++
		c.grow(w, &w.outputs, len(d.output))
		c.put(outputKey(proto.HashOf(d.output), laneKey(d.hold, d.lane)), d.output)
		if done[w] {
			continue
		}
		done[w] = true
		r := &proto.Results{Batch: batch}
		for i, raw := range receipts { // all of them: the signature is over all
			other := c.lanes[laneKey(list[i].hold, list[i].lane)] != w
			r.Items = append(r.Items, &proto.ResultItem{Receipt: raw, ByCid: other})
		}
		v, err := goproto.Marshal(r)
		if err != nil {
			continue
		}
		c.grow(w, &w.results, len(v))
		c.put(w.key('r', fmt.Sprint(w.records)), v)
		w.records++
	}
	for range c.proofs - before { // after all: none of them gives way half written
		c.trim(list[0].payer)
	}
}

// signatureSize is what a batch of receipts has at most.
const signatureSize = 256

// shownSize is how many bytes a claim has for a receipt that was signed with so
// many others.
func shownSize(receipt, batch []byte, of int) int {
	return len(receipt) + len(batch) + 34*bits.Len(uint(of-1)) + 2*around
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
