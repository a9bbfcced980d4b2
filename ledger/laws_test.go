package ledger_test

import (
	"fmt"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"
)

// history draws a random valid history on l and checks every step against a
// reference that only adds and subtracts.
type history struct {
	*world
	l      *ledger.Ledger
	people []person
	owned  map[peer.ID]uint64 // avail + held + receivable, by the reference
	burned uint64
	minted uint64
	stakes map[peer.ID]*stake
	keys   map[peer.ID]person // that sign for others, by id
	kinds  map[string]int     // events, to see that draws are not vain
	caps   map[cid.Cid][]lane
}

type lane struct {
	worker    person
	cap, paid uint64
	done      bool
}

func newHistory(w *world) *history {
	h := &history{world: w, l: w.ledger(), owned: map[peer.ID]uint64{}, caps: map[cid.Cid][]lane{}, stakes: map[peer.ID]*stake{}, keys: map[peer.ID]person{}, kinds: map[string]int{}}
	for i := range 4 {
		p := someone(fmt.Sprintf("account %d", i))
		h.people = append(h.people, p)
		h.owned[p.id] = uint64(w.net.Grants[p.id])
		h.stakes[p.id] = new(stake)
		for _, k := range []person{p, recovery(p), spare(p)} {
			h.keys[k.id] = k
		}
	}
	return h
}

func drawHistory(w *world, r *rapid.T, steps int) *history {
	h := newHistory(w)
	for range steps {
		h.step(r)
		h.check(r)
	}
	return h
}

func (h *history) step(r *rapid.T) {
	p := rapid.SampledFrom(h.people).Draw(r, "account")
	g := h.net.Genesis
	a := h.l.Account(p.id)
	amount := rapid.Uint64Range(1, max(1, uint64(a.Avail)+1)).Draw(r, "amount")
	if rapid.Bool().Draw(r, "small") {
		amount = amount%200 + 1
	}
	var body any
	var then func(c *ledger.Certified)
	// Two epochs around the newest checkpoint, and never back.
	epoch := max(a.Epoch, max(h.l.Epoch(), 2)-2)
	if n := rapid.IntRange(0, 9).Draw(r, "later"); n == 0 || n < 5 && a.Unbonding > 0 {
		epoch = min(h.l.Epoch()+2, epoch+1)
	}
	signer := h.keys[h.l.Signer(p.id, epoch)]
	if !a.Opened {
		body = &proto.Open{Sources: h.some(r, p)}
		if rapid.Bool().Draw(r, "recoverable") {
			body.(*proto.Open).RecoveryKey = []byte(recovery(p).id)
		}
		if q := rapid.SampledFrom(h.people).Draw(r, "referrer"); q.id != p.id {
			body.(*proto.Open).Referrer = []byte(q.id)
		}
		then = func(*ledger.Certified) { h.burn(p, g.OpeningCost) }
	} else {
		kind := rapid.IntRange(0, 11).Draw(r, "kind")
		if a.Unbonding > 0 && rapid.Bool().Draw(r, "unbonding") {
			kind = 8
		}
		switch kind {
		case 8, 9:
			body, then = h.stake(r, p, epoch, amount)
		case 10:
			body, signer = h.rotate(r, p, signer)
		case 11:
			h.witnessed(r, p, signer)
			return
		case 0:
			to := rapid.SampledFrom(h.people).Draw(r, "to")
			body = transfer(to, amount)
			then = func(*ledger.Certified) {
				h.owned[p.id] -= amount
				h.owned[to.id] += amount
			}
		case 1:
			m := &proto.Receive{Sources: h.some(r, p)}
			if rapid.Bool().Draw(r, "bonus") {
				h.l.FillBonus(p.id, epoch, m.Sources)
			}
			body = m
			then = func(*ledger.Certified) {
				for _, s := range m.Sources {
					h.minted += s.Bonus
					h.owned[p.id] += s.Bonus
				}
			}
		case 2:
			m := &proto.Hold{Job: job(1), Budget: amount, DeadlineUnixMs: 9}
			var lanes []lane
			for _, q := range h.people {
				if rapid.Bool().Draw(r, "lane") {
					c := rapid.Uint64Range(1, max(1, amount/3)).Draw(r, "cap")
					m.Lanes = append(m.Lanes, &proto.Lane{Worker: []byte(q.id), Cap: c})
					lanes = append(lanes, lane{worker: q, cap: c})
				}
			}
			body, then = m, func(c *ledger.Certified) { h.caps[c.ID] = lanes }
		default:
			holds := h.l.Holds(p.id)
			if len(holds) == 0 {
				return
			}
			id := rapid.SampledFrom(holds).Draw(r, "hold").ID
			if rapid.IntRange(0, 3).Draw(r, "extend") == 0 {
				q := rapid.SampledFrom(h.people).Draw(r, "worker")
				c := rapid.Uint64Range(1, max(1, amount/2)).Draw(r, "cap")
				body = &proto.Extend{Hold: id.Bytes(), Budget: amount, Lanes: []*proto.Lane{{Worker: []byte(q.id), Cap: c}}}
				then = func(*ledger.Certified) {
					for i, x := range h.caps[id] {
						if x.worker.id == q.id {
							h.caps[id][i].cap += c
							return
						}
					}
					h.caps[id] = append(h.caps[id], lane{worker: q, cap: c})
				}
			} else {
				body, then = h.settle(r, p, id)
			}
		}
	}
	ev, err := h.l.Draft(p.id, epoch, 0, body)
	if err != nil {
		return // a draw that no rule allows; what is allowed is asserted elsewhere
	}
	added, err := h.l.Add(h.certify(h.event(signer, ev)))
	if err != nil || len(added) != 1 {
		r.Fatalf("a drafted event is refused: %d added, %v", len(added), err)
	}
	h.kinds[ledger.KindName(ev)]++
	h.cost(p, ev)
	if then != nil {
		then(added[0])
	}
}

