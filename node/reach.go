package node

import (
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
