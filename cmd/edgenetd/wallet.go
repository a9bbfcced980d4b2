package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
)

func (a *app) walletCmd() *cobra.Command {
	var memo string
	var limit uint32
	var kinds []string
	transfer := &cobra.Command{
		Use: "transfer ACCOUNT CREDITS", Short: "Send credits; it is final when the command returns", Args: takes(2, 2, "an ACCOUNT and an amount of CREDITS"),
		Example: "  edgenetd wallet transfer 12D3KooW… 12.5 --memo lunch",
		RunE: func(c *cobra.Command, args []string) error {
			return a.transfer(c.Context(), args[0], args[1], memo)
		},
	}
	transfer.Flags().StringVar(&memo, "memo", "", "text for the receiver, at most 140 bytes, public")
	history := &cobra.Command{
		Use: "history [ACCOUNT]", Short: "List an account's events, newest first", Args: takes(0, 1, "at most one ACCOUNT"),
		RunE: func(c *cobra.Command, args []string) error { return a.history(c.Context(), one(args), limit, kinds) },
	}
	history.Flags().StringSliceVar(&kinds, "kind", nil, "only events of these kinds, such as transfer, receive, settle")
	history.Flags().Uint32Var(&limit, "limit", 50, "how many events to list at most")
	return family("wallet", "Balances, transfers and the ledger's own sums",
		&cobra.Command{
			Use: "balance [ACCOUNT]", Short: "Show an account's balance, by default this node's", Args: takes(0, 1, "at most one ACCOUNT"),
			RunE: func(c *cobra.Command, args []string) error { return a.balance(c.Context(), one(args)) },
		},
		transfer, history,
		a.stakeCmd("stake", api.StakeRequest_VERB_STAKE, "Put available credits at stake; only staked workers earn a bonus"),
		a.stakeCmd("unstake", api.StakeRequest_VERB_UNSTAKE, "Take credits from the stake; they can be withdrawn after seven days, and each unstake starts them again"),
		a.stakeCmd("withdraw", api.StakeRequest_VERB_WITHDRAW, "Make unbonded credits available"),
		&cobra.Command{
			Use: "audit", Short: "Sum every term of the ledger and check that credits are conserved", Args: takes(0, 0, ""),
			RunE: func(c *cobra.Command, _ []string) error { return a.audit(c.Context()) },
		})
}

