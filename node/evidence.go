package node

import (
	"context"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/zap"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/ledger"
	"edgenet.dev/market"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
)

// Evidence of wrong results. A submitter brings receipts that lost a vote to the
// witnesses. A witness with a sandbox executes the work again, one at a time,
// and reports receipts that state another result, until a checkpoint counts
// them. Both in memory: what a restart loses is one lie less.

const (
	maxFiled   = 256 // receipts that a submitter brings again
	maxFilings = 4   // times that it brings one, an epoch apart
	maxCases   = 64  // receipts that wait for a witness's sandbox
	maxCasesOf = 8   // of one submitter
	// caseFetch is how long a submitter may take for module and input together:
	// others wait meanwhile.
	caseFetch = 20 * time.Second
	// maxAccusations bounds what a witness executes for one submitter in an epoch.
	maxAccusations = 32
	// maxJudged bounds the receipts that a witness remembers to have executed.
	maxJudged = 4096
)

type evidence struct {
	n    *Node
	wake chan struct{} // something to file or to report
	work chan struct{} // a case waits

	mu     sync.Mutex
	filed  []*filed // oldest first
	cases  []accusation
	inputs *lru.Cache[proto.Hash, struct{}] // of receipts filed in this run: witnesses fetch them
	judged map[proto.Hash]uint64            // receipts executed here, by the epoch of that; whatever came of it
	of     map[peer.ID]int                  // accusations in epoch
	epoch  uint64
}

// filed is a receipt that this node's own task outvoted.
type filed struct {
	sr    *proto.SignedReceipt
	times int
	epoch uint64 // of the newest time
}

// accusation waits for this witness's sandbox. When there are too many, those
// of the poorest submitters go: identities are free, credits are not.
type accusation struct {
	ledger.Reexecute
	wealth proto.Credit
}

func (a accusation) by() peer.ID { return peer.ID(a.Receipt.Submitter) }

func newEvidence(n *Node) *evidence {
	inputs, _ := lru.New[proto.Hash, struct{}](maxFiled) // it fails for sizes below 1 only
	return &evidence{
		n: n, wake: make(chan struct{}, 1), work: make(chan struct{}, 1), inputs: inputs,
		judged: map[proto.Hash]uint64{}, of: map[peer.ID]int{},
	}
}

// file brings a receipt to the witnesses.
func (e *evidence) file(sr *proto.SignedReceipt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open(sr)
	if e.filed = append(e.filed, &filed{sr: sr}); len(e.filed) > maxFiled {
		e.filed = e.filed[1:]
	}
	wake(e.wake)
}

// open lets witnesses have the input of a receipt.
func (e *evidence) open(sr *proto.SignedReceipt) {
	var r proto.Receipt
	if goproto.Unmarshal(sr.Receipt, &r) == nil {
		if h, err := proto.ToHash(r.InputHash); err == nil {
			e.inputs.Add(h, struct{}{})
		}
	}
}

// run tells the market what each new checkpoint says about workers, files
// receipts and has the witness report what it found.
func (e *evidence) run(ctx context.Context) {
	length := e.n.net.Epoch()
	tick := time.NewTicker(min(max(length/probesPerEpoch, probeLeast), probeMost))
	defer tick.Stop()
	told, first := uint64(0), true
	for {
		w := e.n.wallet
		w.mu.Lock()
		epoch := w.l.Epoch()
		var scores map[peer.ID]uint64
		var stakes map[peer.ID]proto.Credit
		if fresh := first || epoch != told; fresh {
			epoch, scores = w.l.Scores()
			stakes = w.l.Stakes()
		}
		w.mu.Unlock()
		if scores != nil {
			told, first = epoch, false
			if s := e.n.standings; s != nil {
				wake(s.wake)
			} else {
				e.n.jobs.post(market.Reputations{Epoch: epoch, PPM: scores, Stakes: stakes})
			}
		}
		if err := e.tell(time.Now(), epoch); err != nil && ctx.Err() == nil {
			e.n.log.Warn("evidence of wrong results", zap.Error(err))
		}
		select {
		case <-tick.C:
		case <-e.wake:
		case <-ctx.Done():
			return
		}
	}
}

// tell sends what is due: each filed receipt once per epoch, some times, and
// the witness's report for as long as there is something to report.
func (e *evidence) tell(now time.Time, epoch uint64) error {
	w := e.n.wallet
	w.mu.Lock()
	defer w.mu.Unlock()
	var outs []ledger.Output
	if w.witness != nil {
		var err error
		if outs, err = w.witness.WrongWork(); err != nil {
			return err
		}
	}
	for _, sr := range e.due(epoch, func(sr *proto.SignedReceipt) bool {
		_, err := w.l.Accusable(sr)
		return err == nil
	}) {
		outs = append(outs, ledger.Send{To: e.n.net.Witnesses, Frame: &proto.VoteFrame{Body: &proto.VoteFrame_Accused{Accused: sr}}})
	}
	return w.deliver(now, outs)
}

// due lists receipts to be filed now and drops those that count by now, are
// too old or were brought often enough.
func (e *evidence) due(epoch uint64, open func(*proto.SignedReceipt) bool) (out []*proto.SignedReceipt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	kept := e.filed[:0]
	for _, f := range e.filed {
		if f.times > 0 && f.epoch == epoch {
			kept = append(kept, f)
			continue
		}
		if f.times == maxFilings || !open(f.sr) {
			continue
		}
		f.times, f.epoch = f.times+1, epoch
		kept, out = append(kept, f), append(out, f.sr)
	}
	clear(e.filed[len(kept):])
	e.filed = kept
	return out
}

