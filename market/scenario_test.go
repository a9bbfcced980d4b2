package market

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
)

// Scenarios are text: a line "TIME INPUT ARGS" is one Step of one machine
// called me, the lines "-> …" below it are all it answers, in order. Notes and
// change notices are left out. Run with -update to write the answers anew, and
// read the diff.
var update = flag.Bool("update", false, "rewrite the answers in testdata")

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 8 && !*update {
		t.Fatalf("%d scenarios, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := playScenario(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, have := strings.Split(string(text), "\n"), strings.Split(got, "\n")
			for i := range max(len(want), len(have)) {
				if i >= len(want) || i >= len(have) || want[i] != have[i] {
					t.Fatalf("line %d differs; the whole run:\n%s", i+1, got)
				}
			}
		})
	}
}

type stage struct {
	t    *testing.T
	m    *Machine
	hold RequestHold // the last one
	rec  HoldRecord  // as the ledger has it
	// What the Settles so far said: lanes that are done, and whether the last
	// one was final.
	dones map[int]bool
	final bool
	last  map[string]*proto.Assignment
	raw   map[string][]byte
	// attempts finds a worker's newest assignment of a task, so that a line may
	// say "commit A j/0".
	attempts map[string]string
	saved    Restore // what a restart finds
	fields   map[string]string
}

func playScenario(t *testing.T, text string) string {
	s := &stage{t: t, dones: map[int]bool{}, last: map[string]*proto.Assignment{}, raw: map[string][]byte{}, attempts: map[string]string{}}
	s.machine(Config{})
	var out strings.Builder
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if strings.HasPrefix(line, "-> ") {
			continue
		}
		out.WriteString(line + "\n")
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		at, err := time.ParseDuration(words[0])
		if err != nil || len(words) < 2 {
			t.Fatalf("line %q: want TIME INPUT", line)
		}
		s.fields = map[string]string{}
		var args []string
		for _, w := range words[2:] {
			if k, v, ok := strings.Cut(w, "="); ok {
				s.fields[k] = v
			} else {
				args = append(args, w)
			}
		}
		now := simStart.Add(at)
		if words[1] == "why" {
			for _, l := range s.m.Why(s.job(args[0])) {
				out.WriteString("-> " + l + "\n")
			}
			continue
		}
		if words[1] == "whyworker" {
			out.WriteString("-> " + s.m.WhyWorker() + "\n")
			continue
		}
		if words[1] == "view" {
			v, _ := s.m.Job(s.job(args[0]))
			fmt.Fprintf(&out, "-> %s %s done %d failed %d verified %d running %d cost %d settled %v\n", v.Record.State, v.Record.Code,
				v.Done, v.Failed, v.Verified, v.Running, v.Cost, v.Settled)
			continue
		}
		in := s.input(now, words[1], args)
		if in == nil {
			continue
		}
		for _, o := range s.m.Step(now, in) {
			if l := s.output(o, now); l != "" {
				out.WriteString("-> " + l + "\n")
			}
		}
	}
	return out.String()
}

func (s *stage) machine(c Config) {
	c.Self, c.FeePPM = s.peer("me"), 10_000
	if c.Worker.Types == nil {
		c.Worker = Worker{Enabled: true, Slots: 1, InFlight: s.int("inflight", 2), Types: []string{"text"}, MinPrice: 1_000_000}
	}
	m, err := New(c)
	if err != nil {
		s.t.Fatal(err)
	}
	m.off.incident = true // a scenario leaps over what else falls due, which is no standstill
	s.m = m
}

func (s *stage) peer(name string) peer.ID {
	n := 0
	for _, c := range name {
		n = n*256 + int(c)
	}
	return simPeer(n)
}

func (s *stage) name(p peer.ID) string {
	for _, n := range []string{"me", "A", "B", "C", "D", "E", "F", "G", "S"} {
		if s.peer(n) == p {
			return n
		}
	}
	return "?"
}

