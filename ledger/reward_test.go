package ledger_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// probe hands a witness's report for the next checkpoint to a ledger.
func (w *world) probe(l *ledger.Ledger, by person, up ...peer.ID) []byte {
	w.tb.Helper()
	m, err := l.DraftProbes(up)
	if err != nil {
		w.tb.Fatal(err)
	}
	raw := w.seal(by, &proto.Payload{Body: &proto.Payload_ProbeReport{ProbeReport: m}})
	if err := l.KeepProbes(raw); err != nil {
		w.tb.Fatal(err)
	}
	return raw
}

// hires has one account pay another for work: an amount for fuel of as many
// credits at the base price.
func (w *world) hires(l *ledger.Ledger, payer, worker person, amount uint64) {
	w.tb.Helper()
	h := w.do(l, payer, &proto.Hold{Job: job(1), Budget: 2*amount + 2, DeadlineUnixMs: 1, Lanes: []*proto.Lane{{Worker: []byte(worker.id), Cap: amount}}})
	w.do(l, payer, &proto.Settle{Hold: h.ID.Bytes(), Final: true, Pays: []*proto.LanePay{
		{Amount: amount, Fuel: amount * uint64(proto.PriceUnit/1_000_000), Done: w.done(worker, h.ID, 0, amount)},
	}})
}

func ofKind(rs []ledger.Reward, kind string) (n int, total uint64) {
	for _, r := range rs {
		if r.Kind == kind {
			n++
			total += uint64(r.Amount)
		}
	}
	return n, total
}

// Whoever refers somebody gets 5 % of the fees that the referee burns, once
// per epoch, at most 10 credits, as receivables of checkpoints.
func TestReferralIsPaid(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 100_000 * credit, "carol": credit})
	l := w.ledger()
	w.do(l, alice, &proto.Open{Referrer: []byte(carol.id)})
	w.do(l, carol, &proto.Open{})
	w.hires(l, alice, bob, 1000*credit) // burns 10 credits
	w.hires(l, alice, bob, 200*credit)
	w.checkpoint(l)
	if a := l.Account(carol.id); a.Receivable != 600_000 || !l.Audit().Conserved() || l.Audit().Minted != 600_000 {
		t.Fatalf("carol can claim %s, %+v", a.Receivable, l.Audit())
	}
	got := l.Rewards(carol.id)
	if len(got) != 1 || got[0] != (ledger.Reward{Kind: "referral", Epoch: 1, Amount: 600_000, Referee: alice.id}) {
		t.Fatalf("rewards: %+v", got)
	}
	w.checkpoint(l) // nothing happened
	if n, _ := ofKind(l.Rewards(carol.id), "referral"); n != 1 {
		t.Fatal("paid twice")
	}
	first := w.receive(l, carol)
	if l.Account(carol.id).Receivable != 0 || !l.Rewards(carol.id)[0].Claimed {
		t.Fatal("not claimed")
	}
	// Claimed once, and by its owner.
	again := first.Event.GetReceive()
	_, err := l.Draft(carol.id, l.Epoch(), 0, again)
	wantCode(t, err, proto.CodeInvalidEvent)
	w.hires(l, alice, bob, 1000*credit)
	w.checkpoint(l)
	var src *proto.Source
	for _, r := range l.Receivables(carol.id) {
		src = r.Source
	}
	_, err = l.Draft(alice.id, l.Epoch(), 0, &proto.Receive{Sources: []*proto.Source{src}})
	wantCode(t, err, proto.CodeInvalidEvent)
	w.hires(l, alice, bob, 30_000*credit)
	w.checkpoint(l)
	if _, total := ofKind(l.Rewards(carol.id), "referral"); total != 10*credit {
		t.Fatalf("%s for one referee, at most 10", proto.Credit(total))
	}
	w.prune(l, 1)
	w.hires(l, alice, bob, 1000*credit)
	w.checkpoint(l)
	if _, total := ofKind(l.Rewards(carol.id), "referral"); total != 10*credit || !l.Audit().Conserved() {
		t.Fatalf("%s for one referee, at most 10", proto.Credit(total))
	}
	w.prune(l, 0)
	// A node that joins has them, too, whether they are claimed or not.
	joined := w.ledger()
	session(t, joined, l)
	if joined.StateHash() != l.StateHash() || joined.Account(carol.id).Receivable != l.Account(carol.id).Receivable || l.Account(carol.id).Receivable == 0 {
		t.Fatal("the joined node has another state")
	}
	w.receive(joined, carol)
	if !joined.Audit().Conserved() {
		t.Fatal("not conserved")
	}
}

