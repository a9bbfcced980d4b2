package market

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"

	"edgenet.dev/proto"
)

// TestEqualRunsAreEqual runs one seed twice, with crashes and restarts, and
// wants the same outputs in the same order from every machine.
func TestEqualRunsAreEqual(t *testing.T) {
	run := func(seed uint64) string {
		s := newSim(t, seed, 7, nil)
		sum := sha256.New()
		s.observe = func(n *simNode, _ Input, outs []Output) {
			for _, o := range outs {
				fmt.Fprintf(sum, "%s %s %T %+v\n", s.now, n.name(), o, o)
			}
		}
		s.nodes[1].liar, s.nodes[2].flaky = true, 10
		id := s.job(0, "a", 200, Options{Fuel: 60_000_000})
		id2 := s.job(0, "b", 50, Options{Fuel: 60_000_000, Redundancy: 3, Priority: proto.PriorityHigh})
		for i := range 4 {
			s.after(time.Duration(100+200*i)*time.Millisecond, func() {
				n := s.nodes[s.rnd.IntN(len(s.nodes))]
				if !n.dead {
					s.crash(n)
					s.after(100*time.Millisecond, func() { s.restart(n) })
				}
			})
		}
		s.sleep(2 * time.Second)
		s.until(time.Minute, s.final(id, id2))
		return fmt.Sprintf("%x", sum.Sum(nil))
	}
	for seed := range uint64(3) {
		if a, b := run(seed), run(seed); a != b {
			t.Fatalf("seed %d: outputs differ", seed)
		}
	}
}

// world draws inputs that are often almost right: few peers, jobs, holds and
// numbers, so that they meet each other.
type world struct {
	peers []peer.ID
	holds []cid.Cid
	mods  []cid.Cid
}

func newWorld() *world {
	w := &world{}
	for i := range 5 {
		w.peers = append(w.peers, simPeer(i))
		w.holds = append(w.holds, proto.CIDOf([]byte{byte(i)}))
		w.mods = append(w.mods, proto.CIDOf([]byte{1, byte(i % 2)}))
	}
	w.holds = append(w.holds, cid.Undef)
	return w
}

func (w *world) peer(t *rapid.T) peer.ID { return rapid.SampledFrom(w.peers).Draw(t, "peer") }
func (w *world) hold(t *rapid.T) cid.Cid { return rapid.SampledFrom(w.holds).Draw(t, "hold") }
func (w *world) n(t *rapid.T, max int) int {
	return rapid.IntRange(0, max).Draw(t, "n")
}
func (w *world) job(t *rapid.T) (id proto.JobID) { id[0] = byte(w.n(t, 3)); return }
func (w *world) ref(t *rapid.T) proto.Ref {
	return proto.Ref{Task: proto.TaskID{Job: w.job(t), Index: uint32(w.n(t, 3))}, Attempt: uint32(w.n(t, 4))}
}

func (w *world) bytes(t *rapid.T) []byte {
	switch w.n(t, 5) {
	case 0:
		return nil
	case 1:
		return []byte("short")
	case 2:
		return []byte(w.peer(t))
	case 3:
		id := w.job(t)
		return id[:]
	case 4:
		return w.hold(t).Bytes()
	}
	return make([]byte, 32)
}

func (w *world) amount(t *rapid.T) uint64 {
	return rapid.SampledFrom([]uint64{0, 1, 6, 10, 1000, 500_000, 1 << 40, 1<<63 - 1, 1<<64 - 1}).Draw(t, "amount")
}
func (w *world) code(t *rapid.T) proto.Code { return proto.Code(w.n(t, 45)) }
func (w *world) jobID(t *rapid.T) []byte {
	if w.n(t, 9) == 0 {
		return w.bytes(t)
	}
	id := w.job(t)
	return id[:]
}

func (w *world) lanes(t *rapid.T) (out []LaneRecord) {
	for range w.n(t, 4) {
		out = append(out, LaneRecord{
			Worker: w.peer(t), Cap: proto.Credit(w.amount(t)), Amount: proto.Credit(w.amount(t)),
			Settled: proto.Credit(w.amount(t)), Done: w.n(t, 3) == 0,
		})
	}
	return out
}

