package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"edgenet.dev/node/audit"
	"edgenet.dev/node/datadir"
	"edgenet.dev/node/identity"
)

func (a *app) keyCmd() *cobra.Command {
	var out, passOut, passIn, which string
	export := &cobra.Command{
		Use: "export", Short: "Write this node's identity, encrypted with a passphrase", Args: takes(0, 0, ""),
		Example: "  edgenetd key export --out node.key.age\n  edgenetd key export --passphrase-file pass.txt > node.key.age",
		RunE:    func(*cobra.Command, []string) error { return a.keyExport(out, passOut, which) },
	}
	export.Flags().StringVar(&out, "out", "", "file to write (default standard output)")
	export.Flags().StringVar(&passOut, "passphrase-file", "", "file whose first line is the passphrase (default: $EDGENET_PASSPHRASE, else ask)")
	imp := &cobra.Command{
		Use: "import FILE", Short: "Store an exported identity in the data directory", Args: takes(1, 1, "an exported key FILE"),
		Example: "  edgenetd key import node.key.age --dir ~/.edgenet2",
	}
	imp.Flags().StringVar(&passIn, "passphrase-file", "", "file whose first line is the passphrase (default: $EDGENET_PASSPHRASE, else ask)")
	var signing bool
	export.Flags().StringVar(&which, "key", "", "peer id of a key that signs since 'key rotate', instead of the identity")
	imp.Flags().BoolVar(&signing, "signing", false, "store it beside the identity, as a key that signs for an account since 'key rotate'")
	imp.RunE = func(_ *cobra.Command, args []string) error { return a.keyImport(args[0], passIn, signing) }
	return family("key", "This node's identity, and the keys of its account", a.keyCreateCmd(), export, imp,
		a.keyShowCmd(), a.keyRecoveryCmd(), a.keyRotateCmd(), a.keyRecoverCmd())
}

func (a *app) keyExport(out, passFile, which string) error {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	key, err := loadKey(dir)
	if err == nil && which != "" {
		var id peer.ID
		if id, err = parseAccount(which); err != nil {
			return failf(exitUsage, "--key: %v", err)
		}
		if key, err = datadir.SigningKeys(dir)(id); err == nil && key == nil {
			return failf(exitNotFound, "%s holds no key %s; 'edgenetd key show' lists what signs", dir, id)
		}
	}
	if err != nil {
		return err
	}
	pass, err := a.passphrase(passFile, true)
	if err != nil {
		return err
	}
	armored, err := identity.Export(key, pass)
	if err != nil {
		return err
	}
	if err := logKey(dir, audit.KeyExport, key); err != nil {
		return err
	}
	if out == "" {
		_, err = a.out.Write(armored)
		return err
	}
	if err := saveNew(out, armored, 0o600); err != nil {
		return err
	}
	return a.printKey(key, "wrote "+out)
}

func (a *app) keyImport(path, passFile string, signing bool) error {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	armored, err := a.readFile(path, "exported key", identity.MaxExport)
	if err != nil {
		return err
	}
	pass, err := a.passphrase(passFile, false)
	if err != nil {
		return err
	}
	var key crypto.PrivKey
	if signing {
		key, err = newSigningKey(dir, func(at string) (crypto.PrivKey, error) { return identity.Import(at, armored, pass) })
	} else {
		key, err = identity.Import(dir, armored, pass)
	}
	switch {
	case errors.Is(err, identity.ErrPassphrase):
		return failf(exitPassphrase, "wrong passphrase for %s; nothing was changed, try again with the one it was exported with", path)
	case errors.Is(err, identity.ErrExists):
		return failf(exitRefused, "%s holds another identity, which was left alone; import into a fresh --dir", dir)
	case errors.Is(err, identity.ErrOpenDir):
		return err
	case err != nil && !isDiskError(err):
		return failf(exitRefused, "%s was not imported (%w); check that it is the file 'edgenetd key export' wrote", path, err)
	case err != nil:
		return err
	}
	if err := logKey(dir, audit.KeyImport, key); err != nil {
		return err
	}
	return a.printKey(key, "imported into "+dir)
}

// logKey notes in dir's audit log what was done with a key.
func logKey(dir, act string, key crypto.PrivKey) error {
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return err
	}
	return audit.Open(dir).Add(time.Now(), act, "key", id.String())
}

func (a *app) printKey(key crypto.PrivKey, what string) error {
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return err
	}
	return a.print(report{
		data: map[string]any{"peer_id": id.String()}, ids: []string{id.String()},
		table: func(w io.Writer) { row(w, "peer id", id); row(w, "done", what) },
	})
}

// passphrase comes from a file, the environment, or the terminal, where a new
// one is asked for twice.
func (a *app) passphrase(file string, fresh bool) (string, error) {
	if file != "" {
		b, err := a.readFile(file, "passphrase file", 64<<10)
		if err != nil {
			return "", err
		}
		line, _, _ := bytes.Cut(b, []byte("\n"))
		pass := strings.TrimSuffix(string(line), "\r")
		if pass == "" {
			return "", failf(exitUsage, "the first line of %s is empty; write the passphrase there", file)
		}
		return pass, nil
	}
	if pass := os.Getenv("EDGENET_PASSPHRASE"); pass != "" {
		return pass, nil
	}
	in, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return "", failf(exitUsage, "a passphrase is needed and there is no terminal to ask on; use --passphrase-file or $EDGENET_PASSPHRASE")
	}
	pass, err := a.ask(in, "Passphrase: ")
	if err != nil {
		return "", err
	}
	if fresh {
		again, err := a.ask(in, "The same again: ")
		if err != nil {
			return "", err
		}
		if again != pass {
			return "", failf(exitUsage, "the two passphrases differ; nothing was exported, try again")
		}
	}
	if pass == "" {
		return "", failf(exitUsage, "the passphrase is empty; nothing was done, try again")
	}
	return pass, nil
}

func (a *app) ask(in *os.File, prompt string) (string, error) {
	before, err := term.GetState(int(in.Fd()))
	if err != nil {
		return "", failf(exitFailure, "the passphrase could not be read: %v", err)
	}
	fmt.Fprint(a.err, prompt)
	b, err := orSignal(a, func() ([]byte, error) { return term.ReadPassword(int(in.Fd())) })
	fmt.Fprintln(a.err)
	if errors.Is(err, errInterrupted) { // the read that is left behind does not show again what is typed
		return "", errors.Join(err, term.Restore(int(in.Fd()), before))
	}
	if err != nil {
		return "", failf(exitFailure, "the passphrase could not be read: %v", err)
	}
	return string(b), nil
}
