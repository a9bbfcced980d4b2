package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
)

// eventKinds are the kinds that history filters by, as the ledger names them.
var eventKinds = []string{
	"open", "transfer", "receive", "hold", "extend", "settle", "stake", "unstake", "withdraw", "rotate", "close", "slash", "void",
}

func (a *app) historyCmd() *cobra.Command {
	var limit uint32
	var kinds []string
	var with string
	var since uint64
	c := &cobra.Command{
		Use: "history [ACCOUNT]", Short: "List an account's events, newest first", Args: takes(0, 1, "at most one ACCOUNT"),
		Example: "  edgenetd wallet history --kind transfer,receive --limit 20\n  edgenetd wallet history --with 12D3KooW… -o json\n  edgenetd wallet history --since 120",
		RunE: func(c *cobra.Command, args []string) error {
			return a.history(c.Context(), &api.HistoryRequest{Account: one(args), Limit: limit, Kinds: kinds, Counterparty: with, SinceSeq: since})
		},
	}
	f := c.Flags()
	f.StringSliceVar(&kinds, "kind", nil, "only events of these kinds, such as transfer, receive, settle")
	f.StringVar(&with, "with", "", "only events with this account")
	f.Uint64Var(&since, "since", 0, "only events from this number on")
	f.Uint32Var(&limit, "limit", 50, "how many events to list at most")
	_ = c.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(eventKinds, cobra.ShellCompDirectiveNoFileComp))
	return c
}

type historyView struct {
	Event        string        `json:"event"`
	Seq          uint64        `json:"seq"`
	Kind         string        `json:"kind"`
	Counterparty string        `json:"counterparty,omitempty"`
	Amount       int64         `json:"amount"` // change of available
	Available    uint64        `json:"available"`
	Held         int64         `json:"held,omitempty"` // changes, as amount is one
	Staked       int64         `json:"staked,omitempty"`
	Unbonding    int64         `json:"unbonding,omitempty"`
	Bonus        uint64        `json:"bonus,omitempty"`
	Memo         string        `json:"memo,omitempty"`
	Time         string        `json:"time"` // by the author's clock, a hint
	Epoch        uint64        `json:"epoch"`
	Payments     []paymentView `json:"payments,omitempty"` // that it claims
	Witnesses    []string      `json:"witnesses"`          // whose commits certify it
}

type paymentView struct {
	From   string `json:"from,omitempty"`
	Kind   string `json:"kind,omitempty"` // transfer, work or reward; none when it is not known any more
	Amount uint64 `json:"amount"`
	Memo   string `json:"memo,omitempty"`
}

func (a *app) history(ctx context.Context, req *api.HistoryRequest) error {
	for _, account := range []string{req.Account, req.Counterparty} {
		if err := checkAccount(account); err != nil {
			return err
		}
	}
	for _, k := range req.Kinds {
		if !slices.Contains(eventKinds, strings.ToLower(k)) {
			hint := "the kinds are " + strings.Join(eventKinds, ", ")
			if near := nearest(strings.ToLower(k), eventKinds); near != "" {
				hint = "did you mean " + near + "?"
			}
			return failf(exitUsage, "--kind %q is no kind of event; %s", k, hint)
		}
	}
	if req.Limit == 0 {
		return failf(exitUsage, "--limit 0 lists nothing; want at least 1")
	}
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	reply, err := call(ctx, d.wallet.History, req)
	if err != nil {
		return err
	}
	list := []historyView{}
	r := report{}
	for _, e := range reply.Entries {
		var payments []paymentView
		for _, p := range e.Payments {
			payments = append(payments, paymentView{p.From, p.Kind, p.Amount, p.Memo})
		}
		list = append(list, historyView{
			Event: e.Event, Seq: e.Seq, Kind: e.Kind, Counterparty: e.Counterparty, Amount: e.Amount, Available: e.Available,
			Held: e.Held, Staked: e.Staked, Unbonding: e.Unbonding, Bonus: e.Bonus, Memo: e.Memo,
			Time: proto.UnixMs(e.TimeUnixMs).UTC().Format(time.RFC3339), Epoch: e.Epoch,
			Payments: payments, Witnesses: append([]string{}, e.Witnesses...),
		})
		r.ids = append(r.ids, e.Event)
	}
	r.data = list
	r.table = func(w io.Writer) {
		row(w, "SEQ", "TIME", "KIND", "AMOUNT", "HELD", "AVAILABLE", "COUNTERPARTY", "MEMO")
		for i, e := range list {
			row(w, e.Seq, clock(reply.Entries[i].TimeUnixMs), e.Kind, signedCredits(e.Amount), signedCredits(e.Held), credits(e.Available), dash(e.Counterparty), dash(e.Memo))
		}
	}
	return a.print(r)
}

