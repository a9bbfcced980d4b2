package node

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"go.uber.org/zap"

	"edgenet.dev/ledger"
)

// A witness asks every staked account's node whether it is there, some times
// per epoch, and reports those that answered nine times of ten. It says nothing
// of accounts that it asked in less than a quarter of the epoch, because it was
// away itself, say: see ledger.Witness.Probes. In a network without bonuses nobody is asked.

const (
	probesPerEpoch = 24
	probeLeast     = 250 * time.Millisecond
	probeMost      = 150 * time.Second
	probeTimeout   = 5 * time.Second
	probesAtOnce   = 16
	maxProbed      = 4096 // accounts
)

type tally struct{ asked, answered int }

func (w *wallet) probe(ctx context.Context) {
	if w.n.net.Genesis.KappaPpm == 0 {
		return
	}
	length := time.Duration(w.n.net.Genesis.EpochSeconds) * time.Second
	every := min(max(length/probesPerEpoch, probeLeast), probeMost)
	least := int(length / every / 4)
	tick := time.NewTicker(every)
	defer tick.Stop()
	var epoch uint64
	var seen map[peer.ID]tally
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		e, staked, ends := w.probed()
		if e != epoch {
			epoch, seen = e, map[peer.ID]tally{}
		}
		for id, ok := range w.n.answering(ctx, staked) {
			t := seen[id]
			if t.asked++; ok {
				t.answered++
			}
			seen[id] = t
		}
		if ctx.Err() != nil {
			return
		}
		if time.Until(ends) > 3*every {
			continue
		}
		var up []peer.ID
		for id, t := range seen {
			if 10*t.answered >= 9*t.asked && t.asked >= least {
				up = append(up, id)
			}
		}
		now := time.Now()
		w.mu.Lock()
		outs, err := w.witness.Probes(up)
		if err == nil {
			err = w.deliver(now, outs)
		}
		w.mu.Unlock()
		if err != nil { // changes of a checkpoint have yet to come, say
			w.n.log.Debug("probe report", zap.Error(err))
		}
	}
}

// probed lists the accounts with stake that reports of this epoch are about,
// and when it ends.
func (w *wallet) probed() (epoch uint64, staked []peer.ID, ends time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	epoch, accounts, err := w.l.Probed()
	_, ends = ledger.NewEpochs(w.l).Due()
	if err != nil {
		return epoch, nil, ends
	}
	for _, id := range accounts {
		if w.l.Account(id).Staked > 0 && len(staked) < maxProbed {
			staked = append(staked, id)
		}
	}
	return epoch, staked, ends
}

// answering asks peers, several at once.
func (n *Node) answering(ctx context.Context, list []peer.ID) map[peer.ID]bool {
	var mu sync.Mutex
	out := make(map[peer.ID]bool, len(list))
	var all sync.WaitGroup
	free := make(chan struct{}, probesAtOnce)
	for _, id := range list {
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()
			ok := id == n.self || n.answers(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			out[id] = ok
		})
	}
	all.Wait()
	return out
}

func (n *Node) answers(ctx context.Context, id peer.ID) bool {
	ctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(ctx, "edgenet"), probeTimeout)
	defer cancel()
	r, ok := <-ping.Ping(ctx, n.host, id)
	return ok && r.Error == nil
}
