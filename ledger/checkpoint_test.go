package ledger_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"unsafe"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// sealCheckpoint signs a body as the first witness.
func (w *world) sealCheckpoint(body *proto.Checkpoint) []byte {
	w.tb.Helper()
	return w.seal(w.witnesses[0], &proto.Payload{Body: &proto.Payload_Checkpoint{Checkpoint: body}})
}

// certifyCheckpoint has the first q witnesses commit to a body, whatever it
// says.
func (w *world) certifyCheckpoint(body *proto.Checkpoint, changes []byte) *proto.CertifiedCheckpoint {
	w.tb.Helper()
	raw := w.sealCheckpoint(body)
	s, err := proto.Inspect(raw, proto.KindCheckpoint)
	if err != nil {
		w.tb.Fatal(err)
	}
	cert := &proto.Certificate{}
	for _, p := range w.witnesses[:w.net.Quorum()] {
		cert.Commits = append(cert.Commits, w.seal(p, &proto.Payload{Body: &proto.Payload_Commit{Commit: &proto.Commit{
			Slot: ledger.CheckpointSlot(body.Epoch), Id: s.ID.Bytes(),
		}}}))
	}
	return &proto.CertifiedCheckpoint{Checkpoint: raw, Certificate: cert, Changes: changes}
}

// checkpoint drafts and certifies the next checkpoint of l and adds it.
func (w *world) checkpoint(l *ledger.Ledger) *proto.CertifiedCheckpoint {
	w.tb.Helper()
	body, changes, err := l.DraftCheckpoint(l.Epoch() + 1)
	if err != nil {
		w.tb.Fatal(err)
	}
	cp := w.certifyCheckpoint(body, changes)
	w.addCheckpoint(l, cp)
	return cp
}

func (w *world) addCheckpoint(l *ledger.Ledger, cp *proto.CertifiedCheckpoint) {
	w.tb.Helper()
	if _, err := l.AddCheckpoint(cp); err != nil {
		w.tb.Fatal(err)
	}
}

func (w *world) prune(l *ledger.Ledger, lag uint64, own ...peer.ID) {
	w.tb.Helper()
	before := l.StateHash()
	if moved, err := l.Prune(lag, own...); err != nil || !moved {
		w.tb.Fatalf("pruned: %v, %v", moved, err)
	}
	if l.StateHash() != before {
		w.tb.Fatal("pruning changed the state")
	}
	if a := l.Audit(); !a.Conserved() {
		w.tb.Fatalf("not conserved: %+v", a)
	}
}

