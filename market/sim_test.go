package market

import (
	"container/heap"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
)

// The simulated network: machines wired together under virtual time, with a
// ledger that checks what it is told. One goroutine, one seed.

var simStart = time.UnixMilli(1_800_000_000_000)

// simPeer is a well-formed Ed25519 peer id that nobody holds the key of.
func simPeer(n int) peer.ID {
	h := proto.HashOf(binary.BigEndian.AppendUint64([]byte("sim peer "), uint64(n)))
	return peer.ID(append([]byte{0x00, 0x24, 0x08, 0x01, 0x12, 0x20}, h[:]...))
}

type simEvent struct {
	at  time.Time
	seq int
	do  func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].seq < q[j].seq
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	x := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return x
}

type sim struct {
	t      testing.TB
	rnd    *rand.Rand
	now    time.Time
	seq    int
	queue  simQueue
	nodes  []*simNode
	byID   map[peer.ID]*simNode
	ledger map[cid.Cid]*simHold
	order  []cid.Cid
	feePPM uint64

	latency, run, certify time.Duration
	need                  proto.Fuel // of every task
	refuseHold            func(RequestHold) (proto.Code, bool)
	trace                 bool
	steps                 int
	inSteps               time.Duration // real time spent in Step
	observe               func(n *simNode, in Input, outs []Output)
	lostPays              int // vouchers still to be lost
}

type simHold struct {
	rec   HoldRecord
	owner peer.ID
	dones map[uint32]proto.Credit
	fees  proto.Credit
}

type simNode struct {
	s      *sim
	id     peer.ID
	cfg    Config
	m      *Machine
	life   int // raised by every crash; events of an earlier life are void
	dead   bool
	liar   bool
	copier bool       // commits to nothing, and then sends what its neighbours found
	still  time.Time  // until then it does nothing, and what it hears waits
	silent bool       // claims for nothing and answers no assignment
	hang   int        // percent of executions that never end; below 0 it hangs up when it is assigned work
	flaky  int        // percent of executions that fail locally
	late   proto.Fuel // it says that its time ran out after so much
	tick   time.Time
	queued map[proto.Ref]map[peer.ID]bool // executions under way
	runs   int
	kept   map[delivered]bool // results neither accepted nor dropped
	cut    int                // crash after this many outputs, less one, of the next Step

	jobs  map[proto.JobID]JobRecord
	tasks map[proto.TaskID]TaskRecord
	holds map[cid.Cid]HoldRecord
	costs map[cid.Cid]CostRecord
	stood map[peer.ID]StandingRecord
	notes map[proto.Code]int
}

func newSim(t testing.TB, seed uint64, nodes int, shape func(i int, c *Config)) *sim {
	s := &sim{
		t: t, rnd: rand.New(rand.NewPCG(seed, 7)), now: simStart, byID: map[peer.ID]*simNode{}, ledger: map[cid.Cid]*simHold{},
		need: 600_000, feePPM: 10_000, latency: time.Millisecond, run: 2 * time.Millisecond, certify: 3 * time.Millisecond,
	}
	for i := range nodes {
		cfg := Config{Self: simPeer(i), FeePPM: s.feePPM, Worker: Worker{Enabled: true, Slots: 2, Types: []string{"text"}, Custom: true}}
		if shape != nil {
			shape(i, &cfg)
		}
		n := &simNode{
			s: s, id: cfg.Self, cfg: cfg, jobs: map[proto.JobID]JobRecord{}, tasks: map[proto.TaskID]TaskRecord{},
			holds: map[cid.Cid]HoldRecord{}, costs: map[cid.Cid]CostRecord{}, stood: map[peer.ID]StandingRecord{}, notes: map[proto.Code]int{},
		}
		s.nodes = append(s.nodes, n)
		s.byID[n.id] = n
		n.start()
	}
	return s
}

