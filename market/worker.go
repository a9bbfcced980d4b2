package market

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
)

// workside is this node as a worker for others.
type workside struct {
	cfg        Worker
	neighbours int
	heard      int    // offers
	why        string // the last offer was not answered

	bids     map[proto.JobID]*bid
	bidOrder []proto.JobID
	bidsOf   map[peer.ID]int
	paces    map[cid.Cid]*pace
	answering

	customers map[peer.ID]*customer
	queued    int           // executions in queues
	served    turn          // of the customer whose execution started last
	typical   time.Duration // that an execution keeps its slot, smoothed
	seq       uint64
	running   int
	executing map[*exec]bool // those
	halted    []*exec        // had a slot and will have one again
	rotated   *timer         // when the next may be halted, or go on
	worths    map[worthKey]*worth
	worth     worth             // of all submitters' work
	booked    map[worthKey]bool // whose worth changed since it was saved
	booksKept time.Time
	held      int // queued and running
	fetching  int // that wait for their input or module
	kept      int // committed, not asked for
	stale     *timer
}

type execPhase uint8

const (
	execFetching execPhase = iota
	execQueued
	execRunning
	execHalted
	execCommitted
	execSent
)

// exec is an assignment this worker took.
type exec struct {
	c       *customer
	ref     proto.Ref
	a       *proto.Assignment
	lane    *workLane
	phase   execPhase
	seq     uint64
	pos     int           // in the queue
	fetches int           // times that its input or module had to be fetched
	began   time.Time     // in its slot, or to stand
	ran     time.Duration // in its slot before that
	stood   time.Duration
	module  cid.Cid
	dear    turn         // how often its time counts
	charged turn         // to its submitter, for what it was expected to take
	waited  bool         // its submitter was told that it waits
	pay     proto.Credit // worst case, then what it earned
	receipt []byte
	commit  proto.Hash
	kept    time.Time // since when it waits to be asked for
	size    uint64
}

func (w *workside) init(cfg Worker) {
	w.set(cfg)
	w.bids = map[proto.JobID]*bid{}
	w.bidsOf = map[peer.ID]int{}
	w.answering = newAnswering()
	w.worths = map[worthKey]*worth{}
	w.booked = map[worthKey]bool{}
	w.executing = map[*exec]bool{}
	w.paces = map[cid.Cid]*pace{}
	w.customers = map[peer.ID]*customer{}
}

func (w *workside) set(cfg Worker) {
	if cfg.Slots <= 0 {
		cfg.Slots = 1
	}
	cfg.Spare = max(0, cfg.Spare)
	if cfg.InFlight <= 0 {
		cfg.InFlight = 16 * cfg.Slots
	}
	if cfg.MaxFuel == 0 {
		cfg.MaxFuel = proto.MaxFuel
	}
	if cfg.MaxMemory == 0 {
		cfg.MaxMemory = 4 << 30
	}
	w.cfg = cfg
}

// runs reports whether the settings allow a task type (or, with "", a custom
// module) with that module.
func (w *workside) runs(typ string, module cid.Cid) bool {
	if typ != "" && w.cfg.Builtin != nil && !slices.Contains(w.cfg.Builtin[module], typ) {
		typ = "" // whatever it is called, it is a module of the submitter's own
	}
	if typ == "" {
		return w.cfg.Custom
	}
	return slices.Contains(w.cfg.Types, typ)
}

func (w *workside) builtin(module cid.Cid) bool { return len(w.cfg.Builtin[module]) > 0 }

// runsModule reports whether some task type allows the module.
func (w *workside) runsModule(module cid.Cid) bool {
	types := w.cfg.Builtin[module]
	return len(types) == 0 && w.runs("", module) ||
		slices.ContainsFunc(types, func(t string) bool { return w.runs(t, module) })
}

