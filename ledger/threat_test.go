package ledger_test

import (
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// Attacks on stake, keys, claims and minting. Each must fail, and succeed once
// the countermeasures that it names are switched off: a defence that nothing
// gets past even without it is not what defends.
func TestThreats(t *testing.T) {
	for _, tt := range []struct {
		row    string // of the table of threats
		attack string
		guards []string
		try    func(t *testing.T, off []string) (succeeds bool)
	}{
		{"uptime", "one bad witness says who was up", []string{"probes"}, uptimeByOne},
		{"wrong results", "one bad witness blackens a worker", []string{"wrong votes"}, blackens},
		{"wrong results", "one lie is held against its worker again and again", []string{"wrong once"}, countsAgain},
		{"wrong results", "a submitter invents a receipt in a worker's name", []string{"wrong signer"}, invented},
		{"key theft", "the thief withdraws the stake", []string{"timer"}, thiefWithdraws},
		{"key theft", "the thief's own key takes over", []string{"delay"}, thiefRotates},
		{"key theft", "the stolen key signs after recovery", []string{"signer"}, stolenKeySigns},
		{"key theft", "the stolen key burns stake after recovery", []string{"old key"}, stolenKeyBurns},
		{"key theft", "the thief leaves nothing to pay recovery with", []string{"recovery cost"}, thiefLeavesNothing},
		{"key theft", "a bad witness certifies an event of a future epoch", []string{"epochs"}, futureEpoch},
		{"key theft", "a bad witness shows a lock on an event of an epoch long past", []string{"epochs"}, keptLock},
		{"clock skew", "a bad witness ends an epoch in 200 years", []string{"clock"}, endlessEpoch},
		{"double spend", "a cheater spends on after it was caught", []string{"freeze"}, slashedSpends},
		{"double spend", "witnesses punish one offence twice", []string{"slash once"}, slashedTwice},
		{"double spend", "witnesses void an honest owner's place", []string{"skip"}, voidedUnasked},
		{"minting to oneself", "bonus above the stake", []string{"bonus stake"}, mintsAboveStake},
		{"minting to oneself", "bonus on a gift", []string{"bonus work"}, mintsOnGift},
		{"minting to oneself", "minting after the lifetime cap", []string{"mint cap"}, mintsAfterCap},
		{"epoch toggling", "a bonus at an old rate", []string{"epoch"}, mintsAtOldRate},
		{"epoch toggling", "the cap of one epoch again and again", []string{"epoch", "bonus reset"}, togglesEpochs},
		{"pumping x", "cheap work drives everybody's bonus down", []string{"pump"}, pumpsX},
		{"self-dealing", "an agent gains more than its stake allows", []string{"bonus stake"}, dealsWithItself},
		{"submitter vanishes", "it takes the hold back first", []string{"final"}, takesHoldBack},
		{"submitter closes early", "one bad witness closes a hold", []string{"lists"}, closesAlone},
		{"claims", "one bad witness invents a claim", []string{"claim votes"}, inventsClaim},
		{"claims", "a worker claims for work that nobody ordered", []string{"assigned"}, claimsUnordered},
		{"claims", "a worker claims for an input that it was not given", []string{"assigned"}, claimsOtherInput},
		{"replay", "a certified payment comes again", []string{"place"}, replays},
		{"eclipse", "the only peers are no witnesses and certify", []string{"witnesses"}, strangersCertify},
		{"submitter vanishes", "workers that delivered stay unpaid", []string{"close"}, vanishes},
		{"submitter vanishes", "it fills its own places to keep Close away", []string{"close first"}, keepsCloseAway},
		{"worker withholds data", "a claim is paid whose results nobody can have", []string{"fetch"}, withholds},
		{"flood", "one peer fills a witness's memory", []string{"few slots"}, floods},
		{"crash anywhere", "a witness forgets its vote and certifies another body", []string{"durable votes"}, forgetsVote},
		{"double spend", "a restored backup equivocates and is slashed", []string{"recovery"}, restoredBackup},
	} {
		t.Run(tt.row+": "+tt.attack, func(t *testing.T) {
			if tt.try(t, nil) {
				t.Error("it succeeds")
			}
			if !tt.try(t, tt.guards) {
				t.Errorf("it fails even without %q: the test shows nothing", tt.guards)
			}
		})
	}
}

// possible reports whether an event can be drafted, signed and added.
func (w *world) possible(l *ledger.Ledger, epoch uint64, account, by person, body any) bool {
	w.tb.Helper()
	ev, err := l.Draft(account.id, epoch, 0, body)
	if err != nil {
		return false
	}
	added, err := l.Add(w.certify(w.event(by, ev)))
	return err == nil && len(added) == 1
}

func (w *world) possibleMade(l *ledger.Ledger, ev *proto.Event, err error) bool {
	w.tb.Helper()
	if err != nil {
		return false
	}
	added, err := l.Add(w.certify(w.event(w.witnesses[0], ev)))
	return err == nil && len(added) == 1
}

// The owner notices within the week and recovers.
func thiefWithdraws(t *testing.T, off []string) bool {
	w, l := victim(t)
	l.SwitchOff(off...)
	w.do(l, alice, ledger.Unstake(60*credit))
	if w.possible(l, 2, alice, alice, ledger.Withdraw(60*credit)) {
		return true
	}
	until(t, l, week-1)
	w.add(l, w.signedIn(l, week-1, alice, carol, &proto.Rotate{Recovery: true, Key: []byte(newer.id)}))
	until(t, l, week)
	if w.possible(l, week, alice, alice, ledger.Withdraw(1)) {
		return true
	}
	if !w.possible(l, week, alice, newer, ledger.Withdraw(60*credit)) {
		t.Error("the owner cannot withdraw either")
	}
	return false
}

func thiefRotates(t *testing.T, off []string) bool {
	w, l := victim(t)
	l.SwitchOff(off...)
	w.do(l, alice, &proto.Rotate{Key: []byte(thief.id)})
	if w.possible(l, 1, alice, thief, transfer(thief, 1)) {
		return true
	}
	w.add(l, w.signedIn(l, 1, alice, carol, &proto.Rotate{Recovery: true, Key: []byte(newer.id)}))
	until(t, l, 2*week)
	return w.possible(l, 2*week, alice, thief, transfer(thief, 1))
}

func stolenKeySigns(t *testing.T, off []string) bool {
	w, l := victim(t)
	l.SwitchOff(off...)
	w.add(l, w.signedIn(l, 0, alice, carol, &proto.Rotate{Recovery: true, Key: []byte(newer.id)}))
	ev := mustDraft(l.Draft(alice.id, 0, 0, transfer(thief, credit)))
	// Without state only post tells the key, so the thief must lie there.
	ev.Post.Key = nil
	if added, err := l.Add(w.certify(w.event(alice, ev))); err == nil || len(added) > 0 {
		return true
	}
	ev.Post.Key = []byte(newer.id)
	wire := w.certify(w.event(alice, ev))
	if _, err := ledger.Verify(w.net, wire); err == nil {
		t.Error("an event that names another key than it is signed with passes Verify")
	}
	// With the guard off, judging no longer compares the signer: a Rotate "by
	// the recovery key" can be anybody's.
	rotate := mustDraft(l.Draft(alice.id, 0, 0, &proto.Rotate{Recovery: true, Key: []byte(thief.id)}))
	added, err := l.Add(w.certify(w.event(thief, rotate)))
	return err == nil && len(added) == 1
}

func stolenKeyBurns(t *testing.T, off []string) bool {
	w, l := victim(t)
	l.SwitchOff(off...)
	before := w.twice(l, alice) // while the key was in use, but not shown yet
	w.add(l, w.signedIn(l, 0, alice, carol, &proto.Rotate{Recovery: true, Key: []byte(newer.id)}))
	ev, err := l.DraftSlash(before)
	return w.possibleMade(l, ev, err)
}

func thiefLeavesNothing(t *testing.T, off []string) bool {
	w, l := victim(t, func(g *proto.Genesis) { g.EventCost = 5 })
	l.SwitchOff(off...)
	rest := uint64(l.Account(alice.id).Avail) - 5
	w.do(l, alice, transfer(thief, rest))
	return !w.possible(l, 0, alice, carol, &proto.Rotate{Recovery: true, Key: []byte(newer.id)})
}

func slashedSpends(t *testing.T, off []string) bool {
	w, l := victim(t)
	l.SwitchOff(off...)
	ev, err := l.DraftSlash(w.twice(l, alice))
	w.made(l, ev, err)
	return w.possible(l, 0, alice, alice, transfer(bob, 1)) || w.possible(l, 0, alice, alice, ledger.Unstake(1))
}

func slashedTwice(t *testing.T, off []string) bool {
	w, l := victim(t)
	l.SwitchOff(off...)
	proof := w.twice(l, alice)
	ev, err := l.DraftSlash(proof)
	w.made(l, ev, err)
	ev, err = l.DraftSlash(proof)
	w.possibleMade(l, ev, err)
	return l.Account(alice.id).Staked < 57*proto.OneCredit
}

func voidedUnasked(t *testing.T, off []string) bool {
	w, l := victim(t)
	l.SwitchOff(off...)
	ev, err := l.DraftVoid(alice.id, w.skip(w.witnesses[0], alice, l.Account(alice.id).Seq+1))
	return w.possibleMade(l, ev, err)
}

// claimed is what bob mints when he claims a bonus of so much per source.
func (w *world) claimed(l *ledger.Ledger, epoch uint64, bonus func(*proto.Source) uint64) uint64 {
	before := l.Audit().Minted
	src := w.sources(l, bob)
	for _, s := range src {
		s.Bonus = bonus(s)
	}
	w.possible(l, epoch, bob, bob, &proto.Receive{Sources: src})
	return uint64(l.Audit().Minted - before)
}

func nineTimes(s *proto.Source) uint64 { return 9 * s.Amount }

func mintsAboveStake(t *testing.T, off []string) bool {
	w, l := earner(t, 100*credit) // κ·stake is 10 credits
	l.SwitchOff(off...)
	w.pays(l, 0, 11*credit, 11*credit)
	return w.claimed(l, 0, nineTimes) > 9*10*credit
}

func mintsOnGift(t *testing.T, off []string) bool {
	w, l := earner(t, 1000*credit)
	l.SwitchOff(off...)
	w.do(l, alice, transfer(bob, 10*credit))
	return w.claimed(l, 0, nineTimes) > 0
}

func mintsAfterCap(t *testing.T, off []string) bool {
	w, l := earner(t, 1000*credit, func(g *proto.Genesis) { g.CurveDCpuHours = 100_000 })
	l.SwitchOff(off...)
	// x is behind what was minted, as after years of rounding.
	if _, err := l.Learn(1, 0, uint64(ledger.MintCap(w.net))-credit); err != nil {
		t.Fatal(err)
	}
	w.pays(l, 1, 10*credit, 10*credit)
	return w.claimed(l, 1, nineTimes) > credit
}

func mintsAtOldRate(t *testing.T, off []string) bool {
	w, l := earner(t, 1000*credit)
	l.SwitchOff(off...)
	if _, err := l.Learn(1, 8*w.net.Genesis.CurveDCpuHours*microhours, 0); err != nil {
		t.Fatal(err)
	}
	w.in(l, 1, bob, transfer(alice, 1))
	w.pays(l, 1, 10*credit, 10*credit)
	return w.claimed(l, 0, nineTimes) > credit
}

func togglesEpochs(t *testing.T, off []string) bool {
	w, l := earner(t, 1000*credit) // κ·stake is 100 credits
	l.SwitchOff(off...)
	until(t, l, 1)
	total := uint64(0)
	for i := range uint64(6) {
		w.pays(l, 1, 100*credit, 100*credit)
		total += w.claimed(l, i%2, nineTimes)
	}
	return total > 2*900*credit // two epochs' caps
}

func pumpsX(t *testing.T, off []string) bool {
	w, l := earner(t, 0) // without stake no bonus
	l.SwitchOff(off...)
	for range 5 {
		w.pays(l, 0, 1000*credit, 1000*credit)
	}
	w.receive(l, bob)
	return l.X() > 0
}

// Bob pays himself through alice, who is his too, as much as he likes.
func dealsWithItself(t *testing.T, off []string) bool {
	more := false
	for _, share := range []uint64{5, 10, 25, 50} { // of bob's 10,000 credits
		stake := share * 100 * credit
		w, l := earner(t, stake)
		l.SwitchOff(off...)
		for epoch := range uint64(3) {
			until(t, l, epoch)
			minted, burned := l.Audit().Minted, l.Audit().Burned
			for range 3 {
				w.pays(l, epoch, stake/10, stake/10)
			}
			w.claimed(l, epoch, nineTimes)
			for range 3 {
				w.pays(l, epoch, stake/30, stake/30)
				w.claimed(l, epoch, nineTimes)
			}
			gain := uint64(l.Audit().Minted-minted) - min(uint64(l.Audit().Burned-burned), uint64(l.Audit().Minted-minted))
			more = more || gain > 9*stake/10
		}
	}
	return more
}

// The worker has delivered and has a voucher; the payer settles the rest back
// to itself and is gone. Money that was returned cannot be claimed.
func takesHoldBack(t *testing.T, off []string) bool {
	x := newLease(t, 4)
	x.l.SwitchOff(off...)
	x.possible(x.l, 0, alice, alice, &proto.Settle{Hold: x.hold.ID.Bytes(), Final: true})
	claim, err := x.l.CheckClaim(x.claim(bob, &proto.WorkClaim{Voucher: x.voucher(alice, 0, 40*credit)}))
	if err != nil {
		return true
	}
	list, err := x.l.ClaimList(x.hold.ID, []ledger.Claimed{claim})
	if err != nil {
		return true
	}
	var lists [][]byte
	for _, w := range x.witnesses[:3] {
		lists = append(lists, x.seal(w, &proto.Payload{Body: &proto.Payload_ClaimList{ClaimList: list}}))
	}
	ev, err := x.l.DraftClose(x.hold.ID, lists)
	return !x.possibleMade(x.l, ev, err) || x.l.Account(bob.id).Receivable != 40*proto.OneCredit
}

// A payer's friend among the witnesses returns the budget before anybody
// claims.
func closesAlone(t *testing.T, off []string) bool {
	x := newLease(t, 4)
	x.l.SwitchOff(off...)
	ev, err := x.l.DraftClose(x.hold.ID, [][]byte{x.list(x.witnesses[0])})
	return x.possibleMade(x.l, ev, err)
}

func inventsClaim(t *testing.T, off []string) bool {
	x := newLease(t, 4)
	x.l.SwitchOff(off...)
	lists := [][]byte{x.list(x.witnesses[0], entry(0, 50*credit)), x.list(x.witnesses[1], entry(0, 10*credit)), x.list(x.witnesses[2], entry(0, 10*credit))}
	ev, err := x.l.DraftClose(x.hold.ID, lists)
	if !x.possibleMade(x.l, ev, err) {
		t.Error("not closed")
	}
	return x.l.Account(bob.id).Receivable != 10*proto.OneCredit
}

// No rule reads the author's time: whatever it says, nothing changes.
func TestAuthorTimeIsNotRead(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 10 * credit})
	var posts []*proto.Post
	for _, at := range []uint64{0, 1_700_000_000_000, 9_214_646_400_000, ^uint64(0)} { // 9214646400 s is 2262-01-01
		l := w.ledger()
		w.do(l, alice, &proto.Open{})
		for _, body := range []any{ledger.Stake(credit), ledger.Unstake(credit), transfer(bob, 1)} {
			ev, err := l.Draft(alice.id, 0, at, body)
			if err != nil {
				t.Fatal(err)
			}
			w.add(l, w.certify(w.event(alice, ev)))
			posts = append(posts, ev.Post)
		}
		if _, err := l.Draft(alice.id, 0, at, ledger.Withdraw(credit)); err == nil {
			t.Fatalf("author time %d ends a timer", at)
		}
	}
	for i, p := range posts {
		if p.String() != posts[i%3].String() {
			t.Fatalf("post state %d is %v, at another time %v", i, p, posts[i%3])
		}
	}
}

// Spam costs: with g an attacker's credits bound the events it can ever make.
func TestBloatIsBoundedByCost(t *testing.T) {
	events := func(cost uint64) (n int) {
		w := newWorld(t, 1, map[string]uint64{"alice": 1000}, func(g *proto.Genesis) { g.EventCost, g.OpeningCost, g.MinTransfer = cost, 10*cost, 1 })
		l := w.ledger()
		for _, body := range []any{&proto.Open{}, transfer(bob, 1)} {
			if !w.possible(l, 0, alice, alice, body) {
				return n
			}
			n++
		}
		for n < 1000 && w.possible(l, 0, alice, alice, transfer(bob, 1)) {
			n++
		}
		return n
	}
	if n := events(50); n > 20 {
		t.Errorf("%d events for 1000 microcredits at 50 each", n)
	}
	if n := events(0); n < 900 {
		t.Errorf("only %d events when they are free: the test shows nothing", n)
	}
}
