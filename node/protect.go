package node

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Tags of connections. Above its limit a host closes those of least use, never a
// protected one.
const (
	carrying   = "job"   // protected: between who works and who pays
	belonging  = "known" // protected: witnesses, peers of the configuration
	ofChoice   = "chosen"
	choiceTags = 20 // what a peer that this node chose to reach is worth more
)

// protectEvery is far below the time for which a new connection stays anyway.
const protectEvery = time.Second

// protect keeps the connections of those who work for this node or whom it works
// for, for as long as that lasts, and of those that the network or the
// configuration names.
func (n *Node) protect(ctx context.Context) {
	conns := n.host.ConnManager()
	for _, id := range n.net.Witnesses {
		conns.Protect(id, belonging)
	}
	for _, p := range n.addrs.bootstrap {
		conns.Protect(p.ID, belonging)
	}
	tick := time.NewTicker(protectEvery)
	defer tick.Stop()
	have := map[peer.ID]bool{}
	for {
		want := map[peer.ID]bool{}
		n.leases.busy(want)
		n.work.busy(want)
		for id := range want {
			if !have[id] {
				conns.Protect(id, carrying)
			}
		}
		for id := range have {
			if !want[id] {
				conns.Unprotect(id, carrying)
			}
		}
		have = want
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// busy adds the workers that owe an answer.
func (ls *leases) busy(to map[peer.ID]bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for id, l := range ls.m {
		if l.awaiting.Load() > 0 {
			to[id] = true
		}
	}
}

// busy adds the submitters of tasks that are here.
func (w *work) busy(to map[peer.ID]bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k := range w.execs {
		to[k.from] = true
	}
}
