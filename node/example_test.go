//go:build !js

package node_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/modules"
)

// A program joins a network and has the words of a text counted by two workers
// that must agree. countWords is the whole program but for errors of loading
// the key (identity.Load) and the network (proto.ParseGenesis).
func Example() {
	x, err := startExample()
	if err == nil {
		err = countWords(x.network, x.key, x.bootstrap)
	}
	if err = errors.Join(err, x.stop()); err != nil {
		fmt.Println(err)
	}
	// Output: verified: true {"counts":{"a":2,"b":1}}
}

func countWords(network *proto.Network, key crypto.PrivKey, bootstrap []string) error {
	n, err := node.New(node.Config{Network: network, Key: key, Bootstrap: bootstrap})
	if err != nil {
		return err
	}
	defer n.Close()
	if err := n.Up(context.Background()); err != nil {
		return err
	}
	task := market.Task{Type: proto.TypeText, Input: []byte("a b a"), Options: market.Options{Redundancy: 2}}
	r, err := n.Submit(context.Background(), task)
	if err != nil {
		return err
	}
	counts, err := modules.Decode(task.Type, r.Output)
	fmt.Println("verified:", r.Verified, string(counts))
	return err
}

// example is the network that Example joins: a witness and two workers, all in
// this process.
type example struct {
	network   *proto.Network
	key       crypto.PrivKey // of an account with credits
	bootstrap []string
	closers   []func() error
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
		Grants: []*proto.Grant{{Account: []byte(ids[3]), Amount: uint64(100 * proto.OneCredit)}},
	})
	if err != nil {
		return x, err
	}
	if x.network, err = proto.ParseGenesis(raw); err != nil {
		return x, err
	}
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
