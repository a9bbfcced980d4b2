package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"

	"edgenet.dev/node/audit"
	"edgenet.dev/node/datadir"
	"edgenet.dev/node/identity"
	"edgenet.dev/proto/api"
)

// keysName is the directory of the keys that sign for an account beside the
// identity: each in a directory of its peer id, as the identity is kept.
const keysName = datadir.Keys

// newSigningKey has a key made in a new directory, which then gets the key's
// name: it is on disk before any event names it.
func newSigningKey(dir string, fill func(at string) (crypto.PrivKey, error)) (crypto.PrivKey, error) {
	parent := filepath.Join(dir, keysName)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, err
	}
	at, err := os.MkdirTemp(parent, ".new-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(at)
	key, err := fill(at)
	if err != nil {
		return nil, err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, err
	}
	if have, err := datadir.SigningKeys(dir)(id); err != nil || have != nil {
		return have, err
	}
	if err := os.Rename(at, filepath.Join(parent, id.String())); err != nil {
		return nil, err
	}
	return key, syncDir(parent)
}

func (a *app) keyCreateCmd() *cobra.Command {
	return &cobra.Command{
		Use: "create", Short: "Make an identity only, for a network that does not exist yet", Args: takes(0, 0, ""),
		Long: `Makes the identity of a node that is to be named in a genesis, as a witness or
with a grant. 'edgenetd init --genesis' joins the network then.`,
		Example: "  edgenetd key create\n  edgenetd network create --witness $(edgenetd id -q),…\n  edgenetd init --genesis genesis.pb",
		RunE: func(*cobra.Command, []string) error {
			dir, err := a.dir()
			if err != nil {
				return err
			}
			key, err := identity.Create(dir)
			if errors.Is(err, identity.ErrExists) {
				return failf(exitRefused, "%s holds an identity already, which was left alone; choose another --dir", dir)
			}
			if err != nil {
				return err
			}
			if err := logKey(dir, audit.KeyCreate, key); err != nil {
				return err
			}
			return a.printKey(key, "made in "+dir)
		},
	}
}

func (a *app) keyShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show [ACCOUNT]", Short: "Show which keys sign for an account, by default this node's", Args: takes(0, 1, "at most one ACCOUNT"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkAccount(one(args)); err != nil {
				return err
			}
			d, err := a.daemon(c.Context())
			if err != nil {
				return err
			}
			r, err := call(c.Context(), d.wallet.Keys, &api.KeysRequest{Account: one(args)})
			if err != nil {
				return err
			}
			return a.printKeys(r)
		},
	}
}

type keysView struct {
	Account        string `json:"account"`
	Key            string `json:"key"`
	CanSign        bool   `json:"can_sign"` // this node has it
	PendingKey     string `json:"pending_key,omitempty"`
	PendingEpoch   uint64 `json:"pending_epoch,omitempty"`
	PendingSeconds uint64 `json:"pending_seconds,omitempty"`
	CanSignPending bool   `json:"can_sign_pending,omitempty"`
	RecoveryKey    string `json:"recovery_key,omitempty"`
	Frozen         bool   `json:"frozen"`
	Epoch          uint64 `json:"epoch"`
}

func (a *app) printKeys(r *api.KeysReply) error {
	v := keysView{
		Account: r.Account, Key: r.Key, CanSign: r.CanSign, PendingKey: r.PendingKey, PendingEpoch: r.PendingEpoch,
		CanSignPending: r.CanSignPending, RecoveryKey: r.RecoveryKey, Frozen: r.Frozen, Epoch: r.Epoch,
	}
	if r.PendingEpoch > r.Epoch {
		v.PendingSeconds = (r.PendingEpoch - r.Epoch) * r.EpochSeconds
	}
	here := func(yes bool) string {
		if yes {
			return ", which this node has"
		}
		return ", which this node does not have"
	}
	return a.print(report{data: v, ids: []string{v.Key}, table: func(w io.Writer) {
		row(w, "account", v.Account)
		row(w, "key", v.Key+here(v.CanSign))
		if v.PendingKey != "" {
			row(w, "next key", fmt.Sprintf("%s%s, from epoch %d, in about %s; now %d", v.PendingKey, here(v.CanSignPending), v.PendingEpoch, long(v.PendingSeconds), v.Epoch))
		}
		row(w, "recovery key", dash(v.RecoveryKey))
		row(w, "frozen", yesNo(v.Frozen))
	}})
}