func (m *Machine) workerSettings(cfg Worker) {
	w := &m.work
	w.set(cfg)
	for _, id := range slices.Sorted(maps.Keys(w.customers)) {
		for _, x := range w.customers[id].ordered(nil) {
			code, why := proto.CodeBlocked, w.cfg.Blocked.why(id, x.module)
			switch {
			case why != "" && x.phase <= execHalted: // the operator wants it off the machine, also in the middle
			case !w.cfg.Enabled && x.phase <= execQueued: // what runs may end, what waits goes elsewhere
				code, why = proto.CodePaused, w.cfg.Reason
			default:
				continue
			}
			m.drop(x)
			m.refuse(id, x.ref, code, why)
		}
	}
}

func (m *Machine) refuse(to peer.ID, ref proto.Ref, code proto.Code, reason string) {
	m.send(SendRefused{To: to, Ref: ref, Code: code, Reason: proto.Clip(reason, 256)})
}

// assignSeen takes or refuses the assignments of one batch.
func (m *Machine) assignSeen(in AssignSeen) {
	b := in.Batch
	if b == nil || len(b.Assignments) > maxBatch || in.From == m.cfg.Self {
		return
	}
	code, reason := m.checkBatch(in)
	c := m.customer(in.From)
	var lane *workLane
	if code == proto.CodeOK {
		if lane = c.lane(in.Lane); lane.done {
			code, reason = proto.CodeNoLane, "the lane is closed"
		}
	}
	var taken []proto.Ref
	for i, a := range b.Assignments {
		if a == nil {
			continue
		}
		id, err := proto.ToJobID(a.Job)
		if err != nil {
			continue // nothing to call it by in a refusal
		}
		ref := proto.Ref{Task: proto.TaskID{Job: id, Index: a.Task}, Attempt: a.Attempt}
		if c.execs[ref] != nil {
			continue // came twice: a refusal now would take back what runs
		}
		if code != proto.CodeOK {
			m.refuse(in.From, ref, code, reason)
			continue
		}
		fetch := i < len(in.Fetch) && in.Fetch[i]
		if code, reason := m.checkAssignment(c, lane, a, fetch); code != proto.CodeOK {
			m.refuse(in.From, ref, code, reason)
			continue
		}
		// Only an assignment that is taken makes a place for its submitter and lane.
		switch {
		case !m.place(c, lane.remaining(m.now)):
			code, reason = proto.CodeBusy, "too many submitters"
		case !c.open(lane, m):
			code, reason = proto.CodeBusy, "too many lanes of this submitter have work here"
		}
		if code != proto.CodeOK {
			m.refuse(in.From, ref, code, reason)
			continue
		}
		m.enqueue(c, lane, ref, a, fetch)
		taken = append(taken, ref)
	}
	if len(taken) == 0 {
		return
	}
	at := len(m.out)
	m.send(SendAccepted{})
	m.startQueued()
	accepted := SendAccepted{To: in.From, Refs: taken}
	for _, ref := range taken {
		if x := c.execs[ref]; x != nil && x.phase <= execQueued {
			x.waited = true
			accepted.Waiting = append(accepted.Waiting, ref)
		}
	}
	m.out[at] = accepted
}

func (m *Machine) checkBatch(in AssignSeen) (proto.Code, string) {
	b, l := in.Batch, in.Lane
	switch {
	case !m.work.cfg.Enabled:
		return proto.CodePaused, m.work.cfg.Reason
	case m.work.cfg.Blocked.Submitters[in.From]:
		return proto.CodeBlocked, blockedSubmitter
	case peer.ID(b.Worker) != m.cfg.Self || l.Worker != m.cfg.Self || l.Payer != in.From ||
		!l.Hold.Defined() || string(b.Hold) != l.Hold.KeyString() || b.Lane != l.Index:
		return proto.CodeNoLane, "no certified lane for this worker and payer"
	case b.ExpiresUnixMs <= uint64(m.now.UnixMilli()):
		return proto.CodeExpired, "the assignment expired"
	case !l.Deadline.After(m.now):
		return proto.CodeExpired, "the hold's deadline passed"
	case l.Deadline.After(m.now.Add(m.cfg.MaxHold + proto.ClockSlack)):
		return proto.CodeLimits, fmt.Sprintf("the hold lasts until %s, longer than the network's %s", l.Deadline.UTC().Format(time.RFC3339), m.cfg.MaxHold)
	}
	return proto.CodeOK, ""
}