// An event that claims a reward waits for the checkpoint that pays it.
func TestRewardWaitsForItsCheckpoint(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 10_000 * credit, "carol": credit})
	l := w.ledger()
	w.do(l, alice, &proto.Open{Referrer: []byte(carol.id)})
	w.do(l, carol, &proto.Open{})
	w.hires(l, alice, bob, 1000*credit)
	cp := w.checkpoint(l)
	w.receive(l, carol)
	store := mem.New()
	other := w.open(store)
	fill(t, other, all(l)...)
	if other.Pending() != 1 {
		t.Fatalf("%d wait", other.Pending())
	}
	// Without the changes it is not known what the checkpoint pays.
	bare := &proto.CertifiedCheckpoint{Checkpoint: cp.Checkpoint, Certificate: cp.Certificate}
	w.addCheckpoint(other, bare)
	if other.Pending() != 1 || !other.Audit().Conserved() {
		t.Fatalf("%d wait", other.Pending())
	}
	forged := goproto.Clone(cp).(*proto.CertifiedCheckpoint)
	forged.Changes[len(forged.Changes)-1] ^= 1
	if _, err := other.AddCheckpoint(forged); err == nil {
		t.Fatal("changed rewards are taken")
	}
	w.addCheckpoint(other, cp)
	if other.Pending() != 0 || other.StateHash() != l.StateHash() || w.open(store).StateHash() != l.StateHash() {
		t.Fatalf("%d wait", other.Pending())
	}
}

// Uptime is what f+1 of a quorum of witnesses saw, at most κ times the stake.
func TestUptimeIsPaid(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 1000 * credit, "bob": 100 * credit, "carol": 100 * credit, "dave": credit},
		func(g *proto.Genesis) { g.KappaPpm = 10_000 })
	l := w.ledger()
	for _, p := range []person{alice, bob, carol, dave} {
		w.do(l, p, &proto.Open{})
	}
	w.do(l, alice, ledger.Stake(100*credit))
	w.do(l, bob, ledger.Stake(100*credit))
	w.do(l, carol, ledger.Stake(100)) // κ·stake is one microcredit
	w.checkpoint(l)
	up := func(by person, who ...person) {
		var ids []peer.ID
		for _, p := range who {
			ids = append(ids, p.id)
		}
		w.probe(l, by, ids...)
	}
	ws := w.witnesses
	up(ws[0], alice, carol, dave, frank)
	up(ws[1], alice, carol, dave)
	w.checkpoint(l) // two reports are no quorum
	if l.Audit().Minted != 0 {
		t.Fatal("paid without a quorum of reports")
	}
	up(ws[0], alice, carol, dave, bob)
	up(ws[1], alice, carol, dave)
	up(ws[3], carol)
	w.checkpoint(l)
	base := w.net.Genesis.BasePrice
	for _, tt := range []struct {
		who  person
		want uint64
	}{{alice, base / 60}, {bob, 0}, {carol, 1}, {dave, 0}} { // bob was up for one, dave has no stake
		if n, total := ofKind(l.Rewards(tt.who.id), "uptime"); total != tt.want || n > 1 || l.Account(tt.who.id).Receivable != proto.Credit(tt.want) {
			t.Errorf("%d rewards, %d microcredits, want %d", n, total, tt.want)
		}
	}
	if !l.Audit().Conserved() {
		t.Fatalf("%+v", l.Audit())
	}
	w.checkpoint(l) // old reports do not count again
	if n, _ := ofKind(l.Rewards(alice.id), "uptime"); n != 1 {
		t.Fatal("old reports are paid again")
	}
	stranger := w.seal(bob, &proto.Payload{Body: &proto.Payload_ProbeReport{ProbeReport: &proto.ProbeReport{Epoch: l.Epoch() + 1}}})
	wantCode(t, l.KeepProbes(stranger), proto.CodeNotWitness)
	late := w.seal(ws[0], &proto.Payload{Body: &proto.Payload_ProbeReport{ProbeReport: &proto.ProbeReport{Epoch: l.Epoch()}}})
	wantCode(t, l.KeepProbes(late), proto.CodeInvalidEvent)
}

