package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"edgenet.dev/proto/api"
	"edgenet.dev/test/daemon"
)

// settlement: seven daemons, four of them witnesses; from the moment in which
// a payment is certified until every daemon has the same ledger with the
// payee's claim of it, read through each one's own socket. Payments come at
// random moments: one right after the other they would all meet the pauses with
// which events are claimed and gossiped together at the same point.
func (b bench) settlement(ctx context.Context) (rows []row, err error) {
	specs := []daemon.Spec{{Name: "witness0", Witness: true, Flags: []string{"--dht", "server", "--no-work"}}}
	for i := 1; i < 7; i++ {
		s := daemon.Spec{Name: fmt.Sprint("node", i), Witness: i < 4, Via: []string{"witness0"}, Flags: []string{"--dht", "server", "--no-work"}}
		if i >= 4 {
			s.Grant = grant
		}
		specs = append(specs, s)
	}
	n, err := b.running(ctx, specs)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	payer, payee := n.Node("node4"), n.Node("node5")
	pay := func() (certified, equal time.Duration, err error) {
		had, err := daemon.Call(ctx, payee.Wallet.Balance, &api.BalanceRequest{Account: payee.ID.String()})
		if err != nil {
			return 0, 0, err
		}
		start := time.Now()
		if _, err := daemon.Call(ctx, payer.Wallet.Transfer, &api.TransferRequest{To: payee.ID.String(), Amount: 1}); err != nil {
			return 0, 0, err
		}
		certified = time.Since(start)
		for {
			same := true
			hash := ""
			for _, nd := range n.Nodes { // up to one that differs: asking takes their time
				bal, err := daemon.Call(ctx, nd.Wallet.Balance, &api.BalanceRequest{Account: payee.ID.String()})
				if err != nil {
					return 0, 0, err
				}
				st, err := nd.Status(ctx)
				if err != nil {
					return 0, 0, err
				}
				if hash == "" {
					hash = st.StateHash
				}
				if same = st.StateHash == hash && bal.Available == had.Available+1; !same {
					break
				}
			}
			if same {
				return certified, time.Since(start) - certified, nil
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	for range 3 { // accounts are opened, streams too
		if _, _, err := pay(); err != nil {
			return nil, err
		}
	}
	rounds := max(20, b.rounds/4)
	var certified, equal []time.Duration
	moments := rand.New(rand.NewPCG(1, 1))
	for range rounds {
		time.Sleep(time.Duration(moments.Int64N(int64(time.Second))))
		c, e, err := pay()
		if err != nil {
			return nil, err
		}
		certified, equal = append(certified, c), append(equal, e)
	}
	slices.Sort(certified)
	slices.Sort(equal)
	at := func(d []time.Duration, q int) float64 {
		return float64(d[min(len(d)-1, len(d)*q/100)].Microseconds()) / 1000
	}
	base := fmt.Sprintf("7 daemons, 4 witnesses, %d payments at random moments", rounds)
	return []row{
		{Name: "payment_certified_p50_ms", Value: at(certified, 50), Unit: "ms", Baseline: base + ", three messages and two disks at each witness", Goal: "-"},
		{Name: "settlement_to_equal_balances_p99_ms", Value: at(equal, 99), Unit: "ms", Baseline: fmt.Sprintf("%s, median %.0f ms", base, at(equal, 50)), Goal: "< 1000"},
	}, nil
}
