//go:build !js

package webtransport_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"edgenet.dev/transport"
)

// config is the tab's; see testdata/tab.
type config struct {
	Server    string
	Addrs     []string
	WebSocket []string
	Deaf      string
	Cases     []string
}

// only is for work on one case: go test -run TestTab ./transport/webtransport -args -cases dial,cancel
var only = flag.String("cases", "", "run only these cases, separated by commas")

// TestTab runs the transport in real Chromium, in a dedicated Worker, against
// a native host on loopback. The cases are in testdata/tab.
func TestTab(t *testing.T) {
	wasm := buildTab(t)
	t.Run("worker", func(t *testing.T) {
		c := serve(t)
		if *only != "" {
			c.Cases = strings.Split(*only, ",")
		}
		results := runTab(t, wasm, c, true)
		passed := map[string]bool{}
		for r := next(t, results); r.Name != "end"; r = next(t, results) {
			t.Run(r.Name, func(t *testing.T) {
				t.Logf("%d ms %s", r.Millis, r.Notes)
				if r.Error != "" {
					t.Error(r.Error)
				}
			})
			passed[r.Name] = true
		}
		for _, want := range []string{
			"identify", "echo", "streams", "readDeadline", "writeDeadline", "resetByTab", "resetByServer", "stopByServer",
			"halfClose", "closeRead", "closeConn", "serverCloses", "backPressure", "closeWhileWriting", "streamToTab", "gossip", "noLeak", "relayed",
			"webSocket", "dial", "wrongHash", "unknownHash", "wrongPeer", "gater", "refusedScopes", "cancel",
		} {
			if !passed[want] && *only == "" {
				t.Errorf("case %s did not run", want)
			}
		}
	})
	t.Run("page", func(t *testing.T) {
		c := serve(t)
		c.Cases = []string{"identify", "halfClose"}
		results := runTab(t, wasm, c, false)
		for range c.Cases {
			if r := next(t, results); r.Error != "" {
				t.Errorf("%s: %s", r.Name, r.Error)
			}
		}
	})
}

func nativeHost(t *testing.T, c transport.Config) host.Host {
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

// serve starts the native host that the cases talk to.
func serve(t *testing.T) config {
	h := nativeHost(t, transport.Config{
		Listen: []ma.Multiaddr{
			ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1/webtransport"),
			ma.StringCast("/ip4/127.0.0.1/tcp/0/ws"),
		},
		Relay: true, Reachability: transport.Public,
	})
	other := nativeHost(t, transport.Config{})
	c := config{Server: h.ID().String()}
	for _, a := range h.Addrs() {
		full := a.String() + "/p2p/" + h.ID().String()
		switch {
		case strings.HasSuffix(a.String(), "/ws"):
			c.WebSocket = append(c.WebSocket, full)
		case strings.Contains(a.String(), "/certhash/"):
			c.Addrs = append(c.Addrs, full)
			deaf, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { deaf.Close() })
			port, err := a.ValueForProtocol(ma.P_UDP)
			if err != nil {
				t.Fatal(err)
			}
			_, other, _ := net.SplitHostPort(deaf.LocalAddr().String())
			c.Deaf = strings.Replace(full, "/udp/"+port+"/", "/udp/"+other+"/", 1)
		}
	}
	if len(c.Addrs) == 0 || len(c.WebSocket) == 0 {
		t.Fatalf("the server announces %v", h.Addrs())
	}
	handlers(t, h, other)
	return c
}

