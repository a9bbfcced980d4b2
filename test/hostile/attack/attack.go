// Package attack plays attacks on a network of real daemons: peers with keys of
// their own that speak our protocols with traffic that looks valid. Each attack
// is one small file. What an attack does to honest jobs is measured beside it,
// see Play.
package attack

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"

	"edgenet.dev/proto"
	"edgenet.dev/test/daemon"
)

// Attack is one way to stop, fill up or cheat honest nodes for next to nothing.
type Attack interface {
	Name() string
	// Run attacks until ctx ends and leaves nothing running. What the attackers
	// got that they must not get goes to Target.Harm; how much they did, to
	// Target.Count. An error says that the attack could not be played, which
	// proves nothing about the network.
	Run(ctx context.Context, t *Target) error
}

// All are the attacks, in the order in which they are played.
func All() []Attack {
	return []Attack{
		badEvidence{},
		unservedInputs{},
		unrevealed{},
		timeouts{},
		crowd{},
		dust{},
		silentClaimers{},
		inventedTopics{},
		providerSpam{},
		replayed{},
		slowReaders{},
		churn{},
		relayedSpam{},
		thirdParty{},
	}
}

// Named finds attacks by name, with commas; "all" are all of them.
func Named(names string) ([]Attack, error) {
	if names == "all" {
		return All(), nil
	}
	var out []Attack
	for _, name := range strings.Split(names, ",") {
		i := slices.IndexFunc(All(), func(a Attack) bool { return a.Name() == name })
		if i < 0 {
			return nil, fmt.Errorf("no attack is called %q", name)
		}
		out = append(out, All()[i])
	}
	return out, nil
}

// Target is what attackers know of the network, and their money.
type Target struct {
	Net       *daemon.Net
	Witness   *daemon.Node
	Submitter *daemon.Node
	Workers   []*daemon.Node

	mu     sync.Mutex
	rich   []crypto.PrivKey // accounts of 100 credits from the genesis; each is used once
	poor   []crypto.PrivKey // accounts of a few microcredits
	counts map[string]uint64
	harm   []string
	large  cid.Cid // newest large input of an honest job
}

// Count adds to what the attackers did, so that a report shows that there was
// an attack.
func (t *Target) Count(what string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string]uint64{}
	}
	t.counts[what] += uint64(n)
}

// Harm notes that an attack succeeded.
func (t *Target) Harm(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := fmt.Sprintf(format, args...); !slices.Contains(t.harm, s) && len(t.harm) < 8 {
		t.harm = append(t.harm, s)
	}
}

// taken returns what was counted and noted since the last call.
func (t *Target) taken() (counts map[string]uint64, harm []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	counts, harm = maps.Clone(t.counts), t.harm
	t.counts, t.harm = nil, nil
	return counts, harm
}

func (t *Target) network() *proto.Network { return t.Net.Network }

// purse takes n accounts that nobody has used.
func (t *Target) purse(from *[]crypto.PrivKey, n int) ([]crypto.PrivKey, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(*from) < n {
		return nil, fmt.Errorf("%d accounts are left of the genesis' grants to attackers, %d are wanted", len(*from), n)
	}
	keys := (*from)[:n]
	*from = (*from)[n:]
	return keys, nil
}
