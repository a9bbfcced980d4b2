package webtransport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall/js"

	"github.com/libp2p/go-libp2p/core/connmgr"
	ic "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/security/noise/pb"
	ma "github.com/multiformats/go-multiaddr"
)

// Close codes as in go-libp2p's own transport.
const (
	codeRefused network.ConnErrorCode = 1
	codeGated   network.ConnErrorCode = 0x47415445 // GATE
)

var errCannotListen = errors.New("a browser cannot listen")

// unknownLocal stands for the local address, which browsers do not tell.
var unknownLocal = ma.StringCast("/ip4/0.0.0.0/udp/0/quic-v1/webtransport")

// Transport dials WebTransport addresses that carry certificate hashes.
type Transport struct {
	noise     *noise.Transport
	gater     connmgr.ConnectionGater
	resources network.ResourceManager
}

var (
	_ transport.Transport    = (*Transport)(nil)
	_ transport.SkipResolver = (*Transport)(nil)
)

// Supported tells whether the engine has WebTransport. That does not say
// whether it takes certificate hashes: one that does not fails the dial.
func Supported() bool { return js.Global().Get("WebTransport").Type() == js.TypeFunction }

// New makes a transport for the holder of key. gater and resources may be nil.
func New(key ic.PrivKey, gater connmgr.ConnectionGater, resources network.ResourceManager) (*Transport, error) {
	n, err := noise.New(noise.ID, key, nil)
	if err != nil {
		return nil, fmt.Errorf("webtransport: %w", err)
	}
	if resources == nil {
		resources = &network.NullResourceManager{}
	}
	return &Transport{noise: n, gater: gater, resources: resources}, nil
}

// Dial connects to p at an address with at least one certificate hash. When
// ctx ends first the browser's session is closed.
func (t *Transport) Dial(ctx context.Context, addr ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	scope, err := t.resources.OpenConnection(network.DirOutbound, false, addr)
	if err != nil {
		return nil, err
	}
	c, err := t.dial(ctx, addr, p, scope)
	if err != nil {
		scope.Done()
		return nil, fmt.Errorf("webtransport: %w", err)
	}
	return c, nil
}

func (t *Transport) dial(ctx context.Context, addr ma.Multiaddr, p peer.ID, scope network.ConnManagementScope) (_ *conn, err error) {
	to, err := parseTarget(addr)
	if err != nil {
		return nil, err
	}
	if err := scope.SetPeer(p); err != nil {
		return nil, err
	}
	if !Supported() {
		return nil, errors.New("this browser has no WebTransport")
	}
	hashes := make([]any, len(to.hashes))
	for i, h := range to.hashes {
		value := uint8Array.New(len(h))
		js.CopyBytesToJS(value, h)
		hashes[i] = map[string]any{"algorithm": "sha-256", "value": value}
	}
	v, err := construct(js.Global().Get("WebTransport"), to.url, map[string]any{"serverCertificateHashes": hashes})
	if err != nil {
		return nil, err
	}
	s := newSession(v)
	code := codeRefused
	defer func() {
		if err != nil {
			s.close(code)
		}
	}()
	if _, err := await(ctx, nil, v.Get("ready"), nil); err != nil {
		return nil, err
	}
	c := &conn{transport: t, session: s, scope: scope, laddr: unknownLocal, raddr: to.addr}
	if err := c.authenticate(ctx, p, to.hashes); err != nil {
		return nil, err
	}
	if t.gater != nil && !t.gater.InterceptSecured(network.DirOutbound, p, c) {
		code = codeGated
		return nil, errors.New("the gater refused the secured connection")
	}
	return c, nil
}

// authenticate runs Noise on the session's first stream. It proves that the
// server is p and that it knows every dialled hash: only both together tie the
// TLS session below to that peer.
func (c *conn) authenticate(ctx context.Context, p peer.ID, hashes [][]byte) error {
	s, err := c.session.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	check := &hashCheck{dialled: hashes}
	n, err := c.transport.noise.WithSessionOptions(noise.EarlyData(check, nil))
	if err != nil {
		return err
	}
	secure, err := n.SecureOutbound(ctx, handshakeConn{s, c.raddr}, p)
	if err != nil {
		return err
	}
	defer secure.Close()
	if !check.passed {
		return errHashMissing
	}
	c.local, c.remote, c.key = secure.LocalPeer(), secure.RemotePeer(), secure.RemotePublicKey()
	return nil
}

type hashCheck struct {
	dialled [][]byte
	passed  bool
}

func (h *hashCheck) Send(context.Context, net.Conn, peer.ID) *pb.NoiseExtensions { return nil }

func (h *hashCheck) Received(_ context.Context, _ net.Conn, e *pb.NoiseExtensions) error {
	if err := vouched(h.dialled, e.GetWebtransportCerthashes()); err != nil {
		return err
	}
	h.passed = true
	return nil
}

// handshakeConn is the first stream as Noise wants it.
type handshakeConn struct {
	*stream
	remote ma.Multiaddr
}

func (c handshakeConn) LocalAddr() net.Addr  { return &net.UDPAddr{} }
func (c handshakeConn) RemoteAddr() net.Addr { return addrText(c.remote.String()) }

// addrText is a net.Addr of an address that may be a name.
type addrText string

func (a addrText) Network() string { return "webtransport" }
func (a addrText) String() string  { return string(a) }

// CanDial tells whether addr is WebTransport with certificate hashes.
func (t *Transport) CanDial(addr ma.Multiaddr) bool {
	_, err := parseTarget(addr)
	return err == nil
}

// SkipResolve keeps names in addresses: the browser resolves them.
func (t *Transport) SkipResolve(_ context.Context, addr ma.Multiaddr) bool { return named(addr) }

// Listen fails.
func (t *Transport) Listen(ma.Multiaddr) (transport.Listener, error) { return nil, errCannotListen }

func (t *Transport) Protocols() []int { return []int{ma.P_WEBTRANSPORT} }
func (t *Transport) Proxy() bool      { return false }
