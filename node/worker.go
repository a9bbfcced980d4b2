package node

import (
	"context"
	"errors"

	"edgenet.dev/market"
	"edgenet.dev/sandbox"
)

// worker is what the market may offer for this node.
func (n *Node) worker() market.Worker { return *n.offered.Load() }

// Worker is what this node offers now.
func (n *Node) Worker() market.Worker { return n.worker() }

// SetWorker replaces what this node offers. A worker that is not enabled takes
// nothing more and gives back what waits for a slot, with Reason; what runs may
// end. Config.Executor must be set for an enabled one. While the node is paused
// the worker stays off.
func (n *Node) SetWorker(ctx context.Context, w market.Worker) error {
	if err := n.isReady(); err != nil {
		return err
	}
	if w.Enabled && n.cfg.Executor == nil {
		return errors.New("node: no sandbox is configured")
	}
	if err := checkWorker(w); err != nil {
		return err
	}
	n.settings.Store(&w)
	return n.applyWorker(ctx)
}

// Pause takes no more tasks of others until Resume; what runs may end. Jobs of
// this node go on. It is not kept over a restart.
func (n *Node) Pause(ctx context.Context) error { return n.setPaused(ctx, true) }

// Resume ends Pause.
func (n *Node) Resume(ctx context.Context) error { return n.setPaused(ctx, false) }

func (n *Node) setPaused(ctx context.Context, paused bool) error {
	if err := n.isReady(); err != nil {
		return err
	}
	n.paused.Store(paused)
	return n.applyWorker(ctx)
}

// applyWorker offers what was set last, or nothing while the node is halted or
// paused.
func (n *Node) applyWorker(ctx context.Context) error {
	n.applying.Lock()
	defer n.applying.Unlock()
	w := *n.settings.Load()
	if p := n.Problems(); len(p) > 0 && w.Enabled {
		w.Enabled, w.Reason = false, p[0]
	} else if f := *n.fault.Load(); f != "" && w.Enabled {
		w.Enabled, w.Reason = false, f
	} else if n.paused.Load() && w.Enabled {
		w.Enabled, w.Reason = false, "paused by whoever runs this node"
	}
	w = offer(w, n.cfg.Executor)
	w.Blocked = n.blocks.work()
	n.offered.Store(&w)
	if err := n.gossip.followWork(w); err != nil {
		return err
	}
	return n.tell(ctx, market.WorkerSettings{Worker: w})
}

// offer fills what every worker has.
func offer(w market.Worker, ex sandbox.Executor) market.Worker {
	if w.Spare = 0; ex != nil {
		w.Spare = sandbox.Spare(ex)
	}
	w.Builtin = builtinTypes()
	if w.MaxMemory == 0 || w.MaxMemory > sandbox.MaxMemory { // it says to others what it grants
		w.MaxMemory = sandbox.MaxMemory
	}
	if w.InFlight == 0 { // a commit, a reveal and two disks are between a task and its slot
		w.InFlight = 64 * max(1, w.Slots)
	}
	return w
}
