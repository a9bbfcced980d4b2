//go:build !js

package node_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/modules"
)

// A program that holds an invite joins its network and has two workers, which
// must agree, look for the vector that is nearest to another.
func Example() {
	x, err := startExample()
	if err == nil {
		err = search(x)
	}
	if err = errors.Join(err, x.stop()); err != nil {
		fmt.Println(err)
	}
	// Output: [{1 0.9805807}] verified: true
}

func search(x *example) error {
	ctx := context.Background()
	n, err := node.Open(ctx, node.Config{Dir: x.dir, Invite: x.invite(), Key: x.key})
	if err != nil {
		return err
	}
	defer n.Close()
	r, err := node.Submit(ctx, n, node.VectorSearch{
		Query: []float32{1, 0}, Vectors: [][]float32{{0, 1}, {5, 1}}, K: 1,
	})
	if err != nil {
		return err
	}
	fmt.Printf("[{%d %.7f}] verified: %v\n", r.Value[0].Index, r.Value[0].Score, r.Verified)
	return nil
}

// example is the network that Example joins: a witness and two workers, all in
// this process.
type example struct {
	network   *proto.Network
	key       crypto.PrivKey // of an account with credits, as the witness' is
	nodes     []*node.Node
	bootstrap []string
	dir       string // of who joins
	closers   []func() error
}

// invite is what 'edgenetd invite' prints on the witness.
func (x *example) invite() string {
	i := &proto.NetworkInvite{Network: x.network}
	for _, a := range x.bootstrap {
		i.Peers = append(i.Peers, ma.StringCast(a))
	}
	return i.String()
}

func startExample() (*example, error) {
	x := new(example)
	var keys []crypto.PrivKey
	var ids []peer.ID
	for range 4 {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			return x, err
		}
		id, err := peer.IDFromPrivateKey(key)
		if err != nil {
			return x, err
		}
		keys, ids = append(keys, key), append(ids, id)
	}
	x.key = keys[3]
	raw, err := goproto.Marshal(&proto.Genesis{
		Name: "example", Nonce: make([]byte, 16), Witnesses: [][]byte{[]byte(ids[0])},
		Grants: []*proto.Grant{
			{Account: []byte(ids[0]), Amount: uint64(100 * proto.OneCredit)},
			{Account: []byte(ids[3]), Amount: uint64(100 * proto.OneCredit)},
		},
	})
	if err != nil {
		return x, err
	}
	if x.network, err = proto.ParseGenesis(raw); err != nil {
		return x, err
	}
	if x.dir, err = os.MkdirTemp("", "edgenet-example-"); err != nil {
		return x, err
	}
	x.closers = append(x.closers, func() error { return os.RemoveAll(x.dir) })
	exec, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		return x, err
	}
	x.closers = append(x.closers, exec.Close)
	for i, key := range keys[:3] {
		cfg := node.Config{Network: x.network, Key: key, Bootstrap: x.bootstrap, DHT: "server"}
		if i > 0 {
			cfg.Executor = exec
			cfg.Worker = market.Worker{Enabled: true, Slots: 1, Types: modules.Types()}
		}
		n, err := node.New(cfg)
		if err != nil {
			return x, err
		}
		x.closers = append(x.closers, n.Close)
		x.nodes = append(x.nodes, n)
		if err := n.Up(context.Background()); err != nil {
			return x, err
		}
		if i == 0 {
			x.bootstrap = n.Addrs()
		}
	}
	return x, nil
}

func (x *example) stop() error {
	var errs []error
	for i := len(x.closers) - 1; i >= 0; i-- {
		errs = append(errs, x.closers[i]())
	}
	return errors.Join(errs...)
}
