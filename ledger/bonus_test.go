package ledger_test

import (
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	goproto "google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// earner is a world in which bob has stake and alice pays him for work. κ is
// 10 %.
func earner(tb testing.TB, stake uint64, change ...func(*proto.Genesis)) (*world, *ledger.Ledger) {
	change = append([]func(*proto.Genesis){func(g *proto.Genesis) { g.KappaPpm = 100_000 }}, change...)
	w := newWorld(tb, 1, map[string]uint64{"alice": 1_000_000 * credit, "bob": 10_000 * credit}, change...)
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	w.do(l, bob, &proto.Open{})
	if stake > 0 {
		w.do(l, bob, ledger.Stake(stake))
	}
	return w, l
}

// pays settles one lane for bob: an amount for so much fuel, in credits at the
// base price.
func (w *world) pays(l *ledger.Ledger, epoch uint64, amount, fuel uint64) {
	w.tb.Helper()
	h := w.in(l, epoch, alice, &proto.Hold{Job: job(1), Budget: 2*amount + 2, DeadlineUnixMs: 1, Lanes: []*proto.Lane{{Worker: []byte(bob.id), Cap: amount}}})
	w.in(l, epoch, alice, &proto.Settle{Hold: h.ID.Bytes(), Pays: []*proto.LanePay{{Amount: amount, Fuel: fuel * uint64(proto.PriceUnit/1_000_000)}}})
}

func (w *world) sources(l *ledger.Ledger, by person) []*proto.Source {
	var out []*proto.Source
	for _, r := range l.Receivables(by.id) {
		out = append(out, r.Source)
	}
	return out
}

func TestBonus(t *testing.T) {
	w, l := earner(t, 1000*credit) // κ·stake is 100 credits
	w.pays(l, 0, 40*credit, 40*credit)
	src := w.sources(l, bob)
	l.FillBonus(bob.id, 0, src)
	if src[0].Bonus != 360*credit { // R(0) = 10
		t.Fatalf("bonus of %s", proto.Credit(src[0].Bonus))
	}
	over := goproto.Clone(src[0]).(*proto.Source)
	over.Bonus++
	_, err := l.Draft(bob.id, 0, 0, &proto.Receive{Sources: []*proto.Source{over}})
	wantCode(t, err, proto.CodeInvalidEvent)
	before := l.Account(bob.id).Avail
	w.do(l, bob, &proto.Receive{Sources: src})
	if got := l.Account(bob.id).Avail - before; uint64(got) != 400*credit || l.Audit().Minted != 360*proto.OneCredit {
		t.Fatalf("got %s, minted %s", got, l.Audit().Minted)
	}
	if l.X() != 40*1_000_000/60 { // 40 credits buy 40 minutes
		t.Fatalf("x is %d", l.X())
	}
	// What is left of κ·stake in this epoch is 60 credits of work.
	w.pays(l, 0, 50*credit, 50*credit)
	w.pays(l, 0, 50*credit, 50*credit)
	src = w.sources(l, bob)
	l.FillBonus(bob.id, 0, src)
	if src[0].Bonus != 450*credit || src[1].Bonus != 90*credit {
		t.Fatalf("bonuses %d and %d", src[0].Bonus, src[1].Bonus)
	}
	w.do(l, bob, &proto.Receive{Sources: src})
	// Nothing is left; unpaid bonuses are forfeited; the next epoch is new.
	w.pays(l, 0, 10*credit, 10*credit)
	src = w.sources(l, bob)
	l.FillBonus(bob.id, 0, src)
	if src[0].Bonus != 0 {
		t.Fatalf("bonus of %d above the cap", src[0].Bonus)
	}
	until(t, l, 1)
	l.FillBonus(bob.id, 1, src)
	if src[0].Bonus == 0 {
		t.Fatal("no bonus in a new epoch")
	}
	w.in(l, 1, bob, &proto.Receive{Sources: src})
}

func TestBonusIsForWork(t *testing.T) {
	w, l := earner(t, 1000*credit)
	w.pays(l, 0, 40*credit, 4*credit) // overpaid
	w.do(l, alice, transfer(bob, 30*credit))
	w.pays(l, 0, 2*credit, 20*credit) // underpaid
	src := w.sources(l, bob)
	l.FillBonus(bob.id, 0, src)
	got := map[uint64]uint64{}
	for _, s := range src {
		got[s.Amount] = s.Bonus
	}
	if got[40*credit] != 36*credit || got[30*credit] != 0 || got[2*credit] != 18*credit {
		t.Fatalf("bonuses %v", got)
	}
	w.do(l, bob, &proto.Receive{Sources: src})
}

// An event of an epoch whose checkpoint is not known waits for it.
func TestBonusWaitsForItsCheckpoint(t *testing.T) {
	w, l := earner(t, 1000*credit)
	w.pays(l, 0, 40*credit, 40*credit)
	far := w.ledger()
	fill(t, far, all(l)...)
	d := w.net.Genesis.CurveDCpuHours * microhours
	if _, err := l.Learn(1, d, 0); err != nil {
		t.Fatal(err)
	}
	src := w.sources(l, bob)
	l.FillBonus(bob.id, 1, src)
	if src[0].Bonus != 40*3_310_914 {
		t.Fatalf("bonus %d", src[0].Bonus)
	}
	c := w.in(l, 1, bob, &proto.Receive{Sources: src})
	fill(t, far, c)
	if far.Pending() != 1 || far.Account(bob.id).Seq == c.Seq {
		t.Fatal("judged without the checkpoint's figures")
	}
	added, err := far.Learn(1, d, 0)
	if err != nil || len(added) != 1 || far.Pending() != 0 || far.StateHash() != l.StateHash() {
		t.Fatalf("%d added, %v", len(added), err)
	}
}

// Whatever an account claims, it mints at most what its stake, its paid work
// and the curve allow, per epoch, and the books stay exact.
func TestMintIsBounded(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		stake := rapid.Uint64Range(0, 2000).Draw(r, "stake") * credit
		w, l := earner(t, stake)
		limit := stake / 10
		minted := uint64(0)
		epoch := uint64(0)
		worth := uint64(0) // of paid work, at the base price
		for range rapid.IntRange(1, 12).Draw(r, "steps") {
			if rapid.IntRange(0, 3).Draw(r, "next") == 0 {
				epoch++
				until(t, l, epoch)
				minted = 0
			}
			amount, fuel := rapid.Uint64Range(1, 300*credit).Draw(r, "amount"), rapid.Uint64Range(0, 300*credit).Draw(r, "fuel")
			w.pays(l, epoch, amount, fuel)
			worth += min(amount, fuel)
			src := w.sources(l, bob)
			l.FillBonus(bob.id, epoch, src)
			for _, s := range src {
				switch rapid.IntRange(0, 4).Draw(r, "greed") {
				case 0:
					s.Bonus += rapid.Uint64Range(1, 1<<40).Draw(r, "more")
				case 1:
					s.Bonus /= 2
				}
			}
			before := l.Audit().Minted
			ev, err := l.Draft(bob.id, epoch, 0, &proto.Receive{Sources: src})
			if err != nil {
				for _, s := range src {
					s.Bonus = 0
				}
				ev = mustDraft(l.Draft(bob.id, epoch, 0, &proto.Receive{Sources: src}))
			}
			w.add(l, w.certify(w.event(bob, ev)))
			minted += uint64(l.Audit().Minted - before)
			if minted > 9*limit {
				r.Fatalf("%s minted in epoch %d, the stake allows %s", proto.Credit(minted), epoch, proto.Credit(9*limit))
			}
		}
		if got := uint64(l.Audit().Minted); got > 9*worth {
			r.Fatalf("%s minted for %s of work", proto.Credit(got), proto.Credit(worth))
		}
	})
}