func (w *world) record(t *rapid.T, now time.Time) HoldRecord {
	return HoldRecord{Hold: w.hold(t), Job: w.job(t), Deadline: now.Add(time.Duration(w.n(t, 600)) * time.Second), Lanes: w.lanes(t)}
}

func (w *world) spec(t *rapid.T, now time.Time) Job {
	j := Job{
		ID: w.job(t), Module: rapid.SampledFrom(w.mods).Draw(t, "module"), Created: now,
		Options: Options{
			Redundancy: w.n(t, 9), Fuel: proto.Fuel(w.amount(t)), MaxCredits: proto.Credit(w.amount(t)),
			Timeout: time.Duration(w.n(t, 100)) * time.Second, Priority: proto.Priority(w.n(t, 2)),
		},
	}
	if w.n(t, 1) == 0 {
		j.Type = "text"
	}
	for range w.n(t, 5) {
		j.Inputs = append(j.Inputs, InputRef{})
	}
	return j
}

func (w *world) input(t *rapid.T, now time.Time) Input {
	ms := func(d int) uint64 { return uint64(now.Add(time.Duration(d) * time.Second).UnixMilli()) }
	switch w.n(t, 25) {
	case 0, 1:
		return Submit{Job: w.spec(t, now)}
	case 2:
		return Cancel{Job: w.job(t)}
	case 3:
		return OfferSeen{From: w.peer(t), Offer: &proto.Offer{
			Id: w.jobID(t), Type: "text", Module: w.bytes(t), MeterVersion: proto.MeterVersion,
			FuelLimit: w.amount(t), MemoryLimit: w.amount(t), PriceCap: w.amount(t), Redundancy: uint32(w.n(t, 9)),
			SlotsWanted: uint32(w.n(t, 5)), WorkersWanted: uint32(w.n(t, 5)), DeadlineUnixMs: ms(w.n(t, 50)), Round: uint32(w.n(t, 3)),
		}}
	case 4:
		return OfferSeen{From: w.peer(t), Offer: &proto.Offer{
			Id: w.jobID(t), Type: "text", Module: w.mods[0].Bytes(), MeterVersion: proto.MeterVersion,
			FuelLimit: 60_000_000, PriceCap: 1_000_000, DeadlineUnixMs: ms(60), Round: uint32(w.n(t, 3)),
		}}
	case 5:
		return WithdrawalSeen{From: w.peer(t), Offer: w.job(t)}
	case 6, 7, 8:
		return ClaimSeen{From: w.peer(t), Claim: &proto.Claim{
			Offer: w.jobID(t), Submitter: []byte(w.peer(t)), Slots: uint32(w.n(t, 5)),
			Price: w.amount(t), ExpiresUnixMs: ms(w.n(t, 400)), Round: uint32(w.n(t, 2)), Payee: w.bytes(t), Operator: "op",
		}}
	case 9:
		return AcceptedSeen{From: w.peer(t), Refs: []proto.Ref{w.ref(t)}}
	case 10:
		return RefusedSeen{From: w.peer(t), Ref: w.ref(t), Code: w.code(t), Fuel: proto.Fuel(w.amount(t))}
	case 11:
		return CommitSeen{From: w.peer(t), Ref: w.ref(t)}
	case 12:
		ref := w.ref(t)
		return ResultSeen{From: w.peer(t), Ref: ref, Raw: w.bytes(t), Receipt: &proto.Receipt{
			MeterVersion: proto.MeterVersion, Worker: []byte(w.peer(t)), Submitter: []byte(w.peers[0]),
			Job: ref.Task.Job[:], Task: ref.Task.Index, Replica: uint32(w.n(t, 3)), Module: w.mods[0].Bytes(), InputHash: make([]byte, 32),
			OutputHash: w.bytes(t), Fuel: w.amount(t), Status: uint32(w.n(t, 5)), Price: 1_000_000,
		}}
	case 13:
		return DoneSeen{From: w.peer(t), Hold: w.hold(t), Lane: uint32(w.n(t, 4)), Amount: proto.Credit(w.amount(t))}
	case 14:
		return WorkerLost{Worker: w.peer(t)}
	case 15:
		return WorkerBack{Worker: w.peer(t)}
	case 16, 17:
		return HoldCertified{Req: uint64(w.n(t, 5)), Hold: w.record(t, now)}
	case 18:
		return HoldFailed{Req: uint64(w.n(t, 5)), Code: w.code(t)}
	case 19:
		return Settled{Hold: w.hold(t), Paid: []proto.Credit{proto.Credit(w.amount(t))}, Closed: w.n(t, 3) == 0}
	case 20, 21:
		h := w.hold(t)
		b := &proto.AssignmentBatch{Worker: []byte(w.peers[0]), Hold: h.Bytes(), ExpiresUnixMs: ms(w.n(t, 50))}
		for range w.n(t, 3) {
			b.Assignments = append(b.Assignments, &proto.Assignment{
				Job: w.jobID(t), Task: uint32(w.n(t, 3)), Replicas: uint32(w.n(t, 8)),
				Module: w.mods[0].Bytes(), MeterVersion: proto.MeterVersion, InputHash: make([]byte, w.n(t, 1)*32), FuelLimit: w.amount(t), Price: w.amount(t), Attempt: uint32(w.n(t, 4)),
			})
		}
		from := w.peer(t)
		return AssignSeen{From: from, Batch: b, Lane: Lane{
			Hold: h, Payer: from, Worker: w.peers[0], Cap: proto.Credit(w.amount(t)),
			Paid: proto.Credit(w.amount(t)), Deadline: now.Add(time.Minute),
		}, Fetch: []bool{w.n(t, 1) == 1}}
	case 22:
		return RevealSeen{From: w.peer(t), Ref: w.ref(t), Commits: []Commitment{{Worker: w.peers[0]}}}
	case 23:
		return AbortSeen{From: w.peer(t), Refs: []proto.Ref{w.ref(t)}, Code: w.code(t)}
	case 24:
		h := w.hold(t)
		return VoucherSeen{From: w.peer(t), Finish: w.n(t, 1) == 0, Voucher: &proto.Voucher{Hold: h.Bytes(), Worker: []byte(w.peers[0]), Amount: w.amount(t)}}
	}
	switch w.n(t, 6) {
	case 5:
		return Fetched{From: w.peer(t), Ref: w.ref(t), Code: proto.Code(w.n(t, 1))}
	case 4:
		return Reputations{Epoch: w.amount(t), PPM: map[peer.ID]uint64{w.peer(t): w.amount(t), w.peer(t): 500_000}}
	case 0:
		return SubmitterLost{Submitter: w.peer(t)}
	case 1:
		return WorkerSettings{Worker: Worker{Enabled: w.n(t, 3) > 0, Types: []string{"text"}, Custom: true, Slots: w.n(t, 3)}}
	case 2:
		return Neighbours{Workers: w.n(t, 50) - 1}
	case 3:
		return Executed{From: w.peer(t), Ref: w.ref(t), Status: proto.Status(w.n(t, 7)), Fuel: proto.Fuel(w.amount(t)), Missing: w.n(t, 3) == 0}
	}
	return Tick{}
}

