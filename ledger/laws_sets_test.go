package ledger_test

import (
	"flag"
	"fmt"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"
)

var lawChecks = flag.Int("law-checks", 100_000, "random sets for the merge laws")

// element is what the set is made of.
type element struct {
	event *ledger.Certified
	cp    *proto.CertifiedCheckpoint
}

// chronicle is a finished random history, to draw sets from: signing events
// anew for each of a hundred thousand sets would take an hour.
type chronicle struct {
	*world
	elements []element
	hash     proto.Hash
	rewards  map[string]int
}

func drawChronicle(worlds []*world, r *rapid.T) *chronicle {
	w := rapid.SampledFrom(worlds).Draw(r, "world")
	h := newHistory(w)
	c := &chronicle{world: w, rewards: map[string]int{}}
	var cps []*proto.CertifiedCheckpoint
	for epoch := range rapid.IntRange(0, 2).Draw(r, "checkpoints") + 1 {
		if epoch > 0 {
			for _, p := range h.people {
				h.pays(r, p)
			}
			for _, p := range w.witnesses[:w.net.Quorum()] {
				var up []peer.ID
				for _, q := range h.people {
					if rapid.Bool().Draw(r, "up") {
						up = append(up, q.id)
					}
				}
				w.probe(h.l, p, up...)
			}
			cps = append(cps, w.checkpoint(h.l))
			for _, p := range h.people {
				for _, x := range h.l.Rewards(p.id) {
					c.rewards[x.Kind]++
				}
			}
		}
		for range rapid.IntRange(5, 25).Draw(r, "steps") {
			h.step(r)
		}
	}
	for _, e := range all(h.l) {
		c.elements = append(c.elements, element{event: e})
	}
	for _, cp := range cps {
		c.elements = append(c.elements, element{cp: cp})
	}
	c.hash = h.l.StateHash()
	return c
}

// pays settles as much of an account's money as it may, so that fees are large
// enough for referrals to earn something.
func (h *history) pays(r *rapid.T, p person) {
	a := h.l.Account(p.id)
	epoch, by := max(a.Epoch, h.l.Epoch()), h.keys[h.l.Signer(p.id, max(a.Epoch, h.l.Epoch()))]
	to, amount := rapid.SampledFrom(h.people).Draw(r, "worker"), uint64(a.Avail)/2
	if !h.possible(h.l, epoch, p, by, &proto.Hold{Job: job(2), Budget: amount, DeadlineUnixMs: 9, Lanes: []*proto.Lane{{Worker: []byte(to.id), Cap: amount / 2}}}) {
		return
	}
	holds := h.l.Holds(p.id)
	h.possible(h.l, epoch, p, by, &proto.Settle{Hold: holds[len(holds)-1].ID.Bytes(), Pays: []*proto.LanePay{{Amount: amount / 2, Fuel: 60_000 * amount}}})
	h.caps[holds[len(holds)-1].ID] = []lane{{worker: to, cap: amount / 2, paid: amount / 2}}
}

// unite adds a batch. Checkpoints go one by one, as they arrive.
func unite(r *rapid.T, l *ledger.Ledger, batch []element) {
	var events []*ledger.Certified
	for _, e := range batch {
		if e.cp == nil {
			events = append(events, e.event)
			continue
		}
		if _, err := l.AddCheckpoint(e.cp); err != nil {
			r.Fatal(err)
		}
	}
	if _, err := l.AddVerified(nil, events...); err != nil {
		r.Fatal(err)
	}
	if a := l.Audit(); !a.Conserved() {
		r.Fatalf("not conserved: %+v", a)
	}
}

// Merge laws on random sets of events and checkpoints, whether they are closed
// under prev and sources or not: the state is a function of the set. One
// ledger gets the elements one after the other; the other one in another
// order, some of them again and again, in batches of any size, which is what
// commutative, associative and idempotent mean. After every batch nothing was
// created or lost.
func TestMergeLawsOnManySets(t *testing.T) {
	defer ledger.MemoSignatures()()
	worlds := lawWorlds(t)
	var pool []*chronicle
	for seed := range 150 {
		pool = append(pool, rapid.Custom(func(r *rapid.T) *chronicle { return drawChronicle(worlds, r) }).Example(seed))
	}
	rewards := map[string]int{}
	for _, c := range pool {
		for k, n := range c.rewards {
			rewards[k] += n
		}
	}
	if rewards["uptime"] == 0 || rewards["referral"] == 0 {
		t.Errorf("no checkpoint rewards anybody: %v", rewards)
	}
	checks := flag.Lookup("rapid.checks")
	was := checks.Value.String()
	if err := flag.Set("rapid.checks", fmt.Sprint(*lawChecks)); err != nil {
		t.Fatal(err)
	}
	defer flag.Set("rapid.checks", was)
	n, whole, waiting := 0, 0, 0
	rapid.Check(t, func(r *rapid.T) {
		c := pool[rapid.IntRange(0, len(pool)-1).Draw(r, "chronicle")]
		draw := rapid.Uint64().Draw(r, "seed")
		next := func(n int) int { // a generator of one's own: rapid's draws cost more than the ledger
			draw = draw*6364136223846793005 + 1442695040888963407
			return int(draw >> 33 % uint64(n))
		}
		set := c.elements
		if next(4) > 0 {
			set = nil
			for _, e := range c.elements {
				if next(8) > 0 {
					set = append(set, e)
				}
			}
		}
		a, b := c.ledger(), c.open(mem.New())
		for _, e := range set {
			unite(r, a, []element{e})
		}
		queue := append([]element{}, set...)
		for range next(len(set)/2 + 1) {
			queue = append(queue, set[next(len(set))])
		}
		for i := len(queue) - 1; i > 0; i-- {
			j := next(i + 1)
			queue[i], queue[j] = queue[j], queue[i]
		}
		for len(queue) > 0 {
			k := min(len(queue), 1+next(6))
			unite(r, b, queue[:k])
			queue = queue[k:]
		}
		if a.StateHash() != b.StateHash() || a.Len() != b.Len() || a.Pending() != b.Pending() {
			r.Fatalf("%d and %d events, %d and %d wait, states %s and %s", a.Len(), b.Len(), a.Pending(), b.Pending(), a.StateHash(), b.StateHash())
		}
		if len(set) == len(c.elements) {
			whole++
			if a.StateHash() != c.hash || a.Pending() > 0 {
				r.Fatalf("the whole set gives %s with %d waiting, its author has %s", a.StateHash(), a.Pending(), c.hash)
			}
		}
		if a.Pending() > 0 {
			waiting++
		}
		n++
	})
	if n < *lawChecks || whole < n/10 || waiting < n/10 {
		t.Errorf("%d checks, %d of them of a whole set, %d of a set that is not closed", n, whole, waiting)
	}
}
