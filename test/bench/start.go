package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/sandbox/modules"
	"edgenet.dev/test/daemon"
)

// freshNetworks is how often a network is founded to be measured.
const freshNetworks = 5

// start: what a network does that was founded a moment ago. Each figure is the
// median over networks of three daemons, from nothing.
func (b bench) start(ctx context.Context) ([]row, error) {
	var first, second, before, after []time.Duration
	for range freshNetworks {
		f, err := b.fresh(ctx)
		if err != nil {
			return nil, err
		}
		first, second = append(first, f.first), append(second, f.second)
		before, after = append(before, f.before), append(after, f.after)
	}
	ms := func(d []time.Duration) float64 { return float64(median(d)) / float64(time.Millisecond) }
	return []row{
		{
			Name: "first_submit_ms", Value: ms(first), Unit: "ms",
			Baseline: fmt.Sprintf("the same task again: %.0f ms; submitted as the last of 3 daemons answers, redundancy 2, median of %d networks", ms(second), freshNetworks), Goal: "< 1000",
		},
		{
			Name: "late_joiner_sees_transfer_ms", Value: ms(after), Unit: "ms",
			Baseline: fmt.Sprintf("final before its daemon answered: %.0f ms; final as it answers; median of %d networks", ms(before), freshNetworks), Goal: "< 1000",
		},
	}, nil
}

type freshness struct{ first, second, before, after time.Duration }

func (b bench) fresh(ctx context.Context) (f freshness, err error) {
	late := func(name string) daemon.Spec {
		return daemon.Spec{Name: name, Via: []string{"submitter"}}
	}
	n, err := daemon.New(b.bin,
		daemon.Spec{Name: "submitter", Grant: grant, Witness: true}, late("worker0"), late("worker1"), late("early"), late("late"),
	)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	for _, nd := range n.Nodes[:3] {
		if err := nd.Start(ctx); err != nil {
			return f, err
		}
	}
	payer := n.Node("submitter")
	if f.first, err = answer(ctx, payer); err != nil {
		return f, err
	}
	if f.second, err = answer(ctx, payer); err != nil {
		return f, err
	}
	if f.before, err = arrival(ctx, payer, n.Node("early"), true); err != nil {
		return f, err
	}
	f.after, err = arrival(ctx, payer, n.Node("late"), false)
	return f, err
}

// answer is how long one small task takes from its submission to its verified
// result.
func answer(ctx context.Context, payer *daemon.Node) (time.Duration, error) {
	input, err := modules.Encode(proto.TypeText, []byte("one tiny task"))
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	r, err := daemon.Call(ctx, payer.Tasks.Submit, &api.SubmitRequest{
		Type: proto.TypeText, Inputs: [][]byte{input}, Redundancy: 2, MaxCredits: uint64(grant / 2), TimeoutMs: 60_000, FuelLimit: 100_000_000,
	})
	if err != nil {
		return 0, err
	}
	stream, err := payer.Tasks.Watch(ctx, connect.NewRequest(&api.GetRequest{Job: r.Job}))
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	var last *api.Job
	for stream.Receive() {
		last = stream.Msg()
	}
	if err := stream.Err(); err != nil {
		return 0, err
	}
	if last == nil || last.State != "done" || last.Verified != 1 {
		return 0, fmt.Errorf("job %s ended as %s: %s", r.Job, last.GetState(), last.GetReason())
	}
	return time.Since(begun), nil
}

// arrival is how long a daemon that just started takes to see what was sent to
// it: from the start on when that is final before, else from when it is final.
func arrival(ctx context.Context, payer, late *daemon.Node, before bool) (time.Duration, error) {
	send := func() error {
		_, err := daemon.Call(ctx, payer.Wallet.Transfer, &api.TransferRequest{To: late.ID.String(), Amount: 1, WaitMs: 10_000})
		return err
	}
	if before {
		if err := send(); err != nil {
			return 0, err
		}
	}
	if err := late.Start(ctx); err != nil {
		return 0, err
	}
	if !before {
		if err := send(); err != nil {
			return 0, err
		}
	}
	for begun := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		r, err := daemon.Call(ctx, late.Wallet.Balance, &api.BalanceRequest{})
		if err != nil {
			return 0, err
		}
		if r.Available+r.Receivable > 0 {
			return time.Since(begun), nil
		}
	}
}
