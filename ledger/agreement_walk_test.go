package ledger_test

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// Random walks over the agreement on one slot. Witnesses are the real machine,
// f of them are replaced by an adversary who sees every message, signs what it
// likes as each of them and says different things to different witnesses; the
// account's owner is as bad in half of the walks. A step delivers any message
// that was ever sent, in any order and as often as it comes, or lets any timer
// end at any time: there is no synchrony. Witnesses crash, and their disks fail.

var walkSteps = flag.Int("walk-steps", 1_000_000, "steps of the agreement's random walks")

// arena is what walks of one size share.
type arena struct {
	*world
	seal  func(by peer.ID, n *proto.Network, p *proto.Payload) []byte
	base  *mem.Store // alice's account is open
	seq   uint64
	slot  *proto.Slot
	a, b  []byte // two bodies for it
	skip  []byte
	ids   [2]string
	names map[string]string

	hold  *proto.ClaimList // of a hold that is over soon: who it is and when; or nil
	claim []byte           // bob's, 20 credits
}

// newArena has a hold of alice's in it when hold is set, which is over a few
// seconds after the walks begin.
func newArena(tb testing.TB, n int, seal func(peer.ID, *proto.Network, *proto.Payload) []byte, hold bool) *arena {
	w := newWorld(tb, n, map[string]uint64{"alice": 100 * credit})
	x := &arena{world: w, seal: seal, base: mem.New(), names: map[string]string{}}
	l := w.open(x.base)
	event := func(body any) []byte {
		ev, err := l.Draft(alice.id, 0, 0, body)
		if err != nil {
			tb.Fatal(err)
		}
		return seal(alice.id, w.net, &proto.Payload{Body: &proto.Payload_Event{Event: ev}})
	}
	bodies := []any{&proto.Open{}, ledger.Stake(10 * credit)}
	if hold {
		deadline := uint64(clock.UnixMilli()) + 4000 - w.net.Genesis.GraceSeconds*1000
		x.hold = &proto.ClaimList{DeadlineUnixMs: deadline}
		bodies = append(bodies, &proto.Hold{Job: job(1), Budget: 31 * credit, DeadlineUnixMs: deadline, Lanes: []*proto.Lane{{Worker: []byte(bob.id), Cap: 30 * credit}}})
	}
	for _, body := range bodies {
		raw := event(body)
		s, err := proto.Inspect(raw, proto.KindEvent)
		if err != nil {
			tb.Fatal(err)
		}
		ev := s.Payload.GetEvent()
		var commits [][]byte
		for _, p := range w.witnesses[:w.net.Quorum()] {
			commits = append(commits, seal(p.id, w.net, &proto.Payload{Body: &proto.Payload_Commit{Commit: &proto.Commit{
				Slot: ledger.AccountSlot(alice.id, ev.Seq), Id: s.ID.Bytes(),
			}}}))
		}
		if _, err := l.Add(&proto.CertifiedEvent{Event: raw, Certificate: &proto.Certificate{Commits: commits}}); err != nil {
			tb.Fatal(err)
		}
	}
	x.seq = uint64(len(bodies))
	x.slot = ledger.AccountSlot(alice.id, x.seq)
	x.a, x.b = event(transfer(bob, 50*credit)), event(transfer(carol, 55*credit))
	if hold {
		x.hold.Hold = l.Account(alice.id).Head.Bytes()
		x.claim = seal(bob.id, w.net, &proto.Payload{Body: &proto.Payload_WorkClaim{WorkClaim: &proto.WorkClaim{
			Hold: x.hold.Hold, Voucher: seal(alice.id, w.net, &proto.Payload{Body: &proto.Payload_Voucher{Voucher: &proto.Voucher{
				Hold: x.hold.Hold, Worker: []byte(bob.id), Amount: 20 * credit,
			}}}),
		}}})
	}
	for i, raw := range [][]byte{x.a, x.b} {
		s, err := proto.Inspect(raw, proto.KindEvent)
		if err != nil {
			tb.Fatal(err)
		}
		x.ids[i] = string(s.ID.Bytes())
		x.names[x.ids[i]] = string("AB"[i])
	}
	x.skip = seal(alice.id, w.net, &proto.Payload{Body: &proto.Payload_Skip{Skip: &proto.Skip{Account: []byte(alice.id), Seq: x.seq}}})
	return x
}

