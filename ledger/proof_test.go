package ledger_test

import (
	"fmt"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	goproto "google.golang.org/protobuf/proto"
)

// A light client with the genesis alone learns what every account has and can
// claim, for any number of accounts, and nothing that is not so.
func TestLightClientProofs(t *testing.T) {
	for _, accounts := range []int{2, 3, 5, 8, 13} {
		w := newWorld(t, 4, grants(accounts))
		l := busy(w, accounts, accounts*6)
		if _, err := l.Prove(alice.id); proto.CodeOf(err) != proto.CodeNotFound {
			t.Fatalf("a proof without a checkpoint: %v", err)
		}
		w.checkpoint(l)
		w.prune(l, 0)
		for i := range accounts {
			p := someone(fmt.Sprintf("account %d", i))
			before := l.Account(p.id)
			claims := l.Receivables(p.id)
			w.do(l, p, transfer(alice, 1)) // above the frontier
			reply, err := l.Prove(p.id)
			if err != nil {
				t.Fatal(err)
			}
			h, err := ledger.VerifyCheckpoint(w.net, reply.Checkpoint)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ledger.VerifyAccount(w.net, h, reply.Account)
			if err != nil {
				t.Fatal(err)
			}
			got.State.Receivable = before.Receivable
			if got.ID != p.id || got.State != before || got.Epoch != 1 {
				t.Fatalf("%d accounts: proven %+v, want %+v", accounts, got.State, before)
			}
			if len(reply.Unclaimed) != len(claims) || len(reply.Events) != 1 {
				t.Fatalf("%d receivables, want %d; %d events", len(reply.Unclaimed), len(claims), len(reply.Events))
			}
			for k, u := range reply.Unclaimed {
				to, r, err := ledger.VerifyReceivable(h, u)
				if err != nil || to != p.id || r.Amount != claims[k].Amount || r.From != claims[k].From || !goproto.Equal(r.Source, claims[k].Source) {
					t.Fatalf("receivable %+v of %s, want %+v: %v", r, to, claims[k], err)
				}
			}
			for name, change := range map[string]func(*proto.StateProof){
				"more":         func(p *proto.StateProof) { p.Leaf.Value[len(p.Leaf.Value)-1]++ },
				"other key":    func(p *proto.StateProof) { p.Leaf.Key[0]++ },
				"other index":  func(p *proto.StateProof) { p.Index ^= 1 },
				"far index":    func(p *proto.StateProof) { p.Index += 1 << 40 },
				"other path":   func(p *proto.StateProof) { p.Path[0][0]++ },
				"short path":   func(p *proto.StateProof) { p.Path = p.Path[1:] },
				"long path":    func(p *proto.StateProof) { p.Path = append(p.Path, p.Path[0]) },
				"other tree":   func(p *proto.StateProof) { p.Leaf.Tree = 'h' },
				"no leaf":      func(p *proto.StateProof) { p.Leaf = nil },
				"ragged":       func(p *proto.StateProof) { p.Path[0] = p.Path[0][:31] },
				"other event":  func(p *proto.StateProof) { p.Leaf.Events[0] = reply.Events[0] },
				"no event":     func(p *proto.StateProof) { p.Leaf.Events = nil },
				"unclaimed as": func(p *proto.StateProof) { *p.Leaf = proto.StateLeaf{Tree: 'a'} },
			} {
				bad := goproto.Clone(reply.Account).(*proto.StateProof)
				change(bad)
				if _, err := ledger.VerifyAccount(w.net, h, bad); err == nil {
					t.Errorf("%d accounts, %s: accepted", accounts, name)
				}
			}
			if _, _, err := ledger.VerifyReceivable(h, reply.Account); err == nil {
				t.Error("an account passes for a receivable")
			}
		}
		if reply, err := l.Prove(someone("nobody").id); err != nil || reply.Account != nil {
			t.Errorf("a proof of nothing: %v, %v", reply, err)
		}
	}
}

