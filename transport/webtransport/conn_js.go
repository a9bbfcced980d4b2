package webtransport

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall/js"
	"time"

	ic "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
)

// session is a browser's WebTransport and the streams on it.
type session struct {
	v        js.Value
	incoming js.Value // reader of streams that the peer opens
	ended    chan struct{}

	mu      sync.Mutex
	err     error // set before ended is closed
	streams map[*stream]struct{}
	aborts  int    // under way
	closing func() // when they are done

	accepting sync.Mutex
}

func newSession(v js.Value) *session {
	s := &session{v: v, ended: make(chan struct{}), streams: map[*stream]struct{}{}}
	then(v.Get("closed"), func(info js.Value, err error) {
		e := &network.ConnError{Remote: true, TransportError: err}
		if err == nil {
			e.TransportError = errors.New("session closed")
			if c := info.Get("closeCode"); c.Type() == js.TypeNumber {
				e.ErrorCode = network.ConnErrorCode(uint32(c.Float()))
			}
		}
		s.end(e)
	})
	return s
}

// end fails every stream with err, the first time it is called.
func (s *session) end(err error) bool {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return false
	}
	s.err = err
	streams := s.streams
	s.streams = nil
	close(s.ended)
	s.mu.Unlock()
	for st := range streams {
		st.fail(err)
	}
	return true
}

func (s *session) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// abortTime bounds how long a session that is closed waits for aborts.
const abortTime = time.Second

// close ends the session. Chromium 156 loses its renderer when a session is
// closed while the abort of a stream waits for a write in flight, so those are
// let finish first.
func (s *session) close(code network.ConnErrorCode) {
	s.end(&network.ConnError{ErrorCode: code, TransportError: net.ErrClosed})
	closeNow := sync.OnceFunc(func() {
		call(s.v, "close", map[string]any{"closeCode": uint32(code), "reason": ""})
	})
	s.mu.Lock()
	wait := s.aborts > 0
	if wait {
		timer := time.AfterFunc(abortTime, closeNow)
		s.closing = func() { timer.Stop(); closeNow() }
	}
	s.mu.Unlock()
	if !wait {
		closeNow()
	}
}

func (s *session) aborting(n int) {
	s.mu.Lock()
	s.aborts += n
	var f func()
	if s.aborts == 0 {
		f, s.closing = s.closing, nil
	}
	s.mu.Unlock()
	if f != nil {
		f()
	}
}

// adopt makes a stream of the browser's and ties its life to the session.
func (s *session) adopt(v js.Value) (*stream, error) {
	var st *stream
	st, err := openStream(v, func() {
		s.mu.Lock()
		delete(s.streams, st)
		s.mu.Unlock()
	}, s.aborting)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	err = s.err
	if err == nil {
		s.streams[st] = struct{}{}
	}
	s.mu.Unlock()
	if err != nil {
		st.Reset()
		return nil, err
	}
	return st, nil
}

func (s *session) open(ctx context.Context) (*stream, error) {
	if err := s.why(); err != nil {
		return nil, err
	}
	promise, err := call(s.v, "createBidirectionalStream")
	if err != nil {
		return nil, streamError(err)
	}
	v, err := await(ctx, s.ended, promise, abandon)
	switch {
	case err == nil:
		return s.adopt(v)
	case s.why() != nil:
		return nil, s.why()
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, streamError(err)
}

func (s *session) accept() (*stream, error) {
	s.accepting.Lock()
	defer s.accepting.Unlock()
	if err := s.why(); err != nil {
		return nil, err
	}
	if s.incoming.IsUndefined() {
		reader, err := call(s.v.Get("incomingBidirectionalStreams"), "getReader")
		if err != nil {
			return nil, streamError(err)
		}
		s.incoming = reader
	}
	promise, err := call(s.incoming, "read")
	if err != nil {
		return nil, streamError(err)
	}
	v, err := await(context.Background(), s.ended, promise, nil)
	switch {
	case s.why() != nil:
		return nil, s.why()
	case err != nil:
		return nil, streamError(err)
	case v.Get("done").Bool():
		return nil, io.EOF
	}
	return s.adopt(v.Get("value"))
}

// conn is an authenticated session.
type conn struct {
	transport     *Transport
	session       *session
	scope         network.ConnManagementScope
	local, remote peer.ID
	key           ic.PubKey // of remote
	laddr, raddr  ma.Multiaddr
	closing       sync.Once
}

var _ transport.CapableConn = (*conn)(nil)

func (c *conn) OpenStream(ctx context.Context) (network.MuxedStream, error) {
	s, err := c.session.open(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (c *conn) AcceptStream() (network.MuxedStream, error) {
	s, err := c.session.accept()
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the session and everything on it. It must be called even if the
// peer closed first: it gives the resources back.
func (c *conn) Close() error { return c.CloseWithError(network.ConnNoError) }

func (c *conn) CloseWithError(code network.ConnErrorCode) error {
	c.closing.Do(func() {
		c.session.close(code)
		c.scope.Done()
	})
	return nil
}

func (c *conn) IsClosed() bool                 { return c.session.why() != nil }
func (c *conn) Scope() network.ConnScope       { return c.scope }
func (c *conn) Transport() transport.Transport { return c.transport }
func (c *conn) LocalPeer() peer.ID             { return c.local }
func (c *conn) RemotePeer() peer.ID            { return c.remote }
func (c *conn) RemotePublicKey() ic.PubKey     { return c.key }
func (c *conn) LocalMultiaddr() ma.Multiaddr   { return c.laddr }
func (c *conn) RemoteMultiaddr() ma.Multiaddr  { return c.raddr }
func (c *conn) ConnState() network.ConnectionState {
	return network.ConnectionState{Transport: "webtransport"}
}

// As gives the browser's object to a *js.Value.
func (c *conn) As(to any) bool {
	v, ok := to.(*js.Value)
	if ok {
		*v = c.session.v
	}
	return ok
}
