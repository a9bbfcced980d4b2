//go:build !js

package transport_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"

	"edgenet.dev/transport"
)

// A relay ends a connection that it passes on after the bytes, and after the time,
// that its configuration names.
func TestRelayLimits(t *testing.T) {
	const most = 64 << 10
	for name, limit := range map[string]relay.RelayLimit{
		"bytes": {Data: most, Duration: time.Hour},
		"time":  {Data: 1 << 30, Duration: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			listen := []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}
			hop := start(t, transport.Config{Listen: listen, Reachability: transport.Public, Relay: true, RelayLimit: limit})
			behind := start(t, transport.Config{})
			var got atomic.Int64
			ended := make(chan struct{})
			behind.SetStreamHandler("/sink", func(s network.Stream) {
				defer close(ended)
				for b := make([]byte, 1<<10); ; {
					n, err := s.Read(b)
					got.Add(int64(n))
					if err != nil {
						return
					}
				}
			})
			info := peer.AddrInfo{ID: hop.ID(), Addrs: hop.Addrs()}
			if err := behind.Connect(ctx, info); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Reserve(ctx, behind, info); err != nil {
				t.Fatal(err)
			}
			dialler := start(t, transport.Config{})
			over := hop.Addrs()[0].Encapsulate(ma.StringCast("/p2p/" + hop.ID().String() + "/p2p-circuit"))
			if err := dialler.Connect(ctx, peer.AddrInfo{ID: behind.ID(), Addrs: []ma.Multiaddr{over}}); err != nil {
				t.Fatal(err)
			}
			s, err := dialler.NewStream(network.WithAllowLimitedConn(ctx, "test"), behind.ID(), "/sink")
			if err != nil {
				t.Fatal(err)
			}
			var writer sync.WaitGroup
			defer writer.Wait()
			defer s.Reset()
			writer.Go(func() {
				part := make([]byte, 1<<10)
				for range 20 * most / len(part) {
					if _, err := s.Write(part); err != nil {
						return
					}
					if name == "time" {
						time.Sleep(5 * time.Millisecond) // seconds, if nobody ends it
					}
				}
				s.CloseWrite()
			})
			// A relay that reads no more leaves the writer waiting.
			quiet := int64(-1)
			for now := got.Load(); now != quiet; now = got.Load() {
				quiet = now
				select {
				case <-ended:
				case <-time.After(2 * time.Second):
				}
			}
			if quiet >= 20*most || name == "bytes" && quiet > most {
				t.Errorf("%d bytes passed", quiet)
			}
		})
	}
}
