package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"

	"edgenet.dev/ledger"
	"edgenet.dev/market"
	"edgenet.dev/sandbox"
)

// Health is what an operator, or a machine that restarts daemons, wants to know
// of a node at one moment.
type Health struct {
	// Reasons say in sentences why the node cannot do its part now. Empty: it is
	// ready.
	Reasons   []string
	Witnesses []WitnessHealth // in the genesis' order
	Quorum    int             // of these, that must answer
	Synced    bool            // the ledger is up to date, as far as this node can know
	Epoch     uint64          // of the newest checkpoint
	// CheckpointAge is the time since the newest checkpoint, 0 without one.
	CheckpointAge time.Duration
	// Clocks are how far others' clocks are ahead of this one.
	Clocks []time.Duration
}

// WitnessHealth is whether one witness answers this node.
type WitnessHealth struct {
	ID        peer.ID
	Reachable bool
	RTT       time.Duration
	Err       error // why not
}

// Reachable counts the witnesses that answer.
func (h Health) Reachable() (n int) {
	for _, w := range h.Witnesses {
		if w.Reachable {
			n++
		}
	}
	return n
}

const (
	// healthFresh is for how long an answer serves all who ask: probes come
	// every few seconds and from several programs.
	healthFresh = 3 * time.Second
	healthAsks  = 64 // witnesses asked at once
	clockPeers  = 8  // other peers that are asked for their clocks
	// epochsLate is how many epochs a checkpoint may be overdue.
	epochsLate = 2
)

// healthCheck lets one caller at a time ask, and the others have its answer.
type healthCheck struct {
	turn chan struct{} // holds one token, which guards what follows
	last Health
	at   time.Time
}

func newHealthCheck() *healthCheck {
	c := &healthCheck{turn: make(chan struct{}, 1)}
	c.turn <- struct{}{}
	return c
}

// Health asks every witness, unless that was done just now, and looks at the
// ledger. It fails only when ctx ends first or the node has not started.
func (n *Node) Health(ctx context.Context) (Health, error) {
	if err := n.isReady(); err != nil {
		return Health{}, err
	}
	select {
	case <-n.health.turn:
		defer func() { n.health.turn <- struct{}{} }()
	case <-ctx.Done():
		return Health{}, ctx.Err()
	}
	if !n.health.at.IsZero() && time.Since(n.health.at) < healthFresh {
		return n.health.last, nil
	}
	ctx, cancel := n.until(ctx)
	defer cancel()
	h := n.checkHealth(ctx)
	if ctx.Err() != nil {
		return Health{}, context.Cause(ctx)
	}
	n.health.last, n.health.at = h, time.Now()
	return h, nil
}

func (n *Node) checkHealth(ctx context.Context) Health {
	h := Health{Quorum: n.net.Quorum(), Witnesses: make([]WitnessHealth, len(n.net.Witnesses))}
	offsets := make([]*time.Duration, len(h.Witnesses))
	places := make(chan struct{}, healthAsks)
	var asked sync.WaitGroup
	for i, p := range n.net.Witnesses {
		places <- struct{}{}
		asked.Go(func() {
			defer func() { <-places }()
			h.Witnesses[i], offsets[i] = n.askWitness(ctx, p)
		})
	}
	asked.Wait()
	for _, o := range offsets {
		if o != nil {
			h.Clocks = append(h.Clocks, *o)
		}
	}
	reason := func(format string, args ...any) { h.Reasons = append(h.Reasons, fmt.Sprintf(format, args...)) }
	if got := h.Reachable(); got < h.Quorum {
		reason("%d of %d witnesses answer and a quorum is %d: nothing can be certified until more do; see that they run and that this node can dial them", got, len(h.Witnesses), h.Quorum)
	}
	h.Synced = n.synced()
	if !h.Synced {
		reason("the ledger is not synchronized: since the start no witness has finished comparing it with this node")
	}
	w := n.wallet
	w.mu.Lock()
	h.Epoch = w.l.Epoch()
	_, due := ledger.NewEpochs(w.l).Due()
	w.mu.Unlock()
	if length := n.net.Epoch(); !due.IsZero() {
		h.CheckpointAge = max(0, time.Since(due.Add(-length)))
		if late := time.Since(due); n.light == nil && late > epochsLate*length+time.Minute {
			h.Synced = false
			reason("the newest checkpoint is %s old and an epoch is %s: this node is behind, or the witnesses certify none", h.CheckpointAge.Round(time.Second), length)
		}
	}
	return h
}