// A report on accounts that are not would make every draft invalid that has it:
// one bad witness could stop all checkpoints.
func TestOverlongProbeReport(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 1000 * credit}, func(g *proto.Genesis) { g.KappaPpm = 10_000 })
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	w.do(l, alice, ledger.Stake(100*credit))
	w.checkpoint(l)
	for _, tt := range []struct {
		name string
		up   []byte
		want proto.Code
	}{
		{"one account too far", []byte{1}, proto.CodeInvalidEvent},
		{"one account too many", []byte{0, 0}, proto.CodeInvalidEvent},
		{"beyond all numbers", binary.AppendUvarint([]byte{0}, 1<<64-1), proto.CodeInvalidEvent},
		{"the longest varint", append(bytes.Repeat([]byte{0xff}, 10), 1), proto.CodeMalformed},
		{"zero in two bytes", []byte{0x80, 0}, proto.CodeMalformed},
		{"cut off", []byte{0, 0x80}, proto.CodeMalformed},
	} {
		raw := w.seal(w.witnesses[0], &proto.Payload{Body: &proto.Payload_ProbeReport{ProbeReport: &proto.ProbeReport{Epoch: 2, Up: tt.up}}})
		if got := proto.CodeOf(l.KeepProbes(raw)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	for _, by := range w.witnesses[1:] {
		w.probe(l, by, alice.id)
	}
	w.checkpoint(l)
	if n, _ := ofKind(l.Rewards(alice.id), "uptime"); n != 1 {
		t.Fatalf("%d rewards", n)
	}
}

// Nobody brings a witness's older report after its newer one.
func TestProbeReportComesFromItsWitness(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": credit})
	x := w.witness(mem.New())
	raw := w.seal(w.witnesses[1], &proto.Payload{Body: &proto.Payload_ProbeReport{ProbeReport: &proto.ProbeReport{Epoch: 1}}})
	for from, want := range map[person]proto.Code{w.witnesses[1]: proto.CodeOK, w.witnesses[2]: proto.CodeNotWitness, alice: proto.CodeNotWitness} {
		outs, err := x.w.Handle(clock, from.id, &proto.VoteFrame{Body: &proto.VoteFrame_ProbeReport{ProbeReport: raw}})
		if err != nil {
			t.Fatal(err)
		}
		got := proto.CodeOK
		if len(outs) > 0 {
			got = proto.Code(outs[0].(ledger.Send).Frame.GetError().GetCode())
		}
		if got != want {
			t.Errorf("brought by %s: %s, want %s", from.id, got, want)
		}
	}
}

// A place in a report is an account of the frontier, whichever events its witness
// has: it may lack some that it never saw.
func TestProbeReportOfAWitnessThatIsBehind(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 1000 * credit, "bob": 100 * credit, "carol": 100 * credit})
	l, behind := w.ledger(), w.ledger()
	for _, p := range []person{alice, bob, carol} {
		w.do(l, p, &proto.Open{})
	}
	cp := w.checkpoint(l)
	ids := l.Accounts()
	last := l.History(ids[2], 1)
	if _, err := behind.Add(last[0].Wire); err != nil {
		t.Fatal(err)
	}
	w.addCheckpoint(behind, cp)
	want, err := l.DraftProbes(ids[2:])
	if err != nil {
		t.Fatal(err)
	}
	if got, err := behind.DraftProbes(ids[2:]); err != nil || !goproto.Equal(got, want) {
		t.Fatalf("%v, %v, want %v", got, err, want)
	}
}

