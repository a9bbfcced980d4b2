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
			told, checkpoints := map[cid.Cid]int{}, 0
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
