package node

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// TakeStanding gives a light node a reply to its question for a worker's
// reputation.
func (n *Node) TakeStanding(worker peer.ID, reply *proto.ProofReply) (changed bool, err error) {
	return n.standings.take(worker, reply)
}

// AskReputation asks a witness for a worker's register and account.
func (n *Node) AskReputation(ctx context.Context, from, worker peer.ID) (*proto.ProofReply, error) {
	return n.standings.prove(ctx, from, worker)
}

// ToldStakes is what a light node tells its market that workers have staked.
func (n *Node) ToldStakes() map[peer.ID]proto.Credit { return n.standings.told(n.Epoch()).Stakes }

// AskStanding has a light node ask the witnesses for a worker's register, from
// one of them on, with change between it and them, and tells whether that ended
// the question for the epoch.
func (n *Node) AskStanding(ctx context.Context, first int, worker peer.ID, change func(from peer.ID, reply *proto.ProofReply)) (minutes uint64, ended bool) {
	s := newStandings(n)
	s.turn = first
	s.ask(ctx, worker, n.Epoch(), func(ctx context.Context, from, worker peer.ID) (*proto.ProofReply, error) {
		reply, err := s.prove(ctx, from, worker)
		if err == nil {
			change(from, reply)
		}
		return reply, err
	})
	r, _ := s.proven.Peek(worker)
	return r.Valid, s.asked.Contains(worker)
}

// PayForMinutes settles a hold for that much work at the base price, whether a
// worker did it or not: the ledger takes the payer's word for it.
func (n *Node) PayForMinutes(ctx context.Context, worker peer.ID, minutes uint64) error {
	job := make([]byte, 16)
	if _, err := rand.Read(job); err != nil {
		return err
	}
	pay := minutes * n.net.Genesis.BasePrice
	hold, err := n.wallet.certify(ctx, &proto.Hold{
		Job: job, Budget: pay + uint64(proto.Fee(proto.Credit(pay), n.net.Genesis.FeePpm)), DeadlineUnixMs: uint64(time.Now().Add(time.Hour).UnixMilli()),
		Lanes: []*proto.Lane{{Worker: []byte(worker), Cap: pay}},
	})
	if err != nil {
		return err
	}
	_, err = n.wallet.certify(ctx, &proto.Settle{Hold: hold.ID.Bytes(), Pays: []*proto.LanePay{{Amount: pay, Fuel: minutes * uint64(proto.PriceUnit)}}})
	return err
}
