package proto

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// MaxGenesis is the largest genesis.pb in bytes.
const MaxGenesis = 256 << 10

// Network is a parsed genesis: the one description of a network that every
// part reads. It is never changed after ParseGenesis.
type Network struct {
	ID        NetworkID
	Genesis   *Genesis // defaults filled in
	Witnesses []peer.ID
	Grants    map[peer.ID]Credit
	Raw       []byte // genesis.pb, authoritative
}

// ParseGenesis reads the bytes of a genesis.pb and fills defaults.
func ParseGenesis(raw []byte) (*Network, error) {
	if len(raw) == 0 || len(raw) > MaxGenesis {
		return nil, CodeMalformed.Errorf("genesis of %d bytes, want 1 to %d", len(raw), MaxGenesis)
	}
	g := new(Genesis)
	if err := goproto.Unmarshal(raw, g); err != nil {
		return nil, CodeMalformed.Errorf("genesis: %v", err)
	}
	n := &Network{ID: NetworkOf(raw), Genesis: g, Grants: map[peer.ID]Credit{}, Raw: raw}
	if err := fillNumbers(g.ProtoReflect(), ""); err != nil {
		return nil, err
	}
	if err := CheckNetworkName(g.Name); err != nil {
		return nil, err
	}
	if len(g.Nonce) != 16 {
		return nil, CodeMalformed.Errorf("genesis: nonce of %d bytes, want 16", len(g.Nonce))
	}
	if len(g.Witnesses) > MaxWitnesses {
		return nil, CodeMalformed.Errorf("genesis: %d witnesses, want at most %d", len(g.Witnesses), MaxWitnesses)
	}
	seen := map[peer.ID]bool{}
	for i, w := range g.Witnesses {
		id, err := ParsePeer(w)
		if err != nil {
			return nil, fmt.Errorf("genesis: witness %d: %w", i, err)
		}
		if seen[id] {
			return nil, CodeMalformed.Errorf("genesis: witness %s is named twice", id)
		}
		seen[id] = true
		n.Witnesses = append(n.Witnesses, id)
	}
	if len(n.Witnesses)%3 != 1 {
		return nil, CodeMalformed.Errorf("genesis: %d witnesses, want 3f+1 (1, 4, 7, …)", len(n.Witnesses))
	}
	var total Credit
	for i, gr := range g.Grants {
		id, err := ParsePeer(gr.Account)
		if err != nil {
			return nil, fmt.Errorf("genesis: grant %d: %w", i, err)
		}
		if _, ok := n.Grants[id]; ok {
			return nil, CodeMalformed.Errorf("genesis: %s is granted twice", id)
		}
		if total+Credit(gr.Amount) > maxSupply {
			return nil, CodeMalformed.Errorf("genesis: grants above 2^53 microcredits")
		}
		total += Credit(gr.Amount)
		n.Grants[id] = Credit(gr.Amount)
	}
	// A hold shorter than its tries would be extended without end.
	if least := 4 * g.MaxRunSeconds; g.MaxHoldSeconds < least {
		return nil, CodeMalformed.Errorf("genesis: max_hold_seconds is %d, want at least %d: four times max_run_seconds", g.MaxHoldSeconds, least)
	}
	return n, nil
}

// CheckNetworkName refuses names that a terminal or a log would not show as
// they are: a genesis comes from a stranger, and its name is shown everywhere.
func CheckNetworkName(name string) error {
	if name == "" || len(name) > 64 {
		return CodeMalformed.Errorf("network name of %d bytes, want 1 to 64", len(name))
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return CodeMalformed.Errorf("network name %+q: want printable characters only", name)
	}
	return nil
}

// F is the number of bad witnesses that do no harm: (n-1)/3.
func (n *Network) F() int { return (len(n.Witnesses) - 1) / 3 }

// Quorum is q = 2f+1.
func (n *Network) Quorum() int { return 2*n.F() + 1 }

// IsWitness reports whether the genesis names id.
func (n *Network) IsWitness(id peer.ID) bool {
	for _, w := range n.Witnesses {
		if w == id {
			return true
		}
	}
	return false
}

// MaxRun is the most that a submitter may let one try of a task run.
func (n *Network) MaxRun() time.Duration { return Seconds(n.Genesis.MaxRunSeconds) }

// MaxHold is how far ahead a hold's deadline may lie when it is made or
// extended.
func (n *Network) MaxHold() time.Duration { return Seconds(n.Genesis.MaxHoldSeconds) }

// Grace is the time after a hold's deadline in which claims on it are taken.
func (n *Network) Grace() time.Duration { return Seconds(n.Genesis.GraceSeconds) }

// Epoch is the time after which the witnesses certify a checkpoint.
func (n *Network) Epoch() time.Duration { return Seconds(n.Genesis.EpochSeconds) }

// RelayTime is how long a relayed connection may last.
func (n *Network) RelayTime() time.Duration { return Seconds(n.Genesis.Relay.Seconds) }

// Price is the base price in microcredits per PriceUnit.
func (n *Network) Price() Credit { return Credit(n.Genesis.BasePrice) }
