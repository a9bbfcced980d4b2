package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/node/identity"
	"edgenet.dev/proto"
)

// founderGrant is what the founder of a private network starts with.
const founderGrant = 1_000_000 * proto.OneCredit

func (a *app) initCmd() *cobra.Command {
	var genesis, name string
	c := &cobra.Command{
		Use: "init", Short: "Create an identity and join or found a network", Args: takes(0, 0, ""),
		Long: `Creates the data directory with a new identity (or keeps the one that 'key
import' put there) and a network: the one of --genesis, or a private one whose
only witness is this node and which grants it 1,000,000 credits.`,
		Example: "  edgenetd init\n  edgenetd init --genesis genesis.pb\n  edgenetd init --network office",
		RunE: func(c *cobra.Command, _ []string) error {
			if genesis != "" && c.Flags().Changed("network") {
				return failf(exitUsage, "--genesis joins a network and --network founds one; use one of them")
			}
			return a.init(genesis, name)
		},
	}
	c.Flags().StringVar(&genesis, "genesis", "", "genesis.pb of the network to join")
	c.Flags().StringVar(&name, "network", "private", "name of the private network to found")
	return c
}

func (a *app) init(genesisPath, name string) error {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	genesisFile := filepath.Join(dir, genesisName)
	if _, err := os.Lstat(genesisFile); err == nil {
		return failf(exitRefused, "%s is set up already and was left alone; start it with 'edgenetd run --dir %s', or choose another --dir", dir, dir)
	}
	// All that can be refused is read before anything is written.
	var network *proto.Network
	if genesisPath != "" {
		if network, err = a.readGenesis(genesisPath); err != nil {
			return err
		}
	} else if name == "" || len(name) > 64 {
		return failf(exitUsage, "network name %q: want 1 to 64 bytes", name)
	}
	key, err := identity.Load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = identity.Create(dir)
	}
	if err != nil {
		return err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return err
	}
	if network == nil {
		network, err = newGenesis(&proto.Genesis{
			Name: name, Witnesses: [][]byte{[]byte(id)},
			Grants: []*proto.Grant{{Account: []byte(id), Amount: uint64(founderGrant)}},
		})
		if err != nil {
			return err
		}
	}
	if err := checkStores(dir, network.ID); err != nil {
		return err
	}
	if err := writeNew(genesisFile, network.Raw, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", genesisFile, err)
	}
	return a.print(report{
		data: map[string]any{
			"dir": dir, "peer_id": id.String(), "network_id": network.ID.String(),
			"network_name": network.Genesis.Name, "witness": network.IsWitness(id), "grant": uint64(network.Grants[id]),
		},
		ids: []string{id.String()},
		table: func(w io.Writer) {
			row(w, "directory", dir)
			row(w, "peer id", id)
			row(w, "network", fmt.Sprintf("%s (%s)", network.Genesis.Name, network.ID))
			row(w, "witness", yesNo(network.IsWitness(id)))
			row(w, "granted", credits(network.Grants[id])+" credits")
			row(w, "next", fmt.Sprintf("edgenetd run --dir %s", dir))
		},
	})
}

// newGenesis marshals g once, with a fresh nonce; those bytes are the network.
func newGenesis(g *proto.Genesis) (*proto.Network, error) {
	g.Nonce = make([]byte, 16)
	if _, err := rand.Read(g.Nonce); err != nil {
		return nil, err
	}
	raw, err := goproto.MarshalOptions{Deterministic: true}.Marshal(g)
	if err != nil {
		return nil, err
	}
	return proto.ParseGenesis(raw)
}

// loadKey reads the identity in dir or says how to make one.
func loadKey(dir string) (crypto.PrivKey, error) {
	key, err := identity.Load(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, failf(exitNotFound, "%s holds no identity; run 'edgenetd init --dir %s' first", dir, dir)
	case err != nil:
		return nil, failf(exitRefused, "%w", err)
	}
	return key, nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
