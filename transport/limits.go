package transport

import (
	"fmt"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// What others may open to a tab. libp2p's own resource manager is the daemon's;
// it would add Prometheus and more than a tab needs.
const (
	streamsIn = 256 // per peer, as go-libp2p's QUIC allows
	connsIn   = 64  // over relays
)

// limits is a resource manager that bounds what comes from outside. What the
// host opens itself it bounds itself.
type limits struct {
	network.NullResourceManager

	mu      sync.Mutex
	streams map[peer.ID]int
	conns   int
}

func newLimits() *limits { return &limits{streams: map[peer.ID]int{}} }

// OpenConnection refuses inbound connections beyond connsIn.
func (l *limits) OpenConnection(dir network.Direction, _ bool, _ ma.Multiaddr) (network.ConnManagementScope, error) {
	if dir != network.DirInbound {
		return &network.NullScope{}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns >= connsIn {
		return nil, fmt.Errorf("%d inbound connections: %w", l.conns, network.ErrResourceLimitExceeded)
	}
	l.conns++
	return &counted{done: func() { l.conns-- }, mu: &l.mu}, nil
}

// OpenStream refuses a peer's streams beyond streamsIn.
func (l *limits) OpenStream(p peer.ID, dir network.Direction) (network.StreamManagementScope, error) {
	if dir != network.DirInbound {
		return &network.NullScope{}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.streams[p] >= streamsIn {
		return nil, fmt.Errorf("%d streams of %s: %w", l.streams[p], p, network.ErrResourceLimitExceeded)
	}
	l.streams[p]++
	return &counted{mu: &l.mu, done: func() {
		if l.streams[p]--; l.streams[p] == 0 {
			delete(l.streams, p)
		}
	}}, nil
}

// counted is the scope of one inbound connection or stream.
type counted struct {
	network.NullScope
	mu   *sync.Mutex
	done func() // nil once called; runs under mu
}

// Done gives the place back, once.
func (c *counted) Done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done != nil {
		c.done()
		c.done = nil
	}
}
