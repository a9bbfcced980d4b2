package node

import (
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// networkKey marks a state store as one network's. Jobs, holds and claims mean
// something there only: run in another network they would cost or earn credits
// that are not theirs.
const networkKey = "network"

// OtherNetworkError is what New fails with when a store of Config belongs to
// another network than Config.Network. Nothing in the store was changed.
type OtherNetworkError struct {
	Store string  // "ledger" or "state"
	Of    cid.Cid // its network; Undef when nothing says which
	Want  proto.NetworkID
}

func (e *OtherNetworkError) Error() string {
	if !e.Of.Defined() {
		return fmt.Sprintf("the %s store is of an unknown network, and there is no ledger of network %s beside it", e.Store, e.Want)
	}
	return fmt.Sprintf("the %s store belongs to network %s, not to %s", e.Store, e.Of, e.Want)
}

// Unwrap gives the error its code.
func (e *OtherNetworkError) Unwrap() error { return proto.CodeWrongNetwork.Err() }

// StateNetwork is ledger.StoreNetwork for the state store of a data directory.
func StateNetwork(state ledger.Store) (cid.Cid, error) {
	raw, err := state.Get([]byte(networkKey))
	if err != nil || raw == nil {
		return cid.Undef, err
	}
	return proto.ParseCID(raw)
}

// belong makes sure that both stores are of the node's network, before anything
// of them is read. A state store from before such marks is taken over when the
// ledger beside it is of this network.
func (n *Node) belong() error {
	want := n.net.ID.CID()
	of, err := ledger.StoreNetwork(n.store)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if of.Defined() && !of.Equals(want) {
		return &OtherNetworkError{"ledger", of, n.net.ID}
	}
	var known cid.Cid
	raw, err := n.kv.get(networkKey)
	switch {
	case err == nil:
		if known, err = proto.ParseCID(raw); err != nil {
			return fmt.Errorf("state store: network: %w", err)
		}
		if !known.Equals(want) {
			return &OtherNetworkError{"state", known, n.net.ID}
		}
		return nil
	case !errors.Is(err, errNoKey):
		return fmt.Errorf("state store: %w", err)
	}
	if !of.Defined() {
		switch fresh, err := n.kv.empty(); {
		case err != nil:
			return fmt.Errorf("state store: %w", err)
		case !fresh:
			return &OtherNetworkError{"state", cid.Undef, n.net.ID}
		}
	}
	if err := n.kv.commit([]write{{networkKey, want.Bytes()}}); err != nil {
		return fmt.Errorf("state store: %w", err)
	}
	return nil
}