func (n *simNode) start() {
	m, err := New(n.cfg)
	if err != nil {
		n.s.t.Fatal(err)
	}
	n.m, n.dead, n.tick = m, false, time.Time{}
	n.queued = map[proto.Ref]map[peer.ID]bool{}
	n.kept = map[delivered]bool{}
	n.step(Neighbours{Workers: len(n.s.byID)})
}

func (s *sim) after(d time.Duration, do func()) {
	s.seq++
	heap.Push(&s.queue, simEvent{s.now.Add(d), s.seq, do})
}

// deliver brings an input to a node unless it died meanwhile.
func (n *simNode) deliver(d time.Duration, in Input) {
	life := n.life
	n.s.after(d, func() {
		if n.life == life && !n.dead {
			n.step(in)
		}
	})
}

func (n *simNode) step(in Input) {
	s := n.s
	if s.now.Before(n.still) {
		wait := n.still.Sub(s.now)
		if _, timer := in.(Tick); !timer { // its timers are the first to know that it goes on
			wait += time.Millisecond
		}
		n.deliver(wait, in)
		return
	}
	if s.trace {
		fmt.Printf("%8s %s <- %T %+v\n", s.now.Sub(simStart), n.name(), in, in)
	}
	t0 := time.Now()
	outs := n.m.Step(s.now, in)
	s.inSteps += time.Since(t0)
	s.steps++
	n.results(in, outs)
	if s.steps%128 == 0 {
		if err := reservations(n.m); err != nil {
			s.t.Fatal(err)
		}
	}
	life := n.life
	if s.observe != nil {
		s.observe(n, in, outs)
	}
	for i, o := range outs {
		if n.life != life || n.cut > 0 && i == n.cut-1 {
			if n.life == life {
				n.cut = 0
				s.crash(n)
			}
			return
		}
		if s.trace {
			fmt.Printf("%8s %s -> %T %+v\n", s.now.Sub(simStart), n.name(), o, o)
		}
		n.act(o)
	}
	if at, ok := n.m.Next(); ok && (n.tick.IsZero() || at.Before(n.tick) || !n.tick.After(s.now)) {
		n.tick = at
		n.s.after(at.Sub(s.now), func() {
			if n.life == life && !n.dead && n.tick.Equal(at) {
				n.tick = time.Time{}
				n.step(Tick{})
			}
		})
	}
}

func (n *simNode) name() string {
	return fmt.Sprintf("n%d", slices.Index(n.s.nodes, n))
}

// to sends a stream message; a dead end is reported to the sender.
func (n *simNode) to(w peer.ID, in Input, worker bool) {
	p := n.s.byID[w]
	if p == nil || p.dead {
		if worker {
			n.deliver(n.s.latency, WorkerLost{Worker: w})
		}
		return
	}
	p.deliver(n.s.latency, in)
}

func (n *simNode) gossip(in Input) {
	for _, p := range n.s.nodes {
		if p != n && !p.dead {
			p.deliver(n.s.latency, in)
		}
	}
}

