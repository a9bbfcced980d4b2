//go:build !js

package transport_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"edgenet.dev/transport"
)

func start(t *testing.T, c transport.Config) host.Host {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.Key = key
	h, err := transport.NewHost(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// Every transport carries a connection by itself, and announces itself.
func TestTransports(t *testing.T) {
	for _, listen := range []string{
		"/ip4/127.0.0.1/tcp/0",
		"/ip4/127.0.0.1/udp/0/quic-v1",
		"/ip4/127.0.0.1/udp/0/quic-v1/webtransport",
		"/ip4/127.0.0.1/tcp/0/ws",
	} {
		t.Run(listen, func(t *testing.T) {
			server := start(t, transport.Config{Listen: []ma.Multiaddr{ma.StringCast(listen)}})
			client := start(t, transport.Config{})
			if len(server.Addrs()) == 0 {
				t.Fatal("no address announced")
			}
			if err := client.Connect(context.Background(), peer.AddrInfo{ID: server.ID(), Addrs: server.Addrs()}); err != nil {
				t.Fatal(err)
			}
			got := client.Network().ConnsToPeer(server.ID())[0].RemoteMultiaddr().String()
			want := strings.ReplaceAll(strings.TrimSuffix(listen, "/0"), "/0/", "/")
			for _, part := range strings.Split(want, "/") {
				if !strings.Contains(got, part) {
					t.Errorf("connected over %s, want %s", got, listen)
				}
			}
		})
	}
}

func TestAnnounceReplacesListen(t *testing.T) {
	want := ma.StringCast("/ip4/192.0.2.7/tcp/4001")
	h := start(t, transport.Config{
		Listen:   []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")},
		Announce: []ma.Multiaddr{want},
	})
	if got := h.Addrs(); len(got) != 1 || !got[0].Equal(want) {
		t.Fatalf("announces %v, want %v", got, want)
	}
}

func TestBadConfig(t *testing.T) {
	if _, err := transport.NewHost(transport.Config{}); err == nil {
		t.Error("a host without key started")
	}
	key, _, _ := crypto.GenerateEd25519Key(rand.Reader)
	if _, err := transport.NewHost(transport.Config{Key: key, Reachability: "maybe"}); err == nil {
		t.Error("unknown reachability was accepted")
	}
}

func TestTakenPortIsAnError(t *testing.T) {
	h := start(t, transport.Config{Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}})
	key, _, _ := crypto.GenerateEd25519Key(rand.Reader)
	other, err := transport.NewHost(transport.Config{Key: key, Listen: h.Addrs()})
	if err == nil {
		other.Close()
	}
	if taken := new(transport.PortTakenError); !errors.As(err, &taken) || !taken.Addr.Equal(h.Addrs()[0]) {
		t.Errorf("second host on %s: %v, want a PortTakenError", h.Addrs(), err)
	}
}
