package sim

import (
	"fmt"
	"reflect"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// staleness is how old what a light client knows may be when it signs.
const staleness = 15 * time.Minute

// ask has a light client ask every witness about its account. Answers to an
// earlier round come too late.
func (n *node) ask(*node) {
	n.round++
	n.heeds = map[peer.ID]bool{}
	n.w.out.Asked++
	q, round, life := n.l.Ask(), n.round, n.life
	for i := range witnesses {
		n.w.send(n.i, i, 'q', n.w.loss, func(x *node) {
			r := x.answer(q)
			if r == nil {
				return
			}
			n.w.send(x.i, n.i, 'a', n.w.loss, func(*node) {
				if n.life == life && n.round == round {
					n.heard(x, q, r)
				}
			})
		})
	}
	for _, h := range n.l.Watched() {
		if h.Closed || h.Forgotten {
			if err := n.l.Unwatch(h.ID); err != nil && !n.failed {
				n.w.fail(err)
			}
		}
	}
}

// answer is what a witness says of a light client's account.
func (n *node) answer(q *proto.ProofRequest) *proto.ProofReply {
	r, err := n.l.Report(q)
	if err != nil {
		n.w.fail(fmt.Errorf("witness %d answers a light client: %w", n.i, err))
		return nil
	}
	if n.hostile() {
		return n.w.bad.answer(n, r)
	}
	return r
}

// answer is a lie about an account, the same by all of them, or nothing.
func (b *hostiles) answer(n *node, r *proto.ProofReply) *proto.ProofReply {
	if b.style == withhold {
		return nil
	}
	r.Report.Payables = append(r.Report.Payables[:len(r.Report.Payables)/2], &proto.Payable{
		Source: proto.CIDOf([]byte("nothing")).Bytes(), Amount: 90 * credit, Eligible: 90 * credit, From: []byte(n.self.id),
	})
	for i, x := range r.Report.Lanes {
		x.Known, x.Closed, x.Done, x.Paid = i%2 == 0, true, true, 50*credit
	}
	r.Events = nil
	switch {
	case b.style != lie && b.w.chance(0.2):
		r.Report.Next++
	case b.style == everything && b.w.chance(0.2):
		if c, ok := n.l.At(n.self.id, 0); ok {
			r.Events = []*proto.CertifiedEvent{c.Wire}
		}
	}
	return r
}

func (n *node) heard(x *node, q *proto.ProofRequest, r *proto.ProofReply) {
	added, err := n.l.Heard(x.self.id, q, r)
	if n.failed {
		return
	}
	if err != nil && (!x.hostile() || proto.CodeOf(err) == proto.CodeInternal) {
		n.w.fail(fmt.Errorf("the light client %d hears witness %d: %w", n.i, x.i, err))
		return
	}
	if err == nil {
		n.heeds[x.self.id] = true
	}
	if len(n.heeds) > hostile {
		n.fresh = n.w.now
	}
	n.added(added)
	n.own.decided()
}

// watch keeps a hold that was made for a light worker. It reports whether it
// has a lane there.
func (n *node) watch(events []*ledger.Certified) bool {
	var wires []*proto.CertifiedEvent
	for _, c := range events {
		wires = append(wires, c.Wire)
	}
	if len(wires) == 0 {
		return false
	}
	_, err := n.l.Watch(wires[0], wires[1:])
	if err != nil && !n.failed {
		n.w.fail(fmt.Errorf("the light client %d watches a hold: %w", n.i, err))
	}
	return err == nil
}

// knows compares what a light client knows of its account with what a node with
// the whole ledger knows.
func (n *node) knows(full *node) error {
	id := n.self.id
	want, got := full.l.Account(id), n.l.Account(id)
	if want.Key == "" { // nobody ever paid it
		want.Key = id
	}
	if !reflect.DeepEqual(want, got) {
		return fmt.Errorf("the light client %d knows %+v\nof its account, node %d %+v", n.i, got, full.i, want)
	}
	if want, got := full.l.Receivables(id), n.l.Receivables(id); len(want) != len(got) {
		return fmt.Errorf("the light client %d can claim %d payments, node %d knows %d", n.i, len(got), full.i, len(want))
	}
	for i, want := range full.l.Receivables(id) {
		if got := n.l.Receivables(id)[i]; got.Amount != want.Amount || got.From != want.From || !goproto.Equal(got.Source, want.Source) {
			return fmt.Errorf("the light client %d can claim %v, node %d knows %v", n.i, got, full.i, want)
		}
	}
	for _, got := range n.l.Watched() {
		want, ok := full.l.Hold(got.ID)
		if !ok { // it was closed long ago
			continue
		}
		i, lane, _ := want.Lane(id)
		if x := got.Lanes[i]; want.Closed != got.Closed || lane.Paid != x.Paid || lane.Fuel != x.Fuel || lane.Done != x.Done {
			return fmt.Errorf("the light client %d knows %+v of its lane, node %d %+v", n.i, got, full.i, want)
		}
	}
	if want, got := full.l.Epoch(), n.l.Epoch(); want != got {
		return fmt.Errorf("the light client %d is in epoch %d, node %d in %d", n.i, got, full.i, want)
	}
	return nil
}
