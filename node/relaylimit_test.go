//go:build !js

package node_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"

	"edgenet.dev/node"
	"edgenet.dev/proto"
)

// A relayed connection ends when it has carried as many bytes, or lasted as
// long, as the genesis says. libp2p's own limits are 128 KiB and two minutes.
func TestRelayLimitsHold(t *testing.T) {
	const most = 64 << 10
	for name, limits := range map[string]*proto.RelayLimits{
		"bytes":   {Bytes: most, Seconds: 3600},
		"seconds": {Bytes: 1 << 30, Seconds: 2},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLabOf(t, 1, 1, func(g *proto.Genesis) { g.Relay = limits })
			relay := l.start(0, func(c *node.Config) { c.Relay, c.Reachability = true, "public" })
			info, err := peer.AddrInfoFromString(relay.Addrs()[0])
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			hidden, caller := relayedHost(t), relayedHost(t)
			if err := hidden.Connect(ctx, *info); err != nil {
				t.Fatal(err)
			}
			until(t, "there is a place on the relay", func() bool {
				_, err := client.Reserve(ctx, hidden, *info)
				return err == nil
			})
			var heard atomic.Int64
			hidden.SetStreamHandler("/much", func(s network.Stream) {
				b := make([]byte, 4096)
				for {
					n, err := s.Read(b)
					heard.Add(int64(n))
					if err != nil {
						s.Close()
						return
					}
				}
			})
			through := info.Addrs[0].Encapsulate(ma.StringCast("/p2p/" + relay.ID().String() + "/p2p-circuit"))
			if err := caller.Connect(ctx, peer.AddrInfo{ID: hidden.ID(), Addrs: []ma.Multiaddr{through}}); err != nil {
				t.Fatal(err)
			}
			s, err := caller.NewStream(network.WithAllowLimitedConn(ctx, "test"), hidden.ID(), "/much")
			if err != nil {
				t.Fatal(err)
			}
			if limits.Bytes == most {
				_, err = s.Write(make([]byte, most+(32<<10))) // less than libp2p's own limit
				if err == nil {
					err = s.CloseWrite()
				}
				if err == nil {
					_, err = io.Copy(io.Discard, s) // ends when the other side has heard all, or with the connection
				}
				if n := heard.Load(); err == nil || n == 0 || n > most {
					t.Errorf("%d bytes passed the relay: %v", n, err)
				}
			} else {
				until(t, "the relay ends the connection", func() bool { return s.Conn().IsClosed() })
			}
		})
	}
}

func relayedHost(t *testing.T) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1"), libp2p.EnableRelay(), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}