// list is a claim list for bob's lane.
func (x *arena) list(by peer.ID, amount uint64) []byte {
	c := goproto.Clone(x.hold).(*proto.ClaimList)
	if amount > 0 {
		c.Entries = []*proto.ClaimEntry{{Amount: amount}}
	}
	return x.seal(by, x.net, &proto.Payload{Body: &proto.Payload_ClaimList{ClaimList: c}})
}

func (x *arena) propose(body []byte) *proto.VoteFrame {
	p, err := ledger.NewPropose(body, nil)
	if err != nil {
		x.tb.Fatal(err)
	}
	return &proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: x.seal(alice.id, x.net, p)}}
}

// flaky is a disk that fails before or after it wrote.
type flaky struct {
	*mem.Store
	fail func() (before, after bool)
}

var (
	errDisk  = errors.New("the disk fails")
	errTwice = errors.New("two certificates for one slot")
)

func (f *flaky) Append(batch ...ledger.Record) error {
	before, after := f.fail()
	if before {
		return errDisk
	}
	if err := f.Store.Append(batch...); err != nil {
		return err
	}
	if after { // what was written may be there after a crash
		return errDisk
	}
	return nil
}

type walker struct {
	id    peer.ID
	disk  *mem.Store
	l     *ledger.Ledger
	w     *ledger.Witness
	now   time.Time
	dying bool // crashes with the next write
	after bool // that write survives
}

type packet struct {
	from  peer.ID
	to    int
	frame *proto.VoteFrame
}

type ballotKey struct {
	seq   uint64
	kind  proto.Kind
	round uint32
}

type walk struct {
	*arena
	rnd    *rand.Rand
	off    int  // rule that is switched off
	bad    bool // the owner signs two events and a Skip
	honest []*walker
	index  map[peer.ID]int // of honest
	liars  []peer.ID
	bag    []packet
	steps  int

	votes   map[peer.ID]map[ballotKey]string                  // by honest witnesses
	commits map[uint64]map[uint32]map[string]map[peer.ID]bool // by seq and round
	double  error

	// What the adversary knows.
	prepares map[uint32]map[string]map[peer.ID][]byte
	reports  map[uint32]map[peer.ID][][]byte
	bodies   [][]byte
	ids      map[string][]byte // id to body
	top      uint32

	kept map[peer.ID]bool // honest witnesses that keep bob's claim
}

func (x *arena) walk(seed uint64, off int) *walk {
	w := &walk{
		arena: x, rnd: rand.New(rand.NewPCG(seed, uint64(x.net.F()))), off: off, index: map[peer.ID]int{},
		votes: map[peer.ID]map[ballotKey]string{}, commits: map[uint64]map[uint32]map[string]map[peer.ID]bool{},
		prepares: map[uint32]map[string]map[peer.ID][]byte{}, reports: map[uint32]map[peer.ID][][]byte{}, ids: map[string][]byte{},
		kept: map[peer.ID]bool{},
	}
	w.learnBody(x.a)
	if w.bad = w.rnd.IntN(4) > 0; w.bad {
		w.learnBody(x.b)
	}
	bad := map[int]bool{}
	for len(bad) < x.net.F() {
		bad[w.rnd.IntN(len(x.net.Witnesses))] = true
	}
	for i, id := range x.net.Witnesses {
		if bad[i] {
			w.liars = append(w.liars, id)
			continue
		}
		h := &walker{id: id, disk: x.base.Clone(), now: clock}
		w.index[id] = len(w.honest)
		w.honest = append(w.honest, h)
		w.start(h)
	}
	return w
}

// start opens a witness from its disk, as after a crash.
func (w *walk) start(h *walker) {
	store := &flaky{h.disk, func() (bool, bool) { return h.dying && !h.after, h.dying && h.after }}
	var err error
	h.dying = false
	if h.l, err = ledger.Open(w.net, store); err != nil {
		w.tb.Fatal(err)
	}
	h.w, err = ledger.NewWitness(w.net, h.id, h.l, store, ledger.WitnessConfig{T: time.Second, Sign: func(p *proto.Payload) ([]byte, error) {
		// The law of the store.
		if ok, err := ledger.Durable(h.disk, p); err != nil || !ok && w.off == 0 {
			w.double = fmt.Errorf("%s is asked to sign what is not durable: %v, %v", h.id, p, err)
		}
		return w.seal(h.id, w.net, p), nil
	}})
	if err != nil {
		w.tb.Fatal(err)
	}
	if w.off > 0 {
		h.w.SwitchOff(w.off)
	}
}

