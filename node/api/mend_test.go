//go:build unix

package api

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"connectrpc.com/connect"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/proto/api/apiconnect"
	"edgenet.dev/sandbox"
)

// broken fails every task, but for a worker's self-test, with a text that is no
// UTF-8, and longer than a refusal may be.
type broken struct{ sandbox.Executor }

func (b broken) Run(ctx context.Context, m *sandbox.Module, input []byte, t sandbox.Task) (sandbox.Result, error) {
	if strings.Contains(string(input), "self-test") {
		return b.Executor.Run(ctx, m, input, t)
	}
	return sandbox.Result{}, errors.New("\xff" + strings.Repeat("öß世", 200))
}

// What a peer says of itself and why it refused may be any bytes: the lists
// that show it are readable all the same.
func TestTextsOfPeersCanBeRead(t *testing.T) {
	var keys []crypto.PrivKey
	var ids []peer.ID
	for range 2 {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		id, err := peer.IDFromPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		keys, ids = append(keys, key), append(ids, id)
	}
	raw, err := goproto.Marshal(&proto.Genesis{
		Name: "texts", Nonce: make([]byte, 16), Witnesses: [][]byte{[]byte(ids[0])},
		Grants: []*proto.Grant{{Account: []byte(ids[0]), Amount: uint64(1000 * proto.OneCredit)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	network, err := proto.ParseGenesis(raw)
	if err != nil {
		t.Fatal(err)
	}
	exec, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { exec.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	up := func(cfg node.Config) *node.Node {
		cfg.Network, cfg.DHT, cfg.Listen = network, "off", []string{"/ip4/127.0.0.1/udp/0/quic-v1"}
		n, err := node.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		if err := n.Up(context.Background()); err != nil {
			t.Fatal(err)
		}
		return n
	}
	n := up(node.Config{Key: keys[0]})
	up(node.Config{
		Key: keys[1], Version: "edgenetd/\xff", Bootstrap: n.Addrs(), Executor: broken{exec},
		Worker: market.Worker{Enabled: true, Slots: 1, Types: []string{"text"}},
	})

	dir := shortDir(t)
	ln, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(serving, ln, n, "test", func() {}) }()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	nodes := apiconnect.NewNodeServiceClient(HTTPClient(dir), BaseURL)
	tasks := apiconnect.NewTaskServiceClient(HTTPClient(dir), BaseURL)

	for {
		r, err := nodes.Peers(ctx, connect.NewRequest(&api.PeersRequest{}))
		if err != nil {
			t.Fatalf("the list of peers cannot be read: %v", err)
		}
		if len(r.Msg.Peers) == 1 && r.Msg.Peers[0].Agent == "edgenet/\uFFFD" {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	sub, err := tasks.Submit(ctx, connect.NewRequest(&api.SubmitRequest{
		Type: "text", Inputs: [][]byte{[]byte("hi")}, Redundancy: 1, MaxCredits: uint64(10 * proto.OneCredit), TimeoutMs: 30_000,
	}))
	if err != nil {
		t.Fatal(err)
	}
	w, err := tasks.Watch(ctx, connect.NewRequest(&api.GetRequest{Job: sub.Msg.Job}))
	if err != nil {
		t.Fatal(err)
	}
	for w.Receive() {
	}
	if err := w.Err(); err != nil {
		t.Fatalf("the job cannot be watched: %v", err)
	}
	l, err := tasks.List(ctx, connect.NewRequest(&api.ListRequest{}))
	if err != nil {
		t.Fatalf("the list of jobs cannot be read: %v", err)
	}
	j := l.Msg.Jobs[0]
	if j.State != "failed" || !utf8.ValidString(j.Reason) || !strings.Contains(j.Reason, "\uFFFDöß世öß世") {
		t.Errorf("%s %s: %q", j.State, j.Code, j.Reason)
	}
}
