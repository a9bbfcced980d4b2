//go:build js

// Command tab is the browser's half of browser_test.go: it runs in a page or a
// Worker, works through its cases against the native hosts of the test, and
// posts what came out.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"syscall/js"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"edgenet.dev/transport"
)

// config is what the native half tells.
type config struct {
	Server    string   // peer id
	Addrs     []string // of the server, WebTransport, with peer id
	WebSocket []string // of the server, with peer id
	Deaf      string   // a WebTransport address that never answers, with peer id
	Cases     []string // to run; none = all
}

var conf config

type testCase struct {
	name string
	run  func(ctx context.Context) error
}

var cases []testCase

func main() {
	if err := json.Unmarshal([]byte(js.Global().Get("CONFIG").String()), &conf); err != nil {
		post("start", err, 0)
		return
	}
	want := map[string]bool{}
	for _, c := range conf.Cases {
		want[c] = true
	}
	for _, c := range cases {
		if len(want) > 0 && !want[c.name] {
			continue
		}
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		notes = ""
		err := c.run(ctx)
		cancel()
		post(c.name, err, time.Since(start))
	}
	post("end", nil, 0)
	select {}
}

// notes is what a case wants to tell besides that it passed.
var notes string

func note(format string, args ...any) { notes += fmt.Sprintf(format, args...) + " " }

func post(name string, err error, took time.Duration) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	b, _ := json.Marshal(map[string]any{"Name": name, "Error": text, "Millis": took.Milliseconds(), "Notes": notes})
	done := make(chan struct{})
	f := js.FuncOf(func(js.Value, []js.Value) any { close(done); return nil })
	defer f.Release()
	js.Global().Call("fetch", "/result", map[string]any{"method": "POST", "body": string(b)}).Call("finally", f)
	<-done
}

func newKey() crypto.PrivKey {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func newHost(c transport.Config) (host.Host, error) {
	c.Key = newKey()
	return transport.NewHost(c)
}

func infos(addrs []string) ([]peer.AddrInfo, error) {
	var all []ma.Multiaddr
	for _, a := range addrs {
		m, err := ma.NewMultiaddr(a)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return peer.AddrInfosFromP2pAddrs(all...)
}

// connect makes a host that is connected to the server.
func connect(ctx context.Context, addrs []string) (host.Host, peer.ID, error) {
	h, err := newHost(transport.Config{})
	if err != nil {
		return nil, "", err
	}
	ai, err := infos(addrs)
	if err != nil {
		h.Close()
		return nil, "", err
	}
	if err := h.Connect(ctx, ai[0]); err != nil {
		h.Close()
		return nil, "", err
	}
	return h, ai[0].ID, nil
}

// ask sends one line to the server's control protocol and returns its answer.
func ask(ctx context.Context, h host.Host, server peer.ID, format string, args ...any) (string, error) {
	s, err := h.NewStream(network.WithAllowLimitedConn(ctx, "test"), server, "/ask/1")
	if err != nil {
		return "", err
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(s, format+"\n", args...)
	line, err := bufio.NewReader(s).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("ask: %w", err)
	}
	return line[:len(line)-1], nil
}

// until waits for a condition of the event loop's making.
func until(ctx context.Context, what string, ok func() bool) error {
	for !ok() {
		select {
		case <-ctx.Done():
			return errors.New("never: " + what)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}
