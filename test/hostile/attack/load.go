package attack

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/sandbox/modules"
	"edgenet.dev/test/daemon"
)

// load is what an honest submitter does: one small job after the other, every
// fourth with an input too large to travel with its assignment. No job finds
// workers that an earlier one chose, as if each came from somebody else.
type load struct {
	t    *Target
	jobs int                // so far; each has limits of its own
	due  map[peer.ID]uint64 // by the receipts of all results, microcredits
	have map[peer.ID]uint64 // of each worker, before the first job

	slowest time.Duration // of this sample
	why     string        // it lost tries
}

// sample is what became of some jobs.
type sample struct {
	took   []time.Duration
	failed []string
	slow   string // why the slowest one took long
}

// patience is an honest job's own timeout.
const patience = 90 * time.Second

func newLoad(ctx context.Context, t *Target) (*load, error) {
	l := &load{t: t, due: map[peer.ID]uint64{}}
	var err error
	l.have, err = l.balances(ctx)
	return l, err
}

// run submits jobs until ctx ends, and at least one. The last one is waited for.
func (l *load) run(ctx context.Context) (s sample, err error) {
	l.slowest, l.why = 0, ""
	defer func() { s.slow = l.why }()
	for {
		took, failed, err := l.one(context.WithoutCancel(ctx))
		if err != nil {
			return s, err
		}
		if failed != "" {
			s.failed = append(s.failed, failed)
		} else {
			s.took = append(s.took, took)
		}
		if ctx.Err() != nil {
			return s, nil
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// one runs a job; failed says why it was not done.
func (l *load) one(ctx context.Context) (took time.Duration, failed string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience+30*time.Second)
	defer cancel()
	l.jobs++
	words := fmt.Sprintf("honest words number %d", l.jobs)
	large := l.jobs%4 == 0
	if large {
		words = strings.Repeat(words+" ", 600<<10/len(words))
	}
	input, err := modules.Encode(proto.TypeText, []byte(words))
	if err != nil {
		return 0, "", err
	}
	if large {
		l.t.want(proto.CIDOf(input))
	}
	start := time.Now()
	r, err := daemon.Call(ctx, l.t.Submitter.Tasks.Submit, &api.SubmitRequest{
		Type: proto.TypeText, Inputs: [][]byte{input}, Redundancy: 2, MaxCredits: uint64(proto.OneCredit),
		TimeoutMs: uint64(patience.Milliseconds()), FuelLimit: uint64(2_000_000_000 + l.jobs),
	})
	if err != nil {
		return 0, fmt.Sprintf("job %d is refused: %v", l.jobs, err), nil
	}
	watch, err := l.t.Submitter.Tasks.Watch(ctx, connect.NewRequest(&api.GetRequest{Job: r.Job}))
	if err != nil {
		return 0, "", err
	}
	defer watch.Close()
	last := new(api.Job)
	for watch.Receive() {
		last = watch.Msg()
		if final(last.State) {
			break
		}
	}
	took = time.Since(start)
	if took > l.slowest {
		l.slowest, l.why = took, l.lost(last)
	}
	if last.State != "done" || last.Verified != 1 {
		why := ""
		if w, err := daemon.Call(ctx, l.t.Submitter.Tasks.Why, &api.GetRequest{Job: r.Job}); err == nil {
			why = strings.Join(w.Lines, " ")
		}
		return took, fmt.Sprintf("job %d: %s after %s, %d verified: %s %s %s (%v)", l.jobs, last.State, took.Round(time.Millisecond), last.Verified, last.Code, last.Reason, why, watch.Err()), nil
	}
	return took, "", l.book(ctx, r.Job)
}

// lost says which tries of a job brought no result.
func (l *load) lost(j *api.Job) string {
	var out []string
	for _, x := range j.Lost {
		who := "a stranger"
		for _, w := range l.t.Workers {
			if w.ID.String() == x.Worker {
				who = w.Name
			}
		}
		out = append(out, fmt.Sprintf("%d of %s: %s %s", x.Times, who, x.Code, x.Reason))
	}
	return strings.Join(out, "; ")
}

func final(state string) bool {
	return slices.Contains([]string{"done", "failed", "cancelled", "expired"}, state)
}

// book adds what the workers of a job's results earned.
func (l *load) book(ctx context.Context, job string) error {
	results, err := l.t.Submitter.Tasks.Results(ctx, connect.NewRequest(&api.GetRequest{Job: job}))
	if err != nil {
		return err
	}
	defer results.Close()
	for results.Receive() {
		for _, raw := range results.Msg().Receipts {
			var s proto.SignedReceipt
			var r proto.Receipt
			if err := goproto.Unmarshal(raw, &s); err != nil {
				return err
			}
			if err := goproto.Unmarshal(s.Receipt, &r); err != nil {
				return err
			}
			l.due[peer.ID(r.Worker)] += uint64(proto.PayFor(proto.Fuel(r.Fuel), proto.Credit(r.Price)))
		}
	}
	return results.Err()
}

// balances are all that each worker has, by the witness.
func (l *load) balances(ctx context.Context) (map[peer.ID]uint64, error) {
	out := map[peer.ID]uint64{}
	for _, w := range l.t.Workers {
		b, err := daemon.Call(ctx, l.t.Witness.Wallet.Balance, &api.BalanceRequest{Account: w.ID.String()})
		if err != nil {
			return nil, err
		}
		out[w.ID] = b.Available + b.Held + b.Staked + b.Unbonding + b.Receivable
	}
	return out, nil
}

// settled waits until every worker has what it earned with honest jobs, and says
// who has not. Attackers may have paid more.
func (l *load) settled(ctx context.Context) (unpaid []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		now, err := l.balances(ctx)
		if err != nil {
			return unpaid, err
		}
		unpaid = nil
		for _, w := range l.t.Workers {
			if got := now[w.ID] - l.have[w.ID]; got < l.due[w.ID] {
				unpaid = append(unpaid, fmt.Sprintf("%s earned %d, has got %d", w.Name, l.due[w.ID], got))
			}
		}
		if len(unpaid) == 0 {
			return nil, nil
		}
		pause(ctx, 200*time.Millisecond)
		if ctx.Err() != nil {
			return unpaid, nil
		}
	}
}