func (s *stage) job(name string) (id proto.JobID) { copy(id[:], name); return }
func jobName(id proto.JobID) string               { return strings.TrimRight(string(id[:]), "\x00") }

func (s *stage) int(key string, def int) int {
	if v, ok := s.fields[key]; ok {
		n, err := strconv.Atoi(v)
		if err != nil {
			s.t.Fatalf("%s=%s", key, v)
		}
		return n
	}
	return def
}

func (s *stage) duration(key string, def time.Duration) time.Duration {
	if v, ok := s.fields[key]; ok {
		d, err := time.ParseDuration(v)
		if err != nil {
			s.t.Fatal(err)
		}
		return d
	}
	return def
}

// ref reads "j/0#1": job, task, attempt (hexadecimal when it has a round).
func (s *stage) ref(text string) proto.Ref {
	j, rest, _ := strings.Cut(text, "/")
	i, a, _ := strings.Cut(rest, "#")
	index, err1 := strconv.Atoi(i)
	attempt, err2 := strconv.ParseUint(a, 16, 32)
	if err1 != nil || err2 != nil {
		s.t.Fatalf("ref %q: want job/task#attempt", text)
	}
	return proto.Ref{Task: proto.TaskID{Job: s.job(j), Index: uint32(index)}, Attempt: uint32(attempt)}
}

func refName(r proto.Ref) string {
	return fmt.Sprintf("%s/%d#%x", jobName(r.Task.Job), r.Task.Index, r.Attempt)
}

func (s *stage) code() proto.Code {
	for c := proto.CodeOK; c < 64; c++ {
		if c.String() == s.fields["code"] {
			return c
		}
	}
	return proto.CodeOK
}

var scenarioModule = proto.CIDOf([]byte("scenario module"))

