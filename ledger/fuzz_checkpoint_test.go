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
	w.told(l, w.witnesses, found(w.work(bob, 1, 1), w.work(alice, 2, 1))...)
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
	if m := mustParse(f, changes); len(m.Wrong) != 2 || len(m.Rewards) == 0 {
		f.Fatal("the seed has no evidence or no rewards")
	}
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

// A witness's report with its receipts, as it came: whatever is kept, the
// checkpoint that is drafted with it is one that everybody accepts, and it
// holds nothing against a worker but what that signed.
func FuzzWrongWorks(f *testing.F) {
	w, l := trusted(f, 1)
	m := w.says(2, w.witnesses[0], found(w.work(bob, 1, 1), w.work(alice, 2, 1))...)
	raw, err := goproto.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	lone, err := goproto.Marshal(w.says(2, w.witnesses[0]))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(lone)
	cp, _ := l.Checkpoint(1)
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := new(proto.WrongWorks)
		if len(raw) > proto.MaxVoteFrame || goproto.Unmarshal(raw, m) != nil {
			return
		}
		w := w.at(t)
		fresh := w.ledger()
		fill(t, fresh, all(l)...)
		w.addCheckpoint(fresh, cp.Wire)
		for _, sr := range m.Receipts {
			if a, err := fresh.Accusable(sr); err == nil && a.Worker != bob.id && a.Worker != alice.id {
				t.Fatalf("%s signed nothing", a.Worker)
			}
		}
		kept := fresh.KeepWrong(m)
		body, changes, err := fresh.DraftCheckpoint(2)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fresh.CheckCheckpoint(w.sealCheckpoint(body)); err != nil {
			t.Fatalf("kept %v, and its checkpoint is refused: %v", kept, err)
		}
		if len(mustParse(t, changes).Wrong) > 0 && kept != nil {
			t.Fatalf("what was refused counts: %v", kept)
		}
	})
}