func (a *app) rewardsCmd() *cobra.Command {
	var limit uint32
	c := &cobra.Command{
		Use: "rewards [ACCOUNT]", Short: "Explain what was minted for an account, by default this node's", Args: takes(0, 1, "at most one ACCOUNT"),
		Long: `Lists what was minted for the account beside what others paid it, newest first:
for which payment, the multiple R of that time, and what kept it lower if
something did.`,
		RunE: func(c *cobra.Command, args []string) error { return a.rewards(c.Context(), one(args), limit) },
	}
	c.Flags().Uint32Var(&limit, "limit", 50, "how many rewards to list at most")
	return c
}

type rewardView struct {
	Kind     string `json:"kind"`
	Amount   uint64 `json:"amount"`
	Claimed  bool   `json:"claimed"` // else it is pending
	Epoch    uint64 `json:"epoch"`
	Event    string `json:"event,omitempty"` // that claimed a bonus
	Seq      uint64 `json:"seq,omitempty"`
	Source   string `json:"source,omitempty"` // of a bonus: the payment
	Index    uint32 `json:"index,omitempty"`
	From     string `json:"from,omitempty"` // who paid, or was referred
	Paid     uint64 `json:"paid,omitempty"`
	Multiple string `json:"multiple,omitempty"` // R as a decimal
	Limit    string `json:"limit,omitempty"`
	Reason   string `json:"reason"`
}

func (a *app) rewards(ctx context.Context, account string, limit uint32) error {
	if limit == 0 {
		return failf(exitUsage, "--limit 0 lists nothing; want at least 1")
	}
	if err := checkAccount(account); err != nil {
		return err
	}
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	reply, err := call(ctx, d.wallet.Rewards, &api.RewardsRequest{Account: account, Limit: limit})
	if err != nil {
		return err
	}
	list := []rewardView{}
	r := report{}
	for _, x := range reply.Rewards {
		v := rewardView{
			Kind: x.Kind, Amount: x.Amount, Claimed: x.Claimed, Event: x.Event, Seq: x.Seq, Epoch: x.Epoch, Source: x.Source, Index: x.Index,
			From: x.From, Paid: x.Paid, Limit: x.Limit, Reason: x.Reason,
		}
		if x.RatePpm > 0 {
			v.Multiple = fmt.Sprintf("%d.%06d", x.RatePpm/1_000_000, x.RatePpm%1_000_000)
		}
		list = append(list, v)
		if x.Event != "" {
			r.ids = append(r.ids, x.Event)
		}
	}
	totals := reply.Totals
	if totals == nil {
		totals = map[string]uint64{}
	}
	r.data = map[string]any{"rewards": list, "totals": totals}
	r.table = func(w io.Writer) {
		row(w, "EPOCH", "KIND", "AMOUNT", "PAID", "MULTIPLE", "FROM", "REASON")
		for _, v := range list {
			reason := v.Reason
			if !v.Claimed {
				reason += "; pending"
			}
			row(w, v.Epoch, v.Kind, credits(v.Amount), credits(v.Paid), dash(v.Multiple), dash(v.From), reason)
		}
		for _, kind := range []string{"bonus", "uptime", "referral"} {
			if n, ok := totals[kind]; ok {
				row(w, "total", kind, credits(n))
			}
		}
	}
	return a.print(r)
}