// post puts what a witness wants sent into the bag.
func (w *walk) post(h *walker, outs []ledger.Output, err error) {
	if h.dying {
		h.disk = h.disk.Clone()
		w.start(h) // nothing of this call left the machine
		return
	}
	if err != nil {
		w.tb.Fatal(err)
	}
	for _, o := range outs {
		s, ok := o.(ledger.Send)
		if !ok {
			continue
		}
		w.learn(h.id, s.Frame)
		if r := s.Frame.GetClaimReply(); r != nil && r.Code == 0 {
			w.kept[h.id] = true
		}
		for _, to := range s.To {
			if i, ok := w.index[to]; ok {
				w.push(packet{h.id, i, s.Frame})
			}
		}
	}
}

func (w *walk) push(p packet) {
	if len(w.bag) >= 500 {
		w.bag[w.rnd.IntN(len(w.bag))] = p
		return
	}
	w.bag = append(w.bag, p)
}

// learn shows a message to the adversary and to the referee.
func (w *walk) learn(by peer.ID, f *proto.VoteFrame) {
	var raw []byte
	var kind proto.Kind
	switch b := f.Body.(type) {
	case *proto.VoteFrame_Prepare:
		raw, kind = b.Prepare, proto.KindPrepare
	case *proto.VoteFrame_Commit:
		raw, kind = b.Commit, proto.KindCommit
	case *proto.VoteFrame_Report:
		raw, kind = b.Report, proto.KindReport
	case *proto.VoteFrame_Propose:
		if s, err := proto.Inspect(b.Propose, proto.KindPropose); err == nil && s.Payload.GetPropose().Slot.GetAccount().GetSeq() == w.seq {
			w.learnBody(s.Payload.GetPropose().Body)
		}
		return
	default:
		return
	}
	s, err := proto.Inspect(raw, kind)
	if err != nil {
		w.tb.Fatal(err)
	}
	switch {
	case s.Payload.GetPrepare() != nil:
		p := s.Payload.GetPrepare()
		seq := p.Slot.GetAccount().Seq
		if w.voted(by, ballotKey{seq, kind, p.Round}, string(p.Id)); seq != w.seq {
			return // the adversary fights for one place only
		}
		put3(w.prepares, p.Round, string(p.Id), s.Signer, raw)
		w.top = max(w.top, p.Round)
	case s.Payload.GetCommit() != nil:
		c := s.Payload.GetCommit()
		seq := c.Slot.GetAccount().Seq
		w.voted(by, ballotKey{seq, kind, c.Round}, string(c.Id))
		if w.commits[seq] == nil {
			w.commits[seq] = map[uint32]map[string]map[peer.ID]bool{}
		}
		put3(w.commits[seq], c.Round, string(c.Id), s.Signer, true)
		w.referee(w.commits[seq])
	default:
		r := s.Payload.GetReport()
		if r.Slot.GetAccount().Seq != w.seq {
			return
		}
		if w.reports[r.Round] == nil {
			w.reports[r.Round] = map[peer.ID][][]byte{}
		}
		if !slices.ContainsFunc(w.reports[r.Round][by], func(x []byte) bool { return string(x) == string(raw) }) {
			w.reports[r.Round][by] = append(w.reports[r.Round][by], raw)
			if len(w.reports[r.Round][by]) > 1 {
				w.double = fmt.Errorf("%s reports twice in round %d", by, r.Round)
			}
		}
		w.top = max(w.top, r.Round)
	}
}

func put3[V any](m map[uint32]map[string]map[peer.ID]V, r uint32, id string, by peer.ID, v V) {
	if m[r] == nil {
		m[r] = map[string]map[peer.ID]V{}
	}
	if m[r][id] == nil {
		m[r][id] = map[peer.ID]V{}
	}
	m[r][id][by] = v
}

func (w *walk) learnBody(raw []byte) {
	s, err := proto.Inspect(raw, proto.KindEvent)
	if err != nil || w.ids[string(s.ID.Bytes())] != nil {
		return
	}
	w.ids[string(s.ID.Bytes())] = raw
	w.bodies = append(w.bodies, raw)
}

