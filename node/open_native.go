//go:build !js

package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/ledger/store/pebble"
	"edgenet.dev/node/audit"
	"edgenet.dev/node/datadir"
	"edgenet.dev/node/identity"
	"edgenet.dev/proto"
)

// Open starts the node of the data directory cfg.Dir and returns once it can
// be used. The directory is made when it is missing; it is laid out as the
// daemon's is, so one made by 'edgenetd init' serves as well, while no daemon
// runs in it. What cfg leaves out is kept there: the identity in Key (made on
// the first call), the genesis in Network (taken from cfg.Invite on the first
// call) and the ledger in Store. Addresses in the invite are dialled beside
// those of cfg.Bootstrap.
//
// The node runs until ctx ends or Close is called. A directory that another
// process holds is a *datadir.InUseError, one without a network and without an
// invite is datadir.ErrNoNetwork.
func Open(ctx context.Context, cfg Config) (n *Node, err error) {
	if cfg.Dir == "" {
		return nil, errors.New("node: Open needs a data directory: set Config.Dir, or use New for a node in memory")
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	lock, err := datadir.Lock(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	if cfg, err = cfg.fromDir(); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	ours := cfg.Store == nil
	if ours {
		if cfg.Store, err = pebble.Open(filepath.Join(cfg.Dir, datadir.Ledger)); err != nil {
			return nil, fmt.Errorf("node: %w", err)
		}
	}
	n, err = New(cfg)
	if err != nil {
		if ours {
			err = errors.Join(err, cfg.Store.Close())
		}
		return nil, err
	}
	if err := cfg.Record(n.started, audit.Start, "network", cfg.Network.ID.String(), "embedded", "yes", "version", cfg.Version); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	if err := n.Up(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	n.held = lock
	return n, nil
}

// fromDir fills what the data directory knows and writes what it lacks.
func (c Config) fromDir() (Config, error) {
	if err := c.join(); err != nil {
		return c, err
	}
	if c.Key == nil {
		key, err := identity.Load(c.Dir)
		if errors.Is(err, fs.ErrNotExist) {
			key, err = identity.Create(c.Dir)
		}
		if err != nil {
			return c, err
		}
		c.Key = key
	}
	if c.Keys == nil {
		c.Keys = datadir.SigningKeys(c.Dir)
	}
	if c.Record == nil {
		c.Record = audit.Open(c.Dir).Add
	}
	self, err := peer.IDFromPrivateKey(c.Key)
	if err != nil {
		return c, fmt.Errorf("key: %w", err)
	}
	return c, datadir.CheckLedger(c.Dir, c.Network.ID, c.Network.IsWitness(self))
}

// join takes the network from the directory or, the first time, from Network
// or Invite, whose genesis it then writes there. They must not differ.
func (c *Config) join() error {
	var invite *proto.NetworkInvite
	if c.Invite != "" {
		var err error
		if invite, err = proto.ParseInvite(c.Invite); err != nil {
			return err
		}
		for _, a := range invite.Peers {
			c.Bootstrap = append(slices.Clone(c.Bootstrap), a.String())
		}
		c.Referrer = cmp.Or(c.Referrer, invite.Referrer)
	}
	have, err := datadir.Network(c.Dir)
	switch {
	case err == nil:
	case !errors.Is(err, datadir.ErrNoNetwork):
		return err
	case c.Network != nil:
		have = c.Network
	case invite != nil:
		have = invite.Network
	default:
		return fmt.Errorf("%w; set Config.Invite to what 'edgenetd invite' prints on a node of one", err)
	}
	if c.Network != nil && c.Network.ID != have.ID || invite != nil && invite.Network.ID != have.ID {
		return proto.CodeWrongNetwork.Errorf("%s belongs to network %s (%s), not to the one given: use another directory", c.Dir, have.Genesis.Name, have.ID)
	}
	c.Network = have
	if err == nil {
		return nil
	}
	return datadir.WriteNetwork(c.Dir, have)
}