func (a *app) keyRecoveryCmd() *cobra.Command {
	var out, pass string
	var wait time.Duration
	c := &cobra.Command{
		Use: "recovery", Short: "Make a recovery key, and name it in this node's account", Args: takes(0, 0, ""),
		Long: `Writes a new key, encrypted with a passphrase, and has the ledger name it as the
account's recovery key. It signs nothing but 'key recover', which ends what a
thief of the account's key, or a mistake of its owner, has begun. Keep the
file and its passphrase away from this machine. Whoever has both has the
account, and only the recovery key itself can be used to replace it.`,
		Example: "  edgenetd key recovery --out recovery.age",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.keyRecovery(c.Context(), out, pass, wait)
		},
	}
	c.Flags().StringVar(&out, "out", "", "new file for the recovery key")
	c.Flags().StringVar(&pass, "passphrase-file", "", "file whose first line is the passphrase (default: $EDGENET_PASSPHRASE, else ask)")
	waitFlag(c, &wait)
	return c
}

func (a *app) keyRecovery(ctx context.Context, out, passFile string, wait time.Duration) error {
	if out == "" {
		return failf(exitUsage, "name the new file for the recovery key with --out")
	}
	ms, err := patienceMs(wait)
	if err != nil {
		return err
	}
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	keys, err := call(ctx, d.wallet.Keys, new(api.KeysRequest))
	if err != nil {
		return err
	}
	if keys.RecoveryKey != "" {
		return failf(exitRefused, "the account has the recovery key %s already, and only that key replaces it: 'edgenetd key recover FILE --new-recovery %s'", keys.RecoveryKey, out)
	}
	id, err := a.makeRecovery(d.dir, out, passFile)
	if err != nil {
		return err
	}
	r, err := call(ctx, d.wallet.Rotate, &api.RotateRequest{RecoveryKey: id.String(), WaitMs: ms})
	if err != nil {
		return fmt.Errorf("%s is written, but not final as the account's recovery key: %w", out, err)
	}
	return a.printKeys(r)
}

// makeRecovery writes a new key, encrypted, into the new file out. It is on
// disk before any event names it.
func (a *app) makeRecovery(dir, out, passFile string) (peer.ID, error) {
	if exists(out) {
		return "", failf(exitRefused, "%s exists already and was left alone; choose another name or move it away first", out)
	}
	pass, err := a.passphrase(passFile, true)
	if err != nil {
		return "", err
	}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return "", err
	}
	armored, err := identity.Export(key, pass)
	if err != nil {
		return "", err
	}
	if err := saveNew(out, armored, 0o600); err != nil {
		return "", err
	}
	if err := logKey(dir, audit.Recovery, key); err != nil {
		return "", err
	}
	return peer.IDFromPrivateKey(key)
}

func (a *app) keyRotateCmd() *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use: "rotate", Short: "Give this node's account a new key, seven days from now", Args: takes(0, 0, ""),
		Long: `Makes a new key in the data directory and has the ledger name it: seven days
later it signs for the account instead of the present one. Until then the
recovery key can end it. The peer id, and so the account, stays. Back the new
key up with 'key export --key'.`,
		Example: "  edgenetd key rotate",
		RunE:    func(c *cobra.Command, _ []string) error { return a.keyRotate(c.Context(), wait) },
	}
	waitFlag(c, &wait)
	return c
}

func (a *app) keyRotate(ctx context.Context, wait time.Duration) error {
	ms, err := patienceMs(wait)
	if err != nil {
		return err
	}
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	id, err := makeSigning(d.dir)
	if err != nil {
		return err
	}
	r, err := call(ctx, d.wallet.Rotate, &api.RotateRequest{Key: id.String(), WaitMs: ms})
	if err != nil {
		return err
	}
	return a.printKeys(r)
}