func (s *stage) input(now time.Time, kind string, args []string) Input {
	from := func() peer.ID { return s.peer(args[0]) }
	if len(args) == 2 && !strings.Contains(args[1], "#") && s.attempts[args[0]+args[1]] != "" {
		args[1] = s.attempts[args[0]+args[1]]
	}
	switch kind {
	case "config":
		c := Config{Diversity: s.fields["diversity"] == "yes", MaxAttempts: s.int("attempts", 0), MaxRun: s.duration("maxrun", 0)}
		if _, ok := s.fields["cpu"]; ok {
			c.Worker = Worker{Enabled: true, Slots: 1, InFlight: s.int("inflight", 2), Types: []string{"text"}, MinPrice: 1_000_000, CPU: s.int("cpu", 100)}
		}
		s.machine(c)
		return nil
	case "submit":
		module := scenarioModule
		if m, ok := s.fields["module"]; ok {
			module = proto.CIDOf([]byte(m))
		}
		job := Job{ID: s.job(args[0]), Type: "text", Module: module, Created: now, Options: Options{
			Redundancy: s.int("redundancy", 2), Fuel: proto.Fuel(s.int("mfuel", 60) * 1_000_000),
			MaxCredits: proto.Credit(s.int("max", 1_000_000)), Timeout: s.duration("timeout", time.Minute),
			Run: s.duration("run", 0), Queue: s.duration("queue", 0),
		}}
		job.Options.Priority, _ = proto.ParsePriority(s.fields["priority"])
		for i := range s.int("tasks", 1) {
			job.Inputs = append(job.Inputs, InputRef{Hash: proto.HashOf(fmt.Append(nil, args[0], i)), Size: 1})
		}
		s.saved.Jobs = append(s.saved.Jobs, JobRecord{Job: job, State: Queued})
		return Submit{Job: job}
	case "restart":
		s.machine(Config{})
		s.saved.Holds = nil
		if s.rec.Hold.Defined() {
			s.saved.Holds = []HoldRecord{s.rec}
		}
		return s.saved
	case "reputations":
		in := Reputations{Epoch: uint64(s.int("epoch", 0)), PPM: map[peer.ID]uint64{}}
		for who := range s.fields {
			if who != "epoch" {
				in.PPM[s.peer(who)] = uint64(s.int(who, 0))
			}
		}
		return in
	case "cancel":
		return Cancel{Job: s.job(args[0])}
	case "tick":
		return Tick{}
	case "claim":
		to := "me"
		if v, ok := s.fields["to"]; ok {
			to = v
		}
		id := s.job(args[1])
		return ClaimSeen{From: from(), Claim: &proto.Claim{
			Offer: id[:], Submitter: []byte(s.peer(to)), Slots: uint32(s.int("slots", 4)),
			Price: uint64(s.int("price", 1_000_000)), ExpiresUnixMs: uint64(now.Add(s.duration("lease", 5*time.Minute)).UnixMilli()),
			Operator: s.fields["operator"], Site: s.fields["site"], Round: uint32(s.int("round", 1)),
			CpuPercent: uint32(s.int("cpu", 0)), Parallel: uint32(s.int("parallel", 0)), Held: uint32(s.int("held", 0)),
		}}
	case "certified":
		if s.fields["another"] == "yes" {
			s.rec = HoldRecord{Hold: proto.CIDOf([]byte("hold of " + args[0])), Job: s.hold.Job}
		}
		if !s.rec.Hold.Defined() {
			s.rec = HoldRecord{Hold: proto.CIDOf([]byte("hold")), Job: s.hold.Job}
		}
		s.rec.Budget += s.hold.Budget
		s.rec.Deadline = s.hold.Deadline
	lanes:
		for _, add := range s.hold.Lanes {
			for i := range s.rec.Lanes {
				if s.rec.Lanes[i].Worker == add.Worker {
					s.rec.Lanes[i].Cap += add.Cap
					continue lanes
				}
			}
			s.rec.Lanes = append(s.rec.Lanes, add)
		}
		return HoldCertified{Req: s.hold.Req, Hold: s.rec}
	case "hold-failed":
		return HoldFailed{Req: s.hold.Req, Code: s.code(), Reason: "the account has too little"}
	case "accepted":
		in := AcceptedSeen{From: from(), Refs: []proto.Ref{s.ref(args[1])}}
		if s.fields["waiting"] == "yes" {
			in.Waiting = in.Refs
		}
		return in
	case "progress":
		return ProgressSeen{From: from(), Ref: s.ref(args[1])}
	case "refused":
		return RefusedSeen{From: from(), Ref: s.ref(args[1]), Code: s.code(), Reason: "as it said", Log: []byte(s.fields["log"]), Output: []byte(s.fields["output"])}
	case "commit":
		ref := s.ref(args[1])
		return CommitSeen{From: from(), Ref: ref, Hash: proto.CommitHash(ref.Task, from(), s.receipt(args[0], args[1]))}
	case "result":
		raw := s.raw[args[0]+args[1]]
		if _, anew := s.fields["output"]; raw == nil || anew {
			raw = s.receipt(args[0], args[1])
		}
		rc := new(proto.Receipt)
		if err := goproto.Unmarshal(raw, rc); err != nil {
			s.t.Fatal(err)
		}
		return ResultSeen{From: from(), Ref: s.ref(args[1]), Receipt: rc, Raw: raw}
	case "done":
		return DoneSeen{From: from(), Hold: s.rec.Hold, Lane: uint32(s.int("lane", 0)), Amount: proto.Credit(s.int("amount", 0))}
	case "lost":
		return WorkerLost{Worker: from()}
	case "back":
		return WorkerBack{Worker: from()}
	case "settled":
		in := Settled{Hold: s.rec.Hold, Closed: s.fields["closed"] == "yes"}
		for i, a := range args {
			n, _ := strconv.Atoi(a)
			in.Paid = append(in.Paid, proto.Credit(n))
			s.rec.Lanes[i].Settled = proto.Credit(n)
		}
		in.Done = make([]bool, len(s.rec.Lanes))
		for _, l := range strings.Split(s.fields["done"], ",") {
			if l == "" {
				continue
			}
			n, err := strconv.Atoi(l)
			if err != nil || n >= len(in.Done) || !s.dones[n] {
				s.t.Fatalf("done=%s, but no Settle said that lane %s is done", s.fields["done"], l)
			}
			in.Done[n] = true
		}
		if in.Closed && !s.final {
			s.t.Fatal("closed=yes, but the last Settle was not final")
		}
		return in
	}
	return s.workerInput(now, kind, args)
}

