package ledger_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	goproto "google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// loneWitness is the network's only witness, with checkpoints.
func loneWitness(w *world) (*ledger.Ledger, *ledger.Witness) {
	store := mem.New()
	l := w.open(store)
	m, err := ledger.NewWitness(w.net, w.witnesses[0].id, l, store, ledger.WitnessConfig{
		Sign:        func(b *proto.Payload) ([]byte, error) { return proto.Seal(w.witnesses[0].key, w.net.ID, b) },
		Checkpoints: ledger.NewEpochs(l),
	})
	if err != nil {
		w.tb.Fatal(err)
	}
	return l, m
}

// A hold that would last longer than the genesis allows is not certified, nor is
// an Extend that makes one last so long. With the rule cut both are.
func TestHoldsHaveALongestTime(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 100 * credit}, func(g *proto.Genesis) { g.MaxHoldSeconds, g.MaxRunSeconds = 3600, 900 })
	ahead := func(d time.Duration) uint64 { return uint64(clock.Add(d).UnixMilli()) }
	most := time.Hour + proto.ClockSlack
	hold := func(deadline uint64) *proto.Hold {
		return &proto.Hold{Job: job(1), Budget: 10 * credit, DeadlineUnixMs: deadline, Lanes: []*proto.Lane{{Worker: []byte(bob.id), Cap: credit}}}
	}
	open := func(off bool) (*witnessed, func(body any) bool) {
		x := w.witness(mem.New())
		if off {
			x.w.SwitchOffNamed("longest hold")
		}
		certified := func(body any) bool {
			t.Helper()
			return x.handle(w.propose(alice, w.draft(x.l, alice, body).Event)).GetCertified() != nil
		}
		if !certified(&proto.Open{}) {
			t.Fatal("the account does not open")
		}
		return x, certified
	}
	for _, off := range []bool{false, true} {
		for _, deadline := range []uint64{ahead(most + time.Second), math.MaxUint64} {
			if _, certified := open(off); certified(hold(deadline)) != off {
				t.Errorf("rule off %v: a hold until %d", off, deadline)
			}
		}
		x, certified := open(off)
		if !certified(hold(ahead(most))) {
			t.Fatal("the longest hold is refused")
		}
		h := x.l.Holds(alice.id)[0].ID
		if certified(&proto.Extend{Hold: h.Bytes(), DeadlineUnixMs: ahead(most + time.Second)}) != off {
			t.Errorf("rule off %v: an Extend makes the hold last too long", off)
		}
	}
	ev := &proto.Event{Body: &proto.Event_Hold{Hold: hold(ahead(time.Hour + time.Second))}}
	if err := ledger.CheckDeadline(w.net, ev, clock, 0); err == nil || !strings.Contains(err.Error(), "the network allows 1h0m0s") {
		t.Errorf("the author is told %v", err)
	}
}

// Any genesis that is accepted starts a ledger, and its witness ends epochs: as
// many as are due and no more, in virtual time.
func TestAnyGenesisEndsAnEpoch(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		edge := func(name string, most uint64) uint64 {
			return rapid.OneOf(rapid.SampledFrom([]uint64{0, 1, most, most + 1, 9223372037, math.MaxUint64}), rapid.Uint64Range(1, most)).Draw(r, name)
		}
		const month = 31 * 24 * 3600
		w, err := tryWorld(t, func(g *proto.Genesis) {
			g.EpochSeconds, g.GraceSeconds = edge("epoch", month), edge("grace", month)
			g.MaxHoldSeconds = edge("hold", 366*24*3600)
			g.KappaPpm, g.CurveM, g.CurveDCpuHours = edge("kappa", 100_000_000), edge("M", 1_000_000), edge("D", 1_000_000_000_000)
			g.EventCost, g.OpeningCost, g.FeePpm = edge("event", 1_000_000_000_000), edge("opening", 1_000_000_000_000), edge("fee", 1_000_000)
		})
		if err != nil {
			return
		}
		l, m := loneWitness(w)
		now := clock
		for epoch := uint64(1); epoch <= 3; epoch++ {
			if _, err := m.Tick(now); err != nil {
				r.Fatal(err)
			}
			if l.Epoch() != epoch {
				r.Fatalf("epoch %d at %s, want %d", l.Epoch(), now, epoch)
			}
			if _, err := m.Tick(now.Add(w.net.Epoch() - time.Millisecond)); err != nil || l.Epoch() != epoch {
				r.Fatalf("epoch %d ends early: %v", epoch, err)
			}
			if next := m.Next(); next.Before(now) || next.After(now.Add(w.net.Epoch())) {
				r.Fatalf("the next step is due at %s, it is %s", next, now)
			}
			now = now.Add(w.net.Epoch())
		}
	})
}

// tryWorld is newWorld with one witness and a genesis that may be refused.
func tryWorld(tb testing.TB, change func(*proto.Genesis)) (*world, error) {
	p := someone("witness 0")
	g := &proto.Genesis{Name: "test", Nonce: make([]byte, 16), Witnesses: [][]byte{[]byte(p.id)}, Grants: []*proto.Grant{{Account: []byte(alice.id), Amount: 100 * credit}}}
	change(g)
	raw, err := goproto.Marshal(g)
	if err != nil {
		tb.Fatal(err)
	}
	net, err := proto.ParseGenesis(raw)
	return &world{tb: tb, net: net, witnesses: []person{p}}, err
}