func (n *simNode) act(o Output) {
	s := n.s
	switch o := o.(type) {
	case SaveJob:
		n.jobs[o.Record.Job.ID] = o.Record
	case SaveTask:
		if old, twice := n.tasks[o.Record.ID]; twice && old.State.Final() {
			s.t.Fatalf("task %s is final twice: %+v, %+v", o.Record.ID, old, o.Record)
		}
		n.tasks[o.Record.ID] = o.Record
	case SaveHold:
		n.holds[o.Record.Hold] = o.Record
	case SaveCost:
		n.costs[o.Record.Module] = o.Record
	case SaveStanding:
		n.stood[o.Record.Worker] = o.Record
	case PublishOffer:
		n.gossip(OfferSeen{From: n.id, Offer: o.Offer})
	case PublishWithdrawal:
		id, _ := proto.ToJobID(o.Withdrawal.Offer)
		n.gossip(WithdrawalSeen{From: n.id, Offer: id})
	case PublishClaim:
		if n.silent {
			o.Claim.Price = 0
		}
		n.gossip(ClaimSeen{From: n.id, Claim: o.Claim})
	case RequestHold:
		n.requestHold(o)
	case Settle:
		n.settle(o)
	case SendAssign:
		h, _ := proto.ParseCID(o.Batch.Hold)
		if len(o.Batch.Assignments) == 0 || len(o.Batch.Assignments) > maxBatch {
			s.t.Fatalf("a batch of %d", len(o.Batch.Assignments))
		}
		if p := s.byID[o.To]; p != nil && p.silent && p.hang <= 0 {
			if p.hang < 0 {
				n.deliver(s.latency, WorkerLost{Worker: o.To})
				n.deliver(2*s.latency, WorkerBack{Worker: o.To})
			}
			return
		}
		n.to(o.To, AssignSeen{From: n.id, Batch: o.Batch, Lane: s.lane(h, o.Batch.Lane)}, true)
	case SendReveal:
		n.to(o.To, RevealSeen{From: n.id, Ref: o.Ref, Commits: o.Commits}, true)
	case SendAbort:
		n.to(o.To, AbortSeen{From: n.id, Refs: o.Refs, Code: o.Code}, true)
	case SendPay:
		n.checkPay(o)
		h, _ := proto.ParseCID(o.Voucher.Hold)
		if s.lostPays > 0 {
			s.lostPays--
			return
		}
		n.to(o.To, VoucherSeen{From: n.id, Voucher: o.Voucher, Finish: o.Finish, Lane: s.lane(h, o.Voucher.Lane)}, true)
	case SendAccepted:
		n.to(o.To, AcceptedSeen{From: n.id, Refs: o.Refs, Waiting: o.Waiting}, false)
	case SendStarted:
		n.to(o.To, ProgressSeen{From: n.id, Ref: o.Ref}, false)
	case SendRefused:
		n.notes[o.Code]++
		n.to(o.To, RefusedSeen{From: n.id, Ref: o.Ref, Code: o.Code, Reason: o.Reason, Fuel: o.Fuel}, false)
	case SendCommit:
		n.to(o.To, CommitSeen{From: n.id, Ref: o.Ref, Hash: o.Hash}, false)
	case SendResult:
		rc := new(proto.Receipt)
		if err := goproto.Unmarshal(o.Receipt, rc); err != nil {
			s.t.Fatal(err)
		}
		raw := o.Receipt
		if n.copier {
			out := proto.HashOf(append([]byte("output"), rc.InputHash...))
			rc.OutputHash = out[:]
			var err error
			if raw, err = goproto.Marshal(rc); err != nil {
				s.t.Fatal(err)
			}
		}
		n.to(o.To, ResultSeen{From: n.id, Ref: o.Ref, Receipt: rc, Raw: raw}, false)
	case SendDone:
		h, _ := proto.ParseCID(o.Done.Hold)
		s.ledger[h].dones[o.Done.Lane] = proto.Credit(o.Done.Amount)
		n.to(o.To, DoneSeen{From: n.id, Hold: h, Lane: o.Done.Lane, Amount: proto.Credit(o.Done.Amount)}, false)
	case Execute:
		n.execute(o)
	case StopExecution:
		delete(n.queued[o.Ref], o.From)
	case Note:
		n.notes[o.Code]++
	}
}