// A light client learns what a checkpoint says about a worker, from the base of
// whoever answers, and nothing that it does not say.
func TestReputationProofs(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 10_000 * credit, "carol": 10_000 * credit})
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	w.do(l, alice, ledger.Stake(credit))
	if _, err := l.ProveReputation(bob.id); proto.CodeOf(err) != proto.CodeNotFound {
		t.Fatalf("a proof without a checkpoint: %v", err)
	}
	proven := func(of person) (h *ledger.CheckpointHeader, p *proto.StateProof, r ledger.Reputation) {
		t.Helper()
		w.checkpoint(l)
		w.prune(l, 0)
		only, err := l.ProveReputation(of.id)
		if err != nil {
			t.Fatal(err)
		}
		all, err := l.Prove(of.id)
		if err != nil || !goproto.Equal(all.Reputation, only.Reputation) || !goproto.Equal(all.Checkpoint, only.Checkpoint) {
			t.Fatalf("%v beside the account, %v alone: %v", all, only, err)
		}
		if h, err = ledger.VerifyCheckpoint(w.net, only.Checkpoint); err != nil {
			t.Fatal(err)
		}
		id, r, err := ledger.VerifyReputation(h, only.Reputation)
		if err != nil || id != of.id {
			t.Fatalf("proof of %s: %v", id, err)
		}
		return h, only.Reputation, r
	}
	w.hires(l, alice, bob, 10*credit) // 10 minutes
	w.hires(l, alice, carol, 5*credit)
	first, old, r := proven(bob)
	if r != (ledger.Reputation{Version: 1, Valid: 10 * minute}) {
		t.Fatalf("%+v", r)
	}
	w.hires(l, alice, carol, credit)
	if _, _, same := proven(bob); same != r {
		t.Fatalf("a checkpoint that changes nothing makes %+v of %+v", same, r)
	}
	w.hires(l, alice, bob, 20*credit)
	h, p, newer := proven(bob)
	if newer != (ledger.Reputation{Version: 3, Valid: 30 * minute}) || newer != l.Reputation(bob.id) || newer.Merge(r) != newer || r.Merge(newer) != newer {
		t.Fatalf("%+v after %+v", newer, r)
	}
	if only, err := l.ProveReputation(someone("nobody").id); err != nil || only.Checkpoint == nil || only.Reputation != nil {
		t.Errorf("a proof of nothing: %v, %v", only, err)
	}

	if _, _, err := ledger.VerifyReputation(first, p); err == nil {
		t.Error("a proof passes for an older checkpoint")
	}
	if _, _, err := ledger.VerifyReputation(h, old); err == nil {
		t.Error("an older proof passes for a newer checkpoint")
	}
	account, err := l.Prove(alice.id)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ledger.VerifyReputation(h, account.Account); err == nil {
		t.Error("an account passes for a register")
	}
	if _, err := ledger.VerifyAccount(w.net, h, p); err == nil {
		t.Error("a register passes for an account")
	}
	for name, change := range map[string]func(*proto.StateProof){
		"newer":       func(p *proto.StateProof) { p.Leaf.Value[7]++ },
		"more":        func(p *proto.StateProof) { p.Leaf.Value[15]++ },
		"wrong":       func(p *proto.StateProof) { p.Leaf.Value[23]++ },
		"longer":      func(p *proto.StateProof) { p.Leaf.Value = append(p.Leaf.Value, 0) },
		"other key":   func(p *proto.StateProof) { p.Leaf.Key[0]++ },
		"other index": func(p *proto.StateProof) { p.Index ^= 1 },
		"other path":  func(p *proto.StateProof) { p.Path[0][0]++ },
		"no path":     func(p *proto.StateProof) { p.Path = nil },
		"other tree":  func(p *proto.StateProof) { p.Leaf.Tree = 'a' },
		"no leaf":     func(p *proto.StateProof) { p.Leaf = nil },
	} {
		bad := goproto.Clone(p).(*proto.StateProof)
		change(bad)
		if id, r, err := ledger.VerifyReputation(h, bad); err == nil || id != "" || r != (ledger.Reputation{}) {
			t.Errorf("%s: %s has %+v, %v", name, id, r, err)
		}
	}
}

func FuzzProof(f *testing.F) {
	w := newWorld(f, 1, grants(5))
	l := busy(w, 5, 40)
	w.checkpoint(l)
	w.prune(l, 0)
	reply, err := l.Prove(someone("account 1").id)
	if err != nil {
		f.Fatal(err)
	}
	h, err := ledger.VerifyCheckpoint(w.net, reply.Checkpoint)
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range append(reply.Unclaimed, reply.Account) {
		raw, err := goproto.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p := new(proto.StateProof)
		if goproto.Unmarshal(raw, p) != nil {
			return
		}
		if a, err := ledger.VerifyAccount(w.net, h, p); err == nil && a.State.Avail != l.Account(a.ID).Avail {
			t.Fatal("a false balance is proven")
		}
		if to, r, err := ledger.VerifyReceivable(h, p); err == nil && l.Account(to).Receivable < r.Amount {
			t.Fatal("a false receivable is proven")
		}
		if id, r, err := ledger.VerifyReputation(h, p); err == nil && l.Reputation(id) != r {
			t.Fatal("a false reputation is proven")
		}
		_, _ = ledger.VerifyCheckpoint(w.net, &proto.CertifiedCheckpoint{Checkpoint: raw})
	})
}