func (m *Machine) checkAssignment(c *customer, lane *workLane, a *proto.Assignment, fetch bool) (proto.Code, string) {
	w := &m.work
	module, err := proto.ParseCID(a.Module)
	if err != nil || len(a.InputHash) != 32 || a.Replicas == 0 || a.Replicas > proto.MaxRedundancy || a.Priority > uint32(proto.PriorityHigh) {
		return proto.CodeMalformed, "malformed assignment"
	}
	leased, price := m.granted(c, module, proto.Priority(a.Priority))
	switch {
	case w.cfg.Blocked.Modules[module]: // also under a lease of before
		return proto.CodeBlocked, blockedModule
	case a.MeterVersion != proto.MeterVersion:
		return proto.CodeModule, fmt.Sprintf("meter version %d is not supported", a.MeterVersion)
	case !leased && !w.runsModule(module):
		return proto.CodeType, "no lease for this module"
	case a.FuelLimit == 0 || proto.Fuel(a.FuelLimit) > w.cfg.MaxFuel || a.MemoryLimit > w.cfg.MaxMemory ||
		a.OutputLimit > proto.MaxOutput || a.InputSize > proto.MaxInput || a.WallMs > uint64(m.cfg.MaxRun/time.Millisecond):
		return proto.CodeLimits, "limits above what this worker grants"
	case proto.Credit(a.Price) < price || proto.Credit(a.Price) > proto.MaxPriceCredits:
		return proto.CodePrice, fmt.Sprintf("price %d, asked was %d", a.Price, price)
	case w.room(c) == 0:
		return proto.CodeBusy, "all slots are taken"
	}
	if late := w.late(module, proto.Fuel(a.FuelLimit), proto.Millis(a.WallMs)); late != "" {
		return proto.CodeLimits, late
	}
	if pay := proto.PayFor(proto.Fuel(a.FuelLimit), proto.Credit(a.Price)); lane.exposed()+pay > lane.Cap && !m.off.caps {
		return proto.CodeNoLane, fmt.Sprintf("the lane has %s credits left, this could cost %s", lane.Cap-min(lane.Cap, lane.exposed()), pay)
	}
	if fetch && !m.fetchRoom(c) {
		return proto.CodeBusy, "inputs of this submitter are awaited already"
	}
	return proto.CodeOK, ""
}

func (m *Machine) enqueue(c *customer, lane *workLane, ref proto.Ref, a *proto.Assignment, fetch bool) {
	w := &m.work
	w.seq++
	x := &exec{c: c, ref: ref, a: a, lane: lane, seq: w.seq, pay: proto.PayFor(proto.Fuel(a.FuelLimit), proto.Credit(a.Price))}
	x.module, _ = proto.ParseCID(a.Module) // checkAssignment did that
	c.execs[ref] = x
	lane.worst += x.pay
	lane.active++
	if fetch {
		m.fetch(x)
		return
	}
	w.push(x)
}

// startQueued fills free slots, and takes some from those whose turn is over.
func (m *Machine) startQueued() {
	if m.work.queued > 0 {
		m.recharge()
	}
	m.fill()
	m.rotate()
}

// fill fills free slots, see fair.go for whose turn it is.
func (m *Machine) fill() {
	w := &m.work
	for w.running < w.cfg.Slots && w.queued+len(w.halted) > 0 {
		if x := m.resumed(); x != nil {
			m.goOn(x)
			continue
		}
		x := w.turnWithin(w.memoryLeft()).queue[0] // which is somebody's, as none stands
		w.unqueue(x)
		m.begins(x)
		if x.waited {
			m.send(SendStarted{To: x.c.id, Ref: x.ref})
		}
		m.send(Execute{From: x.c.id, Ref: x.ref, Assignment: x.a})
	}
}