// askWitness asks for a witness's clock; one that does not know the protocol
// has answered all the same.
func (n *Node) askWitness(ctx context.Context, p peer.ID) (w WitnessHealth, offset *time.Duration) {
	w.ID = p
	if p == n.self {
		w.Reachable = true
		return w, nil
	}
	o, rtt, err := n.askClock(ctx, p)
	var unknown multistream.ErrNotSupported[protocol.ID]
	switch {
	case err == nil:
		w.Reachable, w.RTT = true, rtt
		return w, &o
	case errors.As(err, &unknown):
		w.Reachable = true
	default:
		w.Err = err
	}
	return w, nil
}

// synced reports whether the ledger was compared with a witness since the
// start. Whoever is the only witness has nobody to compare with.
func (n *Node) synced() bool {
	if n.light != nil {
		n.light.mu.Lock()
		defer n.light.mu.Unlock()
		return !n.light.heard.IsZero() && time.Since(n.light.heard) < 2*n.light.seldom()+lightTimeout
	}
	if others := slices.DeleteFunc(slices.Clone(n.net.Witnesses), func(p peer.ID) bool { return p == n.self }); len(others) == 0 {
		return true
	}
	return n.sync.agreed.Load()
}

// PeerClocks asks some connected peers that are no witnesses how far their
// clocks are ahead of this one.
func (n *Node) PeerClocks(ctx context.Context) (offsets []time.Duration) {
	if n.isReady() != nil {
		return nil
	}
	ctx, cancel := n.until(ctx)
	defer cancel()
	var mu sync.Mutex
	var asked sync.WaitGroup
	asking := 0
	for _, p := range n.host.Network().Peers() {
		known, err := n.host.Peerstore().SupportsProtocols(p, n.net.ID.Protocol("clock"))
		if err != nil || len(known) == 0 || n.net.IsWitness(p) {
			continue
		}
		if asking++; asking > clockPeers {
			break
		}
		asked.Go(func() {
			if o, _, err := n.askClock(ctx, p); err == nil {
				mu.Lock()
				offsets = append(offsets, o)
				mu.Unlock()
			}
		})
	}
	asked.Wait()
	return offsets
}

// Alive returns once the node's main loop has answered.
func (n *Node) Alive(ctx context.Context) error {
	if err := n.isReady(); err != nil {
		return err
	}
	return n.tell(ctx, market.Tick{})
}

// Reachability is what libp2p found out about the way to this node from outside:
// "public", "private" or "unknown".
func (n *Node) Reachability() string {
	switch network.Reachability(n.reachable.Load()) {
	case network.ReachabilityPublic:
		return "public"
	case network.ReachabilityPrivate:
		return "private"
	}
	return "unknown"
}

func (n *Node) reachabilityChanged(e event.EvtLocalReachabilityChanged) {
	n.reachable.Store(int32(e.Reachability))
}

// LedgerStats is the ledger at one moment.
type LedgerStats struct {
	Account ledger.Account // this node's
	Events  int            // certified events held
	Epoch   uint64         // of the newest checkpoint
	Base    uint64         // of the checkpoint below which events are pruned
	Waiting bool           // an event of this account is signed and not certified
}

// Ledger reads the ledger.
func (n *Node) Ledger() LedgerStats {
	w := n.wallet
	w.mu.Lock()
	defer w.mu.Unlock()
	_, open := w.l.Intent(n.self)
	return LedgerStats{
		Account: w.l.Account(n.self), Events: w.l.Len(), Epoch: w.l.Epoch(), Base: w.l.Base(), Waiting: open,
	}
}

// Executor is what runs tasks here; nil when nothing does.
func (n *Node) Executor() sandbox.Executor { return n.cfg.Executor }