// uptimeByOne is a checkpoint of which only one report, by a bad witness, says
// that alice was up.
func uptimeByOne(t *testing.T, off []string) bool {
	w := newWorld(t, 4, map[string]uint64{"alice": 1000 * credit}, func(g *proto.Genesis) { g.KappaPpm = 10_000 })
	l := w.ledger()
	l.SwitchOff(off...)
	w.do(l, alice, &proto.Open{})
	w.do(l, alice, ledger.Stake(100*credit))
	w.checkpoint(l)
	w.probe(l, w.witnesses[0], alice.id)
	w.probe(l, w.witnesses[1])
	w.probe(l, w.witnesses[2])
	w.checkpoint(l)
	return l.Account(alice.id).Receivable > 0
}

// A proposer cannot invent rewards, leave one out or choose who referred whom.
func TestCheckpointWithWrongRewards(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 10_000 * credit, "carol": credit}, func(g *proto.Genesis) { g.KappaPpm = 10_000 })
	l := w.ledger()
	w.do(l, alice, &proto.Open{Referrer: []byte(carol.id)})
	w.do(l, carol, &proto.Open{})
	w.do(l, alice, ledger.Stake(100*credit))
	w.checkpoint(l)
	w.hires(l, alice, bob, 1000*credit)
	for _, p := range w.witnesses[:3] {
		w.probe(l, p, alice.id)
	}
	body, raw, err := l.DraftCheckpoint(2)
	if err != nil {
		t.Fatal(err)
	}
	up := make([]byte, len(l.Accounts())+1)
	long := w.seal(w.witnesses[1], &proto.Payload{Body: &proto.Payload_ProbeReport{ProbeReport: &proto.ProbeReport{Epoch: 2, Up: up}}})
	for name, change := range map[string]func(*proto.FrontierChanges){
		"":                  func(*proto.FrontierChanges) {},
		"pays more":         func(c *proto.FrontierChanges) { c.Rewards[0].Amount++ },
		"pays less":         func(c *proto.FrontierChanges) { c.Rewards[0].Amount-- },
		"pays somebody":     func(c *proto.FrontierChanges) { c.Rewards[0].Key = c.Rewards[1].Key },
		"leaves one out":    func(c *proto.FrontierChanges) { c.Rewards = c.Rewards[:1] },
		"pays twice":        func(c *proto.FrontierChanges) { c.Rewards = append(c.Rewards, c.Rewards[1]) },
		"has two reports":   func(c *proto.FrontierChanges) { c.Probes = c.Probes[:2] },
		"has one twice":     func(c *proto.FrontierChanges) { c.Probes[1] = c.Probes[0] },
		"has a long report": func(c *proto.FrontierChanges) { c.Probes[1] = long },
		"has no reports":    func(c *proto.FrontierChanges) { c.Probes = nil },
		"hides no referral": func(c *proto.FrontierChanges) { c.Rewards = c.Rewards[1:] },
	} {
		m := new(proto.FrontierChanges)
		if err := goproto.Unmarshal(raw, m); err != nil {
			t.Fatal(err)
		}
		change(m)
		changes, err := goproto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		bad := goproto.Clone(body).(*proto.Checkpoint)
		h := proto.HashOf(changes)
		bad.ChangesHash, bad.Rewarded = h[:], 0
		for _, r := range m.Rewards {
			bad.Rewarded += r.Amount
		}
		l.KeepChanges(changes)
		_, err = l.CheckCheckpoint(w.sealCheckpoint(bad))
		if (err == nil) != (name == "") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// Reputation grows by what staked payers paid for, and a checkpoint with
// another register is refused.
func TestReputationInCheckpoints(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 10_000 * credit, "carol": 10_000 * credit})
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	w.do(l, carol, &proto.Open{})
	w.hires(l, alice, bob, 30*credit) // alice has no stake yet
	w.do(l, alice, ledger.Stake(credit))
	w.hires(l, alice, bob, 10*credit) // 10 minutes
	w.hires(l, carol, bob, 50*credit)
	w.checkpoint(l)
	if got := l.Reputation(bob.id); got.Valid != 10_000_000 || got.Invalid != 0 || got.Score() != 333_333 {
		t.Fatalf("%+v, score %d", got, got.Score())
	}
	for range 4 {
		w.hires(l, alice, bob, 30*credit) // at most an hour per payer and epoch
	}
	w.checkpoint(l)
	want := l.Reputation(bob.id)
	if want.Valid != 70_000_000 || want.Version != 2 {
		t.Fatalf("%+v", want)
	}
	w.prune(l, 1)
	w.hires(l, alice, bob, credit)
	body, changes, err := l.DraftCheckpoint(3)
	if err != nil {
		t.Fatal(err)
	}
	l.KeepChanges(changes)
	if _, err := l.CheckCheckpoint(w.sealCheckpoint(body)); err != nil {
		t.Fatal(err)
	}
	body.ReputationRoot[0] ^= 1
	if _, err := l.CheckCheckpoint(w.sealCheckpoint(body)); err == nil {
		t.Fatal("another register passes")
	}
	w.checkpoint(l)
	w.prune(l, 0)
	if got := l.Reputation(bob.id); got.Valid != 71_000_000 || got.Version != 3 {
		t.Fatalf("%+v", got)
	}
	if got := l.Reputation(alice.id); got.Valid != 0 || got.Score() != 0 {
		t.Fatalf("a payer has %+v", got)
	}
	joined := w.ledger()
	session(t, joined, l)
	if joined.Reputation(bob.id) != l.Reputation(bob.id) {
		t.Fatal("the joined node has another register")
	}
}

