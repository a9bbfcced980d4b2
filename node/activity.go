package node

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"edgenet.dev/market"
)

// activity counts what the node does and writes the lines by which an operator
// follows it: tasks, jobs, payments, peers. Each kind of line has a rate of its own, so that
// neither a batch of ten thousand tasks nor a crowd of peers fills the log; what
// is left out is counted and the count is told.
type activity struct {
	log *zap.Logger
	now func() time.Time

	mu     sync.Mutex
	kinds  map[string]*activityKind // one per message, all of them in the source
	counts Counts
}

type activityKind struct {
	limit   *rate.Limiter
	omitted uint64 // since the last line
}

// Lines of one kind: so many at once, then so many per second.
const (
	activityBurst = 20
	activityRate  = 1
	activityFlush = 10 * time.Second // between two looks for counts to tell
)

func newActivity(log *zap.Logger) *activity {
	return &activity{log: log, now: time.Now, kinds: map[string]*activityKind{}, counts: newCounts()}
}

// say logs a line, or counts it. The message is the kind.
func (a *activity) say(message string, fields ...zap.Field) {
	a.mu.Lock()
	k := a.kinds[message]
	if k == nil {
		k = &activityKind{limit: rate.NewLimiter(activityRate, activityBurst)}
		a.kinds[message] = k
	}
	if !k.limit.AllowN(a.now(), 1) {
		k.omitted++
		a.mu.Unlock()
		return
	}
	omitted := k.omitted
	k.omitted = 0
	a.mu.Unlock()
	if omitted > 0 {
		fields = append(fields, zap.Uint64("omitted", omitted))
	}
	a.log.Info(message, fields...)
}

// flush tells the counts that no line has told.
func (a *activity) flush() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for message, k := range a.kinds {
		if k.omitted > 0 {
			a.log.Info(message, zap.Uint64("omitted", k.omitted))
			k.omitted = 0
		}
	}
}

// watchActivity logs who comes and goes, and the counts of what was left out.
func (n *Node) watchActivity(ctx context.Context) error {
	sub, err := n.host.EventBus().Subscribe([]any{new(event.EvtPeerConnectednessChanged), new(event.EvtLocalReachabilityChanged)}, eventbus.BufSize(256))
	if err != nil {
		return err
	}
	defer sub.Close()
	defer n.activity.flush()
	tick := time.NewTicker(activityFlush)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			n.activity.flush()
		case e := <-sub.Out():
			switch e := e.(type) {
			case event.EvtPeerConnectednessChanged:
				n.peerChanged(e)
			case event.EvtLocalReachabilityChanged:
				n.reachabilityChanged(e)
			}
		}
	}
}

func (n *Node) peerChanged(e event.EvtPeerConnectednessChanged) {
	fields := []zap.Field{zap.Stringer("peer", e.Peer), zap.Bool("witness", n.net.IsWitness(e.Peer))}
	switch e.Connectedness {
	case network.NotConnected:
		n.activity.say("peer left", append(fields, zap.Int("peers", len(n.host.Network().Peers())))...)
	case network.Connected, network.Limited:
		if conns := n.host.Network().ConnsToPeer(e.Peer); len(conns) > 0 {
			fields = append(fields, zap.Stringer("address", conns[0].RemoteMultiaddr()), zap.Stringer("direction", conns[0].Stat().Direction))
		}
		n.activity.say("peer joined", append(fields, zap.Int("peers", len(n.host.Network().Peers())))...)
	}
}

// jobEnded logs how a job ended. Its record is on disk by then.
func (j *jobs) jobEnded(rec market.JobRecord) {
	j.n.activity.count(func(c *Counts) { c.JobsEnded[rec.State]++ })
	fields := []zap.Field{zap.Stringer("job", rec.Job.ID), zap.String("state", string(rec.State))}
	if v, err := j.n.view(rec.Job.ID); err == nil {
		fields = append(fields, zap.Int("done", v.Done), zap.Int("verified", v.Verified), zap.Int("failed", v.Failed), zap.Stringer("cost", v.Cost))
	}
	if rec.Reason != "" {
		fields = append(fields, zap.Stringer("code", rec.Code), zap.String("reason", rec.Reason))
	}
	j.n.activity.say("job finished", fields...)
}
