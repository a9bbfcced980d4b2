package node

import (
	"context"
	"fmt"

	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// WaitingFor says in one sentence that a job cannot get the workers that it needs
// from whom this node knows now, or "" when it can, or runs, or is over.
func (n *Node) WaitingFor(v market.JobView) string {
	if v.Record.State.Final() || v.Running > 0 || n.isReady() != nil {
		return ""
	}
	line, able := n.reach(v.Record.Job)
	if able >= v.Record.Job.Options.Redundancy {
		return ""
	}
	return line
}

// Unanswered says in one sentence that a job waits for credits to be put on hold
// for which too few witnesses answer, or "". It asks them, unless that was done
// just now, which takes some seconds when they are silent.
func (n *Node) Unanswered(ctx context.Context, job proto.JobID) string {
	n.jobs.mu.Lock()
	asked := n.jobs.m.Requested(job) != 0
	n.jobs.mu.Unlock()
	if !asked {
		return ""
	}
	h, err := n.Health(ctx)
	if err != nil || h.Reachable() >= h.Quorum {
		return ""
	}
	return fmt.Sprintf("%d of %d witnesses answer and a quorum is %d: no credits can be put on hold until more do", h.Reachable(), len(h.Witnesses), h.Quorum)
}

// reach says whom this node knows for a job, beside whom the job needs. able are
// the peers that take offers of its kind.
func (n *Node) reach(j market.Job) (line string, able int) {
	able = len(n.pubsub.ListPeers(n.net.ID.OffersTopic(proto.Shard(j.Type, j.Module, n.net.Genesis.Shards))))
	peers, need := len(n.host.Network().Peers()), j.Options.Redundancy
	line = count(peers, "peer") + " connected"
	if peers > 0 {
		line += fmt.Sprintf(", %d able to work on it", able)
	}
	return line + "; this job needs " + count(need, "worker") + " besides this node", able
}

func count(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}
