package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/sandbox/modules"
	"edgenet.dev/test/daemon"
)

const grant = 1000 * proto.OneCredit

// three daemons: the first is witness and submitter, the others work.
func three() []daemon.Spec {
	return []daemon.Spec{
		{Name: "submitter", Grant: grant, Witness: true, Flags: []string{"--dht", "server", "--no-work"}},
		{Name: "worker0", Via: []string{"submitter"}, Flags: []string{"--dht", "server"}},
		{Name: "worker1", Via: []string{"submitter"}, Flags: []string{"--dht", "server"}},
	}
}

// running starts a network and waits until its nodes are connected.
func (b bench) running(ctx context.Context, specs []daemon.Spec) (*daemon.Net, error) {
	n, err := daemon.New(b.bin, specs...)
	if err != nil {
		return nil, err
	}
	if err := connected(ctx, n.Nodes); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// connected starts daemons and waits until each knows all others.
func connected(ctx context.Context, nodes []*daemon.Node) error {
	for _, nd := range nodes {
		if err := nd.Start(ctx); err != nil {
			return err
		}
	}
	for _, nd := range nodes {
		for {
			st, err := nd.Status(ctx)
			if err != nil {
				return err
			}
			if int(st.Peers) >= len(nodes)-1 {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	return nil
}

// throughput: how many tasks a minute three daemons run and verify twice each,
// the batch submitted at once, from submission to the last verified result.
func (b bench) throughput(ctx context.Context) (rows []row, err error) {
	n, err := b.running(ctx, three())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	payer := n.Node("submitter")
	batch := func(tasks int) (time.Duration, error) {
		input, err := modules.Encode(proto.TypeText, []byte("one tiny task"))
		if err != nil {
			return 0, err
		}
		req := &api.SubmitRequest{Type: proto.TypeText, Redundancy: 2, MaxCredits: uint64(grant / 2), TimeoutMs: 600_000, FuelLimit: 100_000_000}
		for range tasks {
			req.Inputs = append(req.Inputs, input)
		}
		start := time.Now()
		r, err := daemon.Call(ctx, payer.Tasks.Submit, req)
		if err != nil {
			return 0, err
		}
		for {
			j, err := daemon.Call(ctx, payer.Tasks.List, &api.ListRequest{Limit: 1})
			if err != nil {
				return 0, err
			}
			switch top := j.Jobs[0]; top.State {
			case "done":
				if int(top.Verified) != tasks {
					return 0, fmt.Errorf("job %s: %d of %d tasks verified", r.Job, top.Verified, tasks)
				}
				return time.Since(start), nil
			case "failed", "cancelled", "expired":
				return 0, fmt.Errorf("job %s %s: %s\n%s", r.Job, top.State, top.Reason, n.Logs(4000))
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	if _, err := batch(100); err != nil { // compile, leases, lanes
		return nil, err
	}
	took, err := batch(b.batch)
	if err != nil {
		return nil, err
	}
	return []row{{
		Name: "verified_tasks_per_min_3_nodes", Value: float64(b.batch) / took.Minutes(), Unit: "tasks/min",
		Baseline: fmt.Sprintf("redundancy 2, batch of %d", b.batch), Goal: ">= 60000 (floor 6100)",
	}}, nil
}

// idleCost: memory and traffic of connected daemons with nothing to do.
// Traffic is what libp2p counts, both directions, per node.
func (b bench) idleCost(ctx context.Context) (rows []row, err error) {
	n, err := b.running(ctx, three())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	sample := func() (rss, traffic uint64, err error) {
		for _, nd := range n.Nodes {
			st, err := nd.Status(ctx)
			if err != nil {
				return 0, 0, err
			}
			rss = max(rss, st.RssBytes)
			traffic += st.BytesIn + st.BytesOut
		}
		return rss, traffic, nil
	}
	pause := func(d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	// Discovery looks around after 1, 5, 25, 125 s and then every ten minutes, for
	// 4 KB each time: the window has one of these in five minutes.
	if err := pause(40 * time.Second); err != nil {
		return nil, err
	}
	start := time.Now()
	_, before, err := sample()
	if err != nil {
		return nil, err
	}
	if err := pause(b.idle); err != nil {
		return nil, err
	}
	rss, after, err := sample()
	if err != nil {
		return nil, err
	}
	minutes := time.Since(start).Minutes()
	nodes := float64(len(n.Nodes))
	return []row{
		{Name: "idle_rss_mb", Value: float64(rss) / (1 << 20), Unit: "MB", Baseline: "largest of 3 connected daemons", Goal: "< 50"},
		{Name: "idle_kb_per_min", Value: float64(after-before) / 1024 / nodes / minutes, Unit: "KB/min", Baseline: fmt.Sprintf("per node of 3, in + out, over %.0f s", minutes*60), Goal: "<= 2.5"},
	}, nil
}
