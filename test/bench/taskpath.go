package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/modules"
	"edgenet.dev/transport"
)

// taskPath times single warm tasks between two nodes of this process, from
// Submit to the checked, signed result, and beside each one a round trip of
// the same payload over a stream between two bare hosts. Rounds alternate, so
// that both see the same machine. The value is the ratio of the medians.
func (b bench) taskPath(ctx context.Context) (rows []row, err error) {
	dir, err := os.MkdirTemp("", "edgenet-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	submitter, stop, err := b.pair(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	echo, closeHosts, err := rawStream(ctx)
	if err != nil {
		return nil, err
	}
	defer closeHosts()

	input, err := modules.Encode(proto.TypeText, []byte("one tiny task of a few words, the same each time"))
	if err != nil {
		return nil, err
	}
	task := market.Task{Type: proto.TypeText, Input: input, Options: market.Options{
		Redundancy: 1, Priority: proto.PriorityNormal, MaxCredits: proto.OneCredit, Fuel: 100_000_000, Timeout: time.Minute,
	}}
	payload := make([]byte, 820) // about what a small task's frames weigh
	var paths, trips []time.Duration
	for i := range b.rounds + 20 {
		start := time.Now()
		r, err := submitter.Submit(ctx, task)
		took := time.Since(start)
		if err != nil {
			return nil, err
		}
		if r.State != market.Done || r.Status != proto.StatusOK || len(r.Receipts) != 1 {
			return nil, fmt.Errorf("task ended as %s, %s, with %d receipts: %s", r.State, r.Status, len(r.Receipts), r.Reason)
		}
		start = time.Now()
		if err := echo(payload); err != nil {
			return nil, err
		}
		trip := time.Since(start)
		if i >= 20 { // the first ones warm up
			paths, trips = append(paths, took), append(trips, trip)
		}
	}
	path, trip := median(paths), median(trips)
	return []row{{
		Name: "task_path_over_stream_rtt", Value: float64(path) / float64(trip), Unit: "ratio",
		Baseline: fmt.Sprintf("%.0f us / %.0f us raw libp2p stream", us(path), us(trip)), Goal: "<= 10",
	}}, nil
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// pair starts a submitting node, which is the witness too, and a working one,
// both with their data on disk.
func (b bench) pair(ctx context.Context, dir string) (submitter *node.Node, stop func() error, err error) {
	var keys [2]crypto.PrivKey
	var ids [2]peer.ID
	for i := range keys {
		if keys[i], _, err = crypto.GenerateEd25519Key(rand.Reader); err != nil {
			return nil, nil, err
		}
		if ids[i], err = peer.IDFromPrivateKey(keys[i]); err != nil {
			return nil, nil, err
		}
	}
	g := &proto.Genesis{Name: "bench", Nonce: make([]byte, 16), Witnesses: [][]byte{[]byte(ids[0])}, Grants: []*proto.Grant{{Account: []byte(ids[0]), Amount: uint64(grant)}}}
	if _, err := rand.Read(g.Nonce); err != nil {
		return nil, nil, err
	}
	raw, err := goproto.Marshal(g)
	if err != nil {
		return nil, nil, err
	}
	net, err := proto.ParseGenesis(raw)
	if err != nil {
		return nil, nil, err
	}
	pool, err := sandbox.NewPool(sandbox.PoolConfig{Slots: 1, Command: []string{b.bin, "sandbox-child"}, CacheDir: filepath.Join(dir, "cache")})
	if err != nil {
		return nil, nil, err
	}
	closers := []func() error{pool.Close}
	stop = func() error {
		var errs []error
		for _, c := range slices.Backward(closers) {
			errs = append(errs, c())
		}
		return errors.Join(errs...)
	}
	run := func(cfg node.Config) (*node.Node, error) {
		n, err := node.New(cfg)
		if err != nil {
			return nil, err
		}
		ended := make(chan error, 1)
		go func() { ended <- n.Run(ctx) }()
		closers = append(closers, func() error { return errors.Join(n.Close(), <-ended) })
		select {
		case <-n.Ready():
			return n, nil
		case err := <-ended:
			ended <- nil
			return nil, fmt.Errorf("node ended: %w", err)
		}
	}
	submitter, err = run(node.Config{Dir: filepath.Join(dir, "a"), Network: net, Key: keys[0], DHT: "server"})
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	_, err = run(node.Config{
		Dir: filepath.Join(dir, "b"), Network: net, Key: keys[1], DHT: "server", Bootstrap: submitter.Addrs(), Executor: pool,
		Worker: market.Worker{Enabled: true, Slots: 1, Types: modules.Types()},
	})
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return submitter, stop, nil
}

// rawStream connects two bare hosts and returns a function that sends p over
// one open stream and reads it back.
func rawStream(ctx context.Context) (echo func(p []byte) error, closeAll func(), err error) {
	listen, err := ma.NewMultiaddr("/ip4/127.0.0.1/udp/0/quic-v1")
	if err != nil {
		return nil, nil, err
	}
	var closers []func() error
	closeAll = func() {
		for _, c := range closers {
			_ = c() // nothing is kept
		}
	}
	open := func() (h host.Host, err error) {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			return nil, err
		}
		h, err = transport.NewHost(transport.Config{Key: key, Listen: []ma.Multiaddr{listen}})
		if err == nil {
			closers = append(closers, h.Close)
		}
		return h, err
	}
	a, err := open()
	if err != nil {
		return nil, nil, err
	}
	b, err := open()
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	b.SetStreamHandler("/echo", func(s network.Stream) {
		_, _ = io.Copy(s, s) // ends with the stream
		s.Close()
	})
	if err := a.Connect(ctx, peer.AddrInfo{ID: b.ID(), Addrs: b.Addrs()}); err != nil {
		closeAll()
		return nil, nil, err
	}
	s, err := a.NewStream(ctx, b.ID(), "/echo")
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	r := bufio.NewReader(s)
	back := make([]byte, 64<<10)
	return func(p []byte) error {
		if _, err := s.Write(p); err != nil {
			return err
		}
		_, err := io.ReadFull(r, back[:len(p)])
		return err
	}, closeAll, nil
}
