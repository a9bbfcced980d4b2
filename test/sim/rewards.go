package sim

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// economy sets what a genesis says of rewards. In some runs the most that may
// ever be minted is little more than what a few epochs may mint, so that
// rewards end.
func (w *world) economy(g *proto.Genesis) {
	g.KappaPpm = 100_000 + w.rnd.Uint64N(100_000)
	g.CurveM, g.CurveDCpuHours = 10, 1_000_000
	if w.chance(0.25) {
		var supply uint64
		for _, x := range g.Grants {
			supply += x.Amount
		}
		g.CurveM, g.CurveDCpuHours = 2, 4*(supply/1_000_000*g.KappaPpm)/(60*credit)+1
	}
}

// Probes of a witness: so often, and for as many of them at least it speaks.
const (
	probing     = 5 * time.Minute
	probesLeast = 5
)

type tally struct{ asked, answered int }

// probe has a witness look who is there, and report it when the epoch nears its
// end.
func (n *node) probe(*node) {
	epoch, accounts, err := n.l.Probed()
	if err != nil {
		return // changes of a checkpoint have yet to come
	}
	if epoch != n.tallied {
		n.tallied, n.tally = epoch, map[peer.ID]tally{}
	}
	var up []peer.ID
	for _, id := range accounts {
		x := n.w.nodes[n.w.index[id]]
		t := n.tally[id]
		if t.asked++; !x.down && !n.w.divided(n.i, x.i) {
			t.answered++
		}
		n.tally[id] = t
		if t.asked >= probesLeast && 10*t.answered >= 9*t.asked {
			up = append(up, id)
		}
	}
	if _, ends := ledger.NewEpochs(n.l).Due(); ends.Sub(n.clock()) > 5*probing {
		return
	}
	outs, err := n.wit.Probes(up)
	n.act(outs, err)
}

// damage makes lists that are none, of a list of some of n accounts.
var damage = []func(up []byte, n int) []byte{
	func(up []byte, n int) []byte { return slices.Concat(up, make([]byte, n)) },          // more than there are
	func(_ []byte, n int) []byte { return binary.AppendUvarint(nil, uint64(n)) },         // one that is not
	func(up []byte, _ int) []byte { return slices.Concat(up, []byte{0x80, 0}) },          // a zero in two bytes
	func(up []byte, _ int) []byte { return append(slices.Clone(up), 0x80) },              // cut off
	func(_ []byte, _ int) []byte { return binary.AppendUvarint(nil, 1<<64-1) },           // beyond all numbers
	func(_ []byte, _ int) []byte { return slices.Repeat([]byte{0}, ledger.MaxProbed+1) }, // too many
}

// misreport has a hostile witness say of everybody the opposite, or something
// that is no report.
func (b *hostiles) misreport(n *node) {
	if b.style == withhold {
		return
	}
	var up []peer.ID
	for _, id := range n.l.Accounts() {
		if b.is(id) || b.w.nodes[b.w.index[id]].down {
			up = append(up, id)
		}
	}
	m, err := n.l.DraftProbes(up)
	if err != nil {
		return // changes of a checkpoint have yet to come
	}
	if b.overlong {
		m.Up = damage[b.w.rnd.IntN(len(damage))](m.Up, len(n.l.Accounts()))
	}
	raw := b.w.seal(n.self.id, &proto.Payload{Body: &proto.Payload_ProbeReport{ProbeReport: m}})
	_ = n.l.KeepProbes(raw)
	b.w.out.Misreports++
	b.toSome(n.self.id, &proto.VoteFrame{Body: &proto.VoteFrame_ProbeReport{ProbeReport: raw}})
}

// span is a run of a node's process.
type span struct{ from, to time.Time }

// upFor is how long a node was there between two times.
func (n *node) upFor(from, to time.Time) (d time.Duration) {
	for _, s := range n.lives {
		end := s.to
		if end.IsZero() || end.After(to) {
			end = to
		}
		if begin := s.from; end.After(from) && end.After(begin) {
			if begin.Before(from) {
				begin = from
			}
			d += end.Sub(begin)
		}
	}
	return d
}

// leave turns the node off until somebody starts it.
func (n *node) leave() {
	if n.away = true; !n.down {
		n.crash()
	}
	n.w.out.Absent++
}

// mint sees what an event claims, which is at most κ times the stake times
// M − 1 in all events of one epoch.
func (r *referee) mint(c *ledger.Certified) {
	b := uint64(c.Bonus())
	if b == 0 {
		return
	}
	r.w.out.Bonuses++
	r.w.out.Minted += b
	r.minted += b
	g := r.w.net.Genesis
	k := bonusKey{c.Account, c.Event.Epoch}
	r.bonuses[k] += b
	if most := c.Event.Post.Staked * g.KappaPpm / 1_000_000 * (g.CurveM - 1); r.bonuses[k] > most+g.CurveM {
		r.w.fail(fmt.Errorf("node %d has bonuses of %d in epoch %d, its stake allows %d", r.w.index[c.Account], r.bonuses[k], k.epoch, most))
	}
}

type bonusKey struct {
	account peer.ID
	epoch   uint64
}

// paid looks at what checkpoints paid: all that is minted is accounted for, and
// nobody was paid for being up who was not, or for somebody it never referred.
func (r *referee) paid() {
	n := r.full()
	minted := r.minted
	for e := uint64(1); e <= n.l.Epoch(); e++ {
		h, ok := n.l.Checkpoint(e)
		if !ok {
			r.w.fail(fmt.Errorf("node %d forgot checkpoint %d", n.i, e))
			return
		}
		minted += h.Body.Rewarded
	}
	for _, x := range r.w.nodes {
		for _, v := range n.l.Rewards(x.self.id) {
			r.earned(x, v)
		}
	}
	if got := uint64(n.l.Audit().Minted); got != minted {
		r.w.fail(fmt.Errorf("%d is minted, events and checkpoints say %d", got, minted))
	}
}

// earned looks at what one checkpoint paid to a node.
func (r *referee) earned(n *node, v ledger.Reward) {
	switch v.Kind {
	case "uptime":
		r.w.out.Uptimes++
		from, to := r.certifiedAt[v.Epoch-1], r.certifiedAt[v.Epoch]
		if up := n.upFor(from, to); !from.IsZero() && 2*up < to.Sub(from) {
			r.w.fail(fmt.Errorf("node %d is paid for epoch %d, of which it was up %s of %s", n.i, v.Epoch, up, to.Sub(from)))
		}
	case "referral":
		r.w.out.Referrals++
		if want := r.w.nodes[r.w.index[v.Referee]].own.referrer; want != n.self.id {
			r.w.fail(fmt.Errorf("node %d is paid for node %d, whom it did not refer", n.i, r.w.index[v.Referee]))
		}
	}
}
