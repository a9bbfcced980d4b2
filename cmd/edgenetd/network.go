package main

import (
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"

	"edgenet.dev/proto"
)

func (a *app) networkCmd() *cobra.Command {
	var out, name string
	var witnesses, grants []string
	g := new(proto.Genesis)
	create := &cobra.Command{
		Use: "create", Short: "Write the genesis of a new network", Args: takes(0, 0, ""),
		Long: `Writes the genesis of a new network. Its bytes are the network: give the same
file to everybody. It cannot be changed afterwards.

The witnesses make events final. With one, that daemon is a trusted server.
With 4, 7, 10, … (3f+1) of them, f may be away or bad, and 2f+1 must answer.
Every witness is an ordinary daemon: 'edgenetd key create' makes its identity and
prints the peer id to name here; then 'edgenetd init --genesis' joins it.`,
		Example: "  edgenetd network create --name office --witness 12D3KooW… --grant 12D3KooW…=1000 --out genesis.pb\n" +
			"  edgenetd network create --name town --witness ID1,ID2,ID3,ID4 --kappa-ppm 10000 --out genesis.pb",
		RunE: func(*cobra.Command, []string) error {
			g.Name = name
			return a.networkCreate(g, out, witnesses, grants)
		},
	}
	f := create.Flags()
	f.StringVar(&out, "out", genesisName, "file to write")
	f.StringVar(&name, "name", "private", "name of the network")
	f.StringSliceVar(&witnesses, "witness", nil, "peer id of a witness; 1, 4, 7, … of them (default this node)")
	f.StringSliceVar(&grants, "grant", nil, "PEER=CREDITS to grant from the start")
	f.Uint64Var(&g.FeePpm, "fee-ppm", 0, "fee on settled amounts in parts per million (default 10000)")
	f.Uint64Var(&g.LowPercent, "low-percent", 0, "of the price that work of low priority pays (default 50)")
	f.Uint64Var(&g.HighPercent, "high-percent", 0, "of the price that work of high priority pays (default 200)")
	f.Uint64Var(&g.GraceSeconds, "grace", 0, "seconds after a hold's deadline (default 900)")
	f.Uint64Var(&g.MaxHoldSeconds, "max-hold", 0, "seconds that a hold's deadline may lie ahead, at most (default 604800: a week)")
	f.Uint64Var(&g.MaxRunSeconds, "max-run", 0, "seconds that a submitter may let one try of a task run, at most (default 3600)")
	f.Uint64Var(&g.EpochSeconds, "epoch", 0, "seconds per epoch, after which the witnesses certify a checkpoint (default 3600)")
	f.Uint64Var(&g.CurveM, "curve-m", 0, "most a new network pays for work, as a multiple (default 10)")
	f.Uint64Var(&g.CurveDCpuHours, "curve-d", 0, "CPU hours over which the multiple falls (default 1000000)")
	f.Uint64Var(&g.KappaPpm, "kappa-ppm", 0, "bonus per epoch at most, in parts per million of a worker's stake (default 0: no bonus)")
	f.Uint64Var(&g.MinTransfer, "min-transfer", 0, "microcredits that a transfer moves at least (default 1; an open network wants more, see docs/ledger.md)")
	f.Uint64Var(&g.EventCost, "event-cost", 0, "microcredits that every event burns (default 0; an open network wants more)")
	f.Uint64Var(&g.OpeningCost, "opening-cost", 0, "microcredits that opening an account burns (default 0; an open network wants more)")
	f.Uint32Var(&g.Shards, "shards", 0, "offer and claim topics (default 1)")
	f.BoolVar(&g.Diversity, "diversity", false, "never two replicas with workers of one operator or one site")
	return family("network", "Create and show networks",
		create,
		&cobra.Command{
			Use: "show [GENESIS]", Short: "Show a genesis file, by default this node's", Args: takes(0, 1, "at most one GENESIS file"),
			RunE: func(_ *cobra.Command, args []string) error { return a.networkShow(args) },
		})
}

func (a *app) networkCreate(g *proto.Genesis, out string, witnesses, grants []string) error {
	if len(witnesses) == 0 {
		dir, err := a.dir()
		if err != nil {
			return err
		}
		key, err := loadKey(dir)
		if err != nil {
			return failf(exitUsage, "a network needs a witness: name one with --witness, or create this node's identity with 'edgenetd init'")
		}
		id, err := peer.IDFromPrivateKey(key)
		if err != nil {
			return err
		}
		witnesses = []string{id.String()}
	}
	for _, w := range witnesses {
		id, err := parseAccount(w)
		if err != nil {
			return failf(exitUsage, "--witness: %v", err)
		}
		g.Witnesses = append(g.Witnesses, []byte(id))
	}
	for _, text := range grants {
		who, amount, ok := strings.Cut(text, "=")
		if !ok {
			return failf(exitUsage, "--grant %q: want PEER=CREDITS", text)
		}
		id, err := parseAccount(who)
		if err != nil {
			return failf(exitUsage, "--grant: %v", err)
		}
		c, err := proto.ParseCredit(amount)
		if err != nil {
			return failf(exitUsage, "--grant: %v", err)
		}
		g.Grants = append(g.Grants, &proto.Grant{Account: []byte(id), Amount: uint64(c)})
	}
	if n := len(g.Witnesses); n%3 != 1 {
		return failf(exitUsage, "%d witnesses cannot decide: want 3f+1, that is %d or %d, of which f may be bad; correct the --witness flags", n, (n-1)/3*3+1, (n-1)/3*3+4)
	}
	n, err := newGenesis(g)
	if err != nil {
		return failf(exitUsage, "%v; correct the flags of 'edgenetd network create'", err)
	}
	if err := saveNew(out, n.Raw, 0o644); err != nil {
		return err
	}
	return a.printNetwork(n, out)
}