// TestAnyInputIsSurvived feeds two machines the same arbitrary inputs: neither
// panics, books never go below zero, and both say the same.
func TestAnyInputIsSurvived(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		var ms [2]*Machine
		var sums [2]hash.Hash
		for i := range ms {
			m, err := New(Config{Self: w.peers[0], FeePPM: 10_000, Worker: Worker{Enabled: true, Types: []string{"text"}, Custom: true}})
			if err != nil {
				t.Fatal(err)
			}
			ms[i], sums[i] = m, sha256.New()
		}
		now := simStart
		if w.n(t, 3) == 0 {
			in := Restore{Holds: []HoldRecord{w.record(t, now), w.record(t, now)}}
			in.Jobs = append(in.Jobs, JobRecord{Job: w.spec(t, now), State: Running}, JobRecord{Job: w.spec(t, now), State: Done})
			in.Tasks = append(in.Tasks, TaskRecord{ID: w.ref(t).Task, State: Done, Replicas: []ReplicaRecord{{Agreed: true, Hold: w.hold(t), LaneAmount: 5, Paid: 5}}})
			for i := range ms {
				fmt.Fprintf(sums[i], "%+v", ms[i].Step(now, in))
			}
		}
		var started []Execute
		for range w.n(t, 80) {
			now = now.Add(rapid.SampledFrom([]time.Duration{0, time.Millisecond, 60 * time.Millisecond, 2 * time.Second, 45 * time.Second, -time.Second}).Draw(t, "dt"))
			in := w.input(t, now)
			if len(started) > 0 && w.n(t, 2) == 0 { // end something that runs
				x := started[0]
				started = started[1:]
				in = Executed{From: x.From, Ref: x.Ref, Status: proto.StatusOK, Fuel: 5}
			}
			for i := range ms {
				for _, o := range ms[i].Step(now, in) {
					fmt.Fprintf(sums[i], "%T %+v\n", o, o)
					if x, ok := o.(Execute); ok && i == 0 {
						started = append(started, x)
					}
				}
				for _, v := range ms[i].Jobs() {
					fmt.Fprint(sums[i], v.Record.State, ms[i].Why(v.Record.Job.ID), len(ms[i].Tasks(v.Record.Job.ID)))
				}
				fmt.Fprint(sums[i], ms[i].WhyWorker(), ms[i].Busy())
				books(t, ms[i])
			}
			if a, b := sums[0].Sum(nil), sums[1].Sum(nil); string(a) != string(b) {
				t.Fatalf("two machines differ after %T", in)
			}
		}
	})
}