func (h *history) burn(p person, amount uint64) {
	h.owned[p.id] -= amount
	h.burned += amount
}

func (h *history) some(r *rapid.T, p person) []*proto.Source {
	var out []*proto.Source
	for _, x := range h.l.Receivables(p.id) {
		if len(out) < ledger.MaxSources && rapid.Bool().Draw(r, "claim") {
			out = append(out, x.Source)
		}
	}
	return out
}

func (h *history) settle(r *rapid.T, p person, id cid.Cid) (any, func(*ledger.Certified)) {
	m := &proto.Settle{Hold: id.Bytes()}
	after := append([]lane{}, h.caps[id]...)
	var paid, total uint64
	m.Final = len(after) > 0 || rapid.Bool().Draw(r, "final")
	for i := range after {
		x := &after[i]
		total += x.paid
		if rapid.Bool().Draw(r, "pay") {
			pay := &proto.LanePay{Lane: uint32(i), Amount: rapid.Uint64Range(0, x.cap+2).Draw(r, "cumulative"), Fuel: rapid.Uint64Range(0, 60_000*x.cap).Draw(r, "fuel")}
			if to := min(x.cap, pay.Amount); to > x.paid && !x.done {
				paid += to - x.paid
				x.paid = to
			}
			if rapid.Bool().Draw(r, "done") {
				pay.Done = h.done(x.worker, id, uint32(i), x.paid)
				x.done = true
			}
			m.Pays = append(m.Pays, pay)
		}
		m.Final = m.Final && x.done
	}
	return m, func(*ledger.Certified) {
		ppm := h.net.Genesis.FeePpm
		h.burn(p, uint64(proto.Fee(proto.Credit(total+paid), ppm)-proto.Fee(proto.Credit(total), ppm)))
		for i, x := range after {
			was := h.caps[id][i].paid
			h.owned[p.id] -= x.paid - was
			h.owned[x.worker.id] += x.paid - was
		}
		h.caps[id] = after
	}
}

// check: the supply equation, the reference, and what lanes were promised is
// still there.
func (h *history) check(r *rapid.T) {
	au := h.l.Audit()
	if !au.Conserved() {
		r.Fatalf("not conserved: %+v", au)
	}
	if uint64(au.Burned) != h.burned || uint64(au.Minted) != h.minted {
		r.Fatalf("burned %d, minted %d; the reference says %d and %d", au.Burned, au.Minted, h.burned, h.minted)
	}
	for _, p := range h.people {
		a := h.l.Account(p.id)
		if got := uint64(a.Avail + a.Held + a.Receivable); got != h.owned[p.id] {
			r.Fatalf("%s owns %d, the reference says %d", p.id, got, h.owned[p.id])
		}
		if s := *h.stakes[p.id]; uint64(a.Staked) != s.staked || uint64(a.Unbonding) != s.unbonding || a.Offences != s.offences {
			r.Fatalf("%+v, the reference says %+v", a, s)
		}
		held := proto.Credit(0)
		for _, x := range h.l.Holds(p.id) {
			held += x.Remaining
			unpaid, total := proto.Credit(0), proto.Credit(0)
			for i, ln := range x.Lanes {
				if want := h.caps[x.ID][i]; uint64(ln.Paid) != want.paid || uint64(ln.Cap) != want.cap || ln.Done != want.done {
					r.Fatalf("lane %+v, the reference says %+v", ln, want)
				}
				total += ln.Paid
				if !ln.Done {
					unpaid += ln.Cap - ln.Paid
				}
			}
			ppm := h.net.Genesis.FeePpm
			if need := unpaid + proto.Fee(total+unpaid, ppm) - proto.Fee(total, ppm); x.Remaining < need {
				r.Fatalf("hold has %d left, its lanes may ask for %d", x.Remaining, need)
			}
		}
		if held != a.Held {
			r.Fatalf("account holds %d, its holds %d", a.Held, held)
		}
	}
}

