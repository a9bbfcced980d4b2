package ledger_test

import (
	"slices"
	"testing"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
)

// A call that fails on the disk tells nothing. What it had made durable before
// that, a later call tells, once: else this witness would never publish it. Any
// two writes of a witness fail here, while it takes in events that came along,
// punishes a double spend and certifies a checkpoint.
func TestWhatIsDurableIsTold(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 100 * credit}, func(g *proto.Genesis) { g.EpochSeconds = 60 })
	author := w.ledger()
	open, stake := w.do(author, alice, &proto.Open{}), w.do(author, alice, ledger.Stake(10*credit))
	first := w.propose(alice, w.draft(author, alice, transfer(bob, credit)).Event, open.Wire, stake.Wire)
	second := w.propose(alice, w.draft(author, alice, transfer(carol, credit)).Event)
	most, full := 0, false
	for one := 1; one == 1 || one <= most; one++ {
		for two := one; two == one || two <= most; two++ {
			writes, armed := 0, false
			store := &flaky{mem.New(), func() (bool, bool) {
				if !armed {
					return false, false
				}
				writes++
				return writes == one || writes == two, false
			}}
			l := w.open(store)
			wit, err := ledger.NewWitness(w.net, w.witnesses[0].id, l, store, ledger.WitnessConfig{
				Sign:        func(p *proto.Payload) ([]byte, error) { return proto.Seal(w.witnesses[0].key, w.net.ID, p) },
				Checkpoints: ledger.NewEpochs(l),
			})
			if err != nil {
				t.Fatal(err)
			}
			armed = true
			told, checkpoints, offences := map[cid.Cid]int{}, 0, 0
			now := clock
			hear := func(outs []ledger.Output, err error) {
				if err != nil && len(outs) > 0 {
					t.Fatalf("writes %d and %d fail: a call that fails says %v", one, two, outs)
				}
				if next := wit.Next(); err != nil && len(told) < l.Len() && (next.IsZero() || next.After(now.Add(ledger.DefaultVoteTimeout))) {
					t.Fatalf("writes %d and %d fail: something is to be told, and the next step is due at %s", one, two, next)
				}
				for _, o := range outs {
					switch o := o.(type) {
					case ledger.Added:
						for _, c := range o.Events {
							told[c.ID]++
						}
					case ledger.CheckpointAdded:
						checkpoints++
					case ledger.Misconduct:
						offences++
						if l.Account(alice.id).Offences+records(t, store, "vx") == 0 {
							t.Errorf("writes %d and %d fail: an offence is told that a restart forgets", one, two)
						}
					}
				}
			}
			for range 2 {
				for _, raw := range [][]byte{first, second} {
					hear(wit.Handle(now, alice.id, &proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: raw}}))
				}
				for range 3 {
					now = now.Add(20 * time.Second)
					if next := wit.Next(); !next.IsZero() && !next.After(now) {
						hear(wit.Tick(now))
					}
				}
			}
			most = max(most, writes)
			set := all(l)
			full = full || len(set) == 4 && l.Epoch() > 1
			if offences != l.Account(alice.id).Offences {
				t.Errorf("writes %d and %d fail: %d offences are told, and %d are punished", one, two, offences, l.Account(alice.id).Offences)
			}
			if uint64(checkpoints) != l.Epoch() {
				t.Errorf("writes %d and %d fail: %d events, %d of %d checkpoints are told", one, two, len(set), checkpoints, l.Epoch())
			}
			if i := slices.IndexFunc(set, func(c *ledger.Certified) bool { return told[c.ID] != 1 }); i >= 0 || len(told) != len(set) {
				t.Errorf("writes %d and %d fail: of %d events %d are told, and one %d times", one, two, len(set), len(told), told[set[max(i, 0)].ID])
			}
		}
	}
	if most < 5 || !full {
		t.Errorf("%d writes, everything comes to its end: %v", most, full)
	}
}

func records(tb testing.TB, s ledger.Store, prefix string) (n int) {
	tb.Helper()
	if err := s.Scan([]byte(prefix), func(_, _ []byte) error { n++; return nil }); err != nil {
		tb.Fatal(err)
	}
	return n
}

// While the disk fails a witness is shown an offence and takes a claim. When the
// disk is well again, it keeps the offence before anything else, and asks for the
// claim's outputs: else the lane would take no other claim until a restart.
func TestAFetchIsToldAfterTheDiskFailed(t *testing.T) {
	c := newCouncil(t, 1)
	s := c.seats[0]
	s.config = func(cfg *ledger.WitnessConfig) { cfg.Fetch = true }
	c.restart(s)
	fill(t, s.l, c.do(c.l, alice, ledger.Stake(100*credit)))
	raw := c.claim(bob, &proto.WorkClaim{Assignments: [][]byte{c.assignments(alice, 0, 0)}, Receipts: []*proto.SignedReceipt{c.receipt(0, 0, 2)}})
	broken, writes := true, 0
	s.write = func() (bool, bool) {
		if !broken {
			if writes++; writes == 1 && records(t, s.disk, "vx") != 0 {
				t.Error("the offence was kept while the disk failed")
			}
			if writes == 2 && records(t, s.disk, "vx") != 1 {
				t.Error("something is written before the offence")
			}
		}
		return broken, false
	}
	for i, f := range []*proto.VoteFrame{c.offence(alice, 3), {Body: &proto.VoteFrame_WorkClaim{WorkClaim: raw}}} {
		if outs, err := s.w.Handle(c.now, bob.id, f); err == nil || len(outs) > 0 {
			t.Fatalf("frame %d: %v, %v", i, outs, err)
		}
	}
	broken = false
	c.now = s.w.Next()
	c.act(s, s.w.Tick)
	if len(c.fetch) != 1 {
		t.Fatalf("%d looks, want 1", len(c.fetch))
	}
	c.act(s, func(now time.Time) ([]ledger.Output, error) { return s.w.Fetched(now, c.fetch[0].Claim, nil) })
	c.pass(time.Minute)
	if got := c.replies(bob); !slices.Equal(got, []proto.Code{proto.CodeOK}) {
		t.Errorf("answers %v", got)
	}
	if a := s.l.Account(alice.id); a.Offences != 1 || c.evidence() != 0 {
		t.Errorf("%d offences are slashed, %d are kept", a.Offences, c.evidence())
	}
}