// voted finds an honest witness that votes twice in one round.
func (w *walk) voted(by peer.ID, k ballotKey, id string) {
	if w.votes[by] == nil {
		w.votes[by] = map[ballotKey]string{}
	}
	if old := w.votes[by][k]; old != "" && old != id {
		w.double = fmt.Errorf("%s votes twice: %+v", by, k)
	}
	w.votes[by][k] = id
}

// referee counts every bad witness for every certificate: f+1 honest commits
// of one round are enough for one.
func (w *walk) referee(commits map[uint32]map[string]map[peer.ID]bool) {
	first := ""
	for _, r := range slices.Sorted(maps.Keys(commits)) {
		for id, by := range commits[r] {
			if len(by) < w.net.Quorum()-len(w.liars) {
				continue
			}
			if first == "" {
				first = id
			}
			if first != id {
				w.double = fmt.Errorf("%w, the second of round %d", errTwice, r)
			}
		}
	}
}

// deliver hands a packet over.
func (w *walk) deliver(p packet) {
	h := w.honest[p.to]
	outs, err := h.w.Handle(h.now, p.from, p.frame)
	w.post(h, outs, err)
}

// step does one thing, whatever it is.
func (w *walk) step() {
	w.steps++
	h := w.honest[w.rnd.IntN(len(w.honest))]
	if w.rnd.IntN(200) == 0 {
		h.dying, h.after = true, w.rnd.IntN(2) == 0
	}
	switch n := w.rnd.IntN(100); {
	case n < 70 && len(w.bag) > 0:
		i := w.rnd.IntN(len(w.bag))
		p := w.bag[i]
		if w.rnd.IntN(8) > 0 { // else it comes again
			w.bag[i] = w.bag[len(w.bag)-1]
			w.bag = w.bag[:len(w.bag)-1]
		}
		if w.rnd.IntN(10) > 0 { // else it is lost
			w.deliver(p)
		}
	case n < 78:
		if next := h.w.Next(); !next.IsZero() {
			if next.After(h.now) {
				h.now = next
			}
			outs, err := h.w.Tick(h.now)
			w.post(h, outs, err)
		}
	case n < 80 && w.hold != nil:
		w.toSome(bob.id, &proto.VoteFrame{Body: &proto.VoteFrame_WorkClaim{WorkClaim: w.claim}})
	case n < 84 || !w.bad && n < 86:
		body := w.a
		if w.bad && w.rnd.IntN(2) == 0 {
			body = w.b
		}
		w.toSome(alice.id, w.propose(body))
	case n < 86 && w.bad:
		if w.rnd.IntN(4) == 0 {
			w.toSome(alice.id, &proto.VoteFrame{Body: &proto.VoteFrame_Skip{Skip: w.skip}})
		}
	default:
		w.lie()
	}
}

func (w *walk) toSome(from peer.ID, f *proto.VoteFrame) {
	for i := range w.honest {
		if w.rnd.IntN(2) == 0 {
			w.push(packet{from, i, f})
		}
	}
}

// lie is one act of the adversary.
func (w *walk) lie() {
	by := w.liars[w.rnd.IntN(len(w.liars))]
	round := uint32(w.rnd.IntN(int(w.top) + 2))
	body := w.bodies[w.rnd.IntN(len(w.bodies))]
	var id string
	for k, raw := range w.ids {
		if string(raw) == string(body) {
			id = k
		}
	}
	switch w.rnd.IntN(4) {
	case 0:
		raw := w.seal(by, w.net, &proto.Payload{Body: &proto.Payload_Prepare{Prepare: &proto.Prepare{Slot: w.slot, Round: round, Id: []byte(id)}}})
		put3(w.prepares, round, id, by, raw)
		w.toSome(by, &proto.VoteFrame{Body: &proto.VoteFrame_Prepare{Prepare: raw}})
	case 1:
		raw := w.seal(by, w.net, &proto.Payload{Body: &proto.Payload_Commit{Commit: &proto.Commit{Slot: w.slot, Round: round, Id: []byte(id)}}})
		w.toSome(by, &proto.VoteFrame{Body: &proto.VoteFrame_Commit{Commit: raw}})
	case 2:
		if raw := w.falseReport(by, round); raw != nil {
			w.toSome(by, &proto.VoteFrame{Body: &proto.VoteFrame_Report{Report: raw}})
		}
	case 3:
		w.falsePropose(body)
	}
}

