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
	if err := CheckNetworkName(g.Name); err != nil {
		return nil, err
	}
	if len(g.Nonce) != 16 {
		return nil, CodeMalformed.Errorf("genesis: nonce of %d bytes, want 16", len(g.Nonce))
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
		if gr.Amount > 1<<53 || total+Credit(gr.Amount) > 1<<53 {
			return nil, CodeMalformed.Errorf("genesis: grants above 2^53 microcredits")
		}
		total += Credit(gr.Amount)
		n.Grants[id] = Credit(gr.Amount)
	}
	def := func(p *uint64, v uint64) {
		if *p == 0 {
			*p = v
		}
	}
	def(&g.CurveM, 10)
	def(&g.CurveDCpuHours, 1_000_000)
	def(&g.EpochSeconds, 3600)
	def(&g.BasePrice, uint64(OneCredit))
	def(&g.FeePpm, 10_000)
	def(&g.MinTransfer, 1)
	def(&g.GraceSeconds, 900)
	def(&g.MaxRunSeconds, uint64(DefaultMaxRun/time.Second))
	if g.Shards == 0 {
		g.Shards = 1
	}
	if g.Relay == nil {
		g.Relay = new(RelayLimits)
	}
	def(&g.Relay.Bytes, 64<<20)
	def(&g.Relay.Seconds, 3600)
	if g.Shards > 1024 || g.FeePpm > 1_000_000 || g.BasePrice > uint64(MaxPriceCredits) {
		return nil, CodeMalformed.Errorf("genesis: want at most 1024 shards, fee at most 10^6 ppm, base price at most %s credits", MaxPriceCredits)
	}
	if g.MaxRunSeconds > uint64(MaxRun/time.Second) {
		return nil, CodeMalformed.Errorf("genesis: a try may run for %d seconds, want at most %d", g.MaxRunSeconds, uint64(MaxRun/time.Second))
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
func (n *Network) MaxRun() time.Duration { return time.Duration(n.Genesis.MaxRunSeconds) * time.Second }

// Price is the base price in microcredits per PriceUnit.
func (n *Network) Price() Credit { return Credit(n.Genesis.BasePrice) }
