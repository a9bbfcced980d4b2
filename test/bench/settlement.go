package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/sandbox/modules"
	"edgenet.dev/test/daemon"
)

// settlement: seven daemons, four of them witnesses, one submits and one works.
// From the moment in which the submitter has a certified Settle for a task until
// every daemon has the same ledger with the worker's claim of it, read through
// each one's own socket. Tasks come at random moments: one right after the other
// they would all meet the pauses with which events are claimed and gossiped
// together at the same point.
func (b bench) settlement(ctx context.Context) (rows []row, err error) {
	specs := []daemon.Spec{{Name: "witness0", Witness: true, Flags: []string{"--dht", "server", "--no-work"}}}
	for i := 1; i < 7; i++ {
		s := daemon.Spec{Name: fmt.Sprint("node", i), Witness: i < 4, Via: []string{"witness0"}, Flags: []string{"--dht", "server"}}
		if i >= 4 {
			s.Grant = grant
		}
		if i != 5 {
			s.Flags = append(s.Flags, "--no-work")
		}
		specs = append(specs, s)
	}
	n, err := b.running(ctx, specs)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	payer, payee := n.Node("node4"), n.Node("node5")
	input, err := modules.Encode(proto.TypeText, []byte("one tiny task"))
	if err != nil {
		return nil, err
	}
	settled := func() (seq uint64, err error) {
		h, err := daemon.Call(ctx, payer.Wallet.History, &api.HistoryRequest{Limit: 1, Kinds: []string{"settle"}})
		if err != nil || len(h.Entries) == 0 {
			return 0, err
		}
		return h.Entries[0].Seq, nil
	}
	// equal reports whether all have one ledger in which the payee has more than
	// before and nothing to claim. It stops at the first that differs: asking takes
	// their time.
	equal := func(had uint64) (bool, error) {
		var hash string
		var has uint64
		for i, nd := range n.Nodes {
			bal, err := daemon.Call(ctx, nd.Wallet.Balance, &api.BalanceRequest{Account: payee.ID.String()})
			if err != nil {
				return false, err
			}
			if i == 0 {
				hash, has = bal.StateHash, bal.Available
			}
			if bal.StateHash != hash || bal.Available != has || has <= had || bal.Receivable > 0 {
				return false, nil
			}
		}
		return true, nil
	}
	until := func(ok func() (bool, error)) error {
		for {
			if yes, err := ok(); yes || err != nil {
				return err
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	task := func() (took time.Duration, err error) {
		had, err := daemon.Call(ctx, payee.Wallet.Balance, &api.BalanceRequest{})
		if err != nil {
			return 0, err
		}
		before, err := settled()
		if err != nil {
			return 0, err
		}
		req := &api.SubmitRequest{Type: proto.TypeText, Inputs: [][]byte{input}, Redundancy: 1, MaxCredits: uint64(proto.OneCredit), TimeoutMs: 60_000, FuelLimit: 100_000_000}
		if _, err := daemon.Call(ctx, payer.Tasks.Submit, req); err != nil {
			return 0, err
		}
		if err := until(func() (bool, error) { now, err := settled(); return now > before, err }); err != nil {
			return 0, err
		}
		start := time.Now()
		err = until(func() (bool, error) { return equal(had.Available) })
		return time.Since(start), err
	}
	pay := func() (time.Duration, error) {
		start := time.Now()
		_, err := daemon.Call(ctx, payer.Wallet.Transfer, &api.TransferRequest{To: n.Node("node6").ID.String(), Amount: 1})
		return time.Since(start), err
	}
	moments := rand.New(rand.NewPCG(1, 1))
	measure := func(what func() (time.Duration, error), rounds int) (took []float64, err error) {
		for range rounds {
			time.Sleep(time.Duration(moments.Int64N(int64(time.Second))))
			d, err := what()
			if err != nil {
				return nil, err
			}
			took = append(took, float64(d.Microseconds())/1000)
		}
		slices.Sort(took)
		return took, nil
	}
	for _, what := range []func() (time.Duration, error){task, pay} { // accounts are opened, streams too
		if _, err := measure(what, 3); err != nil {
			return nil, err
		}
	}
	rounds := max(20, b.rounds/4)
	toEqual, err := measure(task, rounds)
	if err != nil {
		return nil, err
	}
	toCertified, err := measure(pay, rounds)
	if err != nil {
		return nil, err
	}
	at := func(sorted []float64, q int) float64 { return sorted[min(len(sorted)-1, len(sorted)*q/100)] }
	base := fmt.Sprintf("7 daemons, 4 witnesses, %d", rounds)
	return []row{
		{Name: "payment_certified_p50_ms", Value: at(toCertified, 50), Unit: "ms", Baseline: base + " payments, three messages and two disks at each witness", Goal: "-"},
		{Name: "settlement_to_equal_balances_p99_ms", Value: at(toEqual, 99), Unit: "ms", Baseline: fmt.Sprintf("%s tasks at random moments, median %.0f ms", base, at(toEqual, 50)), Goal: "< 1000"},
	}, nil
}