// suspect queues a case for this witness's sandbox. wealth is what the
// submitter has in the ledger, epoch the newest checkpoint's.
func (e *evidence) suspect(o ledger.Reexecute, wealth proto.Credit, epoch uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.epoch != epoch {
		e.epoch, e.of = epoch, map[peer.ID]int{}
		for id, at := range e.judged { // a receipt cannot be accused for longer
			if at+2*ledger.WrongEpochs < epoch {
				delete(e.judged, id)
			}
		}
	}
	c := accusation{o, wealth}
	poorest, waiting := 0, 0
	for i, x := range e.cases {
		if x.ID == c.ID {
			return
		}
		if x.by() == c.by() {
			waiting++
		}
		if x.wealth < e.cases[poorest].wealth {
			poorest = i
		}
	}
	if _, known := e.judged[c.ID]; known || waiting >= maxCasesOf || e.of[c.by()] >= maxAccusations || wealth == 0 {
		return
	}
	if len(e.cases) >= maxCases {
		if e.cases[poorest].wealth >= wealth {
			return
		}
		e.cases = append(e.cases[:poorest], e.cases[poorest+1:]...)
	}
	e.of[c.by()]++
	e.cases = append(e.cases, c)
	wake(e.work)
}

func (e *evidence) next() (accusation, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.cases) == 0 {
		return accusation{}, false
	}
	c := e.cases[0]
	e.cases = e.cases[1:]
	if len(e.judged) >= maxJudged {
		clear(e.judged)
	}
	e.judged[c.ID] = e.epoch
	return c, true
}

// judge executes accused work again, one after the other.
func (e *evidence) judge(ctx context.Context) {
	for {
		c, ok := e.next()
		if !ok {
			select {
			case <-e.work:
				continue
			case <-ctx.Done():
				return
			}
		}
		log := e.n.log.With(zap.Stringer("worker", c.Worker), zap.Stringer("submitter", c.by()), zap.Stringer("receipt", c.ID))
		wrong, fuel, err := e.again(ctx, c)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil: // it may be brought again: the submitter was away, say
			log.Info("accused work not executed", zap.Error(err))
			e.mu.Lock()
			delete(e.judged, c.ID)
			e.mu.Unlock()
			continue
		case !wrong:
			log.Info("accused work is right")
			continue
		}
		log.Warn("a receipt states another result than its work gives", zap.Uint64("fuel", uint64(fuel)))
		w := e.n.wallet
		w.mu.Lock()
		err = w.witness.Found(c.Accused, fuel)
		w.mu.Unlock()
		if err != nil { // counted meanwhile
			log.Debug("wrong work", zap.Error(err))
			continue
		}
		wake(e.wake)
	}
}

// againMost bounds one execution of accused work, however much fuel it names.
const againMost = 5 * time.Minute

// again executes the work of a receipt with its limits. An error says that
// this machine cannot tell.
func (e *evidence) again(ctx context.Context, c accusation) (wrong bool, fuel proto.Fuel, err error) {
	r, from := c.Receipt, c.by()
	h, err := proto.ToHash(r.InputHash)
	if err != nil {
		return false, 0, err
	}
	job, err := proto.ToJobID(r.Job)
	if err != nil {
		return false, 0, err
	}
	fetch, cancel := context.WithTimeout(ctx, caseFetch)
	defer cancel()
	module, err := e.n.work.module(fetch, from, &proto.Assignment{Module: r.Module})
	if err != nil {
		return false, 0, err
	}
	input, err := e.n.fetchBlob(fetch, from, h, nil, proto.MaxInput)
	if err != nil {
		return false, 0, err
	}
	task := sandbox.Task{
		Limits: proto.Limits{
			Fuel: proto.Fuel(r.FuelLimit), Memory: r.MemoryLimit, Output: r.OutputLimit,
			Wall: proto.DefaultRun(proto.Fuel(r.FuelLimit), min(e.n.net.MaxRun(), againMost)), // a receipt names none
		}.WithDefaults(),
		Seed: proto.TaskID{Job: job, Index: r.Task}.Seed(),
	}
	res, err := e.n.cfg.Executor.Run(ctx, module, input, task)
	if err != nil {
		return false, 0, err
	}
	if !res.Status.Votable() {
		return false, 0, proto.CodeLocalFailure.Errorf("it ended with %s", res.Status)
	}
	fuel = min(res.Fuel, proto.Fuel(r.FuelLimit))
	output := proto.HashOf(res.Output)
	wrong = res.Status != proto.Status(r.Status) || res.ExitCode != r.ExitCode || fuel != proto.Fuel(r.Fuel) || string(output[:]) != string(r.OutputHash)
	return wrong, fuel, nil
}

// Reputation is what the newest checkpoint known here says about an account's
// work; on a light node, what was proven of a worker that claimed its offers.
func (n *Node) Reputation(id peer.ID) ledger.Reputation {
	n.wallet.mu.Lock()
	defer n.wallet.mu.Unlock()
	if s := n.standings; s != nil {
		r, _ := s.proven.Peek(id)
		return r.At(n.net, n.wallet.l.Epoch())
	}
	return n.wallet.l.Reputation(id)
}
