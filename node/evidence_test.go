//go:build !js

package node_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
)

// A worker that alters its real output loses votes; its submitter brings the
// receipts to the witnesses, which execute the work again, and a checkpoint
// tells every node what the worker did. Nothing is held against the others.
// One of the four witnesses has no sandbox, one is away.
func TestLiarLosesItsReputation(t *testing.T) {
	l := newLabOf(t, 9, 4, func(g *proto.Genesis) { g.EpochSeconds = 2 })
	const liar = 6
	for i := range 9 {
		if i == 3 {
			continue
		}
		l.start(i, func(c *node.Config) {
			switch i {
			case 0, 2:
				c.Executor = l.exec
			case liar:
				c.Tamper = func(out []byte) []byte { return append(bytes.Clone(out), "a lie\t1\n"...) }
			}
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	payer := l.submitter()
	if err := payer.Stake(ctx, proto.OneCredit); err != nil {
		t.Fatal(err)
	}
	id := l.nodes[liar].ID()
	outvoted := func(rs []*market.Result) (n int) {
		for i, r := range rs {
			if r.State != market.Done || !r.Verified {
				t.Fatalf("task %d: %+v", i, r)
			}
			_, tasks, err := payer.Job(r.Task.Job)
			if err != nil {
				t.Fatal(err)
			}
			for _, rep := range tasks[r.Task.Index].Replicas {
				if rep.Worker == id && rep.Code == proto.CodeMinority {
					n++
				}
			}
		}
		return n
	}
	resumed := l.pausedUntilWorked(ctx, liar, 7, 8)
	rs, err := payer.SubmitBatch(ctx, node.JobSpec{Type: "text", Inputs: l.texts(24), Options: market.Options{Redundancy: 2}})
	resumed()
	if err != nil {
		t.Fatal(err)
	}
	if outvoted(rs) == 0 {
		t.Fatal("the liar never lost a vote, so nothing can be shown")
	}
	l.until("every node knows of the lies and of the others' work", func() bool {
		for _, n := range l.nodes {
			if n == nil {
				continue
			}
			if n.Reputation(id).Invalid == 0 || n.Reputation(l.nodes[5].ID()).Valid+n.Reputation(l.nodes[7].ID()).Valid == 0 {
				return false
			}
		}
		return true
	})
	for i, n := range l.nodes {
		if n == nil {
			continue
		}
		for j, other := range l.nodes {
			if other == nil || j == liar {
				continue
			}
			if got := n.Reputation(other.ID()); got.Invalid != 0 {
				t.Errorf("node %d holds %+v against node %d", i, got, j)
			}
		}
	}
	// A witness that comes back has it from the others.
	back := l.start(3, nil)
	l.until("the witness that was away knows", func() bool { return back.Reputation(id).Invalid > 0 })
}

// A witness that executes work again finds every receipt of honest workers
// right, and wrong whatever is changed in one of them, though its worker signed
// that.
func TestWorkIsExecutedAgain(t *testing.T) {
	l := newLab(t, 4)
	l.startAll(4, func(i int, c *node.Config) {
		if i == 0 {
			c.Executor = l.exec
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := l.submitter().Submit(ctx, market.Task{Type: "text", Input: bytes.Repeat([]byte(text), 10_000), Options: market.Options{Redundancy: 2}}) // above what travels inline
	if err != nil || len(r.Receipts) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	small, err := l.submitter().Submit(ctx, market.Task{Type: "text", Input: []byte(text), Options: market.Options{Redundancy: 2, Fuel: 12_500}}) // hardly more than a start takes
	if err != nil || small.Status != proto.StatusOutOfFuel || len(small.Receipts) != 2 {
		t.Fatalf("%+v, %v", small, err)
	}
	witness := l.nodes[0]
	if _, _, err := witness.ExecuteAgain(ctx, r.Receipts[0]); proto.CodeOf(err) != proto.CodeFetch {
		t.Errorf("a witness reads an input that its submitter did not bring: %v", err)
	}
	for _, sr := range append(r.Receipts, small.Receipts...) {
		l.submitter().OpenEvidence(sr)
		if wrong, fuel, err := witness.ExecuteAgain(ctx, sr); wrong || fuel == 0 || err != nil {
			t.Errorf("an honest receipt: wrong %v, fuel %d, %v", wrong, fuel, err)
		}
	}
	worker := map[string]crypto.PrivKey{}
	for i, n := range l.nodes {
		worker[string(n.ID())] = l.keys[i]
	}
	for name, change := range map[string]func(*proto.Receipt){
		"output":    func(r *proto.Receipt) { r.OutputHash = make([]byte, 32) },
		"more fuel": func(r *proto.Receipt) { r.Fuel++ },
		"less fuel": func(r *proto.Receipt) { r.Fuel-- },
		"status":    func(r *proto.Receipt) { r.Status = uint32(proto.StatusTrap) },
		"exit code": func(r *proto.Receipt) { r.ExitCode = 7 },
	} {
		m := new(proto.Receipt)
		if err := goproto.Unmarshal(r.Receipts[0].Receipt, m); err != nil {
			t.Fatal(err)
		}
		change(m)
		if wrong, fuel, err := witness.ExecuteAgain(ctx, l.receipt(worker[string(m.Worker)], m)); !wrong || fuel != r.Fuel || err != nil {
			t.Errorf("%s changed: wrong %v, fuel %d, %v", name, wrong, fuel, err)
		}
	}
	// A worker cannot word a receipt so that nobody could hold it against it.
	for name, change := range map[string]func(*proto.Receipt){
		"":               func(*proto.Receipt) {},
		"a long salt":    func(r *proto.Receipt) { r.Salt = make([]byte, 4096) },
		"a field of its": func(r *proto.Receipt) { r.ProtoReflect().SetUnknown([]byte{0xf8, 0x07, 1}) },
	} {
		m := new(proto.Receipt)
		if err := goproto.Unmarshal(small.Receipts[0].Receipt, m); err != nil {
			t.Fatal(err)
		}
		change(m)
		if err := l.submitter().TakeResult(peer.ID(m.Worker), l.receipt(worker[string(m.Worker)], m), small.Output); (err == nil) != (name == "") {
			t.Errorf("a result with %q in its receipt: %v", name, err)
		}
	}
	// What cannot be had or executed is nobody's fault.
	for name, change := range map[string]func(*proto.Receipt){
		"input":  func(r *proto.Receipt) { r.InputHash = make([]byte, 32) },
		"module": func(r *proto.Receipt) { r.Module = proto.CIDOf([]byte("nothing")).Bytes() },
		"memory": func(r *proto.Receipt) { r.MemoryLimit = 1 << 62 },
	} {
		m := new(proto.Receipt)
		if err := goproto.Unmarshal(r.Receipts[0].Receipt, m); err != nil {
			t.Fatal(err)
		}
		change(m)
		if wrong, _, err := witness.ExecuteAgain(ctx, l.receipt(worker[string(m.Worker)], m)); wrong || err == nil {
			t.Errorf("%s changed: wrong %v, %v", name, wrong, err)
		}
	}
}

// receipt signs a receipt as a batch of one.
func (l *lab) receipt(key crypto.PrivKey, r *proto.Receipt) *proto.SignedReceipt {
	l.t.Helper()
	raw, err := goproto.Marshal(r)
	if err != nil {
		l.t.Fatal(err)
	}
	batch, err := proto.SignReceipts(key, l.net.ID, [][]byte{raw}, 1)
	if err != nil {
		l.t.Fatal(err)
	}
	return &proto.SignedReceipt{Receipt: raw, Batch: batch}
}

// One submitter cannot occupy a witness, nor can many poor ones.
func TestAccusationsAreBounded(t *testing.T) {
	l := newLab(t, 100)
	by := func(i, n int) *proto.SignedReceipt {
		id, err := peer.IDFromPrivateKey(l.keys[i])
		if err != nil {
			t.Fatal(err)
		}
		return l.receipt(l.keys[0], &proto.Receipt{Submitter: []byte(id), Task: uint32(n)})
	}
	var flood []*proto.SignedReceipt
	for n := range 100 {
		flood = append(flood, by(1, n), by(1, n))
	}
	if got := node.Suspects(flood, func(int) proto.Credit { return 1 }); len(got) != 8 {
		t.Errorf("%d cases of one submitter wait", len(got))
	}
	var poor []*proto.SignedReceipt
	for i := range l.keys {
		poor = append(poor, by(i, 0))
	}
	rich := by(2, 1)
	got := node.Suspects(append(poor, rich), func(i int) proto.Credit {
		if i == len(poor) {
			return 1000
		}
		return 1
	})
	if len(got) != 64 || got[63] != rich {
		t.Errorf("%d cases wait, the rich one is not among them", len(got))
	}
	if got := node.Suspects(poor, func(int) proto.Credit { return 0 }); len(got) != 0 {
		t.Errorf("%d cases of nobodies wait", len(got))
	}
}
