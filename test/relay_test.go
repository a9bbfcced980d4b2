package test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/node/identity"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/modules"
	"edgenet.dev/test/daemon"
)

// embed runs a node of the network inside the test process.
func embed(t *testing.T, net *daemon.Net, name string, cfg node.Config) *node.Node {
	t.Helper()
	key, err := identity.Load(net.Node(name).Dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Key, cfg.Network = key, net.Network
	n, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- n.Run(context.Background()) }()
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-n.Ready():
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	return n
}

// Two nodes that listen nowhere, so that nobody can dial them, work for each
// other through a daemon's circuit relay.
func TestRelay(t *testing.T) {
	net := network(
		t,
		daemon.Spec{Name: "relay", Witness: true, Flags: with(server, "--relay", "--price", "1000")}, // follows offers, takes none,
		daemon.Spec{Name: "a", Grant: thousand, Embedded: true},
		daemon.Spec{Name: "b", Embedded: true},
	)
	pool, err := sandbox.NewPool(sandbox.PoolConfig{Slots: 1, Command: []string{edgenetd, "sandbox-child"}, CacheDir: filepath.Join(net.Node("b").Dir, "cache")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	hidden := node.Config{Listen: []string{}, Reachability: "private", DHT: "client", Bootstrap: net.Node("relay").Addrs()}
	b := hidden
	b.Executor = pool
	b.Worker = market.Worker{Enabled: true, Slots: 1, Types: modules.Types()}
	worker := embed(t, net, "b", b)
	// libp2p announces relayed addresses only of relays on public addresses, so
	// on loopback the submitter is told where the worker is.
	a := hidden
	for _, addr := range hidden.Bootstrap {
		a.Bootstrap = append(a.Bootstrap, addr+"/p2p-circuit/p2p/"+worker.ID().String())
	}
	submitter := embed(t, net, "a", a)

	ctx, cancel := context.WithTimeout(t.Context(), guard)
	defer cancel()
	r, err := submitter.Submit(ctx, market.Task{
		Type: proto.TypeText, Input: []byte("a b a"),
		Options: market.Options{Redundancy: 1, Priority: proto.PriorityNormal, MaxCredits: proto.OneCredit, Timeout: 2 * time.Minute},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.State != market.Done || len(r.Workers) != 1 || r.Workers[0] != worker.ID() {
		t.Errorf("task %s by %v: %s", r.State, r.Workers, r.Reason)
	}
	for _, side := range []struct {
		n     *node.Node
		other peer.ID
	}{{submitter, worker.ID()}, {worker, submitter.ID()}} {
		found := false
		for _, p := range side.n.Peers() {
			if p.ID == side.other {
				found = true
				if !p.Relayed {
					t.Errorf("%s reaches %s directly over %v", side.n.ID(), p.ID, p.Addrs)
				}
			}
		}
		if !found {
			t.Errorf("%s is not connected to %s", side.n.ID(), side.other)
		}
	}
}
