package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
)

// defaultPatience is how long a command waits for the witnesses. An event that
// was signed by then is finished by the daemon.
const defaultPatience = 30 * time.Second

func (a *app) walletCmd() *cobra.Command {
	return family("wallet", "Balances, transfers, rewards, backups and the ledger's own sums",
		&cobra.Command{
			Use: "balance [ACCOUNT]", Short: "Show an account's balance, by default this node's", Args: takes(0, 1, "at most one ACCOUNT"),
			RunE: func(c *cobra.Command, args []string) error { return a.balance(c.Context(), one(args)) },
		},
		a.transferCmd(), a.historyCmd(), a.rewardsCmd(),
		a.stakeCmd("stake", api.StakeRequest_VERB_STAKE, "Put available credits at stake; only staked workers earn a bonus"),
		a.stakeCmd("unstake", api.StakeRequest_VERB_UNSTAKE, "Take credits from the stake; they can be withdrawn after seven days, and each unstake starts them again"),
		a.stakeCmd("withdraw", api.StakeRequest_VERB_WITHDRAW, "Make unbonded credits available"),
		a.auditCmd(), a.backupCmd(), a.restoreCmd())
}

func one(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
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

func waitFlag(c *cobra.Command, wait *time.Duration) {
	c.Flags().DurationVar(wait, "wait", defaultPatience, "how long to wait for the witnesses; what is signed by then is finished by the daemon")
}

func accountFlag(c *cobra.Command, account *string) {
	c.Flags().StringVar(account, "account", "", "move credits of this account instead, whose key this node has (see 'key recover')")
}

func patienceMs(wait time.Duration) (uint64, error) {
	if wait < time.Second {
		return 0, failf(exitUsage, "--wait %s: want at least 1s", wait)
	}
	return uint64(wait.Milliseconds()), nil
}

type balanceView struct {
	Account    string       `json:"account"`
	Available  uint64       `json:"available"`
	Held       uint64       `json:"held"`
	Staked     uint64       `json:"staked"`
	Unbonding  uint64       `json:"unbonding"`
	Pending    uint64       `json:"pending"` // paid to the account and not received yet
	Waiting    *waitingView `json:"waiting,omitempty"`
	Epoch      uint64       `json:"epoch"`
	Unbonded   uint64       `json:"unbond_epoch,omitempty"`   // from which unbonding can be withdrawn
	UnbondedIn uint64       `json:"unbond_seconds,omitempty"` // until then, in whole epochs
	Frozen     bool         `json:"frozen,omitempty"`
	Offences   uint64       `json:"offences,omitempty"`
	Seq        uint64       `json:"seq"` // events in the chain
	StateHash  string       `json:"state_hash"`
}

// waitingView is a signed event that the witnesses have not made final yet.
type waitingView struct {
	Event        string `json:"event"`
	Seq          uint64 `json:"seq"`
	Kind         string `json:"kind"`
	Amount       int64  `json:"amount"` // change of available
	Counterparty string `json:"counterparty,omitempty"`
	Memo         string `json:"memo,omitempty"`
}

func balanceOf(b *api.BalanceReply) balanceView {
	v := balanceView{
		Account: b.Account, Available: b.Available, Held: b.Held, Staked: b.Staked, Unbonding: b.Unbonding, Pending: b.Receivable,
		Epoch: b.Epoch, Unbonded: b.UnbondEpoch, Frozen: b.Frozen, Offences: b.Offences, Seq: b.Seq, StateHash: b.StateHash,
	}
	if b.UnbondEpoch > b.Epoch {
		v.UnbondedIn = (b.UnbondEpoch - b.Epoch) * b.EpochSeconds
	}
	if w := b.Waiting; w != nil {
		v.Waiting = &waitingView{w.Event, w.Seq, w.Kind, w.Amount, w.Counterparty, w.Memo}
	}
	return v
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
	v := balanceOf(b)
	return a.print(report{data: v, ids: []string{v.Account}, table: func(w io.Writer) {
		row(w, "account", v.Account)
		row(w, "available", credits(v.Available))
		row(w, "held", credits(v.Held))
		row(w, "staked", credits(v.Staked))
		row(w, "unbonding", unbonding(v))
		row(w, "pending", credits(v.Pending))
		if x := v.Waiting; x != nil {
			row(w, "waiting", waitingText(x))
		}
		if v.Offences > 0 {
			row(w, "offences", v.Offences)
		}
		if v.Frozen {
			row(w, "frozen", "until 'edgenetd key recover' with the account's recovery key")
		}
		row(w, "events", v.Seq)
	}})
}

func waitingText(x *waitingView) string {
	text := fmt.Sprintf("%s, %s available, signed and not final yet", x.Kind, signedCredits(x.Amount))
	if x.Counterparty != "" {
		text += "; with " + x.Counterparty
	}
	if x.Memo != "" {
		text += fmt.Sprintf("; memo %q", x.Memo)
	}
	return text
}

func unbonding(v balanceView) string {
	switch {
	case v.Unbonding == 0:
		return credits(v.Unbonding)
	case v.UnbondedIn == 0:
		return credits(v.Unbonding) + ", can be withdrawn"
	}
	return fmt.Sprintf("%s, can be withdrawn from epoch %d, in about %s; now %d", credits(v.Unbonding), v.Unbonded, long(v.UnbondedIn), v.Epoch)
}

// long is a number of seconds for people, in its two largest units.
func long(seconds uint64) string {
	d := proto.Seconds(seconds)
	days := d / (24 * time.Hour)
	rest := d - days*24*time.Hour
	if days == 0 {
		return strings.TrimSuffix(strings.TrimSuffix(rest.Truncate(time.Second).String(), "0s"), "0m")
	}
	return fmt.Sprintf("%dd%dh", days, rest/time.Hour)
}

func (a *app) transferCmd() *cobra.Command {
	var memo, account string
	var wait time.Duration
	c := &cobra.Command{
		Use: "transfer ACCOUNT CREDITS", Short: "Send credits; it is final when the command returns", Args: takes(2, 2, "an ACCOUNT and an amount of CREDITS"),
		Long: `Sends credits to an account, which need not exist yet. When the command returns
with code 0 the transfer is final. When too few witnesses answer in time it
returns with code 11 and says whether the transfer was signed: if it was, the
daemon finishes it as soon as they answer, also after a restart, and sending it
again would pay twice.`,
		Example: "  edgenetd wallet transfer 12D3KooW… 12.5 --memo lunch",
		RunE: func(c *cobra.Command, args []string) error {
			return a.transfer(c.Context(), account, args[0], args[1], memo, wait)
		},
	}
	accountFlag(c, &account)
	c.Flags().StringVar(&memo, "memo", "", "text for the receiver, at most 140 bytes, public")
	waitFlag(c, &wait)
	return c
}

func (a *app) transfer(ctx context.Context, account, to, amount, memo string, wait time.Duration) error {
	if err := checkAccount(account); err != nil {
		return err
	}
	if _, err := parseAccount(to); err != nil {
		return failf(exitUsage, "%v", err)
	}
	c, err := proto.ParseCredit(amount)
	if err != nil {
		return failf(exitUsage, "%v", err)
	}
	if c == 0 {
		return failf(exitUsage, "amount %q: want more than 0", amount)
	}
	if len(memo) > 140 {
		return failf(exitUsage, "the memo has %d bytes; at most 140 fit", len(memo))
	}
	ms, err := patienceMs(wait)
	if err != nil {
		return err
	}
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	reply, err := call(ctx, d.wallet.Transfer, &api.TransferRequest{To: to, Amount: uint64(c), Memo: memo, WaitMs: ms, Account: account})
	if err != nil {
		return short(err)
	}
	err = a.print(report{
		data: map[string]any{"event": reply.Event, "to": to, "amount": uint64(c), "available": reply.Available, "final": !reply.Waiting},
		ids:  []string{reply.Event},
		table: func(w io.Writer) {
			row(w, "event", reply.Event)
			if reply.Waiting {
				row(w, "signed", credits(c)+" credits to "+to)
			} else {
				row(w, "sent", credits(c)+" credits to "+to)
			}
			row(w, "available", credits(reply.Available))
		},
	})
	if err == nil && reply.Waiting {
		return failf(exitWaiting, "the transfer is signed and not final: too few witnesses answered within %s; the daemon goes on asking them, so do not send it again, and see 'edgenetd wallet balance'", wait)
	}
	return err
}

// short adds to the error of an amount that is not there what to do about it.
func short(err error) error {
	if exitCode(err) == exitInsufficient {
		return failf(exitInsufficient, "%w; name a smaller amount: 'edgenetd wallet balance' shows what there is", err)
	}
	return err
}

func (a *app) stakeCmd(name string, verb api.StakeRequest_Verb, short string) *cobra.Command {
	var account string
	var wait time.Duration
	c := &cobra.Command{
		Use: name + " CREDITS", Short: short, Args: takes(1, 1, "an amount of CREDITS"), Example: "  edgenetd wallet " + name + " 100",
		RunE: func(c *cobra.Command, args []string) error {
			return a.stake(c.Context(), account, verb, args[0], wait)
		},
	}
	if verb != api.StakeRequest_VERB_STAKE {
		accountFlag(c, &account)
	}
	waitFlag(c, &wait)
	return c
}

func (a *app) stake(ctx context.Context, account string, verb api.StakeRequest_Verb, text string, wait time.Duration) error {
	if err := checkAccount(account); err != nil {
		return err
	}
	amount, err := proto.ParseCredit(text)
	if err != nil {
		return failf(exitUsage, "%v", err)
	}
	if amount == 0 {
		return failf(exitUsage, "amount %q: want more than 0", text)
	}
	ms, err := patienceMs(wait)
	if err != nil {
		return err
	}
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	if verb == api.StakeRequest_VERB_WITHDRAW {
		b, err := call(ctx, d.wallet.Balance, &api.BalanceRequest{Account: account})
		if err != nil {
			return err
		}
		if v := balanceOf(b); v.UnbondedIn > 0 && uint64(amount) <= v.Unbonding {
			return failf(exitRefused, "nothing can be withdrawn yet: %s; every unstake starts the seven days again", unbonding(v))
		}
	}
	b, err := call(ctx, d.wallet.Stake, &api.StakeRequest{Verb: verb, Amount: uint64(amount), WaitMs: ms, Account: account})
	if err != nil {
		return short(err)
	}
	return a.printBalance(b)
}