func (s *stage) workerInput(now time.Time, kind string, args []string) Input {
	from := func() peer.ID { return s.peer(args[0]) }
	hold := proto.CIDOf([]byte("their hold"))
	lane := Lane{Hold: hold, Payer: s.peer("S"), Worker: s.peer("me"), Cap: proto.Credit(s.int("cap", 10_000)), Deadline: now.Add(time.Hour)}
	switch kind {
	case "offer":
		id := s.job(args[1])
		typ := "text"
		if v, ok := s.fields["type"]; ok {
			typ = v
		}
		return OfferSeen{From: from(), Offer: &proto.Offer{
			Id: id[:], Type: typ, Module: scenarioModule.Bytes(), MeterVersion: proto.MeterVersion, FuelLimit: uint64(s.int("mfuel", 60)) * 1_000_000,
			WallMs: uint64(s.duration("run", 0) / time.Millisecond), MemoryLimit: 1 << 20, PriceCap: uint64(s.int("cap", 1_000_000)), Redundancy: 2, SlotsWanted: uint32(s.int("slots", 2)),
			WorkersWanted: uint32(s.int("workers", 2)), DeadlineUnixMs: uint64(now.Add(time.Minute).UnixMilli()), Round: uint32(s.int("round", 1)),
		}}
	case "withdraw":
		return WithdrawalSeen{From: from(), Offer: s.job(args[1])}
	case "assign":
		b := &proto.AssignmentBatch{Worker: []byte(s.peer("me")), Hold: hold.Bytes(), ExpiresUnixMs: uint64(now.Add(s.duration("valid", time.Second)).UnixMilli())}
		if s.fields["lane"] == "other" {
			lane.Worker = s.peer("A")
		}
		for _, a := range args[1:] {
			ref := s.ref(a)
			b.Assignments = append(b.Assignments, &proto.Assignment{
				Job: ref.Task.Job[:], Task: ref.Task.Index, Attempt: ref.Attempt,
				Replicas: uint32(s.int("replicas", 2)), Module: scenarioModule.Bytes(), MeterVersion: proto.MeterVersion, InputHash: make([]byte, 32), FuelLimit: 60_000_000,
				Price: uint64(s.int("price", 1_000_000)), WallMs: uint64(s.duration("run", 30*time.Second) / time.Millisecond), Priority: uint32(s.int("priority", 1)),
			})
		}
		return AssignSeen{From: from(), Batch: b, Lane: lane}
	case "executed":
		in := Executed{From: from(), Ref: s.ref(args[1]), Status: proto.StatusOK, Fuel: proto.Fuel(s.int("fuel", 600_000)), Salt: make([]byte, 16), Ran: s.duration("ran", 0)}
		if s.fields["status"] == "timeout" {
			in.Status = proto.StatusTimeout
		}
		return in
	case "reveal":
		ref := s.ref(args[1])
		in := RevealSeen{From: from(), Ref: ref, Commits: []Commitment{{Worker: s.peer("A")}}}
		if x := s.m.work.customers[from()].execs[ref]; s.fields["own"] != "no" && x != nil {
			in.Commits = append(in.Commits, Commitment{Worker: s.peer("me"), Hash: x.commit})
		}
		return in
	case "abort":
		return AbortSeen{From: from(), Refs: []proto.Ref{s.ref(args[1])}}
	case "voucher":
		return VoucherSeen{From: from(), Finish: s.fields["finish"] == "yes", Voucher: &proto.Voucher{
			Hold:   hold.Bytes(),
			Worker: []byte(s.peer("me")), Amount: uint64(s.int("amount", 0)),
		}}
	case "submitter-lost":
		return SubmitterLost{Submitter: from()}
	case "pause":
		return WorkerSettings{Worker: Worker{Reason: "on battery", Types: []string{"text"}}}
	case "neighbours":
		n, _ := strconv.Atoi(args[0])
		return Neighbours{Workers: n}
	}
	s.t.Fatalf("no input %q", kind)
	return nil
}

