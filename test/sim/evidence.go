package sim

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// right is what all work gives; a receipt that states another output lies.
var right = proto.HashOf([]byte("the right output"))

// filed is a receipt that a submitter brings to the witnesses.
type filed struct {
	sr    *proto.SignedReceipt
	times int
	epoch uint64 // of the newest time
}

// delivered takes a receipt. Its work lost the vote when it is wrong; a hostile
// submitter says so of right work, too.
func (o *owner) delivered(sr *proto.SignedReceipt, wrong bool) {
	if wrong || o.n.hostile() {
		o.receipts = append(o.receipts, &filed{sr: sr})
	}
	if !wrong && o.n.hostile() {
		o.n.w.out.Lies++
	}
}

// accuse brings each receipt once per epoch, some times, as a node does.
func (n *node) accuse(*node) {
	o, epoch := n.own, n.l.Epoch()
	for _, f := range o.receipts {
		if f.times > 0 && f.epoch == epoch || f.times == 4 {
			continue
		}
		f.times, f.epoch = f.times+1, epoch
		for i := range witnesses {
			n.vote(i, &proto.VoteFrame{Body: &proto.VoteFrame_Accused{Accused: f.sr}})
		}
	}
}

// again is a witness that executes accused work.
func (n *node) again(a *ledger.Accused) {
	life := n.life
	n.w.after(n.w.between(100*time.Millisecond, 2*time.Second), func() {
		if n.down || n.life != life || string(a.Receipt.OutputHash) == string(right[:]) {
			return
		}
		switch err := n.wit.Found(a, proto.Fuel(a.Receipt.Fuel)); {
		case err == nil:
			n.w.ref.found(n, a)
			n.wrongWork(n)
			n.settle()
		case proto.CodeOf(err) != proto.CodeDuplicate:
			n.w.fail(fmt.Errorf("witness %d found wrong work: %w", n.i, err))
		}
	})
}

// wrongWork tells the other witnesses what this one found.
func (n *node) wrongWork(*node) {
	outs, err := n.wit.WrongWork()
	n.act(outs, err)
}

// overhear keeps what honest witnesses and submitters send to a hostile one, for
// the checkpoints that it proposes and the lies that it tells.
func (b *hostiles) overhear(n *node, f *proto.VoteFrame) {
	switch x := f.Body.(type) {
	case *proto.VoteFrame_Accused:
		r := new(proto.Receipt)
		if err := goproto.Unmarshal(x.Accused.GetReceipt(), r); err != nil {
			b.w.fail(err)
			return
		}
		if len(b.receipts) < 32 && !slices.ContainsFunc(b.receipts, func(sr *proto.SignedReceipt) bool { return bytes.Equal(sr.Receipt, x.Accused.Receipt) }) {
			b.receipts = append(b.receipts, x.Accused)
			b.lies = append(b.lies, !bytes.Equal(r.OutputHash, right[:]))
		}
	case *proto.VoteFrame_ProbeReport: // what they attach suits them well or not
		if b.style != withhold {
			_ = n.l.KeepProbes(x.ProbeReport)
		}
	case *proto.VoteFrame_WrongWorks:
		if b.style == equivocate {
			_ = n.l.KeepWrong(x.WrongWorks)
		}
	}
}

// slander has a hostile witness report right work as wrong, and hide what is
// wrong. Both name the same receipts.
func (b *hostiles) slander(n *node) {
	if b.style == withhold {
		return
	}
	m, out := &proto.WrongReport{Epoch: n.l.Epoch() + 1}, new(proto.WrongWorks)
	for i, sr := range b.receipts {
		if !b.lies[i] || b.style == everything {
			out.Receipts = append(out.Receipts, sr)
		}
	}
	if len(out.Receipts) == 0 {
		return
	}
	slices.SortFunc(out.Receipts, func(x, y *proto.SignedReceipt) int {
		p, q := proto.HashOf(x.Receipt), proto.HashOf(y.Receipt)
		return bytes.Compare(p[:], q[:])
	})
	for _, sr := range out.Receipts {
		id := proto.HashOf(sr.Receipt)
		m.Wrong = append(m.Wrong, &proto.WrongWork{Receipt: id[:], Fuel: uint64(proto.MaxFuel)})
	}
	if b.w.chance(0.1) {
		slices.Reverse(m.Wrong)
	}
	out.Report = b.w.seal(n.self.id, &proto.Payload{Body: &proto.Payload_WrongReport{WrongReport: m}})
	_ = n.l.KeepWrong(out)
	b.w.out.Slanders++
	b.toSome(n.self.id, &proto.VoteFrame{Body: &proto.VoteFrame_WrongWorks{WrongWorks: out}})
}

// wrongFound is who found a receipt wrong, and in which run of its process.
type wrongFound struct {
	worker peer.ID
	by     map[int]int
}

func (r *referee) found(n *node, a *ledger.Accused) {
	if !r.w.nodes[r.w.index[a.Worker]].own.liar {
		r.w.fail(fmt.Errorf("witness %d finds work of the honest node %d wrong", n.i, r.w.index[a.Worker]))
	}
	f := r.wrong[a.ID]
	if f == nil {
		f = &wrongFound{a.Worker, map[int]int{}}
		r.wrong[a.ID] = f
	}
	f.by[n.i] = n.life
}

// convicted lists the liars of whom f+1 honest witnesses know now: f+1 epochs
// later, in which nobody crashes, the last checkpoint must say so.
func (r *referee) convicted() []peer.ID {
	out := map[peer.ID]bool{}
	for _, f := range r.wrong {
		known := 0
		for i, life := range f.by {
			if n := r.w.nodes[i]; !n.down && n.life == life {
				known++
			}
		}
		if known > hostile {
			out[f.worker] = true
		}
	}
	return slices.Sorted(maps.Keys(out))
}

// acquitted is one of these liars of whom the newest checkpoint knows nothing.
func (r *referee) acquitted(liars []peer.ID) (int, bool) {
	for _, id := range liars {
		if r.full().l.Reputation(id).Invalid == 0 {
			return r.w.index[id], true
		}
	}
	return 0, false
}

// full is an honest node with the whole ledger.
func (r *referee) full() *node {
	for _, n := range r.w.nodes {
		if n.wit != nil && !n.down {
			return n
		}
	}
	return nil
}

// judged looks at what a node's newest checkpoint says of workers: no honest one
// did wrong.
func (r *referee) judged(n *node) {
	for _, x := range r.w.nodes {
		if rep := n.l.Reputation(x.self.id); rep.Invalid > 0 && !x.own.liar {
			r.w.fail(fmt.Errorf("node %d, which is honest, did wrong work for %+v in the eyes of node %d", x.i, rep, n.i))
		}
	}
}