func (n *simNode) execute(o Execute) {
	s := n.s
	if len(n.queued) > 5000 {
		clear(n.queued)
	}
	if n.queued[o.Ref] == nil {
		n.queued[o.Ref] = map[peer.ID]bool{}
	}
	n.queued[o.Ref][o.From] = true
	n.runs++
	out := proto.HashOf(append([]byte("output"), o.Assignment.InputHash...))
	if n.liar || n.copier {
		out[0]++
	}
	in := Executed{From: o.From, Ref: o.Ref, Status: proto.StatusOK, Output: out, OutputSize: 10, Fuel: s.need, Salt: make([]byte, 16)}
	if limit := proto.Fuel(o.Assignment.FuelLimit); s.need > limit {
		in.Status, in.Fuel = proto.StatusOutOfFuel, limit
	}
	if n.flaky > 0 && s.rnd.IntN(100) < n.flaky {
		in.Status, in.Fuel = proto.StatusHostOOM, 0
	}
	if n.late > 0 {
		in.Status, in.Fuel = proto.StatusTimeout, n.late
	}
	if n.hang > 0 && s.rnd.IntN(100) < n.hang {
		return
	}
	life := n.life
	s.after(s.run, func() {
		if n.life == life && !n.dead && n.queued[o.Ref][o.From] {
			delete(n.queued[o.Ref], o.From)
			if len(n.queued[o.Ref]) == 0 {
				delete(n.queued, o.Ref)
			}
			n.step(in)
		}
	})
}

func (s *sim) lane(h cid.Cid, i uint32) Lane {
	hold := s.ledger[h]
	if hold == nil || int(i) >= len(hold.rec.Lanes) {
		return Lane{}
	}
	l := hold.rec.Lanes[i]
	return Lane{Hold: h, Index: i, Payer: hold.owner, Worker: l.Worker, Payee: l.Payee, Cap: l.Cap, Deadline: hold.rec.Deadline, Paid: l.Settled}
}

func (n *simNode) requestHold(o RequestHold) {
	s := n.s
	if s.refuseHold != nil {
		if code, no := s.refuseHold(o); no {
			n.deliver(s.certify, HoldFailed{Req: o.Req, Code: code, Reason: "refused by the test"})
			return
		}
	}
	var sum proto.Credit
	for _, l := range o.Lanes {
		sum += l.Cap
	}
	if o.Budget < sum+proto.Fee(sum, s.feePPM) {
		s.t.Fatalf("budget %d does not cover caps %d and fee", o.Budget, sum)
	}
	life := n.life
	s.after(s.certify, func() {
		h := s.ledger[o.Hold]
		if !o.Hold.Defined() {
			c := proto.CIDOf(fmt.Appendf(nil, "hold %d", len(s.ledger)))
			h = &simHold{owner: n.id, dones: map[uint32]proto.Credit{}, rec: HoldRecord{Hold: c, Job: o.Job}}
			s.ledger[c] = h
			s.order = append(s.order, c)
		}
		h.rec.Budget += o.Budget
		h.rec.Deadline = o.Deadline
		for _, add := range o.Lanes {
			i := slices.IndexFunc(h.rec.Lanes, func(l LaneRecord) bool { return l.Worker == add.Worker })
			if i < 0 {
				h.rec.Lanes = append(h.rec.Lanes, LaneRecord{Worker: add.Worker, Payee: add.Payee})
				i = len(h.rec.Lanes) - 1
			}
			h.rec.Lanes[i].Cap += add.Cap
		}
		if len(h.rec.Lanes) > maxLanes {
			s.t.Fatalf("%d lanes", len(h.rec.Lanes))
		}
		rec := h.rec
		rec.Lanes = slices.Clone(rec.Lanes)
		switch {
		case n.dead:
		case n.life == life:
			n.step(HoldCertified{Req: o.Req, Hold: rec})
		default: // asked for in an earlier run: nobody knows the request
			n.step(HoldCertified{Hold: rec})
			for _, l := range rec.Lanes {
				if !s.byID[l.Worker].dead {
					n.deliver(s.latency, WorkerBack{Worker: l.Worker})
				}
			}
		}
	})
}

