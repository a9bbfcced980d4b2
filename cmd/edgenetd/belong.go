package main

import (
	"errors"
	"path/filepath"

	"github.com/ipfs/go-cid"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/pebble"
	"edgenet.dev/node"
	"edgenet.dev/proto"
)

const stateName = "state"

// otherNetwork gives the error of a store of another network its sentence.
func otherNetwork(dir string, err error) error {
	var other *node.OtherNetworkError
	if !errors.As(err, &other) {
		return err
	}
	store := filepath.Join(dir, other.Store)
	of := "network " + other.Of.String()
	if !other.Of.Defined() {
		of = "an unknown network (no ledger beside it says which)"
	}
	return failf(exitRefused, "%s belongs to %s, not to %s: put that network's %s (and %s/) back, or join this one in a directory of its own with "+
		"'edgenetd init --dir OTHER --genesis FILE'; to give up what is held and owed there, move %s away, which loses it",
		store, of, other.Want, genesisName, ledgerName, store)
}

// checkStores refuses a directory whose stores, left by an earlier network,
// belong to another one than id.
func checkStores(dir string, id proto.NetworkID) error {
	for name, network := range map[string]func(ledger.Store) (cid.Cid, error){ledgerName: ledger.StoreNetwork, stateName: node.StateNetwork} {
		if !exists(filepath.Join(dir, name)) {
			continue
		}
		s, err := pebble.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		of, err := network(s)
		if err := errors.Join(err, s.Close()); err != nil {
			return err
		}
		if of.Defined() && !of.Equals(id.CID()) {
			return otherNetwork(dir, &node.OtherNetworkError{Store: name, Of: of, Want: id})
		}
	}
	return nil
}