func makeSigning(dir string) (peer.ID, error) {
	key, err := newSigningKey(dir, identity.Create)
	if err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	if err := logKey(dir, audit.KeyCreate, key); err != nil {
		return "", err
	}
	return peer.IDFromPrivateKey(key)
}

func (a *app) keyRecoverCmd() *cobra.Command {
	var account, pass, fresh string
	var wait time.Duration
	c := &cobra.Command{
		Use: "recover FILE", Short: "Take an account back with its recovery key", Args: takes(1, 1, "the FILE of a recovery key"),
		Long: `Signs with the recovery key: the account gets a new key at once, a rotation that
waits is over, and a freeze ends. Without --account this node's account gets a
new key in the data directory, and the identity's key signs for it no more.

With --account another account, whose key is lost, comes under this node's
identity: 'wallet transfer', 'unstake' and 'withdraw' with --account then move
its credits.`,
		Example: "  edgenetd key recover recovery.age\n  edgenetd key recover recovery.age --account 12D3KooW… && edgenetd wallet transfer --account 12D3KooW… MYACCOUNT 12.5",
		RunE: func(c *cobra.Command, args []string) error {
			return a.keyRecover(c.Context(), args[0], account, pass, fresh, wait)
		},
	}
	f := c.Flags()
	f.StringVar(&account, "account", "", "another account than this node's")
	f.StringVar(&pass, "passphrase-file", "", "file whose first line is the passphrase of FILE (default: $EDGENET_PASSPHRASE, else ask)")
	f.StringVar(&fresh, "new-recovery", "", "new file for a new recovery key under the same passphrase, which replaces this one")
	waitFlag(c, &wait)
	return c
}

func (a *app) keyRecover(ctx context.Context, path, account, passFile, fresh string, wait time.Duration) error {
	ms, err := patienceMs(wait)
	if err != nil {
		return err
	}
	if err := checkAccount(account); err != nil {
		return err
	}
	d, err := a.daemon(ctx)
	if err != nil {
		return err
	}
	armored, err := a.readFile(path, "recovery key", identity.MaxExport)
	if err != nil {
		return err
	}
	pass, err := a.passphrase(passFile, false)
	if err != nil {
		return err
	}
	key, err := identity.Decrypt(armored, pass)
	switch {
	case errors.Is(err, identity.ErrPassphrase):
		return failf(exitPassphrase, "wrong passphrase for %s; nothing was changed, try again with the one it was made with", path)
	case err != nil:
		return failf(exitRefused, "%s is no recovery key (%v); use the file that 'edgenetd key recovery' wrote", path, err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return err
	}
	keys, err := call(ctx, d.wallet.Keys, &api.KeysRequest{Account: account})
	if err != nil {
		return err
	}
	if keys.RecoveryKey != id.String() {
		return failf(exitRefused, "%s is the key %s; the recovery key of account %s is %s", path, id, keys.Account, dash(keys.RecoveryKey))
	}
	raw, err := key.Raw()
	if err != nil {
		return err
	}
	req := &api.RotateRequest{Account: account, RecoverySeed: raw[:ed25519.SeedSize], WaitMs: ms}
	own, err := loadKey(d.dir)
	if err != nil {
		return err
	}
	self, err := peer.IDFromPrivateKey(own)
	if err != nil {
		return err
	}
	newKey := self
	if keys.Account == self.String() {
		if newKey, err = makeSigning(d.dir); err != nil {
			return err
		}
	}
	req.Key = newKey.String()
	if fresh != "" {
		next, err := a.makeRecovery(d.dir, fresh, passFile)
		if err != nil {
			return err
		}
		req.RecoveryKey = next.String()
	}
	r, err := call(ctx, d.wallet.Rotate, req)
	if err != nil {
		return err
	}
	return a.printKeys(r)
}
