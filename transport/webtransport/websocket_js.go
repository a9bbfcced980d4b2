package webtransport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall/js"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// maxUnsent is how much a WebSocket buffers before Write waits. Its API tells
// how much is unsent but not when that changes, so Write looks again.
const (
	maxUnsent = 1 << 20
	lookAgain = 4 * time.Millisecond
)

var unknownSocket = ma.StringCast("/ip4/0.0.0.0/tcp/0/ws")

// sockets counts js.Func held by WebSockets.
var sockets struct{ live int }

// WebSocket dials secure WebSockets, and plain ones on loopback.
type WebSocket struct {
	upgrader  transport.Upgrader
	resources network.ResourceManager
}

var (
	_ transport.Transport    = (*WebSocket)(nil)
	_ transport.SkipResolver = (*WebSocket)(nil)
)

// NewWebSocket makes a transport whose connections the upgrader secures.
// resources may be nil.
func NewWebSocket(upgrader transport.Upgrader, resources network.ResourceManager) *WebSocket {
	if resources == nil {
		resources = &network.NullResourceManager{}
	}
	return &WebSocket{upgrader, resources}
}

// Dial connects to p. When ctx ends first the socket is closed.
func (t *WebSocket) Dial(ctx context.Context, addr ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	url, err := parseWebSocket(addr)
	if err != nil {
		return nil, fmt.Errorf("websocket: %w", err)
	}
	scope, err := t.resources.OpenConnection(network.DirOutbound, true, addr)
	if err != nil {
		return nil, err
	}
	if err := scope.SetPeer(p); err != nil {
		scope.Done()
		return nil, err
	}
	s, err := openSocket(ctx, url, addr)
	if err != nil {
		scope.Done()
		return nil, fmt.Errorf("websocket: %w", err)
	}
	c, err := t.upgrader.Upgrade(ctx, t, s, network.DirOutbound, p, scope) // closes s and scope when it fails
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("websocket: %w", err)
	}
	return c, nil
}

// CanDial tells whether addr is a secure WebSocket, or a plain one on loopback.
func (t *WebSocket) CanDial(addr ma.Multiaddr) bool {
	_, err := parseWebSocket(addr)
	return err == nil
}

// SkipResolve keeps names in addresses: the browser resolves them, and a
// certificate is for a name.
func (t *WebSocket) SkipResolve(_ context.Context, addr ma.Multiaddr) bool { return named(addr) }

// Listen fails.
func (t *WebSocket) Listen(ma.Multiaddr) (transport.Listener, error) { return nil, errCannotListen }

func (t *WebSocket) Protocols() []int { return []int{ma.P_WS, ma.P_WSS} }
func (t *WebSocket) Proxy() bool      { return false }

// socket is a browser's WebSocket as a connection of bytes.
type socket struct {
	*backlog
	v      js.Value
	remote ma.Multiaddr
	opened chan struct{}
	ended  chan struct{}
	once   sync.Once
	funcs  []js.Func

	writing sync.Mutex
	wtime   deadline
}

var _ manet.Conn = (*socket)(nil)

func openSocket(ctx context.Context, url string, remote ma.Multiaddr) (*socket, error) {
	v, err := construct(js.Global().Get("WebSocket"), url)
	if err != nil {
		return nil, err
	}
	v.Set("binaryType", "arraybuffer")
	s := &socket{backlog: newBacklog(), v: v, remote: remote, opened: make(chan struct{}), ended: make(chan struct{})}
	s.on("onopen", func(js.Value) { close(s.opened) })
	s.on("onmessage", func(e js.Value) {
		data := e.Get("data")
		if data.Type() != js.TypeObject {
			s.end(errors.New("the peer sent text"), false)
			return
		}
		view := uint8Array.New(data)
		b := make([]byte, view.Get("byteLength").Int())
		js.CopyBytesToGo(b, view)
		if err := s.put(b); err != nil {
			s.end(err, true)
		}
	})
	s.on("onclose", func(e js.Value) {
		err := io.EOF
		if !e.Get("wasClean").Bool() {
			err = fmt.Errorf("socket closed with code %d", e.Get("code").Int())
		}
		s.end(err, false)
	})
	select {
	case <-s.opened:
		return s, nil
	case <-s.ended:
		_, err := s.backlog.Read(nil)
		if err == nil || errors.Is(err, io.EOF) {
			err = errors.New("refused")
		}
		return nil, err
	case <-ctx.Done():
		s.Close()
		return nil, ctx.Err()
	}
}

func (s *socket) on(event string, f func(js.Value)) {
	h := js.FuncOf(func(_ js.Value, args []js.Value) any {
		f(args[0])
		return nil
	})
	waiters.mu.Lock()
	sockets.live++
	waiters.mu.Unlock()
	s.funcs = append(s.funcs, h)
	s.v.Set(event, h)
}

// end closes the socket; what has arrived can still be read unless drop.
func (s *socket) end(err error, drop bool) {
	s.backlog.end(err, drop)
	s.once.Do(func() {
		for _, e := range []string{"onopen", "onmessage", "onclose"} {
			s.v.Set(e, js.Null())
		}
		call(s.v, "close")
		for _, f := range s.funcs {
			f.Release()
		}
		waiters.mu.Lock()
		sockets.live -= len(s.funcs)
		waiters.mu.Unlock()
		close(s.ended)
	})
}

func (s *socket) Write(p []byte) (n int, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	for len(p) > 0 {
		if s.wtime.passed() {
			return n, os.ErrDeadlineExceeded
		}
		select {
		case <-s.ended:
			return n, net.ErrClosed
		default:
		}
		if s.v.Get("bufferedAmount").Int() > maxUnsent {
			wait := time.NewTimer(lookAgain)
			select {
			case <-wait.C:
			case <-s.ended:
			case <-s.wtime.wait():
			}
			wait.Stop()
			continue
		}
		k := min(len(p), maxChunk)
		view := uint8Array.New(k)
		js.CopyBytesToJS(view, p[:k])
		if _, err := call(s.v, "send", view); err != nil {
			return n, err
		}
		n, p = n+k, p[k:]
	}
	return n, nil
}

func (s *socket) Close() error {
	s.end(net.ErrClosed, true)
	s.SetDeadline(time.Time{})
	return nil
}

func (s *socket) SetDeadline(t time.Time) error {
	s.deadline.set(t)
	s.wtime.set(t)
	return nil
}

func (s *socket) SetReadDeadline(t time.Time) error {
	s.deadline.set(t)
	return nil
}

func (s *socket) SetWriteDeadline(t time.Time) error {
	s.wtime.set(t)
	return nil
}

func (s *socket) LocalAddr() net.Addr           { return &net.TCPAddr{} }
func (s *socket) RemoteAddr() net.Addr          { return addrText(s.remote.String()) }
func (s *socket) LocalMultiaddr() ma.Multiaddr  { return unknownSocket }
func (s *socket) RemoteMultiaddr() ma.Multiaddr { return s.remote }