func one(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func (a *app) stakeCmd(name string, verb api.StakeRequest_Verb, short string) *cobra.Command {
	return &cobra.Command{
		Use: name + " CREDITS", Short: short, Args: takes(1, 1, "an amount of CREDITS"), Example: "  edgenetd wallet " + name + " 100",
		RunE: func(c *cobra.Command, args []string) error {
			amount, err := proto.ParseCredit(args[0])
			if err != nil {
				return failf(exitUsage, "%v", err)
			}
			d, err := a.daemon(c.Context())
			if err != nil {
				return err
			}
			b, err := call(c.Context(), d.wallet.Stake, &api.StakeRequest{Verb: verb, Amount: uint64(amount)})
			if err != nil {
				return err
			}
			return a.printBalance(b)
		},
	}
}

type balanceView struct {
	Account   string `json:"account"`
	Available uint64 `json:"available"`
	Held      uint64 `json:"held"`
	Staked    uint64 `json:"staked"`
	Unbonding uint64 `json:"unbonding"`
	Pending   uint64 `json:"pending"` // paid to the account and not received yet
	Epoch     uint64 `json:"epoch"`
	Unbonded  uint64 `json:"unbond_epoch,omitempty"`
	Frozen    bool   `json:"frozen,omitempty"`
	Seq       uint64 `json:"seq"`
	StateHash string `json:"state_hash"`
}

func (a *app) balance(ctx context.Context, account string) error {
	if err := checkAccount(account); err != nil {
		return err
	}
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	b, err := call(ctx, d.wallet.Balance, &api.BalanceRequest{Account: account})
	if err != nil {
		return err
	}
	return a.printBalance(b)
}

func (a *app) printBalance(b *api.BalanceReply) error {
	v := balanceView{
		Account: b.Account, Available: b.Available, Held: b.Held, Staked: b.Staked, Unbonding: b.Unbonding, Pending: b.Receivable,
		Epoch: b.Epoch, Unbonded: b.UnbondEpoch, Frozen: b.Frozen, Seq: b.Seq, StateHash: b.StateHash,
	}
	return a.print(report{data: v, ids: []string{v.Account}, table: func(w io.Writer) {
		row(w, "account", v.Account)
		row(w, "available", credits(v.Available))
		row(w, "held", credits(v.Held))
		row(w, "staked", credits(v.Staked))
		row(w, "unbonding", unbonding(v))
		row(w, "pending", credits(v.Pending))
		if v.Frozen {
			row(w, "frozen", "until a rotate by the recovery key")
		}
		row(w, "events", v.Seq)
	}})
}

func unbonding(v balanceView) string {
	if v.Unbonding == 0 {
		return credits(v.Unbonding)
	}
	return fmt.Sprintf("%s, to be withdrawn from epoch %d; now %d", credits(v.Unbonding), v.Unbonded, v.Epoch)
}

func checkAccount(text string) error {
	if text == "" {
		return nil
	}
	if _, err := parseAccount(text); err != nil {
		return failf(exitUsage, "%v", err)
	}
	return nil
}

func (a *app) transfer(ctx context.Context, to, amount, memo string) error {
	if _, err := parseAccount(to); err != nil {
		return failf(exitUsage, "%v", err)
	}
	c, err := proto.ParseCredit(amount)
	if err != nil {
		return failf(exitUsage, "%v", err)
	}
	if len(memo) > 140 {
		return failf(exitUsage, "the memo has %d bytes; at most 140 fit", len(memo))
	}
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	reply, err := call(ctx, d.wallet.Transfer, &api.TransferRequest{To: to, Amount: uint64(c), Memo: memo})
	if err != nil {
		return err
	}
	return a.print(report{
		data: map[string]any{"event": reply.Event, "to": to, "amount": uint64(c), "available": reply.Available},
		ids:  []string{reply.Event},
		table: func(w io.Writer) {
			row(w, "event", reply.Event)
			row(w, "sent", credits(c)+" credits to "+to)
			row(w, "available", credits(reply.Available))
		},
	})
}

type historyView struct {
	Event        string `json:"event"`
	Seq          uint64 `json:"seq"`
	Kind         string `json:"kind"`
	Counterparty string `json:"counterparty,omitempty"`
	Amount       int64  `json:"amount"`
	Available    uint64 `json:"available"`
	Memo         string `json:"memo,omitempty"`
	Time         string `json:"time"`
}

func (a *app) history(ctx context.Context, account string, limit uint32, kinds []string) error {
	if err := checkAccount(account); err != nil {
		return err
	}
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	reply, err := call(ctx, d.wallet.History, &api.HistoryRequest{Account: account, Limit: limit, Kinds: kinds})
	if err != nil {
		return err
	}
	list := []historyView{}
	r := report{}
	for _, e := range reply.Entries {
		at := time.UnixMilli(int64(e.TimeUnixMs)).UTC().Format(time.RFC3339)
		list = append(list, historyView{e.Event, e.Seq, e.Kind, e.Counterparty, e.Amount, e.Available, e.Memo, at})
		r.ids = append(r.ids, e.Event)
	}
	r.data = list
	r.table = func(w io.Writer) {
		row(w, "SEQ", "TIME", "KIND", "AMOUNT", "AVAILABLE", "COUNTERPARTY", "MEMO")
		for i, e := range list {
			row(w, e.Seq, clock(reply.Entries[i].TimeUnixMs), e.Kind, signedCredits(e.Amount), credits(e.Available), dash(e.Counterparty), dash(e.Memo))
		}
	}
	return a.print(r)
}

// auditView is the supply equation with its terms as the daemon summed them.
type auditView struct {
	Available  uint64 `json:"available"`
	Held       uint64 `json:"held"`
	Staked     uint64 `json:"staked"`
	Unbonding  uint64 `json:"unbonding"`
	Receivable uint64 `json:"receivable"`
	Burned     uint64 `json:"burned"`
	Sum        uint64 `json:"sum"`
	Genesis    uint64 `json:"genesis"`
	Minted     uint64 `json:"minted"`
	Conserved  bool   `json:"conserved"`
	StateHash  string `json:"state_hash"`
	Events     uint64 `json:"events"`
}

func auditOf(r *api.AuditReply) auditView {
	v := auditView{
		Available: r.Available, Held: r.Held, Staked: r.Staked, Unbonding: r.Unbonding, Receivable: r.Receivable,
		Burned: r.Burned, Genesis: r.Genesis, Minted: r.Minted, StateHash: r.StateHash, Events: r.Events,
	}
	v.Sum = r.Available + r.Held + r.Staked + r.Unbonding + r.Receivable + r.Burned
	v.Conserved = r.Conserved && v.Sum == r.Genesis+r.Minted
	return v
}

func (a *app) audit(ctx context.Context) error {
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	reply, err := call(ctx, d.wallet.Audit, &api.AuditRequest{})
	if err != nil {
		return err
	}
	v := auditOf(reply)
	err = a.print(report{data: v, ids: []string{v.StateHash}, table: func(w io.Writer) {
		for _, t := range []struct {
			name  string
			value uint64
		}{
			{"available", v.Available},
			{"held", v.Held},
			{"staked", v.Staked},
			{"unbonding", v.Unbonding},
			{"receivable", v.Receivable},
			{"burned", v.Burned},
			{"sum", v.Sum},
			{"genesis + minted", v.Genesis + v.Minted},
		} {
			row(w, t.name, credits(t.value))
		}
		row(w, "conserved", yesNo(v.Conserved))
		row(w, "events", v.Events)
		row(w, "state", v.StateHash)
	}})
	if err == nil && !v.Conserved {
		return failf(exitFailure, "credits are not conserved on this node; stop it, keep its directory %s and report the fault", d.dir)
	}
	return err
}