// Merge laws with checkpoints interleaved: whatever the order and batches of
// events and checkpoints, with pruning and restarts anywhere, the state is the
// same; and a ledger that holds more events than a checkpoint's frontier
// computes the same roots.
func TestMergeLawsWithCheckpoints(t *testing.T) {
	worlds := lawWorlds(t)
	rapid.Check(t, func(r *rapid.T) {
		w := rapid.SampledFrom(worlds).Draw(r, "world")
		h := newHistory(w)
		var checkpoints []*proto.CertifiedCheckpoint
		for range rapid.IntRange(1, 4).Draw(r, "epochs") {
			for range rapid.IntRange(0, 25).Draw(r, "steps") {
				h.step(r)
			}
			if rapid.Bool().Draw(r, "probes") {
				for _, p := range w.witnesses[:w.net.Quorum()] {
					var up []peer.ID
					for _, q := range h.people {
						if rapid.Bool().Draw(r, "up") {
							up = append(up, q.id)
						}
					}
					w.probe(h.l, p, up...)
				}
			}
			if rapid.Bool().Draw(r, "wrong") {
				p := rapid.SampledFrom(h.people).Draw(r, "worker")
				from := h.l.Epoch() - min(h.l.Epoch(), rapid.Uint64Range(0, 1).Draw(r, "old"))
				w.told(h.l, w.witnesses[:w.net.F()+1], found(w.work(p, rapid.Uint32Range(0, 2).Draw(r, "task"), from))...)
			}
			checkpoints = append(checkpoints, w.checkpoint(h.l))
			for _, p := range h.people {
				for _, x := range h.l.Rewards(p.id) {
					if x.Epoch == h.l.Epoch() && x.Kind != "bonus" {
						h.minted += uint64(x.Amount)
						h.owned[p.id] += uint64(x.Amount)
					}
				}
			}
			h.check(r)
		}
		for range rapid.IntRange(0, 15).Draw(r, "tail") {
			h.step(r)
		}
		set, want := all(h.l), h.l.StateHash()

		late := w.ledger()
		if _, err := late.AddVerified(nil, set...); err != nil {
			r.Fatal(err)
		}
		for i, cp := range checkpoints {
			late.KeepChanges(cp.Changes)
			if _, err := late.CheckCheckpoint(cp.Checkpoint); err != nil {
				r.Fatalf("checkpoint %d of %d: %v", i+1, len(checkpoints), err)
			}
			w.addCheckpoint(late, cp)
		}

		store := mem.New()
		l := w.open(store)
		queue := rapid.Permutation(append(set[:len(set):len(set)], set[:len(set)/2]...)).Draw(r, "order")
		known := 0
		for len(queue) > 0 {
			switch rapid.IntRange(0, 9).Draw(r, "do") {
			case 0:
				store = store.Clone()
				l = w.open(store)
				queue = append(queue, set...)
			case 1, 2:
				if known < len(checkpoints) {
					w.addCheckpoint(l, checkpoints[known])
					known++
				}
			case 3, 4:
				before := l.StateHash()
				if _, err := l.Prune(rapid.Uint64Range(0, 1).Draw(r, "lag")); err != nil && proto.CodeOf(err) != proto.CodeMissing {
					r.Fatal(err)
				}
				if l.StateHash() != before || !l.Audit().Conserved() {
					r.Fatal("pruning changed the state")
				}
			default:
				n := rapid.IntRange(1, len(queue)).Draw(r, "batch")
				if _, err := l.AddVerified(nil, queue[:n]...); err != nil {
					r.Fatal(err)
				}
				queue = queue[n:]
			}
		}
		for ; known < len(checkpoints); known++ {
			w.addCheckpoint(l, checkpoints[known])
		}
		if l.StateHash() != want || l.Pending() != 0 {
			r.Fatalf("state %s with %d pending, want %s", l.StateHash(), l.Pending(), want)
		}
		if _, err := l.Prune(0); err != nil {
			r.Fatal(err)
		}
		for _, p := range h.people {
			if got, want := l.Reputation(p.id), h.l.Reputation(p.id); got != want {
				r.Fatalf("reputation %+v after pruning, %+v before", got, want)
			}
		}
		x := w.open(store)
		if l.StateHash() != want || x.StateHash() != want || x.Audit() != h.l.Audit() || x.Base() != uint64(len(checkpoints)) {
			r.Fatal("the pruned store replays to another state")
		}
		// What is pruned comes again and changes nothing.
		if _, err := x.AddVerified(nil, set...); err != nil || x.StateHash() != want || x.Pending() != 0 {
			r.Fatalf("%v, %d pending", err, x.Pending())
		}
	})
}

// A checkpoint with room for few changes moves some frontiers, stays closed,
// and the next ones bring the rest.
func TestCheckpointsWithFewChanges(t *testing.T) {
	defer ledger.FewChanges(3)()
	w := newWorld(t, 1, grants(20))
	l, other := w.ledger(), w.ledger()
	set := chains(w, 20, 400)
	fill(t, l, set...)
	fill(t, other, set...)
	epochs := 0
	for done := false; !done; epochs++ {
		cp := w.checkpoint(l)
		other.KeepChanges(cp.Changes)
		h, err := other.CheckCheckpoint(cp.Checkpoint)
		if err != nil {
			t.Fatal(err)
		}
		w.addCheckpoint(other, cp)
		w.prune(other, 0)
		done = h.Body.Accounts == 20 && other.Len() == 20
		if epochs == 60 {
			t.Fatalf("%d of 20 accounts, %d events after %d checkpoints", h.Body.Accounts, other.Len(), epochs)
		}
	}
	if epochs < 7 {
		t.Errorf("%d checkpoints for 20 accounts, three at a time", epochs)
	}
}