// handlers are the protocols of the cases. Those whose name says so greet: they
// answer the first byte, so that the tab knows that negotiation is over.
func handlers(t *testing.T, h, other host.Host) {
	seen := make(chan string, 1000) // what a handler saw, for "ask seen"
	woken := make(chan struct{}, 1000)
	greet := func(s network.Stream) bool {
		b := make([]byte, 1)
		if _, err := io.ReadFull(s, b); err != nil {
			s.Reset()
			return false
		}
		_, err := s.Write(b)
		return err == nil
	}
	sum := func(s network.Stream) (string, error) {
		w := sha256.New()
		n, err := io.Copy(w, s)
		return fmt.Sprintf("%d %x", n, w.Sum(nil)), err
	}
	h.SetStreamHandler("/echo/1", func(s network.Stream) { io.Copy(s, s); s.Close() })
	h.SetStreamHandler("/sum/1", func(s network.Stream) {
		if answer, err := sum(s); err == nil {
			io.WriteString(s, answer)
		}
		s.Close()
	})
	h.SetStreamHandler("/sum/2", func(s network.Stream) {
		defer s.Close()
		if !greet(s) {
			return
		}
		answer, err := sum(s)
		if err != nil {
			answer = err.Error()
		}
		seen <- answer
	})
	h.SetStreamHandler("/trickle/1", func(s network.Stream) {
		defer s.Close()
		if !greet(s) {
			return
		}
		for i := range 50 {
			if _, err := s.Write(bytes.Repeat([]byte{byte(i)}, 1<<10)); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	h.SetStreamHandler("/sleepy/1", func(s network.Stream) {
		defer s.Close()
		if !greet(s) {
			return
		}
		select {
		case <-woken:
		case <-time.After(time.Minute):
			s.Reset()
			return
		}
		if answer, err := sum(s); err == nil {
			io.WriteString(s, answer)
		}
	})
	h.SetStreamHandler("/watch/1", func(s network.Stream) {
		defer s.Close()
		if !greet(s) {
			return
		}
		_, err := io.Copy(io.Discard, s)
		switch {
		case errors.Is(err, network.ErrReset):
			seen <- "reset: " + err.Error()
		case err != nil:
			seen <- err.Error()
		default:
			seen <- "end"
		}
	})
	h.SetStreamHandler("/reset/1", func(s network.Stream) {
		greet(s)
		time.Sleep(50 * time.Millisecond) // the greeting goes first
		s.ResetWithError(0x1003)
	})
	h.SetStreamHandler("/stop/1", func(s network.Stream) {
		if !greet(s) {
			return
		}
		s.CloseRead()
		time.Sleep(500 * time.Millisecond)
		io.WriteString(s, "still here")
		s.CloseWrite()
	})
	h.SetStreamHandler("/ask/1", func(s network.Stream) {
		defer s.Close()
		line, err := bufio.NewReader(s).ReadString('\n')
		if err != nil {
			s.Reset()
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		answer := "ok"
		switch words := strings.Fields(line); words[0] {
		case "seen":
			select {
			case answer = <-seen:
			case <-ctx.Done():
				answer = "nothing"
			}
		case "wake":
			woken <- struct{}{}
		case "hang":
			s.Conn().Close()
		case "echo":
			err = echoed(ctx, h, s.Conn().RemotePeer())
		case "reach":
			err = reach(ctx, other, words[1], words[2:])
		default:
			answer = "what is " + words[0]
		}
		if err != nil {
			answer = strings.ReplaceAll(err.Error(), "\n", " ")
		}
		io.WriteString(s, answer+"\n")
	})

	ctx, cancel := context.WithCancel(context.Background())
	ps, err := pubsub.NewGossipSub(ctx, h)
	if err != nil {
		t.Fatal(err)
	}
	topic, err := ps.Join("test")
	if err != nil {
		t.Fatal(err)
	}
	sub, err := topic.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			m, err := sub.Next(ctx)
			if err != nil {
				return
			}
			if text, ok := strings.CutPrefix(string(m.Data), "ping "); ok {
				topic.Publish(ctx, []byte("pong "+text))
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// echoed opens a stream to a tab and sends through it.
func echoed(ctx context.Context, h host.Host, tab peer.ID) error {
	s, err := h.NewStream(network.WithAllowLimitedConn(ctx, "test"), tab, "/echo/1")
	if err != nil {
		return err
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, 1<<20)
	rand.Read(b)
	go func() { s.Write(b); s.CloseWrite() }()
	got, err := io.ReadAll(s)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, b) {
		return fmt.Errorf("%d other bytes came back", len(got))
	}
	return nil
}

// reach connects to a tab at the addresses that it announces, which are all
// relayed, and uses it.
func reach(ctx context.Context, h host.Host, tab string, addrs []string) error {
	id, err := peer.Decode(tab)
	if err != nil {
		return err
	}
	ai := peer.AddrInfo{ID: id}
	for _, a := range addrs {
		m, err := ma.NewMultiaddr(a)
		if err != nil {
			return err
		}
		ai.Addrs = append(ai.Addrs, m)
	}
	if err := h.Connect(network.WithAllowLimitedConn(ctx, "test"), ai); err != nil {
		return err
	}
	conns := h.Network().ConnsToPeer(id)
	if !slices.ContainsFunc(conns, func(c network.Conn) bool { return strings.Contains(c.RemoteMultiaddr().String(), "/p2p-circuit") }) {
		return fmt.Errorf("connected without the relay: %v", conns)
	}
	return echoed(ctx, h, id)
}