func (n *simNode) settle(o Settle) {
	s := n.s
	life := n.life
	s.after(s.certify, func() {
		h := s.ledger[o.Hold]
		if h.rec.Closed {
			s.t.Fatalf("settle on a closed hold")
		}
		var sum proto.Credit
		for _, p := range o.Pays {
			l := &h.rec.Lanes[p.Lane]
			if p.Amount > l.Cap {
				s.t.Fatalf("settle %d above cap %d", p.Amount, l.Cap)
			}
			if p.Amount > l.Settled {
				sum += p.Amount - l.Settled
				l.Settled = p.Amount
			}
			if p.Done {
				if got, ok := h.dones[p.Lane]; !ok || got != p.Amount {
					s.t.Fatalf("settle says done for %d, worker said %d (%v)", p.Amount, got, ok)
				}
				l.Done = true
			}
		}
		h.fees += proto.Fee(sum, s.feePPM)
		if o.Final {
			for i, l := range h.rec.Lanes {
				if !l.Done {
					s.t.Fatalf("final settle but lane %d is open", i)
				}
			}
			h.rec.Closed = true
		}
		var paid []proto.Credit
		var done []bool
		total := h.fees
		for _, l := range h.rec.Lanes {
			paid, done = append(paid, l.Settled), append(done, l.Done)
			total += l.Settled
		}
		if total > h.rec.Budget {
			s.t.Fatalf("paid %d of a budget of %d", total, h.rec.Budget)
		}
		if n.life == life && !n.dead {
			n.step(Settled{Hold: o.Hold, Paid: paid, Done: done, Closed: h.rec.Closed})
		}
	})
}

// checkPay holds vouchers against what was saved before: no promise may be
// above the records of accepted tasks, or a crash now would pay twice.
func (n *simNode) checkPay(o SendPay) {
	h, _ := proto.ParseCID(o.Voucher.Hold)
	if rec, ok := n.holds[h]; !ok || rec.Lanes[o.Voucher.Lane].Amount < proto.Credit(o.Voucher.Amount) {
		n.s.t.Fatalf("voucher for %d before it was saved", o.Voucher.Amount)
	}
}

func (s *sim) crash(n *simNode) {
	n.dead = true
	n.life++
	for _, p := range s.nodes {
		if p != n && !p.dead {
			p.deliver(s.latency, WorkerLost{Worker: n.id})
			p.deliver(s.latency, SubmitterLost{Submitter: n.id})
		}
	}
}

func (s *sim) restart(n *simNode) {
	n.life++
	n.start()
	in := Restore{}
	for _, j := range n.jobs {
		in.Jobs = append(in.Jobs, j)
	}
	for _, t := range n.tasks {
		in.Tasks = append(in.Tasks, t)
	}
	for _, c := range n.costs {
		in.Costs = append(in.Costs, c)
	}
	for _, w := range sortedPeers(n.stood) {
		in.Standings = append(in.Standings, n.stood[w])
	}
	// The ledger knows every open hold; what was promised is in the records.
	for _, c := range s.order {
		h := s.ledger[c]
		if h.owner != n.id || h.rec.Closed {
			continue
		}
		rec, ok := n.holds[c]
		if !ok {
			rec = h.rec
			rec.Lanes = slices.Clone(rec.Lanes)
			for i := range rec.Lanes {
				rec.Lanes[i].Amount = 0
			}
		}
		for i := range h.rec.Lanes {
			if i >= len(rec.Lanes) {
				rec.Lanes = append(rec.Lanes, h.rec.Lanes[i])
			}
			rec.Lanes[i].Settled = h.rec.Lanes[i].Settled
			rec.Lanes[i].Cap = h.rec.Lanes[i].Cap
		}
		in.Holds = append(in.Holds, rec)
	}
	// Through bytes, as node stores it. Map order must not matter: Restore sorts.
	b, err := json.Marshal(in)
	if err != nil {
		s.t.Fatal(err)
	}
	in = Restore{}
	if err := json.Unmarshal(b, &in); err != nil {
		s.t.Fatal(err)
	}
	n.step(in)
	for _, p := range s.nodes {
		if p != n && !p.dead {
			p.deliver(2*s.latency, WorkerBack{Worker: n.id})
			n.deliver(2*s.latency, WorkerBack{Worker: p.id})
		}
	}
}
