package attack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
	"edgenet.dev/test/daemon"
)

// What the genesis grants to attackers, account by account. Each is used once.
const (
	richAccounts = 32
	poorAccounts = dustAccounts
	richGrant    = 100 * proto.OneCredit
	poorGrant    = 10 // microcredits
	honestGrant  = 10_000 * proto.OneCredit
)

// Start starts a network of one witness, an honest submitter and so many
// workers, with accounts for attackers. The grace after a hold's deadline is short.
func Start(ctx context.Context, bin string, workers int) (*Target, error) {
	t := new(Target)
	g := &proto.Genesis{GraceSeconds: 6}
	for range richAccounts {
		if err := t.grant(g, &t.rich, richGrant); err != nil {
			return nil, err
		}
	}
	for range poorAccounts {
		if err := t.grant(g, &t.poor, poorGrant); err != nil {
			return nil, err
		}
	}
	specs := []daemon.Spec{
		{Name: "witness", Witness: true, Flags: []string{"--dht", "server", "--no-work"}},
		{Name: "submitter", Grant: honestGrant, Via: []string{"witness"}, Flags: []string{"--dht", "server", "--no-work"}},
	}
	for i := range workers {
		specs = append(specs, daemon.Spec{Name: fmt.Sprintf("worker%d", i), Via: []string{"witness"}, Flags: []string{"--dht", "server"}})
	}
	var err error
	if t.Net, err = daemon.NewOf(bin, g, specs...); err != nil {
		return nil, err
	}
	t.Witness, t.Submitter, t.Workers = t.Net.Nodes[0], t.Net.Nodes[1], t.Net.Nodes[2:]
	if err := t.up(ctx); err != nil {
		return nil, errors.Join(err, t.Net.Close())
	}
	return t, nil
}

func (t *Target) up(ctx context.Context) error {
	if err := t.Net.Start(ctx); err != nil {
		return err
	}
	for _, nd := range t.Net.Nodes { // all know each other, so that jobs are not the first to look
		for {
			st, err := nd.Status(ctx)
			if err != nil {
				return err
			}
			if int(st.Peers) >= len(t.Net.Nodes)-1 {
				break
			}
			pause(ctx, 50*time.Millisecond)
		}
	}
	return nil
}

func (t *Target) grant(g *proto.Genesis, to *[]crypto.PrivKey, amount proto.Credit) error {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return err
	}
	g.Grants = append(g.Grants, &proto.Grant{Account: []byte(id), Amount: uint64(amount)})
	*to = append(*to, key)
	return nil
}

// want makes a blob the newest large input of an honest job. Attackers know
// their names: whether they get more than that is the question.
func (t *Target) want(c cid.Cid) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.large = c
}

func (t *Target) wanted() cid.Cid {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.large
}
