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
