package node

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// ExecuteAgain executes the work of a receipt as a witness does.
func (n *Node) ExecuteAgain(ctx context.Context, sr *proto.SignedReceipt) (wrong bool, fuel proto.Fuel, err error) {
	n.wallet.mu.Lock()
	a, err := n.wallet.l.Accusable(sr)
	n.wallet.mu.Unlock()
	if err != nil {
		return false, 0, err
	}
	return n.evidence.again(ctx, accusation{Reexecute: ledger.Reexecute{Accused: a}})
}

// OpenEvidence lets witnesses have what they need to judge a receipt, as filing
// it does.
func (n *Node) OpenEvidence(sr *proto.SignedReceipt) { n.evidence.open(sr) }

// TakeResult takes a result as a submitter does that leased its worker.
func (n *Node) TakeResult(worker peer.ID, sr *proto.SignedReceipt, output []byte) error {
	return n.leases.results(newLease(worker), &proto.Results{Batch: sr.Batch, Items: []*proto.ResultItem{{Receipt: sr.Receipt, Output: output}}})
}

// Suspects is what a witness has to execute again, of cases that come with
// their submitter's wealth, one after the other.
func Suspects(cases []*proto.SignedReceipt, wealth func(i int) proto.Credit) (kept []*proto.SignedReceipt) {
	e := newEvidence(nil)
	for i, sr := range cases {
		r := new(proto.Receipt)
		if err := goproto.Unmarshal(sr.Receipt, r); err != nil {
			panic(err)
		}
		e.suspect(ledger.Reexecute{Accused: &ledger.Accused{ID: proto.HashOf(sr.Receipt), Worker: peer.ID(r.Worker), Receipt: r, Signed: sr}}, wealth(i), 1)
	}
	for {
		c, ok := e.next()
		if !ok {
			return kept
		}
		kept = append(kept, c.Signed)
	}
}
