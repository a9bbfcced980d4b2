package web_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/node"
	"edgenet.dev/node/web"
	"edgenet.dev/proto"
)

func serve(t *testing.T) (n *node.Node, url string) {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := goproto.Marshal(&proto.Genesis{Name: "web", Nonce: make([]byte, 16), Witnesses: [][]byte{[]byte(id)}})
	if err != nil {
		t.Fatal(err)
	}
	network, err := proto.ParseGenesis(raw)
	if err != nil {
		t.Fatal(err)
	}
	if n, err = node.New(node.Config{Network: network, Key: key}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	if err := n.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	root := fstest.MapFS{
		"index.html":                {Data: []byte("page")},
		"edgenet.0123456789ab.wasm": {Data: []byte("plain")}, "edgenet.0123456789ab.wasm.br": {Data: []byte("small")},
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(ctx, l, web.NewHandler(n, root)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return n, "http://" + l.Addr().String()
}

func get(t *testing.T, url, accept string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", accept)
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(body)
}

func TestWellKnown(t *testing.T) {
	n, url := serve(t)
	r, body := get(t, url+web.WellKnown, "")
	if r.StatusCode != 200 || r.Header.Get("Access-Control-Allow-Origin") != "*" || r.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%s %v", r.Status, r.Header)
	}
	if r.Header.Get("Date") == "" || r.Header.Get("Access-Control-Expose-Headers") != "Date" {
		t.Errorf("a page of another origin sees no date: %v", r.Header)
	}
	var d web.Description
	if err := json.Unmarshal([]byte(body), &d); err != nil {
		t.Fatal(err)
	}
	if network, err := proto.ParseGenesis(d.Genesis); err != nil || network.ID != n.Network().ID || d.Network != n.Network().ID.String() {
		t.Errorf("genesis of another network: %v", err)
	}
	if len(n.Addrs()) != 4 || len(d.Addrs) != 2 {
		t.Fatalf("of %v a tab is told %v", n.Addrs(), d.Addrs)
	}
	for _, a := range d.Addrs {
		if !strings.Contains(a, "/ws/") && !strings.Contains(a, "/certhash/") || !strings.HasSuffix(a, n.ID().String()) {
			t.Errorf("a page cannot dial %s", a)
		}
	}
}

func TestBundle(t *testing.T) {
	_, url := serve(t)
	for _, c := range []struct{ path, accept, body, kind, encoding, cache string }{
		{"/", "", "page", "text/html; charset=utf-8", "", "no-cache"},
		{"/edgenet.0123456789ab.wasm", "gzip, br", "small", "application/wasm", "br", "public, max-age=31536000, immutable"},
		{"/edgenet.0123456789ab.wasm", "br;q=0, gzip", "plain", "application/wasm", "", "public, max-age=31536000, immutable"},
	} {
		r, body := get(t, url+c.path, c.accept)
		h := r.Header
		if r.StatusCode != 200 || body != c.body || h.Get("Content-Type") != c.kind || h.Get("Content-Encoding") != c.encoding || h.Get("Cache-Control") != c.cache {
			t.Errorf("%s for %q: %s %q %v", c.path, c.accept, r.Status, body, h)
		}
	}
	for _, path := range []string{"/none", "/../web.go", "/%2e%2e/web.go"} {
		if r, _ := get(t, url+path, ""); r.StatusCode != http.StatusNotFound && r.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s", path, r.Status)
		}
	}
}