// receipt is what a worker would state about the assignment it got.
func (s *stage) receipt(worker, ref string) []byte {
	a := s.last[worker+ref]
	if a == nil {
		s.t.Fatalf("%s was not assigned %s", worker, ref)
	}
	out := proto.HashOf([]byte(s.fields["output"]))
	price := a.Price
	if v, ok := s.fields["price"]; ok {
		price, _ = strconv.ParseUint(v, 10, 64)
	}
	status := proto.StatusOK
	if s.fields["status"] == "trap" {
		status = proto.StatusTrap
	}
	raw, err := goproto.Marshal(&proto.Receipt{
		MeterVersion: proto.MeterVersion, Worker: []byte(s.peer(worker)), Submitter: []byte(s.peer("me")), Job: a.Job, Task: a.Task,
		Replica: a.Replica, Module: a.Module, InputHash: a.InputHash, OutputHash: out[:], Fuel: uint64(s.int("fuel", 600_000)),
		Status: uint32(status), Price: price, Salt: make([]byte, 16),
		FuelLimit: a.FuelLimit + uint64(s.int("limit", 0)), MemoryLimit: a.MemoryLimit, OutputLimit: a.OutputLimit, Epoch: a.Epoch - uint64(s.int("older", 0)),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.raw[worker+ref] = raw
	return raw
}

func (s *stage) output(o Output, now time.Time) string {
	switch o := o.(type) {
	case SaveJob:
		for i := range s.saved.Jobs {
			if s.saved.Jobs[i].Job.ID == o.Record.Job.ID {
				s.saved.Jobs[i] = o.Record
			}
		}
		return fmt.Sprintf("save job %s %s %s round %d", jobName(o.Record.Job.ID), o.Record.State, o.Record.Code, o.Record.Round)
	case SaveTask:
		s.saved.Tasks = append(s.saved.Tasks, o.Record)
		l := fmt.Sprintf("save task %s/%d %s %s verified %v cost %d:", jobName(o.Record.ID.Job), o.Record.ID.Index, o.Record.State, o.Record.Code, o.Record.Verified, o.Record.Cost)
		for _, r := range o.Record.Replicas {
			l += fmt.Sprintf(" %s#%x paid %d", s.name(r.Worker), r.Attempt, r.Paid)
			if r.Code != proto.CodeOK {
				l += " " + r.Code.String()
			}
		}
		return l
	case SaveLost:
		l := fmt.Sprintf("save log of a lost try of %s/%d: %s", jobName(o.Task.Job), o.Task.Index, o.Log)
		if len(o.Output) > 0 {
			l += fmt.Sprintf(", output: %s", o.Output)
		}
		return l
	case SaveHold:
		s.rec.Lanes = o.Record.Lanes
		l := "save hold"
		for _, r := range o.Record.Lanes {
			l += fmt.Sprintf(" %s %d/%d", s.name(r.Worker), r.Amount, r.Cap)
		}
		if o.Record.Closed {
			l += " closed"
		}
		return l
	case PublishOffer:
		return fmt.Sprintf("offer %s round %x, %d slots on %d workers at up to %d", strings.TrimRight(string(o.Offer.Id), "\x00"), o.Offer.Round, o.Offer.SlotsWanted, o.Offer.WorkersWanted, o.Offer.PriceCap)
	case PublishWithdrawal:
		return fmt.Sprintf("withdraw %s %s", strings.TrimRight(string(o.Withdrawal.Offer), "\x00"), proto.Code(o.Withdrawal.Code))
	case PublishClaim:
		return fmt.Sprintf("claim %s for %s: %d slots at %d", strings.TrimRight(string(o.Claim.Offer), "\x00"), s.name(peer.ID(o.Claim.Submitter)), o.Claim.Slots, o.Claim.Price)
	case RequestHold:
		s.hold = o
		l := "hold"
		if o.Hold.Defined() {
			l = "extend"
		}
		l += fmt.Sprintf(" %d until +%s:", o.Budget, o.Deadline.Sub(simStart))
		for _, r := range o.Lanes {
			l += fmt.Sprintf(" %s %d", s.name(r.Worker), r.Cap)
		}
		return l
	case Settle:
		l := "settle"
		s.final = o.Final
		if o.Final {
			l = "settle finally"
		}
		for _, p := range o.Pays {
			l += fmt.Sprintf(" lane %d %d", p.Lane, p.Amount)
			if p.Done {
				s.dones[int(p.Lane)] = true
				l += " done"
			}
		}
		return l
	case SendAssign:
		l := "assign " + s.name(o.To) + ":"
		for _, a := range o.Batch.Assignments {
			id, _ := proto.ToJobID(a.Job)
			ref := refName(proto.Ref{Task: proto.TaskID{Job: id, Index: a.Task}, Attempt: a.Attempt})
			s.last[s.name(o.To)+ref] = a
			short, _, _ := strings.Cut(ref, "#")
			s.attempts[s.name(o.To)+short] = ref
			l += fmt.Sprintf(" %s (%d of %d)", ref, a.Replica+1, a.Replicas)
		}
		return l
	case SendReveal:
		l := "reveal " + s.name(o.To) + " " + refName(o.Ref) + ":"
		for _, c := range o.Commits {
			l += " " + s.name(c.Worker)
		}
		return l
	case SendAbort:
		l := "abort " + s.name(o.To) + " " + o.Code.String() + ":"
		for _, r := range o.Refs {
			l += " " + refName(r)
		}
		return l
	case SendPay:
		l := fmt.Sprintf("pay %s %d in all for %d", s.name(o.To), o.Voucher.Amount, o.Voucher.Upto)
		if o.Finish {
			l += ", finish"
		}
		return l
	case SendAccepted:
		l := "accepted to " + s.name(o.To) + ":"
		for _, r := range o.Refs {
			l += " " + refName(r)
		}
		if len(o.Waiting) > 0 {
			l += "; waiting:"
		}
		for _, r := range o.Waiting {
			l += " " + refName(r)
		}
		return l
	case SendStarted:
		return "started to " + s.name(o.To) + " " + refName(o.Ref)
	case SendRefused:
		return fmt.Sprintf("refused to %s %s %s: %s", s.name(o.To), refName(o.Ref), o.Code, o.Reason)
	case SendCommit:
		return "commit to " + s.name(o.To) + " " + refName(o.Ref)
	case SendResult:
		return "result to " + s.name(o.To) + " " + refName(o.Ref)
	case SendDone:
		return fmt.Sprintf("done to %s: %d", s.name(o.To), o.Done.Amount)
	case Execute:
		return "execute " + refName(o.Ref)
	case StopExecution:
		return "stop " + refName(o.Ref)
	case Forget:
		return "forget " + refName(o.Ref)
	case ResultAccepted:
		return "result accepted " + s.name(o.Worker) + " " + refName(o.Ref)
	case ResultOutvoted:
		return "result outvoted " + s.name(o.Worker) + " " + refName(o.Ref)
	case ResultDropped:
		return "result dropped " + s.name(o.Worker) + " " + refName(o.Ref)
	}
	return ""
}
