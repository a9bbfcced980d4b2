//go:build js

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"edgenet.dev/transport"
	"edgenet.dev/transport/webtransport"
)

// These cases are about hosts more than about streams.

func streamToTab(ctx context.Context, h host.Host, server peer.ID) error {
	h.SetStreamHandler("/echo/1", func(s network.Stream) { io.Copy(s, s); s.Close() })
	answer, err := ask(ctx, h, server, "echo %s", h.ID())
	if err == nil && answer != "ok" {
		err = errors.New(answer)
	}
	return err
}

func gossip(ctx context.Context, h host.Host, server peer.ID) error {
	ps, err := pubsub.NewGossipSub(ctx, h)
	if err != nil {
		return err
	}
	topic, err := ps.Join("test")
	if err != nil {
		return err
	}
	sub, err := topic.Subscribe()
	if err != nil {
		return err
	}
	if err := until(ctx, "the server joins", func() bool { return slices.Contains(topic.ListPeers(), server) }); err != nil {
		return err
	}
	// What is published before the mesh is made goes nowhere.
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for i := 0; ; i++ {
			topic.Publish(ctx, fmt.Appendf(nil, "ping %d %s", i, h.ID()))
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	for {
		m, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		if m.GetFrom() == server && strings.HasPrefix(string(m.Data), "pong ") && strings.HasSuffix(string(m.Data), h.ID().String()) {
			return nil
		}
	}
}

// noLeak counts goroutines and js.Funcs over 500 streams and over connections.
func noLeak(ctx context.Context) error {
	work := func(n int) error {
		h, server, err := connect(ctx, conf.Addrs)
		if err != nil {
			return err
		}
		defer h.Close()
		for i := range n {
			if err := roundTrip(ctx, h, server, fmt.Sprint(i)); err != nil {
				return err
			}
			if i%10 == 0 { // a reset with a read pending, too
				s, err := open(ctx, h, server, "/watch/1")
				if err != nil {
					return err
				}
				go s.Read(make([]byte, 1))
				time.Sleep(time.Millisecond)
				s.Reset()
				if _, err := ask(ctx, h, server, "seen"); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := work(20); err != nil { // what is made once
		return err
	}
	quiet := func() (goroutines, funcs int) {
		for range 100 { // what ends by itself needs a moment
			runtime.GC()
			time.Sleep(10 * time.Millisecond)
		}
		return runtime.NumGoroutine(), webtransport.Funcs()
	}
	g0, f0 := quiet()
	for range 5 {
		if err := work(100); err != nil {
			return err
		}
	}
	g1, f1 := quiet()
	note("goroutines %d → %d, funcs %d → %d", g0, g1, f0, f1)
	if g1 > g0+2 || f1 > f0+2 {
		return fmt.Errorf("goroutines %d → %d, js.Funcs %d → %d", g0, g1, f0, f1)
	}
	return nil
}

// relayed is a tab that keeps a slot on its relay; another host reaches it.
func relayed(ctx context.Context) error {
	relays, err := infos(conf.Addrs)
	if err != nil {
		return err
	}
	h, err := newHost(transport.Config{Relays: relays})
	if err != nil {
		return err
	}
	defer h.Close()
	h.SetStreamHandler("/echo/1", func(s network.Stream) { io.Copy(s, s); s.Close() })
	if err := until(ctx, "a relayed address", func() bool {
		return slices.ContainsFunc(h.Addrs(), func(a ma.Multiaddr) bool { return strings.Contains(a.String(), "/p2p-circuit") })
	}); err != nil {
		return err
	}
	note("%v", h.Addrs())
	addrs := make([]string, 0, len(h.Addrs()))
	for _, a := range h.Addrs() {
		addrs = append(addrs, a.String())
	}
	answer, err := ask(ctx, h, relays[0].ID, "reach %s %s", h.ID(), strings.Join(addrs, " "))
	if err == nil && answer != "ok" {
		err = errors.New(answer)
	}
	return err
}

func webSocket(ctx context.Context) error {
	before := webtransport.Funcs()
	h, server, err := connect(ctx, conf.WebSocket)
	if err != nil {
		return err
	}
	defer h.Close()
	if a := h.Network().ConnsToPeer(server)[0].RemoteMultiaddr().String(); !strings.HasSuffix(a, "/ws") {
		return fmt.Errorf("connected to %s", a)
	}
	if err := echo(ctx, h, server, 5<<20); err != nil {
		return err
	}
	if err := readDeadline(ctx, h, server); err != nil {
		return err
	}
	if err := resetByTab(ctx, h, server); err != nil {
		return err
	}
	if err := streamToTab(ctx, h, server); err != nil {
		return err
	}
	if err := h.Close(); err != nil {
		return err
	}
	return until(ctx, "the socket's funcs are released", func() bool { return webtransport.Funcs() <= before })
}