// Witnesses that probe agree on the rewards through the agreement.
func TestWitnessesAgreeOnRewards(t *testing.T) {
	for _, n := range []int{1, 4} {
		c := newCouncil(t, n)
		for _, s := range c.seats {
			s.config = func(cfg *ledger.WitnessConfig) { cfg.Checkpoints = ledger.NewEpochs(s.l) }
			c.restart(s)
		}
		c.run(c.now.Add(time.Minute), func() bool { return c.seats[0].l.Epoch() > 0 })
		c.pass(time.Second)
		for _, s := range c.seats {
			c.act(s, func(time.Time) ([]ledger.Output, error) { return s.w.Probes([]peer.ID{alice.id}) })
		}
		c.run(c.now.Add(2*time.Hour), func() bool { return c.seats[0].l.Epoch() > 1 })
		c.pass(10 * time.Second)
		for i, s := range c.seats {
			h, ok := s.l.Checkpoint(2)
			if !ok || len(mustChanges(t, h).Probes) != c.net.Quorum() {
				t.Fatalf("%d witnesses: witness %d: %v, %v", n, i, ok, fmt.Sprint(h))
			}
		}
	}
}

func mustChanges(t *testing.T, h *ledger.CheckpointHeader) *proto.FrontierChanges {
	return mustParse(t, h.Wire.Changes)
}

func mustParse(tb testing.TB, changes []byte) *proto.FrontierChanges {
	m := new(proto.FrontierChanges)
	if err := goproto.Unmarshal(changes, m); err != nil {
		tb.Fatal(err)
	}
	return m
}