func lawWorlds(t *testing.T) []*world {
	four := map[string]uint64{"account 0": 10 * credit, "account 1": 5000, "account 2": 3}
	return []*world{
		newWorld(t, 1, four, weekly),
		newWorld(t, 4, four, weekly, func(g *proto.Genesis) { g.EventCost, g.OpeningCost, g.FeePpm, g.MinTransfer = 3, 50, 330_000, 7 }),
	}
}

// Arrival order, duplicates and batches never matter, and a restart in the
// middle changes nothing.
func TestMergeLaws(t *testing.T) {
	worlds := lawWorlds(t)
	rapid.Check(t, func(r *rapid.T) {
		w := rapid.SampledFrom(worlds).Draw(r, "world")
		h := drawHistory(w, r, rapid.IntRange(1, 90).Draw(r, "steps"))
		set, want := all(h.l), h.l.StateHash()

		order := rapid.Permutation(append(set[:len(set):len(set)], set[:len(set)/2]...)).Draw(r, "order")
		store := mem.New()
		l := w.open(store)
		total := 0
		for len(order) > 0 {
			n := rapid.IntRange(1, len(order)).Draw(r, "batch")
			if rapid.IntRange(0, 9).Draw(r, "restart") == 0 {
				// What waits is lost with the process; it comes again.
				store = store.Clone()
				l = w.open(store)
				order = append(order, set...)
			}
			added, err := l.AddVerified(nil, order[:n]...)
			if err != nil {
				r.Fatal(err)
			}
			total += len(added)
			order = order[n:]
		}
		if l.StateHash() != want || l.Len() != len(set) || l.Pending() != 0 || total != len(set) {
			r.Fatalf("%d of %d events, %d added, %d pending, state %s, want %s", l.Len(), len(set), total, l.Pending(), l.StateHash(), want)
		}
		if x := w.open(store); x.StateHash() != want || x.Audit() != h.l.Audit() {
			r.Fatal("the store replays to another state")
		}
	})
}

// Commutative, associative, idempotent: over any three subsets, whether they
// are closed under prev and sources or not.
func TestUnionLaws(t *testing.T) {
	worlds := lawWorlds(t)
	rapid.Check(t, func(r *rapid.T) {
		w := rapid.SampledFrom(worlds).Draw(r, "world")
		set := all(drawHistory(w, r, rapid.IntRange(1, 60).Draw(r, "steps")).l)
		var parts [3][]*ledger.Certified
		for _, c := range set {
			for i := range parts {
				if rapid.Bool().Draw(r, "in") {
					parts[i] = append(parts[i], c)
				}
			}
		}
		merge := func(order ...int) (proto.Hash, int) {
			l := w.ledger()
			for _, i := range order {
				if _, err := l.AddVerified(nil, parts[i]...); err != nil {
					r.Fatal(err)
				}
			}
			if !l.Audit().Conserved() {
				r.Fatal("not conserved")
			}
			return l.StateHash(), l.Len() + l.Pending()
		}
		hash, n := merge(0, 1, 2)
		for _, order := range [][]int{{2, 1, 0}, {1, 2, 0}, {0, 1, 2, 0, 1, 2}, {0, 0, 2, 1, 1}} {
			if h, m := merge(order...); h != hash || m != n {
				r.Fatalf("order %v gives %s and %d events, want %s and %d", order, h, m, hash, n)
			}
		}
	})
}

// A random single change to a valid event never gets it into the set as a
// different event at the same place with the state it claims, unless the
// change is one that the rules allow and post says so.
func TestPostIsBinding(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 10 * credit})
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	rapid.Check(t, func(r *rapid.T) {
		ev, err := l.Draft(alice.id, 0, 0, transfer(bob, credit))
		if err != nil {
			r.Fatal(err)
		}
		delta := rapid.Uint64Range(1, 1<<60).Draw(r, "delta")
		switch rapid.IntRange(0, 9).Draw(r, "field") {
		case 0:
			ev.Post.Avail += delta
		case 1:
			ev.Post.Held += delta
		case 2:
			ev.Post.Staked += delta
		case 3:
			ev.Post.Unbonding += delta
		case 4:
			ev.Post.UnbondEpoch += delta
		case 5:
			ev.Post.BonusUsed += delta
		case 6:
			ev.Post.Flags++
		case 7:
			ev.Post.Key = []byte(bob.id)
		case 8:
			ev.Post.RecoveryKey = []byte(bob.id)
		case 9:
			ev.GetTransfer().Amount += delta
		}
		before := l.StateHash()
		if added, err := l.Add(w.certify(w.event(alice, ev))); err == nil || len(added) != 0 {
			r.Fatal("an event whose post does not follow is in the set")
		}
		if l.StateHash() != before {
			r.Fatal("a refused event changed the state")
		}
	})
}