// falseReport hides locks or shows an old one.
func (w *walk) falseReport(by peer.ID, round uint32) []byte {
	if round == 0 {
		return nil
	}
	r := &proto.Report{Slot: w.slot, Round: round}
	if w.hold != nil && w.rnd.IntN(2) == 0 {
		r.Objections = append(r.Objections, w.list(by, uint64(w.rnd.IntN(3))*15*credit))
	}
	if w.rnd.IntN(2) == 0 {
		for lr := range round {
			for _, id := range slices.Sorted(maps.Keys(w.prepares[lr])) {
				votes := w.prepares[lr][id]
				if len(votes) >= w.net.Quorum() && w.rnd.IntN(2) == 0 {
					r.LockRound, r.LockId, r.Body, r.LockPqc = lr, []byte(id), w.ids[id], nil
					for _, p := range slices.Sorted(maps.Keys(votes))[:w.net.Quorum()] {
						r.LockPqc = append(r.LockPqc, votes[p])
					}
				}
			}
		}
	}
	if r.LockId == nil && w.rnd.IntN(2) == 0 {
		r.Body = w.bodies[w.rnd.IntN(len(w.bodies))]
	}
	return w.seal(by, w.net, &proto.Payload{Body: &proto.Payload_Report{Report: r}})
}

// falsePropose leads a round of a bad leader with the reports that suit it.
func (w *walk) falsePropose(body []byte) {
	for round := uint32(1); round <= w.top; round++ {
		leader := ledger.Leader(w.net, w.slot, round)
		if !slices.Contains(w.liars, leader) || w.rnd.IntN(2) == 0 {
			continue
		}
		var list [][]byte
		from := append(slices.Sorted(maps.Keys(w.reports[round])), w.liars...)
		w.rnd.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
		for _, p := range from {
			if len(list) == w.net.Quorum() {
				break
			}
			if slices.Contains(w.liars, p) {
				list = append(list, w.falseReport(p, round))
			} else {
				list = append(list, w.reports[round][p][0])
			}
		}
		if len(list) < w.net.Quorum() {
			continue
		}
		raw := w.seal(leader, w.net, &proto.Payload{Body: &proto.Payload_Propose{Propose: &proto.Propose{
			Slot: w.slot, Round: round, Body: body, Justification: list,
		}}})
		w.toSome(leader, &proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: raw}})
	}
}

// decided counts the honest witnesses that have the slot decided.
func (w *walk) decided() (n int, id string) {
	for _, h := range w.honest {
		if c, ok := h.l.At(alice.id, w.seq); ok {
			n++
			if id != "" && id != string(c.ID.Bytes()) {
				w.double = errors.New("two honest witnesses decided differently")
			}
			id = string(c.ID.Bytes())
		}
	}
	return n, id
}

// ended counts the honest witnesses that have nothing left to decide: the
// slot, and the hold wherever its Close came.
func (w *walk) ended() (n int) {
	if w.hold == nil {
		n, _ = w.decided()
		return n
	}
	id, err := proto.ParseCID(w.hold.Hold)
	if err != nil {
		w.tb.Fatal(err)
	}
	for _, h := range w.honest {
		if s, _ := h.l.Hold(id); s.Closed {
			n++
		}
	}
	return n
}

// paid checks what Close paid: what all honest witnesses keep cannot be kept
// from bob, and nobody can invent a claim for him.
func (w *walk) paid() error {
	for _, h := range w.honest {
		closes, got := 0, uint64(0)
		for _, c := range h.l.History(alice.id, 100) {
			if b := c.Event.GetClose(); b != nil {
				closes++
				for _, p := range b.Payouts {
					got += p.Amount
				}
			}
		}
		switch {
		case closes != 1:
			return fmt.Errorf("the hold was closed %d times", closes)
		case got != 0 && got != 15*credit && got != 20*credit, got < 15*credit && len(w.kept) == len(w.honest):
			return fmt.Errorf("bob got %s, %d of %d witnesses keep his claim on 20 credits", proto.Credit(got), len(w.kept), len(w.honest))
		case !h.l.Audit().Conserved():
			return errors.New("not conserved")
		}
	}
	return nil
}

