package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/pebble"
	"edgenet.dev/node"
	"edgenet.dev/node/audit"
	"edgenet.dev/node/datadir"
	"edgenet.dev/node/durable"
	"edgenet.dev/node/identity"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
)

// manifestName is written last: a directory without it is no backup.
const manifestName = "backup.json"

// manifest says what a backup holds, and so what a restore must find.
type manifest struct {
	Version   int       `json:"version"` // 1
	Network   string    `json:"network_id"`
	Account   string    `json:"account"`
	Events    int       `json:"events"`
	Seq       uint64    `json:"seq"` // events in the account's chain
	Epoch     uint64    `json:"epoch"`
	StateHash string    `json:"state_hash"`
	Time      time.Time `json:"time"`
}

func (a *app) backupCmd() *cobra.Command {
	return &cobra.Command{
		Use: "backup DIR", Short: "Copy the ledger into a new directory, also while the daemon runs", Args: takes(1, 1, "a new DIR"),
		Long: `Writes the ledger as of one moment into a new directory, opens the copy and
replays it to see that it is whole. The identity is not in it: 'key export' is.
Jobs are not in it either. A backup need not be secret; whoever alters it can
cause a failed restore, no loss.`,
		Example: "  edgenetd wallet backup /backup/edgenet-monday",
		RunE:    func(c *cobra.Command, args []string) error { return a.backup(c.Context(), args[0]) },
	}
}

func (a *app) backup(ctx context.Context, to string) (err error) {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	network, err := a.network(dir)
	if err != nil {
		return err
	}
	key, err := loadKey(dir)
	if err != nil {
		return err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return err
	}
	if to, err = filepath.Abs(to); err != nil {
		return err
	}
	if _, err := os.Lstat(to); err == nil {
		return failf(exitRefused, "%s exists already and was left alone; name a new directory", to)
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(to))
		}
	}()
	if err := a.copyLedger(ctx, dir, filepath.Join(to, ledgerName), network); err != nil {
		return err
	}
	var m manifest
	err = withLedger(filepath.Join(to, ledgerName), network, func(l *ledger.Ledger, _ *pebble.Store) error {
		m = manifestOf(l, id)
		return nil
	})
	if err != nil {
		return err
	}
	m.Time = time.Now().UTC().Truncate(time.Second)
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.WriteNew(filepath.Join(to, genesisName), network.Raw, 0o600); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := durable.WriteNew(filepath.Join(to, manifestName), append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := syncDir(to); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := audit.Open(dir).Add(time.Now(), audit.Backup, "to", to, "state", m.StateHash); err != nil {
		return err
	}
	return a.printManifest(m, "backup", to)
}

// copyLedger has the daemon copy its store, or copies that of a stopped one.
func (a *app) copyLedger(ctx context.Context, dir, to string, network *proto.Network) error {
	d, err := a.daemon(ctx)
	if err == nil {
		_, err = call(ctx, d.wallet.Backup, &api.BackupRequest{Dir: to})
		return err
	}
	lock, err := takeDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	return withLedger(filepath.Join(dir, ledgerName), network, func(_ *ledger.Ledger, s *pebble.Store) error {
		return s.Backup(to)
	})
}

func manifestOf(l *ledger.Ledger, account peer.ID) manifest {
	x := l.Account(account)
	m := manifest{
		Version: 1, Network: l.Network().ID.String(), Account: account.String(), Events: l.Len(),
		Epoch: l.Epoch(), StateHash: l.StateHash().String(),
	}
	if x.Head.Defined() {
		m.Seq = x.Seq + 1
	}
	return m
}

func (a *app) printManifest(m manifest, what, path string) error {
	return a.print(report{
		data: map[string]any{what: path, "manifest": m}, ids: []string{m.StateHash},
		table: func(w io.Writer) {
			row(w, what, path)
			row(w, "network", m.Network)
			row(w, "account", m.Account)
			row(w, "events", fmt.Sprintf("%d, %d of them the account's", m.Events, m.Seq))
			row(w, "state", m.StateHash)
			row(w, "time", m.Time.Local().Format(time.DateTime))
		},
	})
}

func (a *app) restoreCmd() *cobra.Command {
	var silent bool
	c := &cobra.Command{
		Use: "restore DIR", Short: "Put a backup's ledger into the data directory of a stopped daemon", Args: takes(1, 1, "the DIR of a backup"),
		Long: `Puts the ledger of a backup into the data directory. A ledger that is there is
replaced only if the backup has all of it. Before the restored node signs
anything it asks a quorum of witnesses where its account's chain ends, takes
what came after the backup from the network, and gives up one place in its
chain for whatever it may have signed and lost: it cannot sign two events for
one place.

A witness restored from a backup could vote twice, because it has lost votes.
So the ledger of a witness is restored with --stop-voting only, and then the
node never votes again: the network counts it among the witnesses that it can
do without. A network of one witness cannot.`,
		Example: "  edgenetd key import node.key.age\n  edgenetd wallet restore /backup/edgenet-monday\n  edgenetd run",
		RunE:    func(_ *cobra.Command, args []string) error { return a.restore(args[0], silent) },
	}
	c.Flags().BoolVar(&silent, "stop-voting", false, "restore a witness, which then never votes again")
	return c
}

