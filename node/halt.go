package node

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// A node whose identity is used elsewhere or whose account is frozen cannot be
// paid, so it takes no work. Its worker's settings stay, for when it can again.

const frozenSentence = "this account is frozen because it signed two events for one place or two votes, so it takes no work and pays for none: " +
	"'edgenetd key recover' with the account's recovery key ends that"

// haltEvery is how often the account is looked at without a reason; an event
// that freezes it is one.
const haltEvery = 10 * time.Second

// Problems are sentences that say why the node signs nothing or takes no work,
// and what to do. There are none on a sound node.
func (n *Node) Problems() []string {
	var out []string
	if n.instances.copied.Load() {
		out = append(out, copiedSentence)
	}
	if n.frozen.Load() {
		out = append(out, frozenSentence)
	}
	return out
}

// watchHalt follows what keeps the node from working.
func (n *Node) watchHalt(ctx context.Context) {
	tick := time.NewTicker(haltEvery)
	defer tick.Stop()
	told := ""
	for {
		n.frozen.Store(n.wallet.account(n.self).Frozen)
		why := ""
		if p := n.Problems(); len(p) > 0 {
			why = p[0]
		}
		if why != told {
			told = why
			if err := n.applyWorker(ctx); err != nil && ctx.Err() == nil {
				n.log.Error("stop or start to take work", zap.Error(err))
			}
		}
		select {
		case <-n.halting:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
