package ledger_test

import (
	"testing"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Witnesses agree on a checkpoint per epoch, through the agreement itself, and
// no epoch is shorter than its length. One of them lacks an event at first; one
// leader is away.
func TestWitnessesAgreeOnCheckpoints(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 10 * credit}, func(g *proto.Genesis) { g.EpochSeconds = 60 })
	author := w.ledger()
	w.do(author, alice, &proto.Open{})
	w.do(author, alice, transfer(bob, credit))
	set := all(author)
	ledgers, machines := map[peer.ID]*ledger.Ledger{}, map[peer.ID]*ledger.Witness{}
	for i, p := range w.witnesses {
		store := mem.New()
		l := w.open(store)
		fill(t, l, set[:len(set)-i/3]...) // the last one lacks the transfer
		m, err := ledger.NewWitness(w.net, p.id, l, store, ledger.WitnessConfig{
			Sign:        func(b *proto.Payload) ([]byte, error) { return proto.Seal(p.key, w.net.ID, b) },
			Checkpoints: ledger.NewEpochs(l),
		})
		if err != nil {
			t.Fatal(err)
		}
		ledgers[p.id], machines[p.id] = l, m
	}
	type letter struct {
		from, to peer.ID
		frame    *proto.VoteFrame
	}
	away := w.witnesses[2].id // leads epoch 2
	now := clock
	var mail []letter
	post := func(from peer.ID, outs []ledger.Output, err error) {
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range outs {
			if s, ok := o.(ledger.Send); ok {
				for _, to := range s.To {
					mail = append(mail, letter{from, to, s.Frame})
				}
			}
		}
	}
	var certified [4]time.Time
	for step := 0; step < 400 && ledgers[w.witnesses[0].id].Epoch() < 3; step++ {
		now = now.Add(time.Second)
		for _, p := range w.witnesses {
			if p.id != away {
				outs, err := machines[p.id].Tick(now)
				post(p.id, outs, err)
			}
		}
		for len(mail) > 0 {
			m := mail[0]
			mail = mail[1:]
			if to := machines[m.to]; to != nil && m.to != away && m.from != away {
				outs, err := to.Handle(now, m.from, m.frame)
				post(m.to, outs, err)
			}
		}
		if step == 10 {
			fill(t, ledgers[w.witnesses[3].id], set...) // reconciliation
		}
		if e := ledgers[w.witnesses[0].id].Epoch(); certified[e].IsZero() {
			certified[e] = now
		}
	}
	l := ledgers[w.witnesses[0].id]
	if l.Epoch() != 3 {
		t.Fatalf("epoch %d", l.Epoch())
	}
	for e := uint64(1); e <= 3; e++ {
		h, _ := l.Checkpoint(e)
		if other, ok := ledgers[w.witnesses[1].id].Checkpoint(e); !ok || !other.ID.Equals(h.ID) {
			t.Errorf("epoch %d: two checkpoints", e)
		}
		if e > 1 && certified[e].Sub(certified[e-1]) < 45*time.Second {
			t.Errorf("epoch %d lasted %s", e, certified[e].Sub(certified[e-1]))
		}
	}
	h, _ := l.Checkpoint(3)
	if h.Body.Accounts != 1 || h.Body.Unclaimed != 1 {
		t.Errorf("%d accounts, %d unclaimed", h.Body.Accounts, h.Body.Unclaimed)
	}
	w.prune(l, 0)
	if _, ok := ledger.NewEpochs(l).Certified(1); !ok {
		t.Error("a past epoch looks undecided")
	}
	// A checkpoint that ends too early or in the future is not prepared.
	e := ledger.NewEpochs(l)
	_, at := e.Due()
	body, changes, ok := e.Draft(at)
	if !ok {
		t.Fatal("nothing is due")
	}
	if err := e.Valid(at, body, changes); err != nil {
		t.Error(err)
	}
	if err := e.Valid(at.Add(-20*time.Second), body, changes); err == nil {
		t.Error("prepared a third of an epoch early")
	}
	body.TimeUnixMs -= 1
	if err := e.Valid(at, body, changes); err == nil {
		t.Error("an epoch that is too short is prepared")
	}
}