func (a *app) restore(from string, silent bool) error {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	m, network, err := a.readBackup(from)
	if err != nil {
		return err
	}
	if own, err := a.network(dir); err == nil && own.ID != network.ID {
		return failf(exitRefused, "the backup is of network %s, %s belongs to %s; nothing was changed", network.ID, dir, own.ID)
	} else if err != nil && exitCode(err) != exitNotFound {
		return err
	}
	account, err := parseAccount(m.Account)
	if err != nil {
		return failf(exitRefused, "%s names no account (%v)", filepath.Join(from, manifestName), err)
	}
	switch key, err := identity.Load(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return failf(exitNotFound, "%s holds no identity; put the backup's account there with 'edgenetd key import' first", dir)
	case err != nil:
		return failf(exitRefused, "%w", err)
	default:
		if id, err := peer.IDFromPrivateKey(key); err != nil || id != account {
			return failf(exitRefused, "the backup is of account %s, %s holds the identity of another; nothing was changed", account, dir)
		}
	}
	if network.IsWitness(account) && !silent {
		return failf(exitRefused, "%s is a witness, and a witness that has lost votes could vote twice; restore it with --stop-voting, and it never votes again", account)
	}
	lock, err := takeDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := a.putLedger(dir, from, m, network, account); err != nil {
		return err
	}
	if err := audit.Open(dir).Add(time.Now(), audit.Restore, "from", from, "state", m.StateHash, "backup_time", m.Time.Format(time.RFC3339)); err != nil {
		return err
	}
	return a.printManifest(m, "restored", dir)
}

func (a *app) readBackup(from string) (m manifest, network *proto.Network, err error) {
	if _, err := os.Stat(from); err != nil {
		return m, nil, failf(exitNotFound, "backup %s does not exist; check the path", from)
	}
	raw, err := a.readFile(filepath.Join(from, manifestName), "backup manifest", 64<<10)
	if err != nil {
		return m, nil, failf(exitRefused, "%s is no whole backup (%v); use a directory that 'edgenetd wallet backup' wrote to its end", from, err)
	}
	if err := json.Unmarshal(raw, &m); err != nil || m.Version != 1 {
		return m, nil, failf(exitRefused, "%s is not of this version's form; use the program that wrote it", filepath.Join(from, manifestName))
	}
	if network, err = a.readGenesis(filepath.Join(from, genesisName)); err != nil {
		return m, nil, err
	}
	if network.ID.String() != m.Network {
		return m, nil, failf(exitRefused, "%s is damaged: its genesis is of another network than its manifest says", from)
	}
	return m, network, nil
}

// putLedger makes the new store beside the old one and changes them in one
// step each: at every moment there is a whole ledger, or none, which is a node
// that asks the witnesses for everything.
func (a *app) putLedger(dir, from string, m manifest, network *proto.Network, account peer.ID) (err error) {
	fresh, place, old := filepath.Join(dir, ledgerName+".new"), filepath.Join(dir, ledgerName), filepath.Join(dir, ledgerName+".old")
	for _, p := range []string{fresh, old} { // of a restore that a crash ended
		if err := os.RemoveAll(p); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
	}
	defer func() { err = errors.Join(err, os.RemoveAll(fresh)) }()
	var seqs map[peer.ID]uint64
	err = withLedger(filepath.Join(from, ledgerName), network, func(l *ledger.Ledger, s *pebble.Store) error {
		if got := manifestOf(l, account); got.StateHash != m.StateHash || got.Events != m.Events {
			return failf(exitRefused, "%s is damaged: its ledger has state %s and its manifest says %s; nothing was changed", from, got.StateHash, m.StateHash)
		}
		if b := node.BooksOf(l); !b.Conserved() {
			return failf(exitRefused, "%s does not conserve credits; nothing was changed", from)
		}
		seqs = seqsOf(l)
		to, err := pebble.Open(fresh)
		if err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		return errors.Join(node.RestoreStore(to, s, m.Time), to.Close())
	})
	if err != nil {
		return err
	}
	if _, err := os.Stat(place); err == nil {
		err := withLedger(place, network, func(l *ledger.Ledger, _ *pebble.Store) error {
			for id, n := range seqsOf(l) {
				if n > seqs[id] {
					return failf(exitRefused, "the ledger in %s has events that the backup lacks (%d of account %s, the backup %d), so restoring would lose them; it was left alone", dir, n, id, seqs[id])
				}
			}
			if _, ok := l.Intent(account); ok {
				return failf(exitRefused, "the ledger in %s has a signed event that is not final yet, so restoring would lose it; start the daemon and let it finish", dir)
			}
			return nil
		})
		switch {
		case err != nil && exitCode(err) == exitFailure: // it says nothing about what it has
			return fmt.Errorf("%w; to restore all the same move it away first", err)
		case err != nil:
			return err
		}
		if err := os.Rename(place, old); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
	}
	if err := os.Rename(fresh, place); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if path := filepath.Join(dir, genesisName); !exists(path) {
		if err := durable.WriteNew(path, network.Raw, 0o644); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
	}
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := os.RemoveAll(old); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

// seqsOf is the number of events in each chain, pruned ones included.
func seqsOf(l *ledger.Ledger) map[peer.ID]uint64 {
	out := map[peer.ID]uint64{}
	for _, id := range l.Accounts() {
		if x := l.Account(id); x.Head.Defined() {
			out[id] = x.Seq + 1
		}
	}
	return out
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// checkLedger is datadir.CheckLedger with what to do.
func checkLedger(dir string, network proto.NetworkID, witness bool) error {
	err := datadir.CheckLedger(dir, network, witness)
	switch {
	case errors.Is(err, datadir.ErrRestoring):
		return failf(exitRefused, "a restore of %s was interrupted; run 'edgenetd wallet restore' again before the daemon starts", dir)
	case errors.Is(err, datadir.ErrVotesLost):
		return failf(exitRefused, "this witness has run before and its ledger, %s, is gone with its votes: it could vote twice; restore a backup with 'edgenetd wallet restore --stop-voting'", filepath.Join(dir, ledgerName))
	}
	return err
}