func TestUptimeReward(t *testing.T) {
	w := newWorld(t, 4, nil, func(g *proto.Genesis) { g.KappaPpm = 10_000 })
	for _, tt := range []struct {
		name     string
		stake    uint64
		answered []uint64
		want     uint64
	}{
		{"all", 1000 * credit, []uint64{1_000_000, 900_000, 950_000}, credit / 60},
		{"f+1 of q", 1000 * credit, []uint64{0, 900_000, 950_000}, credit / 60},
		{"one bad witness alone", 1000 * credit, []uint64{0, 899_999, 1_000_000}, 0},
		{"too few reports", 1000 * credit, []uint64{1_000_000, 1_000_000}, 0},
		{"no stake", 0, []uint64{1_000_000, 1_000_000, 1_000_000}, 0},
		{"little stake", 50_000, []uint64{1_000_000, 1_000_000, 1_000_000}, 500},
	} {
		if got := ledger.UptimeReward(w.net, tt.stake, tt.answered); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestReferralReward(t *testing.T) {
	for _, tt := range []struct{ opened, epoch, before, after, want uint64 }{
		{5, 5, 0, 100, 5},
		{5, 724, 100, 119, 0},
		{5, 724, 100, 120, 1},
		{5, 725, 100, 1000, 0},
		{5, 4, 0, 100, 0},
		{0, 0, 0, 1000 * credit, 10 * credit},
		{0, 1, 1000 * credit, 2000 * credit, 0},
		{0, 1, 190 * credit, 300 * credit, credit / 2},
		{0, 1, 2, 1, 0},
	} {
		if got := ledger.ReferralReward(tt.opened, tt.epoch, tt.before, tt.after); got != tt.want {
			t.Errorf("%+v: %d", tt, got)
		}
	}
	// In however many epochs: at most 10 credits, at most 5 % of the fees.
	rapid.Check(t, func(r *rapid.T) {
		var fees, paid uint64
		for epoch := range uint64(rapid.IntRange(1, 50).Draw(r, "epochs")) {
			more := rapid.Uint64Range(0, 20*credit).Draw(r, "fees")
			paid += ledger.ReferralReward(0, epoch, fees, fees+more)
			fees += more
		}
		if paid > 10*credit || paid > fees/20 {
			r.Fatalf("%d for fees of %d", paid, fees)
		}
	})
}
