package ledger

import (
	"bytes"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// Claims, and holds that are over. Until a hold's deadline and grace are over
// by this witness's clock it keeps the best claim of each lane; then it signs
// the list of them, takes no more, and wants the payer's next place for Close.

// Bounds of the claims whose outputs are being fetched. Of a lane it is one.
const (
	maxFetches       = 512 // a driver that is to choose among them takes fewer
	maxWorkerFetches = 4
)

// Fetch asks the driver whether results that a claim is for can be had from
// its worker, under their sha2-256. The answer is Witness.Fetched.
type Fetch struct {
	Claim         cid.Cid
	Payer, Worker peer.ID
	Amount        proto.Credit // that the claim adds to what its lane was paid
	Until         time.Time    // when the answer comes too late
	Outputs       []proto.Hash // each once
}

func (Fetch) output() {}

// claimed is the best claim of a lane.
type claimed struct{ amount, fuel uint64 }

// fetching is a claim that is good but for its outputs.
type fetching struct {
	claim   Claimed
	waiters []peer.ID
}

// finishedHold is an open hold that is over by this witness's clock.
type finishedHold struct {
	deadline
	list *objection // own
}

// Records: 'v', 'h', the hold, and
//
//	c, lane as 4 bytes -> amount and fuel of the best claim, 8 bytes each
//	l -> marshalled ClaimList: no claim is taken any more
//
// They go away once the hold is closed.
const holdKeyLen = 2 + len(proto.Hash{})

func holdKey(id proto.Hash, kind byte) []byte {
	return append(append([]byte{spaceVote, 'h'}, id[:]...), kind)
}

func claimKey(id proto.Hash, lane uint32) []byte {
	return binary.BigEndian.AppendUint32(holdKey(id, 'c'), lane)
}

// loadClaim reads one of these records.
func (w *Witness) loadClaim(key, value []byte) error {
	if len(key) < holdKeyLen+1 {
		return fmt.Errorf("record %x is of no hold", key)
	}
	id := proto.Hash(key[2:holdKeyLen])
	switch rest := key[holdKeyLen:]; {
	case rest[0] == 'l' && len(rest) == 1:
		w.touched[id] = true
	case rest[0] == 'c' && len(rest) == 5 && len(value) == 16:
		w.keepClaim(id, binary.BigEndian.Uint32(rest[1:]), claimed{binary.BigEndian.Uint64(value), binary.BigEndian.Uint64(value[8:])})
	default:
		return fmt.Errorf("record %x of a hold is damaged", key)
	}
	return nil
}

func (w *Witness) keepClaim(id proto.Hash, lane uint32, c claimed) {
	w.touched[id] = true
	if w.claims[id] == nil {
		w.claims[id] = map[uint32]claimed{}
	}
	w.claims[id][lane] = c
}

// Claim is Handle for a claim that is read and, where Wants said so, verified:
// both take long, and a driver can do them without keeping others from the
// witness.
func (w *Witness) Claim(now time.Time, from peer.ID, c *SignedClaim) ([]Output, error) {
	s := &step{w: w, now: now, from: from}
	err := s.holdsOver()
	if err == nil {
		err = s.signedClaim(c)
	}
	if err != nil {
		return s.fail(err)
	}
	return s.end()
}

// Wants reports whether a claim counts if its signatures are good.
func (w *Witness) Wants(now time.Time, c *SignedClaim) bool {
	s := &step{w: w, now: now}
	_, _, open, _ := s.weigh(c)
	return open && w.fetches[string(c.id.Bytes())] == nil
}

// workClaim takes a worker's claim. Everything about it is answered with a
// ClaimReply.
func (s *step) workClaim(raw []byte) error {
	c, err := ReadClaim(raw)
	if err != nil {
		s.answer(claimReply(nil, claimed{}, err))
		return nil
	}
	return s.signedClaim(c)
}

func (s *step) signedClaim(c *SignedClaim) error {
	best, wait, err := s.takeClaim(c)
	var broken *fault
	switch {
	case errors.As(err, &broken):
		return err
	case !wait:
		s.answer(claimReply(c.id.Bytes(), best, err))
	}
	return nil
}

func claimReply(id []byte, c claimed, err error) *proto.VoteFrame {
	r := &proto.ClaimReply{Claim: id, Code: uint32(proto.CodeOf(err)), Amount: c.amount, Fuel: c.fuel}
	if err != nil {
		r.Reason = proto.Clip(err.Error(), 256)
	}
	return &proto.VoteFrame{Body: &proto.VoteFrame_ClaimReply{ClaimReply: r}}
}

// takeClaim judges a claim. wait says that its outputs are asked for and the
// answer comes later.
func (s *step) takeClaim(x *SignedClaim) (best claimed, wait bool, err error) {
	w := s.w
	key := string(x.id.Bytes())
	if f := w.fetches[key]; f != nil {
		if !slices.Contains(f.waiters, s.from) && len(f.waiters) < maxWaiters {
			f.waiters = append(f.waiters, s.from)
		}
		return claimed{}, true, nil
	}
	c, best, open, err := s.weigh(x) // before any signature is checked
	if err != nil || !open {
		return best, false, err
	}
	if err := x.Verify(w.net); err != nil {
		return claimed{}, false, err
	}
	if c, best, open, err = s.weigh(x); err != nil || !open { // now without what is badly signed
		return best, false, err
	}
	h := w.l.hold(c.Hold)
	if !w.looks(c) {
		best, err = s.storeClaim(h.id, c)
		return best, false, err
	}
	w.fetches[key] = &fetching{c, []peer.ID{s.from}}
	s.outs = append(s.outs, Fetch{x.id, h.payer, c.Worker, c.Amount - h.lanes[c.Lane].Paid, w.l.over(h), c.Outputs})
	return claimed{}, true, nil
}

// looks reports whether a claim counts only once its outputs could be had.
func (w *Witness) looks(c Claimed) bool { return w.cfg.Fetch && len(c.Outputs) > 0 }

// weigh judges a claim but for its signatures. open says that it would add to
// its lane's best one.
func (s *step) weigh(x *SignedClaim) (c Claimed, best claimed, open bool, err error) {
	w := s.w
	c, lane, err := w.l.claim(x)
	if err != nil {
		return Claimed{}, claimed{}, false, err
	}
	h := w.l.hold(c.Hold)
	if err := s.tooLate(h); err != nil {
		return Claimed{}, claimed{}, false, err
	}
	best = w.claims[h.id][c.Lane]
	if best.amount >= uint64(lane.Cap) || lane.Done || c.Amount <= lane.Paid || !better(c, best) {
		return c, best, false, nil
	}
	if !w.looks(c) {
		return c, best, true, nil
	}
	n := 0
	for _, f := range w.fetches {
		if f.claim.Lane == c.Lane && f.claim.Hold.Equals(c.Hold) {
			return Claimed{}, claimed{}, false, proto.CodeBusy.Errorf("claim: another one of this lane is being looked into")
		}
		if f.claim.Worker == c.Worker {
			n++
		}
	}
	if n >= maxWorkerFetches || len(w.fetches) >= maxFetches {
		return Claimed{}, claimed{}, false, proto.CodeBusy.Errorf("claim: %d of this worker's claims are being looked into", n)
	}
	return c, best, true, nil
}

// better reports whether a claim adds to the best one of its lane.
func better(c Claimed, best claimed) bool {
	return uint64(c.Amount) > best.amount || uint64(c.Amount) == best.amount && uint64(c.Fuel) > best.fuel
}

func (s *step) tooLate(h *hold) error {
	if over := s.w.l.over(h); !s.now.Before(over) || s.w.finished(h) != nil {
		return proto.CodeExpired.Errorf("claim: hold %s was over at %s", h.id.CID(), over.UTC())
	}
	return nil
}

func (s *step) storeClaim(id proto.Hash, c Claimed) (claimed, error) {
	best := claimed{uint64(c.Amount), uint64(c.Fuel)}
	value := binary.BigEndian.AppendUint64(nil, best.amount)
	value = binary.BigEndian.AppendUint64(value, best.fuel)
	if err := s.w.store.Append(Record{claimKey(id, c.Lane), value}); err != nil {
		return claimed{}, &fault{err}
	}
	s.w.keepClaim(id, c.Lane, best)
	return best, nil
}

// Fetched answers a Fetch: nil says that every output of the claim could be
// had and is what its hash says, an error with proto.CodeBusy that there is no
// time to look. It may be called late or twice; until it is called no other
// claim by receipts is taken for that lane.
func (w *Witness) Fetched(now time.Time, claim cid.Cid, result error) ([]Output, error) {
	key := string(claim.Bytes())
	f := w.fetches[key]
	if f == nil {
		return nil, nil
	}
	delete(w.fetches, key)
	s := &step{w: w, now: now}
	if err := s.holdsOver(); err != nil {
		return s.fail(err)
	}
	var best claimed
	h := w.l.hold(f.claim.Hold)
	switch {
	case proto.CodeOf(result) == proto.CodeBusy:
		result = fmt.Errorf("claim: %w", result)
	case result != nil:
		result = proto.CodeFetch.Errorf("claim: its outputs cannot be had: %v", result)
	case h == nil || h.closed:
		result = proto.CodeExpired.Errorf("claim: hold %s is closed", f.claim.Hold)
	default:
		result = s.tooLate(h)
	}
	if result == nil {
		if best = w.claims[h.id][f.claim.Lane]; better(f.claim, best) {
			var err error
			if best, err = s.storeClaim(h.id, f.claim); err != nil {
				return s.fail(err)
			}
		}
	}
	s.send(f.waiters, claimReply(claim.Bytes(), best, result))
	return s.end()
}

// holdsOver signs the lists of holds that are over and opens their payers'
// next places.
func (s *step) holdsOver() error {
	w := s.w
	if w.base != w.l.base { // the state was replaced
		w.base = w.l.base
		for id := range w.touched {
			if h := w.l.s.holds[id]; h == nil || h.closed {
				w.ended = append(w.ended, id)
			}
		}
	}
	for {
		h := w.soonest()
		if h == nil || s.now.Before(w.l.over(h)) || w.off.close {
			break
		}
		if err := s.finishHold(h); err != nil {
			return err
		}
		heap.Pop(&w.l.s.deadlines) // only now: after a failed write it is tried again
	}
	return s.forgetHolds()
}

// soonest is the hold that is over next, of those that are not handled yet.
func (w *Witness) soonest() *hold {
	h, ended := w.l.s.soonest()
	w.ended = append(w.ended, ended...)
	return h
}

// forgetHolds deletes what was kept of holds that are closed.
func (s *step) forgetHolds() error {
	w := s.w
	var recs []Record
	for _, id := range w.ended {
		if !w.touched[id] {
			continue
		}
		recs = append(recs, Record{holdKey(id, 'l'), nil})
		for _, lane := range slices.Sorted(maps.Keys(w.claims[id])) {
			recs = append(recs, Record{claimKey(id, lane), nil})
		}
	}
	if len(recs) > 0 {
		if err := w.store.Append(recs...); err != nil {
			return &fault{err}
		}
	}
	for _, id := range w.ended {
		delete(w.touched, id)
		delete(w.claims, id)
	}
	w.ended = nil
	return nil
}

// finishHold makes this witness's list of claims durable and then signs it. A
// list that was made before a restart stays as it is.
func (s *step) finishHold(h *hold) error {
	w := s.w
	if w.finished(h) != nil {
		return nil
	}
	raw, err := w.store.Get(holdKey(h.id, 'l'))
	if err != nil {
		return &fault{err}
	}
	list := new(proto.ClaimList)
	if raw != nil {
		if err := goproto.Unmarshal(raw, list); err != nil {
			return &fault{fmt.Errorf("claim list of %s: %w", h.id.CID(), err)}
		}
	}
	if raw == nil || list.DeadlineUnixMs != h.deadline { // an Extend made an older list void
		var cs []Claimed
		for lane, c := range w.claims[h.id] {
			cs = append(cs, Claimed{Hold: h.id.CID(), Lane: lane, Amount: proto.Credit(c.amount), Fuel: proto.Fuel(c.fuel)})
		}
		if list, err = w.l.ClaimList(h.id.CID(), cs); err != nil {
			return &fault{err}
		}
		if err := w.store.Append(Record{holdKey(h.id, 'l'), must(list)}); err != nil {
			return &fault{err}
		}
	}
	w.touched[h.id] = true
	env, err := w.cfg.Sign(&proto.Payload{Body: &proto.Payload_ClaimList{ClaimList: list}})
	if err != nil {
		return &fault{fmt.Errorf("sign: %w", err)}
	}
	o, err := openObjection(w.net, env, false)
	if err != nil {
		return &fault{err}
	}
	if w.over[h.payer] == nil {
		w.over[h.payer] = map[proto.Hash]finishedHold{}
	}
	w.over[h.payer][h.id] = finishedHold{h.due(), o}
	w.again = append(w.again, h.payer)
	return nil
}

// finished is what this witness said when the hold was over, or nil: it is
// not, or an Extend moved its deadline since.
func (w *Witness) finished(h *hold) *finishedHold {
	if x, ok := w.over[h.payer][h.id]; ok && x.at == h.deadline {
		return &x
	}
	return nil
}

// firstOver is the account's hold that was over first and is still open.
func (w *Witness) firstOver(account peer.ID) *finishedHold {
	var first *finishedHold
	for id, x := range w.over[account] {
		h := w.l.s.holds[id]
		switch {
		case h == nil || h.closed:
			w.ended = append(w.ended, id)
			delete(w.over[account], id)
		case h.deadline != x.at:
			delete(w.over[account], id) // it is watched again
		case first == nil || x.before(first.deadline):
			first = &x
		}
	}
	if len(w.over[account]) == 0 {
		delete(w.over, account)
	}
	return first
}

// pursue opens the account's next place when this witness has something
// against its owner taking it.
func (s *step) pursue(account peer.ID) error {
	w := s.w
	slot := AccountSlot(account, w.l.next(account))
	if o := s.accusation(account); w.firstOver(account) == nil && o == nil {
		return nil
	}
	in, err := s.instance(slot, "")
	if err != nil {
		return err
	}
	s.expired = false
	s.start(in)
	return s.run(in)
}

// adoptList keeps another witness's list of claims, so that this one's reports
// show it, too: the more lists a report has, the less a leader can leave out.
func (s *step) adoptList(in *instance, o *objection) {
	h := s.w.l.s.holds[o.hold]
	if h == nil || h.closed || h.payer != in.account || o.signer == s.w.self {
		return
	}
	if _, _, err := s.w.l.claimList(h, o.raw, false); err != nil {
		return
	}
	if old := in.lists[o.signer]; old != nil {
		if was := s.w.l.s.holds[old.hold]; was != nil && !was.closed && !h.due().before(was.due()) {
			return
		}
	}
	if in.lists == nil {
		in.lists = map[peer.ID]*objection{}
	}
	in.lists[o.signer] = o
	n := 0
	for _, x := range in.lists {
		if x.hold == o.hold {
			n++
		}
	}
	if n > s.w.net.F() { // one of them is honest: the hold is over
		s.start(in)
	}
}

// lists are the claim lists for a report: of one hold, by all witnesses whose
// list is known here.
func (w *Witness) lists(in *instance) []*objection {
	var target *deadline
	mine := w.firstOver(in.account)
	if mine != nil {
		target = &mine.deadline
	} else {
		for _, o := range in.lists {
			if h := w.l.s.holds[o.hold]; h != nil && !h.closed {
				if d := h.due(); target == nil || d.before(*target) {
					target = &d
				}
			}
		}
	}
	if target == nil {
		return nil
	}
	var out []*objection
	for _, p := range w.net.Witnesses {
		switch o := in.lists[p]; {
		case p == w.self && mine != nil:
			out = append(out, mine.list)
		case o != nil && o.hold == target.id:
			out = append(out, o)
		}
	}
	return out
}

// closing is the Close that claim lists of a quorum ask for in the slot, or
// nil. Of several holds it is the one that was over first.
func (w *Witness) closing(in *instance, list []*objection) *proto.Event {
	lists := map[deadline][][]byte{}
	for _, o := range list {
		if o.kind != proto.KindClaimList {
			continue
		}
		if h := w.l.s.holds[o.hold]; h != nil && !h.closed && h.payer == in.account {
			lists[h.due()] = append(lists[h.due()], o.raw)
		}
	}
	holds := slices.SortedFunc(maps.Keys(lists), func(a, b deadline) int {
		return cmp.Or(cmp.Compare(a.at, b.at), bytes.Compare(a.id[:], b.id[:]))
	})
	for _, d := range holds {
		if len(lists[d]) < w.net.Quorum() {
			continue
		}
		if ev, err := w.l.DraftClose(d.id.CID(), lists[d]); err == nil && ev.Seq == in.seq {
			return ev
		}
	}
	return nil
}
