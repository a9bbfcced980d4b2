package market

import (
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// Task is what a submitter asks for: one unit of work. Either Type names a
// built-in module or Module holds raw WASM.
type Task struct {
	Type    string
	Module  []byte
	Input   []byte
	Options Options
}

// Options are the policy of a job; zero fields take the stated default.
type Options struct {
	Priority   proto.Priority // zero is low: half the price, half the share; command line and local API take normal when none is given
	Redundancy int            // 1..7, default 2
	MaxCredits proto.Credit   // cap of the whole job, fee included; default 10 credits
	Timeout    time.Duration  // total; default 10 min
	Run        time.Duration  // each try on a worker, within Config.MaxRun; default proto.DefaultRun of Fuel
	Queue      time.Duration  // until a worker runs the first task; 0 = as long as Timeout
	Fuel       proto.Fuel     // per task, default proto.DefaultFuel
	Memory     uint64         // bytes per task, default proto.DefaultMemory
	Label      string         // shown in listings, at most 64 bytes
}

// Result of one task.
type Result struct {
	Task     proto.TaskID
	State    TaskState
	Status   proto.Status
	ExitCode int32
	Output   []byte       // without Workers the start of the newest lost try's, for which nothing vouches
	Log      []byte       // likewise
	Fuel     proto.Fuel   // of one execution
	Cost     proto.Credit // all replicas and fee
	Verified bool         // replicas agreed; never true at redundancy 1
	Workers  []peer.ID    // the replicas that agreed
	Receipts []*proto.SignedReceipt
	Code     proto.Code // why it failed
	Reason   string
}

// TaskState as shown to people.
type TaskState string

// States of tasks and jobs.
const (
	Queued    TaskState = "queued"
	Offered   TaskState = "offered"
	Assigned  TaskState = "assigned"
	Running   TaskState = "running"
	Verifying TaskState = "verifying"
	Done      TaskState = "done"
	Failed    TaskState = "failed"
	Cancelled TaskState = "cancelled"
	Expired   TaskState = "expired"
)

// Final reports whether s never changes again.
func (s TaskState) Final() bool {
	return s == Done || s == Failed || s == Cancelled || s == Expired
}

// Job is a module, an input per task and a policy. It is immutable.
type Job struct {
	ID         proto.JobID
	Type       string  // "" for a custom module
	Module     cid.Cid // of the raw bytes
	ModuleSize uint64
	StartFuel  proto.Fuel // that the module uses before its first instruction
	Inputs     []InputRef
	Options    Options
	Created    time.Time
}

// InputRef commits to one task's input; the bytes stay with node.
type InputRef struct {
	Hash proto.Hash
	Size uint64
}

// JobRecord, TaskRecord and HoldRecord are what survives a restart. Node
// stores them before it acts on any later output of the same Step.
type JobRecord struct {
	Job    Job
	State  TaskState
	Code   proto.Code
	Reason string
	Round  uint32 // raised on every restore, so that attempts never repeat
	Begun  bool   `json:",omitempty"` // a worker ran some of it; kept for Options.Queue
}

// TaskRecord is saved when a task becomes final, and before that with State
// Running when trials of it were paid.
type TaskRecord struct {
	ID       proto.TaskID
	State    TaskState
	Code     proto.Code
	Reason   string
	Status   proto.Status
	ExitCode int32
	Verified bool
	Output   proto.Hash
	Size     uint64
	Log      proto.Hash
	Fuel     proto.Fuel
	Cost     proto.Credit
	Replicas []ReplicaRecord
}

// ReplicaRecord is one worker's part in a task.
type ReplicaRecord struct {
	Worker  peer.ID
	Attempt uint32
	State   TaskState
	Status  proto.Status
	Output  proto.Hash
	Fuel    proto.Fuel
	Agreed  bool
	Trial   bool `json:",omitempty"` // paid, and the task went on with a higher fuel limit
	Partial bool `json:",omitempty"` // paid a part, though its time ran out; see partial.go
	Paid    proto.Credit
	Code    proto.Code

	// Hold and Lane say where Paid came from; LaneAmount, LaneFuel and LaneUpto
	// are that lane's totals right after it. So a TaskRecord alone is enough to
	// rebuild a lane's totals when the HoldRecord is older.
	Hold       cid.Cid
	Lane       uint32
	LaneAmount proto.Credit
	LaneFuel   proto.Fuel
	LaneUpto   uint64
}

// HoldRecord is the payer's view of one hold: what it promised per lane.
type HoldRecord struct {
	Hold     cid.Cid
	Job      proto.JobID // session: the job that opened it
	Deadline time.Time
	Budget   proto.Credit
	Lanes    []LaneRecord
	Closed   bool // final Settle certified
}

// LaneRecord is one lane's cumulative totals.
type LaneRecord struct {
	Worker  peer.ID
	Payee   peer.ID `json:",omitempty"` // "" = worker; an empty id does not decode
	Cap     proto.Credit
	Amount  proto.Credit // vouchered, cumulative
	Fuel    proto.Fuel
	Upto    uint64
	Settled proto.Credit
	Done    bool // worker signed Done for Amount
}

// Lane is a certified lane as the worker's ledger shows it.
type Lane struct {
	Hold     cid.Cid
	Index    uint32
	Payer    peer.ID
	Worker   peer.ID
	Payee    peer.ID
	Cap      proto.Credit
	Deadline time.Time
	Paid     proto.Credit // settled so far
	Promised proto.Credit // the newest voucher that the worker keeps of it
	Earned   proto.Credit // what the receipts are worth that the worker keeps of it
}

// Input is something that happened. Node has already checked signatures,
// sizes and that From is the signer or stream peer.
type Input interface{ isInput() }

type (
	// Tick: time passed. Step(now, Tick{}) does what is due at now.
	Tick struct{}
	// Submit brings a new job; node has put its record and inputs in its store
	// (durable with the first commit).
	Submit struct{ Job Job }
	// Cancel ends a job.
	Cancel struct{ Job proto.JobID }
	// Remove forgets a job that is over and settled; another one stays. Its
	// records are node's to delete.
	Remove struct{ Job proto.JobID }
	// Restore brings what an earlier run saved, once, before other inputs.
	// Holds are the account's open holds in the ledger, recorded or not.
	Restore struct {
		Jobs  []JobRecord
		Tasks []TaskRecord
		Holds []HoldRecord
		Costs []CostRecord

		Standings []StandingRecord
		Worths    []WorthRecord
	}

	// OfferSeen, WithdrawalSeen and ClaimSeen came by gossip (or, for a
	// Claim, by a direct stream).
	// Funds is what an offer's submitter can pay with, as far as the ledger here
	// shows; nil when that is not known.
	OfferSeen struct {
		From  peer.ID
		Offer *proto.Offer
		Funds *proto.Credit
	}
	WithdrawalSeen struct {
		From  peer.ID
		Offer proto.JobID
	}
	ClaimSeen struct {
		From  peer.ID
		Claim *proto.Claim
	}

	// Submitter side, from a worker's stream.
	// AcceptedSeen: those of Refs that are not in Waiting run now.
	AcceptedSeen struct {
		From    peer.ID
		Refs    []proto.Ref
		Waiting []proto.Ref
	}
	RefusedSeen struct {
		From   peer.ID
		Ref    proto.Ref
		Code   proto.Code
		Reason string
		Fuel   proto.Fuel // with CodeRunTimeout what it says that it used
		Log    []byte     // of an execution that ran: nothing vouches for it; within proto.MaxLog
		Output []byte     // likewise, what it wrote to stdout; within proto.MaxLostOutput
	}
	CommitSeen struct {
		From peer.ID
		Ref  proto.Ref
		Hash proto.Hash
	}
	// ResultSeen: node checked the batch signature, fetched the output and
	// found sha256(output) == Receipt.OutputHash; the rest is market's to check.
	ResultSeen struct {
		From    peer.ID
		Ref     proto.Ref
		Receipt *proto.Receipt
		Raw     []byte // receipt bytes as received
	}
	// ProgressSeen: the execution runs, and is so far.
	ProgressSeen struct {
		From     peer.ID
		Ref      proto.Ref
		Permille uint32
	}
	DoneSeen struct {
		From   peer.ID
		Hold   cid.Cid
		Lane   uint32
		Amount proto.Credit
		// Proven: the worker proves Amount, which is more than was promised, with
		// assignments and receipts of Fuel in all.
		Proven bool
		Fuel   proto.Fuel
	}
	// WorkerLost: the stream to a worker broke or could not be opened.
	WorkerLost struct{ Worker peer.ID }
	// WorkerBack: a stream to a worker with open lanes exists again.
	WorkerBack struct{ Worker peer.ID }

	// HoldCertified answers RequestHold: the hold (new or extended) as the
	// ledger shows it now. HoldFailed says why not. A hold that an earlier run
	// asked for and that was certified only after Restore comes with Req 0.
	HoldCertified struct {
		Req  uint64
		Hold HoldRecord
	}
	HoldFailed struct {
		Req    uint64
		Code   proto.Code
		Reason string
	}
	// Settled answers Settle, refused or not, with what the ledger shows now:
	// totals paid and Dones taken per lane; Closed after a final one.
	Settled struct {
		Hold   cid.Cid
		Paid   []proto.Credit // by lane
		Done   []bool         // by lane; a lane without an entry is not done
		Closed bool
	}

	// Worker side.
	// AssignSeen: Fetch tells, by assignment, which of them have an input or a
	// module that is not here; one without an entry has both. Lane is certified.
	AssignSeen struct {
		From  peer.ID
		Batch *proto.AssignmentBatch
		Lane  Lane
		Fetch []bool
	}
	// Prepared says what preparing a module of a submitter took of a processor.
	Prepared struct {
		From peer.ID
		Took time.Duration
	}
	// Fetched answers Fetch: input and module are here, or Code says why not.
	Fetched struct {
		From   peer.ID
		Ref    proto.Ref
		Code   proto.Code
		Reason string
	}
	RevealSeen struct {
		From    peer.ID
		Ref     proto.Ref
		Commits []Commitment
	}
	AbortSeen struct {
		From peer.ID
		Refs []proto.Ref
		Code proto.Code
	}
	// VoucherSeen: Lane is the certified lane when the ledger knows it, else
	// zero; a worker that restarted knows its lanes from there only.
	VoucherSeen struct {
		From    peer.ID
		Voucher *proto.Voucher
		Finish  bool
		Lane    Lane
	}
	// Executed: the sandbox ended. Salt is 16 fresh random bytes.
	Executed struct {
		From       peer.ID // submitter
		Ref        proto.Ref
		Missing    bool // its module went out of the cache while it waited: nothing ran
		Status     proto.Status
		ExitCode   int32
		Output     proto.Hash
		OutputSize uint64
		Log        proto.Hash
		Fuel       proto.Fuel
		Ran        time.Duration // that the sandbox let it run, 0 when not known
		Salt       []byte
		Code       proto.Code // when it never ran: CodeFetch, CodeModule, CodeInputHash
		Reason     string
	}
	// SubmitterLost: the stream from a submitter broke.
	SubmitterLost struct{ Submitter peer.ID }
	// WorkerSettings replaces the worker's side of Config at run time.
	WorkerSettings struct{ Worker Worker }
	// Neighbours is the number of peers that may compete for offers. Joined tells
	// that somebody is new among them: whoever waits for workers is offered again.
	Neighbours struct {
		Workers int
		Joined  bool
	}
	// Reputations replaces what a checkpoint says about workers: the scores above
	// 0, in ppm, and what they have staked. Epoch is the checkpoint's; assignments
	// name it. The maps are not to be changed afterwards.
	Reputations struct {
		Epoch  uint64
		PPM    map[peer.ID]uint64
		Stakes map[peer.ID]proto.Credit
	}
)

// Commitment of one replica, listed in a reveal.
type Commitment struct {
	Worker peer.ID
	Hash   proto.Hash
}

// Output is something node must do, in the order given. Save* outputs are
// durable before any later output of the same Step is acted on.
type Output interface{ isOutput() }

type (
	SaveJob  struct{ Record JobRecord }
	SaveTask struct{ Record TaskRecord }
	SaveHold struct{ Record HoldRecord }
	// SaveLost keeps what a task's newest lost try wrote, in place of an older one,
	// until the task has a result.
	SaveLost struct {
		Task   proto.TaskID
		Log    []byte
		Output []byte
	}
	// SaveCost keeps what a module costs; one without Runs is forgotten. Losing it
	// loses no money: a hold is extended more often.
	SaveCost struct{ Record CostRecord }

	// SaveStanding keeps what is remembered of a worker; one without Kept and
	// Broken is forgotten. Losing it loses no money.
	SaveStanding struct{ Record StandingRecord }

	// SaveWorth keeps what work was worth to this worker; one without TookMs is
	// forgotten. Losing it loses no money, so it need not be durable.
	SaveWorth struct{ Record WorthRecord }

	// PublishOffer, PublishWithdrawal and PublishClaim gossip after signing.
	PublishOffer      struct{ Offer *proto.Offer }
	PublishWithdrawal struct {
		Offer      *proto.Offer // withdrawn
		Withdrawal *proto.Withdrawal
	}
	PublishClaim struct {
		Offer *proto.Offer // answered; node derives the shard
		Claim *proto.Claim
	}

	// RequestHold asks the ledger for a hold, or to extend Hold when defined.
	// Lanes are what is added. Answered by HoldCertified or HoldFailed.
	RequestHold struct {
		Req      uint64
		Job      proto.JobID
		Hold     cid.Cid
		Budget   proto.Credit
		Deadline time.Time
		Lanes    []LaneRecord // Worker and Cap
	}
	// Settle pays lane totals. A lane marked Done had a Done received for
	// exactly Amount; node attaches it. Answered by Settled.
	Settle struct {
		Hold  cid.Cid
		Pays  []LaneTotal
		Final bool // every lane of the hold is Done: return the rest
	}

	// SendAssign: node signs the batch and attaches inputs and, the first time
	// for this worker and hold, the certified hold events.
	SendAssign struct {
		To    peer.ID
		Batch *proto.AssignmentBatch
	}
	SendReveal struct {
		To      peer.ID
		Ref     proto.Ref
		Commits []Commitment
	}
	SendAbort struct {
		To   peer.ID
		Refs []proto.Ref
		Code proto.Code
	}
	// SendPay: node signs the voucher, sends it. With Finish the worker is asked
	// for Done.
	SendPay struct {
		To      peer.ID
		Voucher *proto.Voucher
		Finish  bool
	}

	// SendAccepted … SendDone go from worker to submitter.
	SendAccepted struct {
		To      peer.ID
		Refs    []proto.Ref
		Waiting []proto.Ref // those of Refs that do not run yet
	}
	// SendStarted: an execution that had to wait runs now.
	SendStarted struct {
		To  peer.ID
		Ref proto.Ref
	}
	SendRefused struct {
		To     peer.ID
		Ref    proto.Ref
		Code   proto.Code
		Reason string
		Fuel   proto.Fuel // with CodeRunTimeout, that it used
	}
	SendCommit struct {
		To   peer.ID
		Ref  proto.Ref
		Hash proto.Hash
	}
	// SendResult: node batches receipts, signs, attaches the output it kept.
	SendResult struct {
		To      peer.ID
		Ref     proto.Ref
		Receipt []byte
	}
	// SendDone: node signs it for the amount that its receipts of the lane are worth
	// where that is more, up to Cap.
	SendDone struct {
		To   peer.ID
		Done *proto.Done
		Cap  proto.Credit
	}
	// Execute starts the sandbox; answered by Executed unless StopExecution came first.
	Execute struct {
		From       peer.ID
		Ref        proto.Ref
		Assignment *proto.Assignment
	}
	// Fetch brings an execution's input and module here; it waits outside the
	// slots. Answered by Fetched unless StopExecution came first.
	Fetch struct {
		From       peer.ID
		Ref        proto.Ref
		Assignment *proto.Assignment
	}
	// HaltExecution makes a running execution stand still, or go on. Only with
	// Worker.Spare.
	HaltExecution struct {
		From peer.ID
		Ref  proto.Ref
		Halt bool
	}
	// StopExecution kills a fetching, running or queued execution; nothing follows.
	StopExecution struct {
		From peer.ID
		Ref  proto.Ref
	}
	// Forget: the worker no longer needs the output kept for Ref.
	Forget struct {
		From peer.ID
		Ref  proto.Ref
	}

	// ResultAccepted: a replica's result is part of the task's agreed result
	// (sent once per agreeing replica, before SaveTask); node keeps its receipt.
	ResultAccepted struct {
		Ref    proto.Ref
		Worker peer.ID
	}
	// ResultOutvoted: a replica's result differs from the one that its task's
	// other replicas agreed on. Its receipt may be shown to be wrong; a
	// ResultDropped for it follows.
	ResultOutvoted struct {
		Ref    proto.Ref
		Worker peer.ID
	}
	// ResultDropped: a result that came will not be part of an agreed result: its
	// replica was outvoted, its task ended without it, or the result was not
	// taken at all. Node frees what it keeps for that execution, but nothing that
	// another one shares with it.
	ResultDropped struct {
		Ref    proto.Ref
		Worker peer.ID
	}
	// JobChanged tells observers to look again.
	JobChanged struct{ Job proto.JobID }
	// Note is a line for the log: level-free, domain words.
	Note struct {
		Text string
		Code proto.Code
		Peer peer.ID
		Ref  proto.Ref
	}
)

// LaneTotal is one lane's totals for Settle.
type LaneTotal struct {
	Lane   uint32
	Amount proto.Credit
	Fuel   proto.Fuel
	Done   bool
}

// Worker is what this node offers to others.
type Worker struct {
	Enabled  bool
	Reason   string   // shown when not enabled
	Slots    int      // executions at once
	Spare    int      // executions that may stand still beside those, so that others have their turn
	InFlight int      // assignments held at once over all submitters, default 16 per slot
	CPU      int      // percent of a core that an execution gets, 1 to 100; 0 = 100
	Types    []string // task types it runs
	Custom   bool     // runs modules that are not built in
	// Builtin names the task types of each built-in module. When set, an offer
	// whose type and module disagree with it counts as a custom module.
	Builtin   map[cid.Cid][]string
	MinPrice  proto.Credit
	MaxFuel   proto.Fuel
	MaxMemory uint64
	Payee     peer.ID // "" = self
	Operator  string
	Site      string
	Blocked   Blocked
}

// JobView and TaskView are what people see.
type JobView struct {
	Record                          JobRecord
	Done, Failed, Verified, Running int
	Fuel                            proto.Fuel   // Σ over paid replicas
	Cost                            proto.Credit // paid to workers + fee
	Settled                         bool         // final, and no lane of its session is open
	Updated                         time.Time
	Lost                            []LostTry // the newest, oldest first; since the node started
	LostTries                       int       // how many there were
}

// TaskView is a task with its replicas, final or not.
type TaskView struct{ TaskRecord }

func (Tick) isInput()           {}
func (Submit) isInput()         {}
func (Cancel) isInput()         {}
func (Remove) isInput()         {}
func (Restore) isInput()        {}
func (OfferSeen) isInput()      {}
func (WithdrawalSeen) isInput() {}
func (ClaimSeen) isInput()      {}
func (AcceptedSeen) isInput()   {}
func (RefusedSeen) isInput()    {}
func (CommitSeen) isInput()     {}
func (ResultSeen) isInput()     {}
func (ProgressSeen) isInput()   {}
func (DoneSeen) isInput()       {}
func (WorkerLost) isInput()     {}
func (WorkerBack) isInput()     {}
func (HoldCertified) isInput()  {}
func (HoldFailed) isInput()     {}
func (Settled) isInput()        {}
func (AssignSeen) isInput()     {}
func (Prepared) isInput()       {}
func (Fetched) isInput()        {}
func (RevealSeen) isInput()     {}
func (AbortSeen) isInput()      {}
func (VoucherSeen) isInput()    {}
func (Executed) isInput()       {}
func (SubmitterLost) isInput()  {}
func (WorkerSettings) isInput() {}
func (Neighbours) isInput()     {}
func (Reputations) isInput()    {}

func (SaveJob) isOutput()           {}
func (SaveTask) isOutput()          {}
func (SaveHold) isOutput()          {}
func (SaveLost) isOutput()          {}
func (SaveCost) isOutput()          {}
func (SaveStanding) isOutput()      {}
func (SaveWorth) isOutput()         {}
func (PublishOffer) isOutput()      {}
func (PublishWithdrawal) isOutput() {}
func (PublishClaim) isOutput()      {}
func (RequestHold) isOutput()       {}
func (Settle) isOutput()            {}
func (SendAssign) isOutput()        {}
func (SendReveal) isOutput()        {}
func (SendAbort) isOutput()         {}
func (SendPay) isOutput()           {}
func (SendAccepted) isOutput()      {}
func (SendStarted) isOutput()       {}
func (SendRefused) isOutput()       {}
func (SendCommit) isOutput()        {}
func (SendResult) isOutput()        {}
func (SendDone) isOutput()          {}
func (Execute) isOutput()           {}
func (Fetch) isOutput()             {}
func (HaltExecution) isOutput()     {}
func (StopExecution) isOutput()     {}
func (Forget) isOutput()            {}
func (ResultAccepted) isOutput()    {}
func (ResultOutvoted) isOutput()    {}
func (ResultDropped) isOutput()     {}
func (JobChanged) isOutput()        {}
func (Note) isOutput()              {}
