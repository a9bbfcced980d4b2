package ledger_test

import (
	"fmt"
	"testing"

	"edgenet.dev/ledger"
	"pgregory.net/rapid"
)

func registers() *rapid.Generator[ledger.Reputation] {
	return rapid.Custom(func(r *rapid.T) ledger.Reputation {
		return ledger.Reputation{
			Version: rapid.Uint64Range(0, 3).Draw(r, "version"),
			Valid:   rapid.Uint64Range(0, 2).Draw(r, "valid"), Invalid: rapid.Uint64Range(0, 2).Draw(r, "invalid"),
		}
	})
}

func TestReputationMergeLaws(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		a, b, c := registers().Draw(r, "a"), registers().Draw(r, "b"), registers().Draw(r, "c")
		if a.Merge(b) != b.Merge(a) || a.Merge(b).Merge(c) != a.Merge(b.Merge(c)) || a.Merge(a) != a || a.Merge(b).Merge(b) != a.Merge(b) {
			r.Fatal(a, b, c)
		}
		if m := a.Merge(b); m != a && m != b || m.Version != max(a.Version, b.Version) {
			r.Fatal(a, b, m)
		}
	})
}

const minute = 1_000_000 // in the register's units

func TestReputationScore(t *testing.T) {
	for _, tt := range []struct{ valid, invalid, want uint64 }{
		{0, 0, 0},
		{0, 5 * minute, 0},
		{20 * minute, 0, 500_000},
		{80 * minute, 0, 800_000},
		{80 * minute, 10 * minute, 400_000},
		{1 << 63, 0, 999_999},
		{^uint64(0), ^uint64(0), 615_384},
	} {
		got := ledger.Reputation{Valid: tt.valid, Invalid: tt.invalid}.Score()
		if got != tt.want {
			t.Errorf("score of %d and %d is %d, want %d", tt.valid, tt.invalid, got, tt.want)
		}
	}
}

func TestReputationGrowsByStakedPayers(t *testing.T) {
	net := newWorld(t, 1, nil).net
	paid := func(payer person, minutes uint64, staked bool) ledger.Paid {
		return ledger.Paid{Payer: payer.id, Worker: bob.id, Eligible: minutes * credit, Staked: staked}
	}
	r := ledger.Reputation{}.Next(net, bob.id, 1, []ledger.Paid{
		paid(alice, 40, true), paid(alice, 40, true), // an hour at most by one payer
		paid(carol, 7, true), paid(dave, 50, false), paid(bob, 50, true),
		{Payer: alice.id, Worker: carol.id, Eligible: 9 * credit, Staked: true},
	}, 0)
	if r != (ledger.Reputation{Version: 1, Valid: 67 * minute}) {
		t.Fatalf("%+v", r)
	}
	r = r.Next(net, bob.id, 2, nil, 3*minute)
	if r != (ledger.Reputation{Version: 2, Valid: 67 * minute, Invalid: 3 * minute}) {
		t.Fatalf("%+v", r)
	}
	// Half is forgotten every 720 epochs of an hour.
	if r = r.Next(net, bob.id, 719, nil, 0); r.Valid != 67*minute {
		t.Fatalf("%+v", r)
	}
	if r = r.Next(net, bob.id, 720, nil, 0); r.Valid != 67*minute/2 || r.Invalid != 3*minute/2 {
		t.Fatalf("%+v", r)
	}
	if r = r.Next(net, bob.id, 720*70, nil, 0); r.Valid != 0 || r.Invalid != 0 {
		t.Fatalf("%+v", r)
	}
}

// It does not matter in how many checkpoints one gets somewhere.
func TestReputationDecayComposes(t *testing.T) {
	net := newWorld(t, 1, nil).net
	rapid.Check(t, func(r *rapid.T) {
		a := ledger.Reputation{Version: rapid.Uint64Range(0, 3000).Draw(r, "from"), Valid: rapid.Uint64().Draw(r, "valid"), Invalid: rapid.Uint64().Draw(r, "invalid")}
		mid := a.Version + rapid.Uint64Range(1, 3000).Draw(r, "mid")
		end := mid + rapid.Uint64Range(1, 3000).Draw(r, "end")
		if one, two := a.Next(net, bob.id, end, nil, 0), a.Next(net, bob.id, mid, nil, 0).Next(net, bob.id, end, nil, 0); one != two {
			r.Fatal(one, two)
		}
	})
}

// A thousand rebirths are worth less than one honest worker: each new key
// starts at zero and needs to earn as much again.
func TestWhitewashing(t *testing.T) {
	net := newWorld(t, 1, nil).net
	honest := ledger.Reputation{}
	best, without := uint64(0), uint64(0)
	for i := range uint64(1000) {
		payer := someone(fmt.Sprintf("payer %d", i%50))
		done := func(worker person) []ledger.Paid {
			return []ledger.Paid{{Payer: payer.id, Worker: worker.id, Eligible: credit, Staked: true}}
		}
		honest = honest.Next(net, bob.id, i/2, done(bob), 0)
		reborn := ledger.Reputation{}.Next(net, carol.id, i/2, done(carol), 0)
		best, without = max(best, reborn.Score()), max(without, reborn.ScoreWithout())
	}
	if honest.Score() < 900_000 || best > 50_000 {
		t.Fatalf("honest %d, the best of a thousand new keys %d", honest.Score(), best)
	}
	if without < honest.Score() {
		t.Fatal("without the first twenty minutes a new key is worth no more either: the test shows nothing")
	}
}