func (a *app) networkShow(args []string) error {
	var n *proto.Network
	var err error
	if len(args) == 1 {
		n, err = a.readGenesis(args[0])
	} else {
		var dir string
		if dir, err = a.dir(); err == nil {
			n, err = a.network(dir)
		}
	}
	if err != nil {
		return err
	}
	return a.printNetwork(n, "")
}

// networkView is the readable form of a genesis; genesis.pb stays the
// authority.
type networkView struct {
	ID           string            `json:"id"`
	Short        string            `json:"id8"`
	Name         string            `json:"name"`
	File         string            `json:"file,omitempty"`
	Witnesses    []string          `json:"witnesses"`
	Quorum       int               `json:"quorum"` // witnesses that must answer
	Faulty       int               `json:"faulty"` // that may be away or bad
	Grants       map[string]uint64 `json:"grants"` // microcredits
	BasePrice    uint64            `json:"base_price"`
	LowPercent   uint64            `json:"low_percent"` // of the base price, for low priority
	HighPercent  uint64            `json:"high_percent"`
	FeePpm       uint64            `json:"fee_ppm"`
	EpochSeconds uint64            `json:"epoch_seconds"`
	GraceSeconds uint64            `json:"grace_seconds"`
	MaxRun       uint64            `json:"max_run_seconds"`
	MaxHold      uint64            `json:"max_hold_seconds"`
	KappaPpm     uint64            `json:"kappa_ppm"`
	EventCost    uint64            `json:"event_cost"`
	OpeningCost  uint64            `json:"opening_cost"`
	MinTransfer  uint64            `json:"min_transfer"`
	Shards       uint32            `json:"shards"`
	Diversity    bool              `json:"diversity"`
	CurveM       uint64            `json:"curve_m"`
	CurveD       uint64            `json:"curve_d_cpu_hours"`
	RelayBytes   uint64            `json:"relay_bytes"`
	RelaySeconds uint64            `json:"relay_seconds"`
}

func (a *app) printNetwork(n *proto.Network, file string) error {
	g := n.Genesis
	v := networkView{
		ID: n.ID.String(), Short: n.ID.Short(), Name: g.Name, File: file, Quorum: n.Quorum(), Faulty: n.F(), Grants: map[string]uint64{},
		BasePrice: g.BasePrice, LowPercent: g.LowPercent, HighPercent: g.HighPercent, FeePpm: g.FeePpm,
		EpochSeconds: g.EpochSeconds, GraceSeconds: g.GraceSeconds, MaxRun: g.MaxRunSeconds, MaxHold: g.MaxHoldSeconds,
		KappaPpm: g.KappaPpm, EventCost: g.EventCost, OpeningCost: g.OpeningCost, MinTransfer: g.MinTransfer,
		Shards: g.Shards, Diversity: g.Diversity, CurveM: g.CurveM, CurveD: g.CurveDCpuHours,
		RelayBytes: g.Relay.Bytes, RelaySeconds: g.Relay.Seconds,
	}
	for _, w := range n.Witnesses {
		v.Witnesses = append(v.Witnesses, w.String())
	}
	var accounts []string
	for id, amount := range n.Grants {
		v.Grants[id.String()] = uint64(amount)
		accounts = append(accounts, id.String())
	}
	sort.Strings(accounts)
	return a.print(report{data: v, ids: []string{v.ID}, table: func(w io.Writer) {
		row(w, "network", v.ID)
		row(w, "name", v.Name)
		if file != "" {
			row(w, "file", file)
		}
		for _, id := range v.Witnesses {
			row(w, "witness", id)
		}
		row(w, "quorum", fmt.Sprintf("%d of %d; %d may be away or bad", v.Quorum, len(v.Witnesses), v.Faulty))
		for _, id := range accounts {
			row(w, "grant", fmt.Sprintf("%s %s credits", id, credits(v.Grants[id])))
		}
		row(w, "base price", credits(v.BasePrice)+" credits per 60 Gfuel")
		row(w, "priority", fmt.Sprintf("low pays %d %% of that, high %d %%", v.LowPercent, v.HighPercent))
		row(w, "fee", fmt.Sprintf("%g %%", float64(v.FeePpm)/10_000))
		row(w, "costs", fmt.Sprintf("%s per event, %s to open an account; transfers of %s at least", credits(v.EventCost), credits(v.OpeningCost), credits(v.MinTransfer)))
		row(w, "epoch", fmt.Sprintf("%d s", v.EpochSeconds))
		row(w, "grace", fmt.Sprintf("%d s", v.GraceSeconds))
		row(w, "longest try", fmt.Sprintf("%d s", v.MaxRun))
		row(w, "longest hold", fmt.Sprintf("%d s", v.MaxHold))
		row(w, "shards", v.Shards)
		row(w, "diversity", yesNo(v.Diversity))
		row(w, "curve", fmt.Sprintf("M %d, D %d CPU hours", v.CurveM, v.CurveD))
		row(w, "bonus", bonusText(v.KappaPpm))
		row(w, "relay limits", fmt.Sprintf("%s and %d s per connection", bytesText(v.RelayBytes), v.RelaySeconds))
	}})
}

func bonusText(kappaPpm uint64) string {
	if kappaPpm == 0 {
		return "none"
	}
	return fmt.Sprintf("per epoch on work worth at most %g %% of a worker's stake", float64(kappaPpm)/10_000)
}