// drop forgets x wherever it stands and frees what it held.
func (m *Machine) drop(x *exec) {
	w := &m.work
	switch x.phase {
	case execFetching:
		m.unfetch(x)
		m.idle(x)
		m.send(StopExecution{From: x.c.id, Ref: x.ref})
	case execQueued:
		w.unqueue(x)
		m.unhold(x)
		m.idle(x)
	case execRunning, execHalted:
		m.ends(x, 0, false)
		m.unhold(x)
		m.idle(x)
		m.send(StopExecution{From: x.c.id, Ref: x.ref})
	case execCommitted: // nobody had it, so nobody owes for it
		m.unkeep(x)
		m.notDue(x.c.id, x.pay)
		x.lane.owed -= min(x.lane.owed, x.pay)
		x.lane.owed = max(x.lane.owed, x.lane.vouchered)
		m.send(Forget{From: x.c.id, Ref: x.ref})
	case execSent: // the submitter has it: it stays owed, whatever is said of it
		x.c.sentBytes -= x.size
		x.c.sentLive--
		m.send(Forget{From: x.c.id, Ref: x.ref})
	}
	delete(x.c.execs, x.ref)
	m.answerFinish(x.lane)
}

// unhold notes that x neither waits for a slot nor has one.
func (m *Machine) unhold(x *exec) {
	m.work.held--
	x.c.held--
}

// idle ends the part of x's life in which it is fetched, queued or running.
func (m *Machine) idle(x *exec) {
	x.lane.active--
	x.lane.worst -= x.pay
}

// executed turns what the sandbox says into a commitment or a result.
func (m *Machine) executed(in Executed) {
	w := &m.work
	c := w.customers[in.From]
	if c == nil {
		return
	}
	x := c.execs[in.Ref]
	if x == nil || x.phase != execRunning && x.phase != execHalted { // it ended while it was to stand
		return
	}
	earned, code := proto.Credit(0), in.Code
	switch {
	case in.Missing:
	case in.Status.Votable():
		earned = proto.PayFor(min(in.Fuel, proto.Fuel(x.a.FuelLimit)), proto.Credit(x.a.Price))
	case code == proto.CodeOK && in.Status == proto.StatusTimeout:
		code = proto.CodeRunTimeout
	case code == proto.CodeOK:
		code = proto.CodeLocalFailure
	}
	m.ends(x, earned, in.Code == proto.CodeLocalFailure)
	m.unhold(x)
	if in.Missing {
		m.fetch(x)
		return
	}
	m.idle(x)
	if !in.Status.Votable() {
		delete(c.execs, x.ref)
		reason := in.Reason
		if reason == "" {
			reason = "the execution ended with " + in.Status.String()
			if in.Status == proto.StatusTimeout {
				reason = fmt.Sprintf("it ran for its whole limit of %s", proto.Millis(x.a.WallMs))
			}
		}
		refused := SendRefused{To: in.From, Ref: in.Ref, Code: code, Reason: proto.Clip(reason, 256)}
		if code == proto.CodeRunTimeout {
			refused.Fuel = min(in.Fuel, proto.Fuel(x.a.FuelLimit))
		}
		m.send(refused)
		m.answerFinish(x.lane)
		return
	}
	a := x.a
	fuel := min(in.Fuel, proto.Fuel(a.FuelLimit))
	if module, err := proto.ParseCID(a.Module); err == nil && (in.Status == proto.StatusOK || in.Status == proto.StatusExitNonZero || in.Status == proto.StatusOutOfFuel) {
		w.learn(module, fuel, in.Ran)
	}
	payee := x.lane.Payee
	if payee == "" {
		payee = m.cfg.Self
	}
	raw, err := goproto.MarshalOptions{Deterministic: true}.Marshal(&proto.Receipt{
		Worker: []byte(m.cfg.Self), Submitter: []byte(in.From), Job: a.Job, Task: a.Task, Replica: a.Replica,
		Module: a.Module, MeterVersion: a.MeterVersion, InputHash: a.InputHash, OutputHash: in.Output[:],
		OutputSize: in.OutputSize, Fuel: uint64(fuel), Status: uint32(in.Status), ExitCode: in.ExitCode,
		LogHash: in.Log[:], Payee: []byte(payee), Price: a.Price, Salt: in.Salt,
		FuelLimit: a.FuelLimit, MemoryLimit: a.MemoryLimit, OutputLimit: a.OutputLimit, Epoch: a.Epoch,
	})
	if err != nil { // bytes fields only: it does not happen, but a worker must not keep what it cannot send
		delete(c.execs, x.ref)
		m.refuse(in.From, in.Ref, proto.CodeInternal, err.Error())
		return
	}
	x.pay = earned
	x.lane.owed = max(x.lane.owed, x.lane.vouchered) + x.pay
	x.receipt, x.size = raw, in.OutputSize
	if a.Replicas == 1 {
		m.deliver(x)
		m.answerFinish(x.lane)
		return
	}
	x.commit = proto.CommitHash(in.Ref.Task, m.cfg.Self, raw)
	m.send(SendCommit{To: in.From, Ref: in.Ref, Hash: x.commit})
	m.keep(x)
	m.answerFinish(x.lane)
}

