// Package market decides who runs what, whether a result is right and who is
// paid. It is one pure state machine per node: Step takes the time and an
// Input and returns the Outputs to act on, in order. Equal state and input
// give equal output; there is no clock, randomness, goroutine or I/O here.
//
// A job meets workers in five verbs, one file each: offer.go (offer), claim.go
// (claim), match.go (execute), verify.go (verify), escrow.go (credit).
// worker.go and bid.go are the other side of the same conversation.
package market

import (
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// Config of a Machine. Zero fields take the stated default.
type Config struct {
	Self        peer.ID       // required
	Price       proto.Credit  // base price, µcredit per 60 Gfuel, default 10^6; also the price cap of own offers
	FeePPM      uint64        // burned on top of settled amounts, parts per million; zero is no fee
	LowPercent  uint64        // of Price that work of low priority pays, default proto.DefaultLowPercent
	HighPercent uint64        // the same of high priority, default proto.DefaultHighPercent
	Diversity   bool          // never two replicas of a task with one operator or site
	Shards      uint32        // offer and claim topics of the network, default 1; node picks the topic by it
	Grace       time.Duration // after a hold's deadline, default 15 min
	MaxHold     time.Duration // most that a hold's deadline may lie ahead, default 7 days
	ClaimWindow time.Duration // more claims are collected this long after enough came, default 150 ms
	ClaimStep   time.Duration // a worker's delay per rank, default 15 ms
	Reoffer     time.Duration // offer again while workers are missing, default 2 s, backing off to 10 s
	Linger      time.Duration // an idle session is kept for the next job, default 2 s
	Overtime    time.Duration // a hold outlives its job's timeout by so much, default 5 min
	RunSlack    time.Duration // on top of an assignment's wall time, default 10 s
	MaxRun      time.Duration // most that a try may run in this network, default 1 h
	MaxAttempts int           // lost executions per task before it fails, default 4
	Worker      Worker
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if c.Price == 0 {
		c.Price = proto.OneCredit
	}
	if c.Shards == 0 {
		c.Shards = 1
	}
	if c.MaxAttempts == 0 {
		c.MaxAttempts = 4
	}
	def(&c.Grace, 15*time.Minute)
	def(&c.MaxHold, 7*24*time.Hour)
	def(&c.ClaimWindow, 150*time.Millisecond)
	def(&c.ClaimStep, 15*time.Millisecond)
	def(&c.Reoffer, 2*time.Second)
	def(&c.Linger, 2*time.Second)
	def(&c.Overtime, proto.LeaseDuration)
	def(&c.RunSlack, 10*time.Second)
	def(&c.MaxRun, proto.DefaultMaxRun)
	return c
}

// Validate says what is wrong with c in one sentence.
func (c Config) Validate() error {
	switch {
	case c.Self == "":
		return fmt.Errorf("market: Self is empty, want the node's peer id")
	case c.Price > proto.MaxPriceCredits:
		return fmt.Errorf("market: Price %d is above %d", c.Price, proto.MaxPriceCredits)
	case c.LowPercent > 100 || c.HighPercent > 0 && (c.HighPercent < 100 || c.HighPercent > proto.MaxPercent):
		return fmt.Errorf("market: low priority pays %d %% and high priority %d %%, want at most 100 and 100 to %d", c.LowPercent, c.HighPercent, proto.MaxPercent)
	case c.FeePPM > 1_000_000:
		return fmt.Errorf("market: FeePPM %d is above 1000000 (100 %%)", c.FeePPM)
	case c.MaxAttempts < 0:
		return fmt.Errorf("market: MaxAttempts %d is negative", c.MaxAttempts)
	}
	for name, d := range map[string]time.Duration{
		"Grace": c.Grace, "MaxHold": c.MaxHold, "ClaimWindow": c.ClaimWindow, "ClaimStep": c.ClaimStep,
		"Reoffer": c.Reoffer, "Linger": c.Linger, "RunSlack": c.RunSlack, "MaxRun": c.MaxRun,
	} {
		if d < 0 {
			return fmt.Errorf("market: %s is negative", name)
		}
	}
	return nil
}

// Bounds on what remote peers and old work may keep in memory.
const (
	maxBatch     = 64   // assignments per SendAssign
	maxLanes     = 64   // per hold, as the ledger allows
	maxExtends   = 128  // of a session's hold before the next job opens another: each is shown to every worker
	maxClaims    = 128  // kept per own offer
	maxFinished  = 1000 // final jobs kept for views
	maxFinTasks  = 200_000
	maxOffers    = 1024 // of others, tracked at once
	maxOfferPeer = 64   // of one submitter
	maxSeen      = 64   // claims of competitors counted per offer
	maxCustomers = 256  // submitters served at once
	maxLanesPer  = 64   // lanes known per submitter
	maxModules   = 64   // leases per submitter
	maxSent      = 1024 // outcomes kept per submitter after their result was sent
	maxSentBytes = 64 << 20
	maxPasses    = 256 // sessions served in one Step
	maxGrants    = 256 // workers of which is known what they grant
)

// countermeasures lets tests switch single ones off, to see the attack succeed
// that they are there for.
type countermeasures struct {
	commit   bool // a result is what its worker committed to before the reveal
	majority bool // so many replicas agree that liars are unlikely to be all of them
	share    bool // commitments of one submitter give way to others'
	caps     bool // a worker starts nothing above its lane's cap
	incident bool // an incident counts once, and a standstill of this node not at all
	standing bool // what workers kept and broke decides who is asked
	worth    bool // what a submitter's and a module's work was worth decides whose turn it is
	silence  bool // an assignment is answered soon, or goes elsewhere
	crowd    bool // strangers who claim first do not keep the known ones out
	answers  bool // a worker makes so many claims a second, and few for nothing
}

// Machine is the market of one node. It is not safe for concurrent use.
type Machine struct {
	cfg    Config
	now    time.Time
	timers timers

	off countermeasures // set by tests only

	// Outputs of the Step under way: out first, then saves (durable together),
	// then what may follow only what was saved, then notices.
	out, saves, after []Output
	changed           []*job

	jobs     map[proto.JobID]*job
	order    []*job // by arrival
	seq      uint64
	finished int // final jobs in order
	finTasks int
	sessions []*session // not closed
	byHold   map[cid.Cid]*session
	reqs     map[uint64]*session
	req      uint64
	peers    map[peer.ID]*counterpart
	dirty    []*session
	short    bool // the last pick met a lane without room

	costs map[cid.Cid]*CostRecord // by module

	grants  map[peer.ID]heardGrant // what workers said they grant
	dropped heardGrant             // most of those that gave way

	epoch  uint64             // of the newest checkpoint
	ppm    map[peer.ID]uint64 // reputations in it
	stakes map[peer.ID]proto.Credit

	standings map[peer.ID]*StandingRecord
	stood     map[peer.ID]bool // changed since they were saved
	stoodKept time.Time        // when they were saved last
	strangers StandingRecord   // of young identities together

	stalled time.Time // when this node last went on after a standstill

	work workside
}

// counterpart is what a submitter knows of one worker over all sessions.
type counterpart struct {
	lost   bool
	broke  time.Time // of its last incident
	spare  uint64    // what else that may cost its standing
	leases []*lease
}

// New makes a Machine.
func New(cfg Config) (*Machine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m := &Machine{
		cfg:    cfg.withDefaults(),
		jobs:   map[proto.JobID]*job{},
		byHold: map[cid.Cid]*session{},
		reqs:   map[uint64]*session{},
		peers:  map[peer.ID]*counterpart{},
		costs:  map[cid.Cid]*CostRecord{},
		grants: map[peer.ID]heardGrant{},

		standings: map[peer.ID]*StandingRecord{},
		stood:     map[peer.ID]bool{},
	}
	m.work.init(cfg.Worker)
	m.work.stale = m.timers.make(m.dropStale)
	m.work.rotated = m.timers.make(func() {}) // every Step looks whose turn it is
	return m, nil
}

// Step takes in what happened at now and returns what to do, in order. A now
// before the last one counts as the last one.
func (m *Machine) Step(now time.Time, in Input) []Output {
	m.noteStall(now)
	if now.After(m.now) {
		m.now = now
	}
	m.take(in)
	m.fireDue()
	m.startQueued()
	for passes := 0; len(m.dirty) > 0; passes++ {
		s := m.dirty[0]
		m.dirty = m.dirty[1:]
		s.dirty = false
		if passes < maxPasses {
			m.serve(s)
		} else { // never spin: the rest of this Step's work can wait a little
			m.sooner(s.again, m.now.Add(5*time.Millisecond))
		}
	}
	m.dirty = nil
	for _, j := range m.changed {
		j.noted = false
		m.after = append(m.after, JobChanged{Job: j.rec.Job.ID})
	}
	out := m.out
	out = append(out, m.saves...)
	out = append(out, m.after...)
	clear(m.saves)
	clear(m.after)
	m.out, m.saves, m.after, m.changed = nil, m.saves[:0], m.after[:0], m.changed[:0]
	return out
}

func (m *Machine) take(in Input) {
	switch in := in.(type) {
	case Tick:
	case Submit:
		m.submit(in.Job)
	case Cancel:
		m.cancel(in.Job)
	case Remove:
		m.remove(in.Job)
	case Restore:
		m.restore(in)
	case OfferSeen:
		m.offerSeen(in)
	case WithdrawalSeen:
		m.withdrawalSeen(in)
	case ClaimSeen:
		m.claimSeen(in)
	case AcceptedSeen:
		m.acceptedSeen(in)
	case RefusedSeen:
		m.refusedSeen(in)
	case CommitSeen:
		m.commitSeen(in)
	case ResultSeen:
		m.resultSeen(in)
	case ProgressSeen:
		if r := m.replica(in.From, in.Ref); r != nil {
			r.lease.progress = m.now
			m.started(r)
		}
	case DoneSeen:
		m.doneSeen(in)
	case WorkerLost:
		m.workerLost(in.Worker)
	case WorkerBack:
		m.workerBack(in.Worker)
	case HoldCertified:
		m.holdCertified(in)
	case HoldFailed:
		m.holdFailed(in)
	case Settled:
		m.settled(in)
	case AssignSeen:
		m.assignSeen(in)
	case Prepared:
		m.prepared(in)
	case Fetched:
		m.fetched(in)
	case RevealSeen:
		m.revealSeen(in)
	case AbortSeen:
		m.abortSeen(in)
	case VoucherSeen:
		m.voucherSeen(in)
	case Executed:
		m.executed(in)
	case SubmitterLost:
		m.submitterLost(in.Submitter)
	case WorkerSettings:
		m.workerSettings(in.Worker)
	case Neighbours:
		m.work.neighbours = max(0, in.Workers)
		if in.Joined {
			m.newcomers()
		}
	case Reputations:
		m.epoch, m.ppm, m.stakes = in.Epoch, in.PPM, in.Stakes
	}
}

func (m *Machine) send(o Output) { m.out = append(m.out, o) }

func (m *Machine) note(p peer.ID, ref proto.Ref, code proto.Code, format string, args ...any) {
	m.after = append(m.after, Note{Text: fmt.Sprintf(format, args...), Code: code, Peer: p, Ref: ref})
}

func (m *Machine) touch(j *job) {
	j.updated = m.now
	if !j.noted && !j.gone {
		j.noted = true
		m.changed = append(m.changed, j)
	}
}

func (m *Machine) mark(s *session) {
	if !s.dirty {
		s.dirty = true
		m.dirty = append(m.dirty, s)
	}
}

func (m *Machine) counterpart(p peer.ID) *counterpart {
	c := m.peers[p]
	if c == nil {
		c = &counterpart{}
		m.peers[p] = c
	}
	return c
}
