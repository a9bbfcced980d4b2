package ledger

import (
	"encoding/binary"
	"slices"

	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// The one encoding of a checkpoint's leaves: numbers as 8 bytes, big-endian;
// strings and lists behind their length. Every value has exactly one encoding,
// and bytes behind it are refused.

type encoder struct{ b []byte }

func (e *encoder) num(vs ...uint64) {
	for _, v := range vs {
		e.b = binary.BigEndian.AppendUint64(e.b, v)
	}
}

func (e *encoder) str(s string) {
	e.num(uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) hash(h proto.Hash) { e.b = append(e.b, h[:]...) }

func (e *encoder) flag(b bool) {
	if b {
		e.num(1)
	} else {
		e.num(0)
	}
}

// decoder fails once and then gives zeros.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) num() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) str() string { return string(d.take(d.num())) }

func (d *decoder) hash() (h proto.Hash) {
	copy(h[:], d.take(uint64(len(h))))
	return h
}

func (d *decoder) flag() bool {
	v := d.num()
	d.bad = d.bad || v > 1
	return v == 1
}

// list is a length that its items of at least least bytes must have room for.
func (d *decoder) list(least uint64) int {
	n := d.num()
	if n > uint64(len(d.b))/least {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *decoder) end(what string) error {
	if d.bad || len(d.b) > 0 {
		return proto.CodeMalformed.Errorf("checkpoint: damaged record of %s", what)
	}
	return nil
}

func (p post) encode(e *encoder) {
	e.num(p.avail, p.held, p.staked, p.unbonding, p.unbondEpoch, p.bonusEpoch, p.bonusUsed, uint64(p.flags))
	e.num(p.pendingEpoch, p.keySeq)
	for _, v := range []string{p.key, p.recoveryKey, p.pendingKey, p.slashed} {
		e.str(v)
	}
}

func (p *post) decode(d *decoder) {
	for _, v := range []*uint64{&p.avail, &p.held, &p.staked, &p.unbonding, &p.unbondEpoch, &p.bonusEpoch, &p.bonusUsed} {
		*v = d.num()
	}
	flags := d.num()
	p.flags = uint32(flags)
	d.bad = d.bad || flags > 1<<32-1
	p.pendingEpoch, p.keySeq = d.num(), d.num()
	for _, v := range []*string{&p.key, &p.recoveryKey, &p.pendingKey, &p.slashed} {
		*v = d.str()
	}
}

// An account's record. Its receivable is the sum of its unclaimed points, and
// its chain is events.
func (a *account) leaf() leaf {
	h := a.head()
	e := new(encoder)
	e.num(h.Seq, a.epoch)
	e.hash(h.hash)
	a.post.encode(e)
	return leaf{treeAccounts, slices.Clone(accountKey(a.id)), e.b}
}

// accountLeaf is what an account's record says.
type accountLeaf struct {
	id    peer.ID
	seq   uint64
	epoch uint64
	head  proto.Hash
	post  post
}

func (l leaf) account() (a accountLeaf, err error) {
	if a.id, err = accountOfKey(l.key); err != nil {
		return a, err
	}
	d := &decoder{b: l.value}
	a.seq, a.epoch, a.head = d.num(), d.num(), d.hash()
	a.post.decode(d)
	return a, d.end("an account")
}

func (h *hold) leaf() leaf {
	e := new(encoder)
	e.str(string(h.payer))
	e.b = append(e.b, h.job[:]...)
	e.num(h.budget, h.released, h.paid, h.deadline, uint64(len(h.lanes)))
	for _, x := range h.lanes {
		e.str(string(x.Worker))
		e.str(string(x.Payee))
		e.num(uint64(x.Cap), uint64(x.Paid), uint64(x.Fuel))
		e.flag(x.Done)
	}
	e.num(uint64(len(h.events)))
	for _, c := range h.events {
		e.hash(c.hash)
	}
	return leaf{treeHolds, slices.Clone(h.id[:]), e.b}
}

// hold reads a hold's record; its events are looked up by the caller.
func (l leaf) hold() (h *hold, events []proto.Hash, err error) {
	h = new(hold)
	if h.id, err = proto.ToHash(l.key); err != nil {
		return nil, nil, err
	}
	d := &decoder{b: l.value}
	h.payer = peer.ID(d.str())
	copy(h.job[:], d.take(uint64(len(h.job))))
	h.budget, h.released, h.paid, h.deadline = d.num(), d.num(), d.num(), d.num()
	for range d.list(6 * 8) {
		x := Lane{Worker: peer.ID(d.str()), Payee: peer.ID(d.str())}
		x.Cap, x.Paid, x.Fuel = proto.Credit(d.num()), proto.Credit(d.num()), proto.Fuel(d.num())
		x.Done = d.flag()
		h.lanes = append(h.lanes, x)
	}
	for range d.list(uint64(len(proto.Hash{}))) {
		events = append(events, d.hash())
	}
	return h, events, d.end("a hold")
}

func (r receivable) leaf(p point) leaf {
	e := new(encoder)
	e.str(string(r.to))
	e.str(string(r.from))
	e.num(r.amount, r.eligible)
	return leaf{treeUnclaimed, binary.BigEndian.AppendUint32(slices.Clone(p.source[:]), p.index), e.b}
}

func (l leaf) receivable() (p point, r receivable, err error) {
	if len(l.key) != len(p.source)+4 {
		return p, r, proto.CodeMalformed.Errorf("checkpoint: key of %d bytes for a receivable", len(l.key))
	}
	copy(p.source[:], l.key)
	p.index = binary.BigEndian.Uint32(l.key[len(p.source):])
	d := &decoder{b: l.value}
	r.to, r.from, r.amount, r.eligible = peer.ID(d.str()), peer.ID(d.str()), d.num(), d.num()
	return p, r, d.end("a receivable")
}

// leaves lists the state, sorted by tree and key.
func (s *state) leaves() []leaf {
	out := make([]leaf, 0, len(s.order)+len(s.points))
	for _, id := range s.order {
		out = append(out, s.accounts[id].leaf())
	}
	for _, holds := range s.open {
		for id := range holds {
			out = append(out, s.holds[id].leaf())
		}
	}
	for p, r := range s.points {
		out = append(out, r.leaf(p))
	}
	slices.SortFunc(out, compareLeaves)
	return out
}

// stateOf builds the state that a checkpoint's leaves describe. kept are the
// events at or below its frontier that are still there: every account's head
// and the events of open holds must be among them.
func stateOf(net *proto.Network, body *proto.Checkpoint, leaves []leaf, kept map[proto.Hash]*Certified) (state, error) {
	s := newState(net)
	s.carry(body)
	s.events = kept
	chains := map[peer.ID][]*Certified{}
	for _, c := range kept {
		chains[c.Account] = append(chains[c.Account], c)
	}
	for _, x := range leaves {
		switch x.tree {
		case treeAccounts:
			v, err := x.account()
			if err != nil {
				return s, err
			}
			head := kept[v.head]
			if head == nil || head.Account != v.id || head.Seq != v.seq || head.post != v.post || head.Event.Epoch != v.epoch {
				return s, proto.CodeMalformed.Errorf("checkpoint: the head of %s is missing or another event", v.id)
			}
			a := s.accounts[v.id]
			if a == nil {
				a = &account{id: v.id}
				s.accounts[v.id] = a
			}
			a.epoch, a.post = v.epoch, v.post
			a.chain = contiguous(chains[v.id], head)
			a.kept = len(a.chain)
			s.order = append(s.order, v.id)
		case treeHolds:
			h, ids, err := x.hold()
			if err != nil {
				return s, err
			}
			for _, id := range ids {
				c := kept[id]
				if c == nil || c.Account != h.payer {
					return s, proto.CodeMalformed.Errorf("checkpoint: an event of hold %s is missing", h.id.CID())
				}
				h.events = append(h.events, c)
			}
			if len(h.events) == 0 || h.events[0].hash != h.id {
				return s, proto.CodeMalformed.Errorf("checkpoint: hold %s has no event", h.id.CID())
			}
			s.holds[h.id] = h
			if s.open[h.payer] == nil {
				s.open[h.payer] = map[proto.Hash]bool{}
			}
			s.open[h.payer][h.id] = true
			s.watch(h)
		case treeUnclaimed:
			p, r, err := x.receivable()
			if err != nil {
				return s, err
			}
			s.points[p] = r
			if s.inbox[r.to] == nil {
				s.inbox[r.to] = map[point]bool{}
			}
			s.inbox[r.to][p] = true
			if s.accounts[r.to] == nil {
				s.accounts[r.to] = &account{id: r.to}
			}
			if s.accounts[r.to].receivable, err = sum(s.accounts[r.to].receivable, r.amount); err != nil {
				return s, err
			}
		case treeReputation:
			id, v, err := x.standing()
			if err != nil {
				return s, err
			}
			if s.standing == nil {
				s.standing = map[peer.ID]standing{}
			}
			s.standing[id] = v
		default:
			return s, proto.CodeMalformed.Errorf("checkpoint: no tree %q", x.tree)
		}
	}
	return s, nil
}

// contiguous is the longest gapless chain of kept events that ends at head.
func contiguous(cs []*Certified, head *Certified) []*Certified {
	slices.SortFunc(cs, func(a, b *Certified) int {
		switch {
		case a.Seq < b.Seq:
			return -1
		case a.Seq > b.Seq:
			return 1
		}
		return 0
	})
	end := slices.Index(cs, head)
	start := end
	for start > 0 && cs[start-1].Seq+1 == cs[start].Seq {
		start--
	}
	return slices.Clip(slices.Clone(cs[start : end+1]))
}