// deliver sends a result. Its output is kept a while, for it may be fetched
// by its hash; the oldest go first.
func (m *Machine) deliver(x *exec) {
	c := x.c
	x.phase = execSent
	m.send(SendResult{To: c.id, Ref: x.ref, Receipt: x.receipt})
	x.receipt, x.a = nil, nil
	c.sent = append(c.sent, x)
	c.sentBytes += x.size
	c.sentLive++
	for c.sentLive > 1 && (c.sentLive > maxSent || c.sentBytes > maxSentBytes) || len(c.sent) > 2*maxSent {
		old := c.sent[0]
		c.sent[0] = nil
		c.sent = c.sent[1:]
		if c.execs[old.ref] != old || old.phase != execSent {
			continue // dropped before
		}
		c.sentBytes -= old.size
		c.sentLive--
		delete(c.execs, old.ref)
		m.send(Forget{From: c.id, Ref: old.ref})
	}
}

func (m *Machine) revealSeen(in RevealSeen) {
	c := m.work.customers[in.From]
	if c == nil {
		return
	}
	x := c.execs[in.Ref]
	if x == nil || x.phase != execCommitted {
		return
	}
	if len(in.Commits) > proto.MaxRedundancy || !slices.Contains(in.Commits, Commitment{Worker: m.cfg.Self, Hash: x.commit}) {
		m.refuse(in.From, in.Ref, proto.CodeNoCommit, "its own commitment is not in the list")
		m.drop(x)
		return
	}
	m.unkeep(x)
	m.deliver(x)
}

func (m *Machine) abortSeen(in AbortSeen) {
	c := m.work.customers[in.From]
	if c == nil {
		return
	}
	for _, ref := range in.Refs {
		// What was sent may not have left yet: it is kept until it is old.
		if x := c.execs[ref]; x != nil && x.phase != execSent {
			m.drop(x)
		}
	}
}

func (m *Machine) submitterLost(p peer.ID) {
	c := m.work.customers[p]
	if c == nil {
		return
	}
	for _, x := range c.ordered(nil) {
		m.drop(x)
	}
	c.sent, c.sentBytes, c.sentLive = nil, 0, 0
	for _, l := range c.lanes { // what did not leave is not owed; node says what did
		l.owed = l.vouchered
	}
}
