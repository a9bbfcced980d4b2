package ledger_test

import (
	"bytes"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	goproto "google.golang.org/protobuf/proto"
)

// rewarding is a ledger whose next checkpoint pays for uptime and a referral.
func rewarding(tb testing.TB) (*world, *ledger.Ledger) {
	w := newWorld(tb, 1, map[string]uint64{"alice": 10_000 * credit, "carol": credit}, func(g *proto.Genesis) { g.KappaPpm = 10_000 })
	l := w.ledger()
	w.do(l, alice, &proto.Open{Referrer: []byte(carol.id)})
	w.do(l, alice, ledger.Stake(100*credit))
	w.checkpoint(l)
	w.hires(l, alice, bob, 1000*credit)
	w.do(l, alice, &proto.Hold{Job: job(1), Budget: 300, DeadlineUnixMs: 9, Lanes: []*proto.Lane{{Worker: []byte(bob.id), Cap: 200}}})
	w.probe(l, w.witnesses[0], alice.id)
	return w, l
}

// What a checkpoint adds, as a quorum of bad witnesses could certify it: it has
// one form, and what it pays is what its body says.
func FuzzChanges(f *testing.F) {
	w, l := rewarding(f)
	body, changes, err := l.DraftCheckpoint(2)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(changes, body.Rewarded)
	f.Add([]byte{}, uint64(0))
	f.Fuzz(func(t *testing.T, changes []byte, rewarded uint64) {
		w := w.at(t)
		fresh := w.ledger()
		fill(t, fresh, all(l)...)
		b := goproto.Clone(body).(*proto.Checkpoint)
		h := proto.HashOf(changes)
		b.ChangesHash, b.Rewarded = h[:], rewarded
		minted := fresh.Audit().Minted
		_, err := fresh.AddCheckpoint(w.certifyCheckpoint(b, changes))
		a := fresh.Audit()
		if !a.Conserved() {
			t.Fatalf("not conserved: %+v", a)
		}
		if len(changes) > 0 && err == nil && uint64(a.Minted-minted) != rewarded || err != nil && a.Minted != minted {
			t.Fatalf("%s minted, the body says %d, %v", a.Minted-minted, rewarded, err)
		}
	})
}

// Records of a checkpoint's state have one form: what decodes encodes to the
// same bytes.
func FuzzLeaves(f *testing.F) {
	w, l := rewarding(f)
	w.checkpoint(l)
	w.prune(l, 0)
	trees, keys, values := l.Leaves()
	kinds := map[byte]bool{}
	for i, tree := range trees {
		kinds[tree] = true
		f.Add(tree, keys[i], values[i])
	}
	if len(kinds) != 4 {
		f.Fatalf("records of %d kinds", len(kinds))
	}
	f.Fuzz(func(t *testing.T, tree byte, key, value []byte) {
		k, v, err := ledger.Recode(tree, key, value)
		if err == nil && (!bytes.Equal(k, key) || !bytes.Equal(v, value)) {
			t.Fatalf("%q: %x -> %x, %x -> %x", tree, key, k, value, v)
		}
	})
}
