package sim

import (
	"fmt"
	"slices"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// part is what an owner plays.
type part int

const (
	ordinary  part = iota
	doubler        // signs two events for one place
	forgetful      // goes on from an old backup
	vanisher       // makes holds, takes work, and pays nothing
	employer       // makes holds and brings them to their end
	absentee       // has stake, and is away for an epoch
)

// owner is who has the account of a node.
type owner struct {
	n    *node
	part part
	liar bool // its receipts state wrong results

	prop *ledger.Proposal
	rec  *ledger.Recovery
	// What a recovery found, in order: bodies to finish, and a head that has to
	// arrive before anything is signed.
	finish [][]byte
	head   *ledger.Certified
	ready  bool // nothing signed by an earlier run is unknown

	// Of jobs outside the ledger, which survive: what the payer promised and
	// what workers hold.
	promised map[laneKey]uint64
	vouchers map[laneKey]voucher
	dones    map[laneKey][]byte
	filed    map[laneKey]*filing
	ending   map[cid.Cid]bool // holds that are being brought to an end
	backup   *mem.Store
	doubled  int
	tasks    uint32   // of which it gave receipts
	receipts []*filed // that lost a vote here
	referrer peer.ID
}

type laneKey struct {
	hold cid.Cid
	lane uint32
}

type voucher struct {
	raw    []byte
	amount uint64
	file   time.Time // when the worker loses patience
}

func newOwner(n *node) *owner {
	return &owner{n: n, promised: map[laneKey]uint64{}, vouchers: map[laneKey]voucher{}, dones: map[laneKey][]byte{}, filed: map[laneKey]*filing{}, ending: map[cid.Cid]bool{}}
}

func (o *owner) crashed() { o.prop, o.rec, o.finish, o.head, o.ready = nil, nil, nil, nil, false }

// start is what an owner does before it signs anything after a start.
func (o *owner) start() {
	n := o.n
	lost := false
	if o.part == forgetful && n.life > 1 {
		lost = true
	}
	often := n.pace(2*time.Second, 6*time.Second)
	if o.part == employer {
		often = n.pace(time.Second, 3*time.Second)
	}
	n.every(often, func(*node) { o.think() })
	if o.part == forgetful && n.life == 1 {
		// A backup of the first act comes back in a later one.
		n.w.after(n.w.between(act/4, act/2), func() { o.backup = n.disk.Clone() })
		n.w.after(epoch+time.Minute+act+n.w.between(0, act), func() {
			if !n.down {
				n.crash()
			}
			n.disk = o.backup.Clone()
		})
	}
	if raw, ok := n.l.Intent(n.self.id); ok && !lost {
		o.propose(raw)
		return
	}
	if o.part == doubler {
		o.ready = true
		return
	}
	nonce := make([]byte, 16)
	for i := range nonce {
		nonce[i] = byte(n.w.rnd.Uint32())
	}
	var err error
	if o.rec, err = ledger.NewRecovery(n.l, n.self.id, nonce, ledger.AuthorConfig{}); err != nil {
		n.w.fail(err)
	}
}

// signer signs as whoever signed a body.
func (o *owner) signer(by peer.ID) ledger.AuthorConfig {
	return ledger.AuthorConfig{Sign: func(p *proto.Payload) ([]byte, error) { return o.n.w.seal(by, p), nil }}
}

// propose brings a signed event to a decision.
func (o *owner) propose(raw []byte) {
	s, err := proto.Inspect(raw, proto.KindEvent)
	if err != nil {
		o.n.w.fail(err)
		return
	}
	if o.prop, err = ledger.NewProposal(o.n.l, raw, o.signer(s.Signer)); err != nil {
		o.n.w.fail(fmt.Errorf("node %d proposes: %w", o.n.i, err))
		return
	}
	ev := s.Payload.GetEvent()
	o.n.w.ref.proposed(ledger.AccountSlot(peer.ID(ev.Account), ev.Seq))
	o.tick()
}

func (o *owner) skip(k *proto.Skip) {
	n := o.n
	n.w.out.Skips++
	raw := n.w.seal(n.l.Signer(n.self.id, n.l.Epoch()), &proto.Payload{Body: &proto.Payload_Skip{Skip: k}})
	var err error
	if o.prop, err = ledger.NewSkip(n.l, raw, ledger.AuthorConfig{}); err != nil {
		n.w.fail(fmt.Errorf("node %d skips: %w", n.i, err))
		return
	}
	n.w.ref.proposed(ledger.AccountSlot(n.self.id, k.Seq))
	o.tick()
}

func (o *owner) next() time.Time {
	switch {
	case o.prop != nil:
		return o.prop.Next()
	case o.rec != nil:
		return o.rec.Next()
	}
	return time.Time{}
}

func (o *owner) tick() {
	switch now := o.n.clock(); {
	case o.prop != nil:
		o.n.act(o.prop.Tick(now), nil)
		o.decided()
	case o.rec != nil:
		o.n.act(o.rec.Tick(now), nil)
	}
}

// hear takes a frame of a witness.
func (o *owner) hear(from peer.ID, f *proto.VoteFrame) {
	switch now := o.n.clock(); {
	case o.prop != nil:
		outs, err := o.prop.Handle(now, from, f)
		if o.n.failed {
			return
		}
		if err != nil && proto.CodeOf(err) == proto.CodeInternal {
			o.n.w.fail(fmt.Errorf("node %d hears: %w", o.n.i, err))
			return
		}
		o.n.act(outs, nil)
		o.decided()
	case o.rec != nil:
		if err := o.rec.Handle(now, from, f); proto.CodeOf(err) == proto.CodeInternal {
			o.n.w.fail(fmt.Errorf("node %d recovers: %w", o.n.i, err))
			return
		}
		o.recovered()
	}
	o.claimed(from, f)
}

// decided ends a proposal that has a result.
func (o *owner) decided() {
	if o.prop == nil {
		return
	}
	_, err, ok := o.prop.Result()
	if !ok {
		return
	}
	o.prop = nil
	if err != nil {
		// So many refuse that an honest witness is among them: an event that was
		// signed long ago, say. The place is given up.
		o.n.w.out.Refused++
		if o.n.light {
			o.n.w.fail(fmt.Errorf("an event of the light client %d is refused: %w", o.n.i, err))
		}
		switch a := o.n.l.Account(o.n.self.id); {
		case !a.Opened: // it may sign another Open
			o.n.w.ref.refused(ledger.AccountSlot(o.n.self.id, 0))
		case !a.Frozen:
			o.skip(&proto.Skip{Account: []byte(o.n.self.id), Seq: a.Seq + 1})
		}
	}
}

// recovered goes on once a quorum told where the chain ends.
func (o *owner) recovered() {
	n := o.n
	r, ok := o.rec.Result(o.part == forgetful && n.life > 1)
	if !ok {
		return
	}
	o.rec, o.head, o.finish = nil, r.Head, r.Finish
	if r.Skip != nil && r.Head != nil && !n.l.Has(r.Head.ID) {
		// The head comes by reconciliation; then it is asked again.
		o.finish = nil
		return
	}
	if r.Skip != nil {
		o.ready = true
		o.skip(r.Skip)
	}
}

// resume does what a recovery found, one thing at a time. It reports whether
// the owner is ready to sign.
func (o *owner) resume() bool {
	n := o.n
	if o.ready {
		return true
	}
	if o.head != nil && n.l.Account(n.self.id).Seq < o.head.Seq {
		return false // reconciliation brings it
	}
	if len(o.finish) > 0 {
		raw := o.finish[0]
		o.finish = o.finish[1:]
		o.propose(raw)
		return false
	}
	if o.part == forgetful && n.life > 1 && o.rec == nil && o.head != nil {
		// Ask once more, now that the chain is here.
		o.head = nil
		nonce := make([]byte, 16)
		nonce[0] = byte(n.w.rnd.Uint32())
		o.rec, _ = ledger.NewRecovery(n.l, n.self.id, nonce, ledger.AuthorConfig{})
		return false
	}
	o.ready = o.rec == nil
	return o.ready
}

// think may do one thing.
func (o *owner) think() {
	n := o.n
	if n.down || n.failed || n.hostile() && n.w.chance(0.7) {
		return
	}
	o.file()
	if o.prop != nil || o.rec != nil || !o.resume() || !n.w.working || n.light && n.w.now.Sub(n.fresh) > staleness {
		return
	}
	if o.part == doubler && o.double() {
		return
	}
	a := n.l.Account(n.self.id)
	if o.part != employer && o.part != absentee && !n.w.chance(o.busy(a)) {
		return
	}
	var sources []*proto.Source
	for _, r := range n.l.Receivables(n.self.id) {
		if len(sources) < ledger.MaxSources {
			sources = append(sources, r.Source)
		}
	}
	switch {
	case a.Frozen:
		o.unfreeze(a)
	case !a.Opened:
		if a.Avail+a.Receivable > proto.Credit(opening+eventCost) {
			o.sign(&proto.Open{Sources: sources, RecoveryKey: []byte(o.recovery().id), Referrer: o.referredBy()})
		}
	case a.Staked == 0 && a.Avail > 20*proto.OneCredit && (o.part == employer || o.part == absentee || len(sources) > 0 && n.w.chance(0.5)):
		o.sign(ledger.Stake(10 * credit)) // without it work earns no bonus
	case len(sources) > 0 && o.part != employer && n.w.chance(0.4):
		n.l.FillBonus(n.self.id, n.l.Epoch(), sources)
		o.sign(&proto.Receive{Sources: sources})
	default:
		o.work(a)
	}
}

// busy keeps the number of events of a run independent of its nodes, roughly.
// Who has been paid wants it sooner.
func (o *owner) busy(a ledger.Account) float64 {
	busy := 1.5/float64(o.n.w.cfg.Nodes) + 0.1
	if a.Opened && a.Receivable > proto.OneCredit {
		busy += 0.2
	}
	return busy
}

// referredBy names whoever brought the owner here, if anybody did.
func (o *owner) referredBy() []byte {
	if o.referrer == "" && o.n.w.chance(0.8) {
		o.referrer = o.n.w.nodes[(o.n.i+1+o.n.w.rnd.IntN(len(o.n.w.nodes)-1))%len(o.n.w.nodes)].self.id
	}
	return []byte(o.referrer)
}

func (o *owner) recovery() person { return o.n.w.person(fmt.Sprintf("recovery %d", o.n.i)) }

// sign drafts an event, makes it durable and proposes it.
func (o *owner) sign(body any) {
	n := o.n
	epoch := n.l.Epoch()
	ev, err := n.l.Draft(n.self.id, epoch, uint64(n.clock().UnixMilli()), body)
	if err != nil {
		if proto.CodeOf(err) == proto.CodeInternal {
			n.w.fail(fmt.Errorf("node %d drafts: %w", n.i, err))
		}
		return
	}
	by := n.l.Signer(n.self.id, epoch)
	if r, ok := body.(*proto.Rotate); ok && r.Recovery {
		by = o.recovery().id
	}
	raw := n.w.seal(by, &proto.Payload{Body: &proto.Payload_Event{Event: ev}})
	if err := n.l.SaveIntent(raw); err != nil {
		if !n.failed {
			n.w.fail(fmt.Errorf("node %d keeps its event: %w", n.i, err))
		}
		return
	}
	o.propose(raw)
}

// unfreeze is what an owner does that was slashed.
func (o *owner) unfreeze(a ledger.Account) {
	o.n.w.out.Rotates++
	key := o.n.w.person(fmt.Sprintf("key %d of %d", a.Offences, o.n.i))
	o.sign(&proto.Rotate{Recovery: true, Key: []byte(key.id)})
}

// work is an ordinary owner's day.
func (o *owner) work(a ledger.Account) {
	n := o.n
	rnd := n.w.rnd
	holds := n.l.Holds(n.self.id)
	switch k := rnd.IntN(100); {
	case len(holds) > 0 && (k < 50 || o.part == employer) && o.part != vanisher:
		if h := holds[rnd.IntN(len(holds))]; o.ending[h.ID] || o.worked(h) {
			o.pay(h)
		}
	case (k < 10 || o.part == vanisher || o.part == employer) && len(holds) == 0 && a.Avail > 50*proto.OneCredit:
		o.hire()
	case k < 22 && a.Avail > 20*proto.OneCredit:
		o.sign(ledger.Stake(10 * credit))
	case k < 32 && a.Staked > 0:
		o.sign(ledger.Unstake(uint64(a.Staked) / 2))
	case k < 60 && len(holds) > 0:
		h := holds[rnd.IntN(len(holds))]
		l := h.Lanes[rnd.IntN(len(h.Lanes))]
		o.sign(&proto.Extend{Hold: h.ID.Bytes(), Budget: 3 * credit, Lanes: []*proto.Lane{{Worker: []byte(l.Worker), Cap: credit}}})
	default:
		if to := n.w.nodes[rnd.IntN(len(n.w.nodes))]; to != n && a.Avail > 4*proto.OneCredit && n.w.chance(0.7) {
			o.sign(&proto.Transfer{To: []byte(to.self.id), Amount: 1 + rnd.Uint64N(uint64(a.Avail)/4)})
		}
	}
	o.promise()
}

// double signs two events for the account's next place and gives each to some
// witnesses. It reports whether it did something.
func (o *owner) double() bool {
	n := o.n
	a := n.l.Account(n.self.id)
	if a.Frozen || !a.Opened || a.Staked == 0 {
		if a.Opened && !a.Frozen && a.Avail > 30*proto.OneCredit {
			o.sign(ledger.Stake(20 * credit))
			return true
		}
		return false
	}
	if _, busy := n.l.Intent(n.self.id); busy || o.doubled >= 3 {
		return false
	}
	o.doubled++
	key := n.l.Signer(n.self.id, n.l.Epoch())
	var frames []*proto.VoteFrame
	for range 2 {
		to := n.w.nodes[n.w.rnd.IntN(witnesses)]
		ev, err := n.l.Draft(n.self.id, n.l.Epoch(), 0, &proto.Transfer{To: []byte(to.self.id), Amount: uint64(a.Avail)/2 + n.w.rnd.Uint64N(1000)})
		if err != nil {
			return false
		}
		raw := n.w.seal(key, &proto.Payload{Body: &proto.Payload_Event{Event: ev}})
		p, err := ledger.NewPropose(raw, n.l.Attachments(ev))
		if err != nil {
			n.w.fail(err)
			return false
		}
		frames = append(frames, &proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: n.w.seal(key, p)}})
	}
	for i := range witnesses {
		if both := n.w.bad.is(n.w.nodes[i].self.id); both || n.w.chance(0.2) {
			n.vote(i, frames[0])
			n.vote(i, frames[1])
			continue
		}
		n.vote(i, frames[n.w.rnd.IntN(2)])
	}
	return true
}

// lanesOf lists a worker's vouchers in one order.
func (o *owner) lanes() []laneKey {
	out := make([]laneKey, 0, len(o.vouchers))
	for k := range o.vouchers {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b laneKey) int {
		if c := slices.Compare(a.hold.Bytes(), b.hold.Bytes()); c != 0 {
			return c
		}
		return int(a.lane) - int(b.lane)
	})
	return out
}