// settle ends all faults: messages take 50 ms and timers end when they should.
// It returns how long the honest witnesses took to decide.
func (w *walk) settle() time.Duration {
	now := clock
	for _, h := range w.honest {
		h.dying = false
		if h.now.After(now) {
			now = h.now
		}
	}
	begin := now
	type timed struct {
		at  time.Time
		seq int
		packet
	}
	var queue []timed
	seq := 0
	flush := func() {
		for _, p := range w.bag {
			seq++
			queue = append(queue, timed{now.Add(50 * time.Millisecond), seq, p})
		}
		w.bag = w.bag[:0]
	}
	for i := range w.honest {
		w.push(packet{alice.id, i, w.propose(w.a)})
	}
	for now.Sub(begin) < 2*time.Minute {
		if w.ended() == len(w.honest) || w.double != nil {
			return now.Sub(begin)
		}
		flush()
		slices.SortFunc(queue, func(a, b timed) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.seq, b.seq)) })
		var who *walker
		at := begin.Add(time.Hour)
		for _, h := range w.honest {
			if next := h.w.Next(); !next.IsZero() && next.Before(at) {
				at, who = next, h
			}
		}
		w.steps++
		if len(queue) > 0 && !at.Before(queue[0].at) {
			p := queue[0]
			queue = queue[1:]
			now = p.at
			w.honest[p.to].now = now
			w.deliver(p.packet)
			continue
		}
		if who == nil {
			return time.Hour
		}
		if at.After(now) {
			now = at
		}
		who.now = now
		outs, err := who.w.Tick(now)
		w.post(who, outs, err)
	}
	return now.Sub(begin)
}

// run walks for some steps, then lets it settle.
func (w *walk) run() error {
	limit := 100 + w.rnd.IntN(600)
	for w.steps < limit && w.double == nil {
		w.step()
		if w.steps%50 == 0 {
			if w.ended() == len(w.honest) {
				break
			}
		}
	}
	if w.double != nil {
		return w.double
	}
	took := w.settle()
	_, id := w.decided()
	n := w.ended()
	switch {
	case w.double != nil:
		return w.double
	case n < len(w.honest):
		return fmt.Errorf("%d of %d witnesses decided %s after the faults stopped", n, len(w.honest), took)
	case took > 30*time.Second:
		return fmt.Errorf("a decision took %s after the faults stopped", took)
	case !w.bad && w.names[id] != "A" && w.hold == nil:
		return fmt.Errorf("an honest owner's event was replaced")
	case w.hold != nil:
		return w.paid()
	}
	return nil
}

func TestAgreementWalks(t *testing.T) {
	seal, forget, restore := ledger.FakeSignatures()
	defer restore()
	for _, tt := range []struct {
		n     int
		hold  bool
		share int // of the steps, in percent
	}{{4, false, 35}, {7, false, 35}, {4, true, 20}, {7, true, 10}} {
		t.Run(fmt.Sprintf("%d witnesses, hold %v", tt.n, tt.hold), func(t *testing.T) {
			x := newArena(t, tt.n, seal, tt.hold)
			steps, outcome := 0, map[string]int{}
			for seed := uint64(1); steps < *walkSteps/100*tt.share; seed++ {
				forget()
				w := x.walk(seed, 0)
				if err := w.run(); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				_, id := w.decided()
				outcome[x.names[id]]++
				steps += w.steps
			}
			// The walks are worth something only when every outcome occurs.
			if outcome["A"] == 0 || outcome["B"] == 0 || outcome[""] == 0 {
				t.Errorf("outcomes: %v", outcome)
			}
			t.Logf("%d steps, outcomes %v", steps, outcome)
		})
	}
}

// With a rule switched off the same walks find two certificates.
func TestAgreementNeedsItsRules(t *testing.T) {
	seal, forget, restore := ledger.FakeSignatures()
	defer restore()
	for _, rule := range []int{2, 3, 5} {
		t.Run(fmt.Sprintf("rule %d", rule), func(t *testing.T) {
			x := newArena(t, 4, seal, false)
			for seed := uint64(1); seed <= 2000; seed++ {
				forget()
				w := x.walk(seed, rule)
				_ = w.run()
				if errors.Is(w.double, errTwice) {
					t.Logf("seed %d: %v", seed, w.double)
					return
				}
			}
			t.Fatal("nothing was found")
		})
	}
}
