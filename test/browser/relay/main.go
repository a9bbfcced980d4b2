// Command relay is a relay for tests of tabs: it can be restarted on another
// day, with the certificates of that day. It is witness and worker, too, and
// its genesis grants credits to one account.
//
// It takes a JSON object per line, {"ahead": SECONDS}, and starts the node,
// again if it ran, with certificates of so long after now; it answers with
// {"origin": …, "genesis": …, "addrs": […]}. It ends with its standard input.
package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/ledger/store/pebble"
	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/node/web"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/modules"
)

func main() {
	dir := flag.String("dir", "", "where to keep what it keeps")
	daemon := flag.String("edgenetd", "", "the program that runs sandboxes")
	root := flag.String("web-root", "", "the bundle for tabs")
	seed := flag.String("seed", "", "32 bytes in base64: the seed of the account that has 100 credits")
	flag.Parse()
	if err := run(*dir, *daemon, *root, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		os.Exit(1)
	}
}

// relay is what stays the same over restarts.
type relay struct {
	key     crypto.PrivKey
	network *proto.Network
	pool    sandbox.Executor
	dir     string
	root    string
	listen  []string
	page    string

	stop func() error // of the node that runs
}

func run(dir, daemon, root, seed string) (err error) {
	now := time.Now()
	r := &relay{dir: dir, root: root, page: "127.0.0.1:0", stop: func() error { return nil }, listen: []string{
		"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1/webtransport",
	}}
	if r.key, err = rotatingKey(now); err != nil {
		return err
	}
	self, err := peer.IDFromPrivateKey(r.key)
	if err != nil {
		return err
	}
	account, err := accountOf(seed)
	if err != nil {
		return err
	}
	raw, err := goproto.Marshal(&proto.Genesis{
		Name: "rotation", Nonce: []byte(rand.Text())[:16], Witnesses: [][]byte{[]byte(self)},
		Grants: []*proto.Grant{{Account: []byte(account), Amount: uint64(100 * proto.OneCredit)}},
	})
	if err != nil {
		return err
	}
	if r.network, err = proto.ParseGenesis(raw); err != nil {
		return err
	}
	pool, err := sandbox.NewPool(sandbox.PoolConfig{Slots: 1, Command: []string{daemon, "sandbox-child"}, CacheDir: filepath.Join(dir, "cache")})
	if err != nil {
		return err
	}
	r.pool = pool
	defer func() { err = errors.Join(err, r.stop(), pool.Close()) }()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var order struct{ Ahead int64 }
		if err := json.Unmarshal(in.Bytes(), &order); err != nil {
			return err
		}
		if err := r.stop(); err != nil {
			return err
		}
		if err := r.start(now.Add(time.Duration(order.Ahead) * time.Second)); err != nil {
			return err
		}
	}
	return nil
}

// start runs the node with certificates of that moment.
func (r *relay) start(at time.Time) error {
	store, err := pebble.Open(filepath.Join(r.dir, "ledger"))
	if err != nil {
		return err
	}
	n, err := node.New(node.Config{
		Dir: r.dir, Store: store, Network: r.network, Key: r.key, Listen: r.listen, DHT: "server", Relay: true, CertificatesAt: at,
		Executor: r.pool, Worker: market.Worker{Enabled: true, Slots: 1, Types: modules.Types()},
	})
	if err != nil {
		return errors.Join(err, store.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = func() error {
		cancel()
		return n.Close()
	}
	if err := n.Up(ctx); err != nil {
		return err
	}
	l, err := net.Listen("tcp", r.page)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- web.Serve(ctx, l, web.NewHandler(n, os.DirFS(r.root))) }()
	r.stop = func() error {
		cancel()
		return errors.Join(<-served, n.Close())
	}
	r.page, r.listen = l.Addr().String(), nil
	for _, a := range n.Addrs() {
		a, _, _ = strings.Cut(a, "/p2p/")
		a, _, _ = strings.Cut(a, "/certhash/")
		r.listen = append(r.listen, a)
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"origin": "http://" + r.page, "addrs": n.Addrs()})
}

// accountOf is the account of a seed, RFC 8032.
func accountOf(seed string) (peer.ID, error) {
	b, err := base64.StdEncoding.DecodeString(seed)
	if err != nil || len(b) != ed25519.SeedSize {
		return "", errors.New("-seed: want 32 bytes in base64")
	}
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(b))
	if err != nil {
		return "", err
	}
	return peer.IDFromPrivateKey(key)
}

// rotatingKey returns a key whose certificates change about now. go-libp2p
// derives certificates from a key and the time, in periods of 14 days less two
// hours, and neighbours are both valid for two hours: the browser, whose clock
// nobody moves, takes either.
func rotatingKey(now time.Time) (crypto.PrivKey, error) {
	for {
		pub, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		const period = 14*24*time.Hour - 2*time.Hour
		offset := time.Duration(binary.LittleEndian.Uint16(pub)) * time.Minute % (14 * 24 * time.Hour)
		since := time.Duration(now.UnixMilli()-offset.Milliseconds()) * time.Millisecond % period
		if since > 10*time.Minute && since < 110*time.Minute {
			return crypto.UnmarshalEd25519PrivateKey(private)
		}
	}
}