// books checks counters against what they count.
func books(t *rapid.T, m *Machine) {
	w := &m.work
	if w.running < 0 || w.held < w.running+len(w.halted) || len(w.halted) > w.cfg.Spare || w.kept < 0 {
		t.Fatalf("worker: running %d, held %d, kept %d", w.running, w.held, w.kept)
	}
	queued, fetching, held, awaited := 0, 0, 0, 0
	for _, c := range w.customers {
		queued, fetching, held = queued+len(c.queue), fetching+c.fetching, held+c.held
		for _, x := range c.execs {
			if x.phase == execFetching {
				awaited++
			}
		}
	}
	if queued != w.queued || held != w.held || fetching < 0 || queued+w.running+len(w.halted) != held || fetching != awaited {
		t.Fatalf("worker: %d queued of %d, %d fetching, %d running, %d held of %d", queued, w.queued, fetching, w.running, held, w.held)
	}
	for _, s := range m.sessions {
		live := 0
		for _, l := range s.leases {
			if l.inflight < 0 || l.kept < 0 {
				t.Fatalf("lease: inflight %d, kept %d", l.inflight, l.kept)
			}
			live += l.inflight + l.kept
			if l.inflight+l.kept == 0 && l.reserved != 0 {
				t.Fatalf("an idle lane reserves %d", l.reserved)
			}
		}
		if live != s.live {
			t.Fatalf("session counts %d executions, its lanes %d", s.live, live)
		}
	}
	if err := reservations(m); err != nil {
		t.Fatal(err)
	}
	for _, j := range m.order {
		if j.rec.State.Final() && j.reserved != 0 {
			t.Fatalf("a final job reserves %d", j.reserved)
		}
		if !j.rec.State.Final() && (len(j.past) == 0 || !j.past[0].restored) && withFee(j.spent+j.reserved, m.cfg.FeePPM) > j.rec.Job.Options.MaxCredits {
			t.Fatalf("spent %d and reserved %d of %d", j.spent, j.reserved, j.rec.Job.Options.MaxCredits)
		}
	}
}
