package webtransport

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"net/url"
	"strings"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multibase"
	"github.com/multiformats/go-multihash"
)

const someID = "12D3KooWNY6W1SrknzsLAoiwvGRj55FWGCciWoX1vcR4bsm3gR5A"

func certhash(t testing.TB, digest []byte, code uint64) string {
	t.Helper()
	mh, err := multihash.Encode(digest, code)
	if err != nil {
		t.Fatal(err)
	}
	s, err := multibase.Encode(multibase.Base64url, mh)
	if err != nil {
		t.Fatal(err)
	}
	return "/certhash/" + s
}

func TestParseTarget(t *testing.T) {
	one, two := sha256.Sum256([]byte("1")), sha256.Sum256([]byte("2"))
	h1, h2 := certhash(t, one[:], multihash.SHA2_256), certhash(t, two[:], multihash.SHA2_256)
	for addr, want := range map[string]string{
		"/ip4/192.0.2.1/udp/4001/quic-v1/webtransport" + h1:                         "https://192.0.2.1:4001",
		"/ip6/2001:db8::1/udp/443/quic-v1/webtransport" + h1 + h2:                   "https://[2001:db8::1]:443",
		"/dns4/relay.example/udp/4001/quic-v1/webtransport" + h1:                    "https://relay.example:4001",
		"/dns/a.b/udp/4001/quic-v1/sni/c.d/webtransport" + h1 + "/p2p/" + someID:    "https://a.b:4001",
		"/ip4/192.0.2.1/udp/4001/quic-v1/webtransport" + h1 + h2 + "/p2p/" + someID: "https://192.0.2.1:4001",
	} {
		got, err := parseTarget(ma.StringCast(addr))
		if err != nil {
			t.Errorf("%s: %v", addr, err)
			continue
		}
		if got.url != want+"/.well-known/libp2p-webtransport?type=noise" {
			t.Errorf("%s: url %s", addr, got.url)
		}
		if len(got.hashes) != strings.Count(addr, "certhash") || !bytes.Equal(got.hashes[0], one[:]) {
			t.Errorf("%s: hashes %x", addr, got.hashes)
		}
		if !strings.HasSuffix(got.addr.String(), "/webtransport") {
			t.Errorf("%s: remote address %s", addr, got.addr)
		}
	}
	long := sha256.Sum256(nil)
	for addr, want := range map[string]string{
		"/ip4/192.0.2.1/udp/4001/quic-v1/webtransport":                                              "no certificate hash",
		"/ip4/192.0.2.1/udp/4001/quic-v1":                                                           "not WebTransport",
		"/ip4/192.0.2.1/tcp/4001/ws":                                                                "not WebTransport",
		"/ip4/192.0.2.1/udp/0/quic-v1/webtransport" + h1:                                            "no port",
		"/ip4/192.0.2.1/udp/4001/quic-v1/webtransport" + certhash(t, long[:], multihash.SHA3_256):   "not SHA-256",
		"/ip4/192.0.2.1/udp/4001/quic-v1/webtransport" + certhash(t, long[:20], multihash.SHA2_256): "certificate hash",
		"/ip4/192.0.2.1/udp/4001/quic-v1/webtransport" + h1 + "/p2p/" + someID + "/p2p-circuit":     "not WebTransport",
		"/p2p-circuit": "not WebTransport",
		"/ip4/192.0.2.1/udp/4001/quic-v1/webtransport" + strings.Repeat(h1, maxHashes+1): "more than",
		"/dns/" + "evil.example%2fpath" + "/udp/4001/quic-v1/webtransport" + h1:          "host is not a name",
		"/ip6zone/eth0/ip6/fe80::1/udp/4001/quic-v1/webtransport" + h1:                   "not WebTransport",
	} {
		if _, err := parseTarget(ma.StringCast(addr)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", addr, err, want)
		}
	}
}

func TestParseWebSocket(t *testing.T) {
	for addr, want := range map[string]string{
		"/ip4/127.0.0.1/tcp/4001/ws":                                "ws://127.0.0.1:4001/",
		"/ip6/::1/tcp/4001/ws/p2p/" + someID:                        "ws://[::1]:4001/",
		"/dns4/localhost/tcp/4001/ws":                               "ws://localhost:4001/",
		"/dns/relay.example/tcp/443/wss":                            "wss://relay.example:443/",
		"/dns/relay.example/tcp/443/tls/ws":                         "wss://relay.example:443/",
		"/ip4/192.0.2.1/tcp/443/tls/sni/r.example/ws/p2p/" + someID: "wss://r.example:443/",
	} {
		if got, err := parseWebSocket(ma.StringCast(addr)); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", addr, got, err, want)
		}
	}
	for _, addr := range []string{
		"/ip4/192.0.2.1/tcp/4001/ws", "/dns/relay.example/tcp/80/ws", "/dns/localhost.example/tcp/80/ws", "/ip4/127.0.0.1/tcp/4001",
		"/ip4/127.0.0.1/tcp/4001/ws/p2p/" + someID + "/p2p-circuit", "/ip4/127.0.0.1/udp/4001/quic-v1",
	} {
		if got, err := parseWebSocket(ma.StringCast(addr)); err == nil {
			t.Errorf("%s: %q", addr, got)
		}
	}
}

// FuzzAddr: addresses come from strangers; whatever they are, the URL names
// the host that the address names, and nothing panics.
func FuzzAddr(f *testing.F) {
	one := sha256.Sum256([]byte("1"))
	for _, s := range []string{
		"/ip4/192.0.2.1/udp/4001/quic-v1/webtransport" + certhash(f, one[:], multihash.SHA2_256), "/dns/a@b/tcp/1/wss", "/dns/a/tcp/1/tls/sni/b/ws",
	} {
		f.Add(ma.StringCast(s).Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ma.NewMultiaddrBytes(b)
		if err != nil || len(a) == 0 {
			return
		}
		check := func(text, scheme string) {
			u, err := url.Parse(text)
			if err != nil || u.Scheme != scheme || u.User != nil || u.Fragment != "" {
				t.Fatalf("%s: url %s", a, text)
			}
			host := a[0].Value()
			if name, err := a.ValueForProtocol(ma.P_SNI); err == nil && scheme == "wss" {
				host = name
			}
			if u.Hostname() != host {
				t.Fatalf("%s: url %s names %s", a, text, u.Hostname())
			}
		}
		if to, err := parseTarget(a); err == nil {
			check(to.url, "https")
		}
		if text, err := parseWebSocket(a); err == nil {
			scheme, _, _ := strings.Cut(text, ":")
			check(text, scheme)
		}
		named(a)
	})
}

func TestVouched(t *testing.T) {
	digest := func(s string) []byte { d := sha256.Sum256([]byte(s)); return d[:] }
	sent := func(s string) []byte {
		mh, err := multihash.Encode(digest(s), multihash.SHA2_256)
		if err != nil {
			t.Fatal(err)
		}
		return mh
	}
	if err := vouched([][]byte{digest("a"), digest("b")}, [][]byte{sent("c"), sent("b"), sent("a")}); err != nil {
		t.Error(err)
	}
	for name, c := range map[string][2][][]byte{
		"one unknown": {{digest("a"), digest("x")}, {sent("a"), sent("b")}},
		"none sent":   {{digest("a")}, nil},
	} {
		if err := vouched(c[0], c[1]); !errors.Is(err, errHashMissing) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := vouched([][]byte{digest("a")}, [][]byte{{1, 2, 3}}); err == nil {
		t.Error("a server that sends nonsense is believed")
	}
}
