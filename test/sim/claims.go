package sim

import (
	"fmt"

	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// filing is what became of a worker's claim on a lane.
type filing struct {
	claim    cid.Cid
	amount   uint64
	answered map[peer.ID]bool   // there is no use in asking again
	kept     map[peer.ID]uint64 // by witnesses that keep the claim
}

// file sends claims on lanes that owe more than they paid to the witnesses that
// have not answered.
func (o *owner) file() {
	n := o.n
	for _, k := range o.lanes() {
		v := o.vouchers[k]
		h, ok := n.l.Hold(k.hold)
		if !ok || h.Closed || uint64(h.Lanes[k.lane].Paid) >= v.amount || n.w.now.Before(v.file) {
			continue
		}
		raw := n.w.seal(n.self.id, &proto.Payload{Body: &proto.Payload_WorkClaim{WorkClaim: &proto.WorkClaim{
			Hold: k.hold.Bytes(), Lane: k.lane, Voucher: v.raw,
		}}})
		f := o.filed[k]
		if f == nil || f.amount != v.amount {
			s, err := proto.Inspect(raw, proto.KindWorkClaim)
			if err != nil {
				n.w.fail(err)
				return
			}
			f = &filing{s.ID, v.amount, map[peer.ID]bool{}, map[peer.ID]uint64{}}
			o.filed[k] = f
		}
		for i, id := range n.w.net.Witnesses {
			if !f.answered[id] {
				n.vote(i, &proto.VoteFrame{Body: &proto.VoteFrame_WorkClaim{WorkClaim: raw}})
			}
		}
	}
}

// claimed takes a witness's answer to a claim.
func (o *owner) claimed(from peer.ID, frame *proto.VoteFrame) {
	r := frame.GetClaimReply()
	if r == nil {
		return
	}
	for _, k := range o.lanes() {
		f := o.filed[k]
		if f == nil || string(f.claim.Bytes()) != string(r.Claim) {
			continue
		}
		switch proto.Code(r.Code) {
		case proto.CodeOK:
			f.answered[from] = true
			f.kept[from] = r.Amount
			o.n.w.out.Claims++
		case proto.CodeExpired:
			f.answered[from] = true
		}
	}
}

// payouts wants nobody to be paid more than was promised to it, and everybody
// whose claim all honest witnesses keep to be paid that.
func (r *referee) payouts(n *node, b *proto.Close) {
	id, err := proto.ParseCID(b.Hold)
	if err != nil {
		r.w.fail(err)
		return
	}
	payer := r.w.nodes[r.w.index[r.payer[id]]]
	paid := map[uint32]uint64{}
	for _, p := range b.Payouts {
		paid[p.Lane] = p.Amount
		if most := payer.own.promised[laneKey{id, p.Lane}]; p.Amount > most {
			r.w.fail(fmt.Errorf("hold %s: lane %d is paid %d, %d was promised", id, p.Lane, p.Amount, most))
		}
	}
	h, ok := n.l.Hold(id)
	if !ok {
		return
	}
	for i, l := range h.Lanes {
		f := r.w.nodes[r.w.index[l.Worker]].own.filed[laneKey{id, uint32(i)}]
		if f == nil || len(f.kept) < witnesses-hostile {
			continue
		}
		proven := f.amount
		for _, amount := range f.kept {
			proven = min(proven, amount)
		}
		if got := max(paid[uint32(i)], uint64(l.Paid)); !l.Done && got < proven {
			r.w.fail(fmt.Errorf("hold %s: lane %d is paid %d, all honest witnesses know of %d", id, i, got, proven))
		}
	}
}
