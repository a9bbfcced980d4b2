package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/pebble"
	"edgenet.dev/node"
	nodeapi "edgenet.dev/node/api"
	"edgenet.dev/node/audit"
	"edgenet.dev/node/datadir"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
)

// ledgerName is the ledger's store in the data directory.
const ledgerName = datadir.Ledger

func (a *app) auditCmd() *cobra.Command {
	var offline, log bool
	var expect string
	c := &cobra.Command{
		Use: "audit", Short: "Sum every term of the ledger and check that credits are conserved", Args: takes(0, 0, ""),
		Long: `Sums every term of the supply equation on its own:
available + held + staked + unbonding + receivable + burned = genesis + minted,
and what accounts say is held against what open holds hold. Ends with code 1
when they differ. Nodes whose ledgers hold the same events print the same
state; --expect compares it.

With --offline the store of a stopped daemon is read and replayed instead. With
--log the audit log of the data directory is checked: each line holds the hash
of the line before.`,
		Example: "  edgenetd wallet audit\n  edgenetd wallet audit --offline --expect $(ssh other edgenetd wallet audit -q)\n  edgenetd wallet audit --log",
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case log && offline:
				return failf(exitUsage, "--log and --offline are two audits; choose one")
			case log:
				return a.auditLog(expect)
			case offline:
				return a.auditOffline(expect)
			}
			d, err := a.daemon(c.Context())
			if err != nil {
				return err
			}
			reply, err := call(c.Context(), d.wallet.Audit, &api.AuditRequest{})
			if err != nil {
				return err
			}
			return a.printAudit(d.dir, reply, expect)
		},
	}
	f := c.Flags()
	f.BoolVar(&offline, "offline", false, "read the store of a stopped daemon")
	f.BoolVar(&log, "log", false, "check the audit log instead of the ledger")
	f.StringVar(&expect, "expect", "", "fail unless the state, or with --log the last line's hash, is this one")
	return c
}

// auditView is the supply equation with its terms as they were summed.
type auditView struct {
	Available   uint64            `json:"available"`
	Held        uint64            `json:"held"`
	HeldByHolds uint64            `json:"held_by_holds"`
	Staked      uint64            `json:"staked"`
	Unbonding   uint64            `json:"unbonding"`
	Receivable  uint64            `json:"receivable"`
	Burned      uint64            `json:"burned"`
	Sum         uint64            `json:"sum"`
	Genesis     uint64            `json:"genesis"`
	Minted      uint64            `json:"minted"`
	Conserved   bool              `json:"conserved"`
	StateHash   string            `json:"state_hash"`
	Events      uint64            `json:"events"`
	Accounts    uint64            `json:"accounts"`
	Kinds       map[string]uint64 `json:"kinds"`
	Pending     uint64            `json:"pending"`
	Epoch       uint64            `json:"epoch"`
	BaseEpoch   uint64            `json:"base_epoch"`
}

func auditOf(r *api.AuditReply) auditView {
	v := auditView{
		Available: r.Available, Held: r.Held, HeldByHolds: r.HeldByHolds, Staked: r.Staked, Unbonding: r.Unbonding, Receivable: r.Receivable,
		Burned: r.Burned, Genesis: r.Genesis, Minted: r.Minted, StateHash: r.StateHash, Events: r.Events, Accounts: r.Accounts,
		Kinds: r.Kinds, Pending: r.Pending, Epoch: r.Epoch, BaseEpoch: r.BaseEpoch,
	}
	if v.Kinds == nil {
		v.Kinds = map[string]uint64{}
	}
	v.Sum = r.Available + r.Held + r.Staked + r.Unbonding + r.Receivable + r.Burned
	v.Conserved = r.Conserved && v.Sum == r.Genesis+r.Minted && r.Held == r.HeldByHolds
	return v
}

