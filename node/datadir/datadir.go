//go:build !js

// Package datadir knows what lies in a node's data directory and who may use
// it: the daemon and a program that embeds a node keep the same files, and one
// process at a time holds the directory.
package datadir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/node/audit"
	"edgenet.dev/node/durable"
	"edgenet.dev/node/identity"
	"edgenet.dev/proto"
)

// Names of files and directories in a data directory. The identity's file is
// identity.File.
const (
	Genesis = "genesis.pb" // the network, whose id is the CID of these bytes
	Keys    = "keys"       // keys that sign for an account beside the identity
	Ledger  = "ledger"     // certified events and a witness' votes
	State   = "state"      // jobs, inputs, results, unpaid work
	lock    = "lock"       // held by the running process; has its id
)

// ErrNoNetwork: the directory belongs to no network yet.
var ErrNoNetwork = errors.New("the data directory belongs to no network")

// ErrVotesLost: a witness that has run before has lost its ledger, and with it
// the votes that it must never contradict.
var ErrVotesLost = errors.New("this witness has run before and its ledger is gone with its votes: it could vote twice")

// ErrRestoring: a restore of the ledger was interrupted and must end first.
var ErrRestoring = errors.New("a restore of the ledger was interrupted")

// ErrGenesis: the genesis file cannot be read as a network.
var ErrGenesis = errors.New("malformed genesis")

// errHeld is what lockFile answers when another process holds the lock.
var errHeld = errors.New("held")

// InUseError says that another process holds the directory.
type InUseError struct {
	Dir   string
	Owner string // process id, or "(unknown)"
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("%s is in use by process %s", e.Dir, e.Owner)
}

// Lock takes dir for this process until the result is closed or the process
// ends, however it ends. It leaves the process id for Owner. Another holder is
// an *InUseError.
func Lock(dir string) (io.Closer, error) {
	f, err := lockFile(filepath.Join(dir, lock))
	if errors.Is(err, errHeld) {
		return nil, &InUseError{Dir: dir, Owner: Owner(dir)}
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if err = f.Truncate(0); err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}

// Owner is the process id that the last holder of dir left, or "(unknown)".
func Owner(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, lock))
	if err != nil || len(b) == 0 {
		return "(unknown)"
	}
	return strings.TrimSpace(string(b))
}

// Network reads the network that dir belongs to: ErrNoNetwork when there is
// none, ErrGenesis when its file is damaged.
func Network(dir string) (*proto.Network, error) {
	f, err := os.Open(filepath.Join(dir, Genesis))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s has no %s", ErrNoNetwork, dir, Genesis)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, proto.MaxGenesis+1))
	if err != nil {
		return nil, err
	}
	n, err := proto.ParseGenesis(raw)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrGenesis, f.Name(), err)
	}
	return n, nil
}

// SigningKeys finds the keys of dir for node.Config.Keys.
func SigningKeys(dir string) func(peer.ID) (crypto.PrivKey, error) {
	return func(id peer.ID) (crypto.PrivKey, error) {
		key, err := identity.Load(filepath.Join(dir, Keys, id.String()))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return key, err
	}
}

// CheckLedger refuses to start on an empty ledger where there was one. Without
// its events an account is found again with the witnesses' help; a witness
// without its votes could vote twice. It returns ErrRestoring or ErrVotesLost.
func CheckLedger(dir string, network proto.NetworkID, witness bool) error {
	place := filepath.Join(dir, Ledger)
	switch {
	case exists(place):
		return nil
	case exists(place + ".old"):
		return ErrRestoring
	case !witness:
		return nil
	}
	entries, _, err := audit.Open(dir).Verify()
	if err != nil && !errors.Is(err, audit.ErrBroken) {
		return err
	}
	for _, e := range entries {
		// Starts of earlier versions do not say in which network.
		if of := e.Data["network"]; e.Act == audit.Start && (of == "" || of == network.String()) {
			return ErrVotesLost
		}
	}
	return nil
}

// WriteNetwork makes dir belong to n. It returns fs.ErrExist when dir belongs to
// a network already.
func WriteNetwork(dir string, n *proto.Network) error {
	return durable.WriteNew(filepath.Join(dir, Genesis), n.Raw, 0o644)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
