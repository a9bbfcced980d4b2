package ledger_test

import (
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// week is seven days in epochs of an hour.
const week = 7 * 24

// in drafts, certifies and adds an event of an epoch, signed by the account's
// own key.
func (w *world) in(l *ledger.Ledger, epoch uint64, by person, body any) *ledger.Certified {
	w.tb.Helper()
	return w.add(l, w.signedIn(l, epoch, by, by, body))
}

func (w *world) signedIn(l *ledger.Ledger, epoch uint64, account, by person, body any) *proto.CertifiedEvent {
	w.tb.Helper()
	ev, err := l.Draft(account.id, epoch, 0, body)
	if err != nil {
		w.tb.Fatal(err)
	}
	return w.certify(w.event(by, ev))
}

// until makes all epochs up to the given one known, without work in them.
func until(tb testing.TB, l *ledger.Ledger, epoch uint64) {
	tb.Helper()
	for e := l.Epoch() + 1; e <= epoch; e++ {
		if _, err := l.Learn(e, l.X(), uint64(l.Audit().Minted)); err != nil {
			tb.Fatal(err)
		}
	}
}

func TestStake(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 100 * credit}, func(g *proto.Genesis) { g.EventCost = 5 })
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	see := func(avail, staked, unbonding uint64) {
		t.Helper()
		a := l.Account(alice.id)
		if uint64(a.Avail) != avail || uint64(a.Staked) != staked || uint64(a.Unbonding) != unbonding {
			t.Fatalf("%d available, %d staked, %d unbonding; want %d, %d, %d", uint64(a.Avail), uint64(a.Staked), uint64(a.Unbonding), avail, staked, unbonding)
		}
	}
	_, err := l.Draft(alice.id, 0, 0, ledger.Stake(100*credit))
	wantCode(t, err, proto.CodeInsufficient)
	w.do(l, alice, ledger.Stake(60*credit))
	see(40*credit-10, 60*credit, 0)
	_, err = l.Draft(alice.id, 0, 0, ledger.Unstake(60*credit+1))
	wantCode(t, err, proto.CodeInsufficient)
	_, err = l.Draft(alice.id, 0, 0, ledger.Withdraw(1))
	wantCode(t, err, proto.CodeInsufficient)
	w.do(l, alice, ledger.Unstake(20*credit))
	see(40*credit-15, 40*credit, 20*credit)

	// The second Unstake starts the one timer again, for all of it.
	until(t, l, week-1)
	w.in(l, week-1, alice, ledger.Unstake(credit))
	if a := l.Account(alice.id); a.Unbonded != 2*week-1 {
		t.Fatalf("unbonded from epoch %d", a.Unbonded)
	}
	until(t, l, 2*week-2)
	_, err = l.Draft(alice.id, 2*week-2, 0, ledger.Withdraw(credit))
	wantCode(t, err, proto.CodeInvalidEvent)
	until(t, l, 2*week-1)
	w.in(l, 2*week-1, alice, ledger.Withdraw(5*credit))
	see(45*credit-25, 39*credit, 16*credit)
	w.in(l, 2*week-1, alice, ledger.Withdraw(16*credit))
	see(61*credit-30, 39*credit, 0)
	if a := l.Account(alice.id); a.Unbonded != 0 {
		t.Fatalf("nothing is unbonding, yet until epoch %d", a.Unbonded)
	}
}

// Every kind has a name, and changes of an account's events add up to what it
// has.
func TestDescribeEveryKind(t *testing.T) {
	w, l := earner(t, 1000*credit)
	w.pays(l, 0, 40*credit, 40*credit)
	src := w.sources(l, bob)
	l.FillBonus(bob.id, 0, src)
	w.do(l, bob, &proto.Receive{Sources: src})
	w.do(l, bob, ledger.Unstake(100*credit))
	w.do(l, bob, &proto.Rotate{RecoveryKey: []byte(carol.id)})
	ev, err := l.DraftVoid(bob.id, w.skip(bob, bob, l.Account(bob.id).Seq+1))
	w.made(l, ev, err)
	ev, err = l.DraftSlash(w.twice(l, bob))
	w.made(l, ev, err)
	w.add(l, w.signedIn(l, 0, bob, carol, &proto.Rotate{Recovery: true}))
	until(t, l, week)
	w.in(l, week, bob, ledger.Withdraw(50*credit))
	h := w.in(l, week, alice, &proto.Hold{Job: job(2), Budget: 10 * credit, DeadlineUnixMs: 1, Lanes: []*proto.Lane{{Worker: []byte(bob.id), Cap: credit}}})
	list := w.seal(w.witnesses[0], &proto.Payload{Body: &proto.Payload_ClaimList{ClaimList: &proto.ClaimList{
		Hold: h.ID.Bytes(), DeadlineUnixMs: 1, Entries: []*proto.ClaimEntry{entry(0, credit)},
	}}})
	ev, err = l.DraftClose(h.ID, [][]byte{list})
	w.made(l, ev, err)

	for _, p := range []person{alice, bob} {
		avail, staked, unbonding, bonus := int64(w.net.Grants[p.id]), int64(0), int64(0), proto.Credit(0)
		kinds := ""
		for _, c := range l.History(p.id, 100) {
			kind, with, change := l.Describe(c)
			s, u := l.StakeChange(c)
			avail, staked, unbonding, bonus = avail+change, staked+s, unbonding+u, bonus+c.Bonus()
			kinds += kind + " "
			if kind == "close" && with != bob.id {
				t.Errorf("close with %s", with)
			}
		}
		a := l.Account(p.id)
		if avail != int64(a.Avail) || staked != int64(a.Staked) || unbonding != int64(a.Unbonding) {
			t.Errorf("changes add up to %d, %d, %d; the account has %+v", avail, staked, unbonding, a)
		}
		want := map[string]string{
			string(alice.id): "close hold settle hold open ",
			string(bob.id):   "withdraw rotate slash void rotate unstake receive stake open ",
		}[string(p.id)]
		if kinds != want {
			t.Errorf("history is %q, want %q", kinds, want)
		}
		if p.id == bob.id && bonus != l.Audit().Minted {
			t.Errorf("bonus %s, minted %s", bonus, l.Audit().Minted)
		}
	}
}

// The lock is seven days whatever an epoch is.
func TestLockIsSevenDays(t *testing.T) {
	for _, tt := range []struct{ seconds, want uint64 }{{3600, 168}, {1, 604800}, {7 * 24 * 3600, 1}, {86400, 7}, {100_000, 7}, {1_000_000, 1}} {
		w := newWorld(t, 1, map[string]uint64{"alice": 10}, func(g *proto.Genesis) { g.EpochSeconds = tt.seconds })
		l := w.ledger()
		w.do(l, alice, &proto.Open{})
		w.do(l, alice, ledger.Stake(2))
		w.do(l, alice, ledger.Unstake(1))
		if got := l.Account(alice.id).Unbonded; got != tt.want {
			t.Errorf("epochs of %d s: %d, want %d", tt.seconds, got, tt.want)
		}
	}
}

// An event says which epoch it belongs to; authors and first votes keep it
// near the newest checkpoint.
func TestDraftKeepsToTheEpoch(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 10})
	l := w.ledger()
	until(t, l, 10)
	for epoch := range uint64(15) {
		_, err := l.Draft(alice.id, epoch, 0, &proto.Open{})
		if near := epoch >= 8 && epoch <= 12; (err == nil) != near {
			t.Errorf("epoch %d beside checkpoint 10: %v", epoch, err)
		}
	}
}