func (a *app) printAudit(dir string, reply *api.AuditReply, expect string) error {
	v := auditOf(reply)
	err := a.print(report{data: v, ids: []string{v.StateHash}, table: func(w io.Writer) {
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
			{"held by open holds", v.HeldByHolds},
		} {
			row(w, t.name, credits(t.value))
		}
		row(w, "conserved", yesNo(v.Conserved))
		row(w, "accounts", v.Accounts)
		row(w, "events", v.Events)
		var kinds []string
		for _, k := range slices.Sorted(maps.Keys(v.Kinds)) {
			kinds = append(kinds, fmt.Sprintf("%s %d", k, v.Kinds[k]))
		}
		row(w, "by kind", dash(strings.Join(kinds, ", ")))
		if v.Pending > 0 {
			row(w, "waiting", fmt.Sprintf("%d events for others that they follow from", v.Pending))
		}
		row(w, "checkpoint", fmt.Sprintf("epoch %d; events are pruned up to %d", v.Epoch, v.BaseEpoch))
		row(w, "state", v.StateHash)
	}})
	switch {
	case err != nil:
		return err
	case !v.Conserved:
		return failf(exitFailure, "credits are not conserved on this node; stop it, keep its directory %s and report the fault", dir)
	case expect != "" && expect != v.StateHash:
		return failf(exitFailure, "the state is %s, not %s: the two ledgers hold different events; wait until both have reconciled and compare again", v.StateHash, expect)
	}
	return nil
}

func (a *app) auditOffline(expect string) error {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	network, err := a.network(dir)
	if err != nil {
		return err
	}
	lock, err := takeDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	var books node.Books
	err = withLedger(filepath.Join(dir, ledgerName), network, func(l *ledger.Ledger, _ *pebble.Store) error {
		books = node.BooksOf(l)
		return nil
	})
	if err != nil {
		return err
	}
	return a.printAudit(dir, nodeapi.AuditOf(books), expect)
}

// withLedger opens a ledger's store that exists, replays it and closes it.
func withLedger(path string, network *proto.Network, use func(*ledger.Ledger, *pebble.Store) error) (err error) {
	if _, err := os.Stat(path); err != nil {
		return failf(exitNotFound, "there is no ledger at %s; a daemon makes it at its first start", path)
	}
	s, err := pebble.Open(path)
	if err != nil {
		return fmt.Errorf("open the ledger: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	// Opening it as a whole ledger would empty it.
	if light, err := ledger.StoreLight(s); err != nil {
		return fmt.Errorf("open the ledger: %w", err)
	} else if light {
		return failf(exitRefused, "%s holds this node's own account only (ledger.mode was own), so there is nothing to audit, back up or restore; the witnesses have the account's events, 'edgenetd key export' backs up its identity", path)
	}
	l, err := ledger.Open(network, s)
	if err != nil {
		return failf(exitFailure, "%s cannot be replayed (%v); keep it, move it away, and restore a backup: what is missing comes from the network", path, err)
	}
	return use(l, s)
}

func (a *app) auditLog(expect string) error {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	entries, last, broken := audit.Open(dir).Verify()
	if broken != nil && !errors.Is(broken, audit.ErrBroken) {
		return broken
	}
	if entries == nil {
		entries = []audit.Entry{}
	}
	err = a.print(report{
		data: map[string]any{"entries": entries, "last": last, "intact": broken == nil},
		ids:  []string{last},
		table: func(w io.Writer) {
			row(w, "TIME", "ACT", "DATA")
			for _, e := range entries {
				var data []string
				for _, k := range slices.Sorted(maps.Keys(e.Data)) {
					data = append(data, k+"="+e.Data[k])
				}
				row(w, e.Time.Local().Format(time.DateTime), e.Act, dash(strings.Join(data, " ")))
			}
			row(w, "last", dash(last))
		},
	})
	switch {
	case err != nil:
		return err
	case broken != nil:
		return failf(exitFailure, "%v; whoever could write in %s may have hidden something", broken, dir)
	case expect != "" && expect != last:
		return failf(exitFailure, "the last line's hash is %s, not %s: lines were added since, or the end was cut off", dash(last), expect)
	}
	return nil
}
