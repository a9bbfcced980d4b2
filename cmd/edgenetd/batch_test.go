package main

import (
	"context"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"edgenet.dev/proto/api"
	"edgenet.dev/proto/api/apiconnect"
)

// daemonTasks answers Submit.
type daemonTasks struct {
	apiconnect.TaskServiceClient
	submit func(context.Context, *api.SubmitRequest) (*api.SubmitReply, error)
}

func (d daemonTasks) Submit(ctx context.Context, r *connect.Request[api.SubmitRequest]) (*connect.Response[api.SubmitReply], error) {
	reply, err := d.submit(ctx, r.Msg)
	return connect.NewResponse(reply), err
}

// Ctrl-C while jobs are submitted: the one on its way is still named, and no
// other follows.
func TestInterruptedBatchNamesItsJobs(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	submits := 0
	d := &client{tasks: daemonTasks{submit: func(ctx context.Context, _ *api.SubmitRequest) (*api.SubmitReply, error) {
		submits++
		cancel()
		return &api.SubmitReply{Job: "thefirst"}, ctx.Err()
	}}}
	groups := []*batchGroup{{req: &api.SubmitRequest{}, lines: []int{1}}, {req: &api.SubmitRequest{}, lines: []int{2}}}
	err := new(app).submitAll(ctx, d, groups, &batchFlags{wait: true})
	if err == nil || !strings.Contains(err.Error(), "job thefirst goes on") || submits != 1 {
		t.Errorf("%d jobs were submitted: %v", submits, err)
	}
}

// What is said at the end of a batch: jobs that are over do not go on, and every
// one that failed is named.
func TestBatchSaysWhichJobs(t *testing.T) {
	groups := []*batchGroup{{job: "one", over: true}, {job: "two"}}
	if err := stoppedIn(groups, "interrupted"); strings.Contains(err.Error(), "one") || !strings.Contains(err.Error(), "job two goes on") {
		t.Error(err)
	}
	groups[1].over = true
	if err := stoppedIn(groups, "interrupted"); strings.Contains(err.Error(), "goes on") || exitCode(err) != exitInterrupted {
		t.Error(err)
	}
	err := failedJobs([]error{failf(exitInsufficient, "job one failed"), failf(exitTask, "job two failed")})
	if exitCode(err) != exitInsufficient || !strings.Contains(err.Error(), "2 jobs failed: job one failed; job two failed") {
		t.Error(err)
	}
	if err := failedJobs(nil); err != nil {
		t.Error(err)
	}
	if got := lineRanges([]int{1, 2, 3, 5, 8, 9}); got != "1-3,5,8-9" {
		t.Error(got)
	}
}

// Jobs of lines that share a budget of their own share it, and do not take from
// that of the batch.
func TestOwnBudgetIsShared(t *testing.T) {
	d := &client{tasks: daemonTasks{submit: func(context.Context, *api.SubmitRequest) (*api.SubmitReply, error) {
		return &api.SubmitReply{TaskCost: 10, MaxCost: 1000}, nil
	}}}
	group := func(purse string, credits uint64) *batchGroup {
		return &batchGroup{req: &api.SubmitRequest{MaxCredits: credits}, lines: []int{1}, purse: purse}
	}
	groups := []*batchGroup{group("a", 100), group("", 50), group("a", 100), group("b", 70)}
	budget, err := allot(context.Background(), d, groups)
	if err != nil || budget != 220 {
		t.Fatalf("a budget of %d (%v)", budget, err)
	}
	one, two := groups[0].req.MaxCredits, groups[2].req.MaxCredits
	if one == 0 || two == 0 || one+two > 100 || groups[1].req.MaxCredits != 50 || groups[3].req.MaxCredits != 70 {
		t.Errorf("%d and %d of 100, %d of 50, %d of 70", one, two, groups[1].req.MaxCredits, groups[3].req.MaxCredits)
	}
}