func TestCheckCheckpointRefuses(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": 10 * credit})
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	w.do(l, alice, transfer(bob, credit))
	body, changes, err := l.DraftCheckpoint(1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.CheckCheckpoint(w.sealCheckpoint(body)); err != nil {
		t.Fatal(err)
	}
	lacking := w.ledger()
	lacking.KeepChanges(changes)
	if _, err := lacking.CheckCheckpoint(w.sealCheckpoint(body)); proto.CodeOf(err) != proto.CodeMissing {
		t.Errorf("without events: %v", err)
	}
	blind := w.ledger()
	fill(t, blind, all(l)...)
	if _, err := blind.CheckCheckpoint(w.sealCheckpoint(body)); proto.CodeOf(err) != proto.CodeMissing {
		t.Errorf("without changes: %v", err)
	}
	for name, f := range map[string]func(*proto.Checkpoint){
		"frontier root":   func(b *proto.Checkpoint) { b.FrontierRoot[3]++ },
		"holds root":      func(b *proto.Checkpoint) { b.HoldsRoot[3]++ },
		"unclaimed root":  func(b *proto.Checkpoint) { b.UnclaimedRoot[3]++ },
		"reputation root": func(b *proto.Checkpoint) { b.ReputationRoot[3]++ },
		"accounts":        func(b *proto.Checkpoint) { b.Accounts++ },
		"x":               func(b *proto.Checkpoint) { b.X++ },
		"minted":          func(b *proto.Checkpoint) { b.Minted++ },
		"burned":          func(b *proto.Checkpoint) { b.Burned++ },
		"avail":           func(b *proto.Checkpoint) { b.Avail++ },
		"receivable":      func(b *proto.Checkpoint) { b.Receivable-- },
		"epoch 0":         func(b *proto.Checkpoint) { b.Epoch = 0 },
		"a prev":          func(b *proto.Checkpoint) { b.Prev = proto.CIDOf(nil).Bytes() },
	} {
		b := goproto.Clone(body).(*proto.Checkpoint)
		f(b)
		if _, err := l.CheckCheckpoint(w.sealCheckpoint(b)); proto.CodeOf(err) != proto.CodeInvalidEvent {
			t.Errorf("%s: %v", name, err)
		}
	}
	later := goproto.Clone(body).(*proto.Checkpoint)
	later.Epoch, later.Prev = 2, proto.CIDOf(nil).Bytes()
	if _, err := l.CheckCheckpoint(w.sealCheckpoint(later)); proto.CodeOf(err) != proto.CodeMissing {
		t.Errorf("an epoch ahead: %v", err)
	}
	if _, err := l.CheckCheckpoint(w.seal(alice, &proto.Payload{Body: &proto.Payload_Checkpoint{Checkpoint: body}})); proto.CodeOf(err) != proto.CodeNotWitness {
		t.Errorf("by no witness: %v", err)
	}
	cp := w.checkpoint(l)
	if _, err := l.CheckCheckpoint(w.sealCheckpoint(body)); proto.CodeOf(err) != proto.CodeConflict {
		t.Errorf("an epoch that is certified: %v", err)
	}
	// Nothing happened: the next one has the same state and no changes.
	empty, changes, err := l.DraftCheckpoint(2)
	if err != nil || len(changes) != 0 || string(empty.FrontierRoot) != string(body.FrontierRoot) {
		t.Fatal(empty, changes, err)
	}
	next := w.ledger()
	fill(t, next, all(l)...)
	w.addCheckpoint(next, cp)
	if _, err := next.CheckCheckpoint(w.sealCheckpoint(empty)); err != nil {
		t.Error(err)
	}

	short := goproto.Clone(cp).(*proto.CertifiedCheckpoint)
	short.Certificate.Commits = short.Certificate.Commits[1:]
	if _, err := w.ledger().AddCheckpoint(short); err == nil {
		t.Error("a certificate of too few commits is accepted")
	}
	wrong := goproto.Clone(cp).(*proto.CertifiedCheckpoint)
	wrong.Changes = append(wrong.Changes, 1)
	if _, err := w.ledger().AddCheckpoint(wrong); err == nil {
		t.Error("other changes are accepted")
	}
}

// Claim twice across pruning: whatever the cut, a payment is claimed once.
func TestClaimTwiceAcrossPruning(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 10 * credit, "bob": credit})
	base := w.ledger()
	w.do(base, alice, &proto.Open{})
	w.do(base, bob, &proto.Open{})
	pay := w.do(base, alice, transfer(bob, credit))
	claim := w.receive(base, bob)
	again := func(l *ledger.Ledger) bool { // whether a second claim of pay is effective
		ev := &proto.Event{
			Account: []byte(bob.id), Seq: claim.Seq + 1, Prev: claim.ID.Bytes(),
			Post: &proto.Post{Avail: uint64(l.Account(bob.id).Avail) + credit},
			Body: &proto.Event_Receive{Receive: &proto.Receive{Sources: []*proto.Source{{Event: pay.ID.Bytes(), Amount: credit}}}},
		}
		added, _ := l.Add(append([]*proto.CertifiedEvent{pay.Wire, claim.Wire}, w.certify(w.event(bob, ev)))...)
		for _, c := range added {
			if c.Seq == claim.Seq+1 && c.Account == bob.id {
				return true
			}
		}
		return false
	}
	set := all(base)
	refused := 0
	for nAlice := uint64(0); nAlice <= 2; nAlice++ {
		for nBob := uint64(0); nBob <= 2; nBob++ {
			l := w.ledger()
			fill(t, l, set...)
			cut := map[peer.ID]uint64{}
			for id, n := range map[peer.ID]uint64{alice.id: nAlice, bob.id: nBob} {
				if n > 0 {
					cut[id] = n
				}
			}
			body, changes, err := l.DraftCut(cut)
			if err != nil {
				if wantCode(t, err, proto.CodeInvalidEvent); nAlice == 2 || nBob < 2 {
					t.Fatalf("alice %d, bob %d: %v", nAlice, nBob, err)
				}
				refused++
				continue
			}
			w.addCheckpoint(l, w.certifyCheckpoint(body, changes))
			w.prune(l, 0)
			if again(l) {
				t.Errorf("alice %d, bob %d: claimed twice", nAlice, nBob)
			}
			if a := l.Audit(); !a.Conserved() || uint64(l.Account(bob.id).Avail) != 2*credit {
				t.Errorf("alice %d, bob %d: %+v", nAlice, nBob, a)
			}
		}
	}
	if refused != 2 {
		t.Errorf("%d cuts are not closed, want 2", refused)
	}

	// Without the closed frontier: the claim is below it, the payment above.
	defer ledger.Disable("closed frontier")()
	l := w.ledger()
	fill(t, l, set...)
	body, changes, err := l.DraftCut(map[peer.ID]uint64{alice.id: 1, bob.id: 2})
	if err != nil {
		t.Fatal(err)
	}
	w.addCheckpoint(l, w.certifyCheckpoint(body, changes))
	if _, err := l.Prune(0); err != nil {
		t.Fatal(err)
	}
	if !again(l) || l.Audit().Conserved() {
		t.Error("the attack does not work even without the countermeasure: this test shows nothing")
	}
}

// Every field of the state is in the checkpoint's records.
func TestStateCodecIsComplete(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		if lost := ledger.CodecLoses(func(v any) { fillRandom(rng, reflect.ValueOf(v).Elem()) }); len(lost) > 0 {
			t.Fatalf("fields of %v are lost: extend their records in leaves.go", lost)
		}
	}
}

// fillRandom sets every field, unexported ones too, to something else than
// its zero.
func fillRandom(rng *rand.Rand, v reflect.Value) {
	if !v.CanSet() {
		v = reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fillRandom(rng, v.Field(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fillRandom(rng, v.Index(i))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Pointer {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), rng.IntN(4)+1, 8))
		for i := range v.Len() {
			fillRandom(rng, v.Index(i))
		}
	case reflect.String:
		v.SetString(fmt.Sprint(rng.Uint64()))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(rng.Uint64()>>(64-v.Type().Bits()) | 1)
	case reflect.Int64, reflect.Int:
		v.SetInt(rng.Int64() | 1)
	case reflect.Pointer, reflect.Map:
	default:
		panic("no random " + v.Kind().String())
	}
}
