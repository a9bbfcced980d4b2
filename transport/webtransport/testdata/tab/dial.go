//go:build js

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multibase"
	"github.com/multiformats/go-multihash"

	"edgenet.dev/transport/webtransport"
)

// These cases use the transport without a host, to see each dial by itself.
func init() {
	cases = append(cases,
		testCase{"dial", dialAndScopes},
		testCase{"wrongHash", wrongHash},
		testCase{"unknownHash", unknownHash},
		testCase{"wrongPeer", wrongPeer},
		testCase{"gater", gated},
		testCase{"refusedScopes", refusedScopes},
		testCase{"cancel", cancelled},
	)
}

// scopes is a resource manager that counts what is held. refuse makes OpenConnection
// or SetPeer fail.
type scopes struct {
	network.NullResourceManager
	mu           sync.Mutex
	open, peers  int
	opened       int
	refuse, deny bool
}

type scope struct {
	network.NullScope
	of   *scopes
	done bool
}

var errScope = errors.New("limit")

func (m *scopes) OpenConnection(network.Direction, bool, ma.Multiaddr) (network.ConnManagementScope, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse {
		return nil, errScope
	}
	m.open++
	m.opened++
	return &scope{of: m}, nil
}

func (s *scope) SetPeer(peer.ID) error {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.of.deny {
		return errScope
	}
	s.of.peers++
	return nil
}

func (s *scope) Done() {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.done {
		s.of.open -= 1000 // twice is a bug, too
	}
	s.done = true
	s.of.open--
}

func (m *scopes) zero() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open != 0 || m.opened == 0 {
		return fmt.Errorf("%d scopes are held of %d", m.open, m.opened)
	}
	return nil
}

type gater struct{ secured int }

func (g *gater) InterceptPeerDial(peer.ID) bool                                  { return true }
func (g *gater) InterceptAddrDial(peer.ID, ma.Multiaddr) bool                    { return true }
func (g *gater) InterceptAccept(network.ConnMultiaddrs) bool                     { return true }
func (g *gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
func (g *gater) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool {
	g.secured++
	return false
}

func serverAddr() (ma.Multiaddr, peer.ID, error) {
	ai, err := infos(conf.Addrs)
	if err != nil {
		return nil, "", err
	}
	return ai[0].Addrs[0], ai[0].ID, nil
}

// refused dials and wants an error that contains text, and no scope held.
func refused(ctx context.Context, addr ma.Multiaddr, id peer.ID, text string) error {
	m := &scopes{}
	t, err := webtransport.New(newKey(), nil, m)
	if err != nil {
		return err
	}
	c, err := t.Dial(ctx, addr, id)
	if err == nil {
		c.Close()
		return errors.New("connected")
	}
	note("%v", err)
	if !strings.Contains(err.Error(), text) {
		return fmt.Errorf("error %q does not say %q", err, text)
	}
	return m.zero()
}

func dialAndScopes(ctx context.Context) error {
	addr, id, err := serverAddr()
	if err != nil {
		return err
	}
	m := &scopes{}
	t, err := webtransport.New(newKey(), nil, m)
	if err != nil {
		return err
	}
	c, err := t.Dial(ctx, addr, id)
	if err != nil {
		return err
	}
	if m.open != 1 || m.peers != 1 {
		return fmt.Errorf("%d scopes, %d peers", m.open, m.peers)
	}
	accept := make(chan error, 1)
	go func() {
		for {
			s, err := c.AcceptStream()
			if err != nil {
				accept <- err
				return
			}
			s.Reset()
		}
	}()
	s, err := c.OpenStream(ctx)
	if err != nil {
		return err
	}
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.OpenStream(stopped); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("open with a cancelled context: %v", err)
	}
	c.Close()
	c.Close()
	select {
	case <-accept:
	case <-ctx.Done():
		return errors.New("AcceptStream outlives its connection")
	}
	if _, err := s.Write([]byte("x")); err == nil {
		return errors.New("a stream outlives its connection")
	}
	if !c.IsClosed() {
		return errors.New("the connection is not closed")
	}
	return m.zero()
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	mh, err := multihash.Encode(sum[:], multihash.SHA2_256)
	if err != nil {
		panic(err)
	}
	s, err := multibase.Encode(multibase.Base64url, mh)
	if err != nil {
		panic(err)
	}
	return "/certhash/" + s
}

// wrongHash: the browser itself must refuse the server's certificate.
func wrongHash(ctx context.Context) error {
	addr, id, err := serverAddr()
	if err != nil {
		return err
	}
	bare, _ := ma.SplitFunc(addr, func(c ma.Component) bool { return c.Code() == ma.P_CERTHASH })
	return refused(ctx, bare.Encapsulate(ma.StringCast(hashOf("other certificate"))), id, "WebTransportError")
}

// unknownHash: the browser is content with one right hash; Noise is not.
func unknownHash(ctx context.Context) error {
	addr, id, err := serverAddr()
	if err != nil {
		return err
	}
	return refused(ctx, addr.Encapsulate(ma.StringCast(hashOf("certificate of somebody between"))), id, "does not know a certificate hash")
}

func wrongPeer(ctx context.Context) error {
	addr, _, err := serverAddr()
	if err != nil {
		return err
	}
	other, err := peer.IDFromPrivateKey(newKey())
	if err != nil {
		return err
	}
	return refused(ctx, addr, other, "peer id mismatch")
}

func gated(ctx context.Context) error {
	addr, id, err := serverAddr()
	if err != nil {
		return err
	}
	m, g := &scopes{}, &gater{}
	t, err := webtransport.New(newKey(), g, m)
	if err != nil {
		return err
	}
	if c, err := t.Dial(ctx, addr, id); err == nil {
		c.Close()
		return errors.New("connected")
	} else if !strings.Contains(err.Error(), "gater") {
		return err
	}
	if g.secured != 1 {
		return fmt.Errorf("the gater was asked %d times", g.secured)
	}
	return m.zero()
}

func refusedScopes(ctx context.Context) error {
	addr, id, err := serverAddr()
	if err != nil {
		return err
	}
	for _, m := range []*scopes{{refuse: true}, {deny: true}} {
		t, err := webtransport.New(newKey(), nil, m)
		if err != nil {
			return err
		}
		if _, err := t.Dial(ctx, addr, id); !errors.Is(err, errScope) {
			return fmt.Errorf("dial beyond a limit: %v", err)
		}
		if m.open != 0 {
			return fmt.Errorf("%d scopes are held", m.open)
		}
	}
	return nil
}

// cancelled dials somebody who never answers.
func cancelled(ctx context.Context) error {
	ai, err := infos([]string{conf.Deaf})
	if err != nil {
		return err
	}
	m := &scopes{}
	t, err := webtransport.New(newKey(), nil, m)
	if err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := t.Dial(short, ai[0].Addrs[0], ai[0].ID); !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("dial of the deaf: %v", err)
	}
	note("gave up after %v", time.Since(start).Round(time.Millisecond))
	if err := m.zero(); err != nil {
		return err
	}
	// The browser's session is closed, or its promises would stay unsettled for
	// the handshake's own half minute.
	soon, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return until(soon, "the session's promises are settled", func() bool { return webtransport.Waiting() == 0 })
}
