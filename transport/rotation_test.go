//go:build !js

package transport_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	webtransport "github.com/libp2p/go-libp2p/p2p/transport/webtransport"
	ma "github.com/multiformats/go-multiaddr"

	"edgenet.dev/transport"
)

const day = 24 * time.Hour

// rotatingKey returns a key whose certificate changes about now. go-libp2p
// derives a relay's certificates from its key and the time, in periods of 14
// days less two hours, and neighbours are both valid for two hours; with such
// a key a client, whose own clock nobody moves, can use the relay before and
// after the change.
func rotatingKey(t *testing.T, now time.Time) crypto.PrivKey {
	t.Helper()
	for {
		key, pub, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := pub.Raw()
		if err != nil {
			t.Fatal(err)
		}
		offset := time.Duration(binary.LittleEndian.Uint16(raw)) * time.Minute % (14 * day)
		since := time.Duration(now.UnixMilli()-offset.Milliseconds()) * time.Millisecond % (14*day - 2*time.Hour)
		if since > 10*time.Minute && since < 110*time.Minute {
			return key
		}
	}
}

// relayAt starts a relay whose clock shows at.
func relayAt(t *testing.T, key crypto.PrivKey, at time.Time, listen string) host.Host {
	t.Helper()
	mock := clock.NewMock()
	mock.Set(at)
	h, err := libp2p.New(
		libp2p.Identity(key), libp2p.ListenAddrStrings(listen), libp2p.Transport(webtransport.New, webtransport.WithClock(mock)),
		libp2p.EnableRelayService(), libp2p.ForceReachabilityPublic(), libp2p.DisableMetrics(),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func certhashes(addrs []ma.Multiaddr) (all []string) {
	for _, a := range addrs {
		for _, c := range a {
			if c.Code() == ma.P_CERTHASH {
				all = append(all, c.Value())
			}
		}
	}
	return all
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("never: %s", what)
		}
	}
}

// A relay restarts 14 days later with other certificates at the same port: the
// host finds it again through Resolve, and only through it.
func TestRelayFoundAgainAfterRotation(t *testing.T) {
	now := time.Now()
	key := rotatingKey(t, now)
	relay := relayAt(t, key, now.Add(-day), "/ip4/127.0.0.1/udp/0/quic-v1/webtransport")
	old := relay.Addrs()
	port, err := old[0].ValueForProtocol(ma.P_UDP)
	if err != nil {
		t.Fatal(err)
	}

	var resolved atomic.Int32
	var current atomic.Pointer[peer.AddrInfo]
	current.Store(&peer.AddrInfo{ID: relay.ID(), Addrs: old})
	h := start(t, transport.Config{
		Relays: []peer.AddrInfo{{ID: relay.ID(), Addrs: old}}, Reachability: transport.Private,
		Resolve: func(context.Context) ([]peer.AddrInfo, error) {
			resolved.Add(1)
			return []peer.AddrInfo{*current.Load()}, nil
		},
	})
	relayed := func() bool {
		return slices.ContainsFunc(h.Addrs(), func(a ma.Multiaddr) bool { return strings.Contains(a.String(), "/p2p-circuit") })
	}
	eventually(t, "a slot on the relay", relayed)
	if n := resolved.Load(); n != 0 {
		t.Errorf("resolved %d times with good addresses", n)
	}
	if err := relay.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the host notices", func() bool { return h.Network().Connectedness(relay.ID()) != network.Connected })

	relay = relayAt(t, key, now.Add(13*day+6*time.Hour), fmt.Sprintf("/ip4/127.0.0.1/udp/%s/quic-v1/webtransport", port))
	before, after := certhashes(old), certhashes(relay.Addrs())
	if len(before) == 0 || len(after) == 0 || slices.Equal(before, after) || slices.Contains(after, before[0]) {
		t.Fatalf("the certificates did not change: %v, %v", before, after)
	}
	// The old address is of no use to anybody.
	other := start(t, transport.Config{})
	if err := other.Connect(context.Background(), peer.AddrInfo{ID: relay.ID(), Addrs: old}); err == nil {
		t.Fatal("connected with the old certificate hashes")
	}
	current.Store(&peer.AddrInfo{ID: relay.ID(), Addrs: relay.Addrs()})
	eventually(t, "the relay found again", func() bool { return h.Network().Connectedness(relay.ID()) == network.Connected })
	eventually(t, "a slot on it", relayed)
	if resolved.Load() == 0 {
		t.Error("found without the resolver")
	}
}
