package transport

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	holdTimeout = 30 * time.Second // to connect and reserve
	announcedBy = 8                // relayed addresses announced per relay
)

var errRelayLost = errors.New("connection to relay lost")

// reservations holds slots on relays, so that a host that cannot be dialled is
// reached through them, and tells the host its relayed addresses.
type reservations struct {
	host    host.Host
	emitter event.Emitter

	mu    sync.Mutex
	addrs map[peer.ID][]ma.Multiaddr
}

func newReservations(h host.Host) (*reservations, error) {
	e, err := h.EventBus().Emitter(new(event.EvtAutoRelayAddrsUpdated), eventbus.Stateful)
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	return &reservations{host: h, emitter: e, addrs: map[peer.ID][]ma.Multiaddr{}}, nil
}

// hold connects to a relay, reserves a slot there, calls up, renews the
// reservation and returns when the relay is lost or ctx ends. A relay that
// refuses the reservation is as good as none.
func (r *reservations) hold(ctx context.Context, relay peer.AddrInfo, up func()) error {
	defer r.announce(relay.ID, nil)
	lost := make(chan struct{}, 1)
	watch := &network.NotifyBundle{DisconnectedF: func(n network.Network, c network.Conn) {
		if c.RemotePeer() == relay.ID && n.Connectedness(relay.ID) != network.Connected {
			select {
			case lost <- struct{}{}:
			default:
			}
		}
	}}
	r.host.Network().Notify(watch)
	defer r.host.Network().StopNotify(watch)

	expires, err := r.reserve(ctx, relay)
	if err != nil {
		return fmt.Errorf("relay %s: %w", relay.ID, err)
	}
	r.host.ConnManager().Protect(relay.ID, "relay")
	defer r.host.ConnManager().Unprotect(relay.ID, "relay")
	up()
	for {
		// Renewed after three quarters: when that fails there is time to retry
		// elsewhere while others can still reach this host.
		renew := time.NewTimer(time.Until(expires) * 3 / 4)
		select {
		case <-renew.C:
			if expires, err = r.reserve(ctx, relay); err != nil {
				return fmt.Errorf("relay %s: renew: %w", relay.ID, err)
			}
		case <-lost:
			renew.Stop()
			if r.host.Network().Connectedness(relay.ID) != network.Connected {
				return fmt.Errorf("relay %s: %w", relay.ID, errRelayLost)
			}
		case <-ctx.Done():
			renew.Stop()
			return ctx.Err()
		}
	}
}

func (r *reservations) reserve(ctx context.Context, relay peer.AddrInfo) (expires time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, holdTimeout)
	defer cancel()
	if r.host.Network().Connectedness(relay.ID) != network.Connected {
		// The swarm would wait on its own schedule, and dial addresses that are
		// known not to work.
		if s, ok := r.host.Network().(*swarm.Swarm); ok {
			s.Backoff().Clear(relay.ID)
		}
		if len(relay.Addrs) > 0 {
			r.host.Peerstore().ClearAddrs(relay.ID)
		}
	}
	if err := r.host.Connect(network.WithForceDirectDial(ctx, "relay"), relay); err != nil {
		return expires, err
	}
	slot, err := client.Reserve(ctx, r.host, relay)
	if err != nil {
		return expires, err
	}
	r.announce(relay.ID, relayed(relay, slot.Addrs))
	return slot.Expiration, nil
}

// relayed are the addresses at which others reach this host through a relay:
// those that the relay itself announces, or without any those it was dialled
// at.
func relayed(relay peer.AddrInfo, told []ma.Multiaddr) []ma.Multiaddr {
	if len(told) == 0 {
		told = relay.Addrs
	}
	suffix := ma.StringCast("/p2p/" + relay.ID.String() + "/p2p-circuit")
	var addrs []ma.Multiaddr
	for _, a := range told {
		if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err == nil {
			continue // a relay behind a relay
		}
		if a, _ = ma.SplitFunc(a, func(c ma.Component) bool { return c.Code() == ma.P_P2P }); len(a) == 0 {
			continue
		}
		if addrs = append(addrs, a.Encapsulate(suffix)); len(addrs) == announcedBy {
			break
		}
	}
	return ma.Unique(addrs)
}

// announce replaces what is announced for one relay; nil removes it.
func (r *reservations) announce(relay peer.ID, addrs []ma.Multiaddr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(addrs) == 0 && len(r.addrs[relay]) == 0 {
		return
	}
	if len(addrs) == 0 {
		delete(r.addrs, relay)
	} else {
		r.addrs[relay] = addrs
	}
	var all []ma.Multiaddr
	for _, a := range r.addrs {
		all = append(all, a...)
	}
	slices.SortFunc(all, ma.Multiaddr.Compare)
	r.emitter.Emit(event.EvtAutoRelayAddrsUpdated{RelayAddrs: all})
}

func (r *reservations) Close() error { return r.emitter.Close() }

// keepRelays runs a keeper with reservations until stop is called, which waits
// for it.
func keepRelays(h host.Host, c Config) (stop func(), err error) {
	r, err := newReservations(h)
	if err != nil {
		return nil, err
	}
	k := newKeeper(c.Relays)
	k.hold, k.resolve = r.hold, c.Resolve
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.run(ctx)
		r.Close()
	}()
	return func() { cancel(); <-done }, nil
}
