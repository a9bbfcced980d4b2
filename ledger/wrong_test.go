package ledger_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	goproto "google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// work is a receipt that a worker signed for alice, over two minutes.
func (w *world) work(by person, task uint32, epoch uint64, change ...func(*proto.Receipt)) *proto.SignedReceipt {
	w.tb.Helper()
	r := &proto.Receipt{
		Worker: []byte(by.id), Submitter: []byte(alice.id), Job: job(1), Task: task, Module: proto.CIDOf([]byte("module")).Bytes(),
		MeterVersion: proto.MeterVersion, InputHash: hash("input"), OutputHash: hash(fmt.Sprint("a lie ", task)), Status: uint32(proto.StatusOK),
		Fuel: 2 * uint64(proto.PriceUnit), Price: credit, Salt: make([]byte, 16),
		FuelLimit: 10 * uint64(proto.PriceUnit), MemoryLimit: 1 << 20, OutputLimit: 1 << 20, Epoch: epoch,
	}
	for _, f := range change {
		f(r)
	}
	return w.signed(by, r)
}

// signed puts the receipt into a batch between two others.
func (w *world) signed(by person, r *proto.Receipt) *proto.SignedReceipt {
	w.tb.Helper()
	raw, err := goproto.Marshal(r)
	if err != nil {
		w.tb.Fatal(err)
	}
	leaves := [][]byte{[]byte("one"), raw, []byte("three")}
	batch, err := proto.SignReceipts(by.key, w.net.ID, leaves, 1)
	if err != nil {
		w.tb.Fatal(err)
	}
	_, out, err := proto.OpenReceipts(w.net.ID, batch, leaves)
	if err != nil {
		w.tb.Fatal(err)
	}
	return out[1]
}

type wrong struct {
	sr   *proto.SignedReceipt
	fuel uint64
}

// found lists receipts that took as much fuel as they say.
func found(list ...*proto.SignedReceipt) (out []wrong) {
	for _, sr := range list {
		out = append(out, wrong{sr, 2 * uint64(proto.PriceUnit)})
	}
	return out
}

func receiptID(sr *proto.SignedReceipt) string {
	h := proto.HashOf(sr.Receipt)
	return string(h[:])
}

// says makes a witness's report for an epoch.
func (w *world) says(epoch uint64, by person, list ...wrong) *proto.WrongWorks {
	w.tb.Helper()
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b wrong) int { return slices.Compare([]byte(receiptID(a.sr)), []byte(receiptID(b.sr))) })
	r, out := &proto.WrongReport{Epoch: epoch}, new(proto.WrongWorks)
	for _, x := range list {
		r.Wrong = append(r.Wrong, &proto.WrongWork{Receipt: []byte(receiptID(x.sr)), Fuel: x.fuel})
		out.Receipts = append(out.Receipts, x.sr)
	}
	out.Report = w.seal(by, &proto.Payload{Body: &proto.Payload_WrongReport{WrongReport: r}})
	return out
}

// told has some witnesses report the same for the next checkpoint of l.
func (w *world) told(l *ledger.Ledger, by []person, list ...wrong) {
	w.tb.Helper()
	for _, p := range by {
		if err := l.KeepWrong(w.says(l.Epoch()+1, p, list...)); err != nil {
			w.tb.Fatal(err)
		}
	}
}

// trusted is a network in which bob earned ten minutes.
func trusted(tb testing.TB, n int) (*world, *ledger.Ledger) {
	w := newWorld(tb, n, map[string]uint64{"alice": 10_000 * credit, "carol": credit})
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	w.do(l, alice, ledger.Stake(credit))
	w.hires(l, alice, bob, 10*credit)
	w.checkpoint(l)
	return w, l
}

// What f+1 witnesses found wrong counts against the worker that signed it,
// once, on every node, whether it joined or pruned.
func TestWrongWorkIsHeldAgainstItsWorker(t *testing.T) {
	w, l := trusted(t, 4)
	lie, other := w.work(bob, 1, 1), w.work(bob, 2, 1)
	if a, err := l.Accusable(lie); err != nil || a.Worker != bob.id {
		t.Fatal(a, err)
	}
	w.told(l, w.witnesses[:2], found(lie)...)
	w.told(l, w.witnesses[2:3], found(other)...) // one is not enough
	cp := w.checkpoint(l)
	if got := l.Reputation(bob.id); got.Invalid != 2*minute || got.Valid != 10*minute || got.Score() != 10_000_000/50 {
		t.Fatalf("%+v, score %d", got, got.Score())
	}
	if h, _ := l.Checkpoint(2); len(mustChanges(t, h).Wrong) != 1 || len(mustChanges(t, h).WrongReports) != 2 {
		t.Fatalf("%v", mustChanges(t, h))
	}
	// A witness that heard none of it computes the same.
	other4 := w.ledger()
	fill(t, other4, all(l)...)
	first, _ := l.Checkpoint(1)
	w.addCheckpoint(other4, first.Wire)
	other4.KeepChanges(cp.Changes)
	if _, err := other4.CheckCheckpoint(cp.Checkpoint); err != nil {
		t.Fatal(err)
	}
	_, err := l.Accusable(lie)
	wantCode(t, err, proto.CodeDuplicate)

	w.told(l, w.witnesses[:2], found(lie, other)...)
	w.checkpoint(l)
	w.prune(l, 1)
	w.told(l, w.witnesses[:3], found(lie, other)...)
	w.checkpoint(l)
	w.prune(l, 0)
	joined := w.ledger()
	session(t, joined, l)
	for _, x := range []*ledger.Ledger{l, joined} {
		if got := x.Reputation(bob.id); got.Invalid != 4*minute {
			t.Fatalf("%+v", got)
		}
		_, err := x.Accusable(other)
		wantCode(t, err, proto.CodeDuplicate)
		if epoch, scores := x.Scores(); epoch != 4 || len(scores) != 1 || scores[bob.id] != 10_000_000/70 {
			t.Fatalf("scores of epoch %d: %v", epoch, scores)
		}
	}
	if got := l.Reputation(alice.id).Invalid + l.Reputation(carol.id).Invalid; got != 0 {
		t.Fatalf("others have %d", got)
	}
}

// A worker that bills little for a lie pays for what the work takes, within the
// limit that it signed; witnesses that lie about that move nothing.
func TestWrongWorkIsWorthItsFuel(t *testing.T) {
	unit := uint64(proto.PriceUnit)
	cheap := func(r *proto.Receipt) { r.Fuel, r.FuelLimit = 1, 5*unit }
	for _, tt := range []struct {
		name  string
		fuels []uint64
		want  uint64
	}{
		{"both say three minutes", []uint64{3 * unit, 3 * unit}, 3 * minute},
		{"one more says a thousand", []uint64{3 * unit, 1000 * unit, 3 * unit}, 3 * minute},
		{"one more says nothing", []uint64{0, 3 * unit, 3 * unit}, 3 * minute},
		{"above the limit", []uint64{9 * unit, 9 * unit}, 5 * minute},
		{"nothing", []uint64{0, 0}, 1},
	} {
		w, l := trusted(t, 4)
		for i, fuel := range tt.fuels {
			w.told(l, w.witnesses[i:i+1], wrong{w.work(bob, 1, 1, cheap), fuel})
		}
		w.checkpoint(l)
		if got := l.Reputation(bob.id).Invalid; got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// A receipt is remembered for as long as it could count again, and no longer.
func TestWrongWorkIsForgotten(t *testing.T) {
	w, l := trusted(t, 1)
	lie, late := w.work(bob, 1, 2), w.work(bob, 2, 2)
	record := func() int {
		trees, keys, values := l.Leaves()
		for i, tree := range trees {
			if tree == 'r' && string(keys[i]) == string([]byte(bob.id)[len(bob.id)-32:]) {
				return len(values[i])
			}
		}
		return 0
	}
	w.prune(l, 0)
	empty := record()
	w.told(l, w.witnesses, found(lie)...)
	for l.Epoch() < 2+ledger.WrongEpochs-1 {
		w.checkpoint(l)
	}
	w.prune(l, 0)
	if got := record(); got != empty+8+8+32 {
		t.Fatalf("a record of %d bytes, was %d", got, empty)
	}
	_, err := l.Accusable(lie)
	wantCode(t, err, proto.CodeDuplicate)
	if _, err := l.Accusable(late); err != nil {
		t.Fatal(err)
	}
	w.checkpoint(l)
	w.prune(l, 0)
	if got := record(); got != empty {
		t.Fatalf("a record of %d bytes, was %d", got, empty)
	}
	for _, sr := range []*proto.SignedReceipt{lie, late} {
		_, err := l.Accusable(sr)
		wantCode(t, err, proto.CodeExpired)
		w.told(l, w.witnesses, found(sr)...)
	}
	w.checkpoint(l)
	if got := l.Reputation(bob.id).Invalid; got != 2*minute {
		t.Fatalf("%d", got)
	}
}

// Only what a worker signed, with all that the result follows from, can be
// held against it.
func TestAccusableRefuses(t *testing.T) {
	w, l := trusted(t, 4)
	good := w.work(bob, 1, 1)
	changed := func(f func(*proto.SignedReceipt)) *proto.SignedReceipt {
		c := goproto.Clone(good).(*proto.SignedReceipt)
		f(c)
		return c
	}
	otherNet := newWorld(t, 4, nil, func(g *proto.Genesis) { g.Name = "another" })
	for _, tt := range []struct {
		name string
		sr   *proto.SignedReceipt
		code proto.Code
	}{
		{"good", good, proto.CodeOK},
		{"nothing", nil, proto.CodeTooLarge},
		{"unsigned", changed(func(s *proto.SignedReceipt) { s.Batch = nil }), proto.CodeBadSignature},
		{"by another key", func() *proto.SignedReceipt {
			r := new(proto.Receipt)
			_ = goproto.Unmarshal(good.Receipt, r)
			return w.signed(alice, r)
		}(), proto.CodeBadReceipt},
		{"another result", changed(func(s *proto.SignedReceipt) {
			r := new(proto.Receipt)
			_ = goproto.Unmarshal(s.Receipt, r)
			r.OutputHash = hash("another")
			s.Receipt, _ = goproto.Marshal(r)
		}), proto.CodeBadReceipt},
		{"another place", changed(func(s *proto.SignedReceipt) { s.Index = 0 }), proto.CodeBadReceipt},
		{"another network", otherNet.work(bob, 1, 1), proto.CodeBadSignature},
		{"no limits", w.work(bob, 1, 1, func(r *proto.Receipt) { r.FuelLimit = 0 }), proto.CodeBadReceipt},
		{"fuel above its limit", w.work(bob, 1, 1, func(r *proto.Receipt) { r.FuelLimit = 1 }), proto.CodeBadReceipt},
		{"limit above all", w.work(bob, 1, 1, func(r *proto.Receipt) { r.FuelLimit = 1 << 60 }), proto.CodeBadReceipt},
		{"a status of the machine", w.work(bob, 1, 1, func(r *proto.Receipt) { r.Status = uint32(proto.StatusTimeout) }), proto.CodeBadReceipt},
		{"another meter", w.work(bob, 1, 1, func(r *proto.Receipt) { r.MeterVersion++ }), proto.CodeBadReceipt},
		{"no module", w.work(bob, 1, 1, func(r *proto.Receipt) { r.Module = nil }), proto.CodeMalformed},
		{"no submitter", w.work(bob, 1, 1, func(r *proto.Receipt) { r.Submitter = nil }), proto.CodeMalformed},
		{"a field of later", w.work(bob, 1, 1, func(r *proto.Receipt) { r.ProtoReflect().SetUnknown([]byte{0xf8, 0x07, 1}) }), proto.CodeBadReceipt},
		{"too large", w.work(bob, 1, 1, func(r *proto.Receipt) { r.Salt = make([]byte, 4096) }), proto.CodeTooLarge},
		{"of tomorrow", w.work(bob, 1, 3), proto.CodeExpired},
	} {
		if _, err := l.Accusable(tt.sr); proto.CodeOf(err) != tt.code {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.code)
		}
		if tt.sr == nil || tt.code == proto.CodeExpired {
			continue
		}
		if _, err := proto.VerifyReceipt(w.net.ID, tt.sr); err != nil {
			continue // Answerable does not look at signatures
		}
		if err := ledger.Answerable(tt.sr); proto.CodeOf(err) != tt.code {
			t.Errorf("a submitter takes %s: %v, want %s", tt.name, err, tt.code)
		}
	}
	lie := w.work(bob, 9, 1)
	says := func(by person, change func(*proto.WrongWorks)) error {
		m := w.says(2, by, found(lie, good)...)
		change(m)
		return l.KeepWrong(m)
	}
	first := w.witnesses[0]
	for _, tt := range []struct {
		name   string
		by     person
		change func(*proto.WrongWorks)
		code   proto.Code
	}{
		{"good", first, func(*proto.WrongWorks) {}, proto.CodeOK},
		{"again", first, func(m *proto.WrongWorks) { m.Receipts = nil }, proto.CodeOK}, // known: not looked at
		{"by no witness", bob, func(*proto.WrongWorks) {}, proto.CodeNotWitness},
		{"of another epoch", first, func(m *proto.WrongWorks) { m.Report = w.says(3, first).Report }, proto.CodeInvalidEvent},
		{"without its receipts", w.witnesses[1], func(m *proto.WrongWorks) { m.Receipts = m.Receipts[:1] }, proto.CodeMalformed},
		{"with others", w.witnesses[1], func(m *proto.WrongWorks) { slices.Reverse(m.Receipts) }, proto.CodeMalformed},
		{"out of order", w.witnesses[1], func(m *proto.WrongWorks) {
			r := &proto.WrongReport{Epoch: 2, Wrong: []*proto.WrongWork{{Receipt: hash("b")}, {Receipt: hash("b")}}}
			m.Report = w.seal(w.witnesses[1], &proto.Payload{Body: &proto.Payload_WrongReport{WrongReport: r}})
		}, proto.CodeMalformed},
	} {
		if err := says(tt.by, tt.change); proto.CodeOf(err) != tt.code {
			t.Errorf("report %s: %v, want %s", tt.name, err, tt.code)
		}
	}
}

// A proposer cannot bend the evidence, whatever roots it computes with it.
func TestCheckpointWithBentEvidence(t *testing.T) {
	w, l := trusted(t, 4)
	old := w.work(bob, 1, 1)
	w.told(l, w.witnesses[:2], found(old)...)
	w.checkpoint(l)
	lies := []*proto.SignedReceipt{w.work(bob, 2, 2), w.work(bob, 3, 2)}
	w.told(l, w.witnesses[:2], found(lies...)...)
	w.told(l, w.witnesses[2:3], found(lies[0], old, w.work(bob, 4, 2))...)
	_, raw, err := l.DraftCheckpoint(3)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*proto.FrontierChanges){
		"":                   func(*proto.FrontierChanges) {},
		"leaves one out":     func(c *proto.FrontierChanges) { c.Wrong = c.Wrong[:1] }, // a bad proposer's turn passes
		"leaves all out":     func(c *proto.FrontierChanges) { c.Wrong, c.WrongReports = nil, nil },
		"-reports only":      func(c *proto.FrontierChanges) { c.Wrong = nil },
		"-receipts only":     func(c *proto.FrontierChanges) { c.WrongReports = nil },
		"-one report":        func(c *proto.FrontierChanges) { c.WrongReports = c.WrongReports[:1] },
		"-one report twice":  func(c *proto.FrontierChanges) { c.WrongReports[1] = c.WrongReports[0] },
		"-another order":     func(c *proto.FrontierChanges) { slices.Reverse(c.WrongReports) },
		"-receipts disorder": func(c *proto.FrontierChanges) { slices.Reverse(c.Wrong) },
		"-a receipt twice":   func(c *proto.FrontierChanges) { c.Wrong[1] = c.Wrong[0] },
		"-one that only a witness names": func(c *proto.FrontierChanges) {
			c.Wrong = []*proto.SignedReceipt{w.work(bob, 4, 2)}
		},
		"-one that counted before": func(c *proto.FrontierChanges) {
			c.Wrong = []*proto.SignedReceipt{old}
			c.WrongReports = [][]byte{w.says(3, w.witnesses[0], found(old)...).Report, w.says(3, w.witnesses[1], found(old)...).Report}
		},
		"-a report by no witness": func(c *proto.FrontierChanges) { c.WrongReports[0] = w.says(3, bob, found(lies...)...).Report },
		"-a report of before": func(c *proto.FrontierChanges) {
			c.WrongReports[0] = w.says(2, w.witnesses[0], found(lies...)...).Report
		},
		"-in another's name": func(c *proto.FrontierChanges) {
			r := new(proto.Receipt)
			_ = goproto.Unmarshal(lies[0].Receipt, r)
			for i, sr := range c.Wrong {
				if receiptID(sr) == receiptID(lies[0]) {
					c.Wrong[i] = w.signed(carol, r)
				}
			}
		},
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
		body, err := l.BodyFor(changes)
		if err != nil {
			t.Fatal(name, err)
		}
		l.KeepChanges(changes)
		_, err = l.CheckCheckpoint(w.sealCheckpoint(body))
		if good := name == "" || name[0] != '-'; (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// With f of 3f+1 witnesses that report whatever they like, in any order and
// again and again: what f+1 honest ones found counts when an honest one
// proposes, and nothing else ever does, whoever proposes.
func TestLyingReportsChangeNothing(t *testing.T) {
	defer ledger.MemoSignatures()()
	type base struct {
		w     *world
		l     func() *ledger.Ledger
		lies  []*proto.SignedReceipt // of bob
		right []*proto.SignedReceipt // of carol
	}
	bases := map[int]base{}
	for _, n := range []int{4, 7} {
		w, l := trusted(t, n)
		b := base{w: w}
		cp, _ := l.Checkpoint(1)
		set := all(l)
		b.l = func() *ledger.Ledger {
			x := w.ledger()
			fill(t, x, set...)
			w.addCheckpoint(x, cp.Wire)
			return x
		}
		for i := range uint32(4) {
			b.lies = append(b.lies, w.work(bob, i, 1))
			b.right = append(b.right, w.work(carol, i, 1))
		}
		bases[n] = b
	}
	counts := 0
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.SampledFrom([]int{4, 7}).Draw(r, "witnesses")
		b := bases[n]
		f := b.w.net.F()
		fuel := 2 * uint64(proto.PriceUnit)
		honest := map[string]int{}
		var says []*proto.WrongWorks
		for i, p := range b.w.witnesses {
			var list []wrong
			for _, sr := range b.lies {
				if rapid.Bool().Draw(r, "found") {
					if list = append(list, wrong{sr, fuel}); i >= f {
						honest[receiptID(sr)]++
					}
				}
			}
			if i < f {
				for _, sr := range b.right {
					if rapid.Bool().Draw(r, "lie") {
						list = append(list, wrong{sr, 0})
					}
				}
				for j := range list {
					list[j].fuel = rapid.SampledFrom([]uint64{0, fuel, uint64(proto.MaxFuel)}).Draw(r, "fuel")
				}
			}
			says = append(says, b.w.says(2, p, list...))
		}
		// A liar reports several things; a ledger keeps its newest.
		order := rapid.Permutation(append(slices.Clone(says), says[:rapid.IntRange(0, n).Draw(r, "again")]...)).Draw(r, "order")
		l := b.l()
		for _, m := range order {
			if err := l.KeepWrong(m); err != nil {
				r.Fatal(err)
			}
		}
		want, most := uint64(0), uint64(0)
		for _, sr := range b.lies {
			if honest[receiptID(sr)] > f {
				want += 2 * minute
			}
			if honest[receiptID(sr)] > 0 {
				most += 2 * minute
			}
		}
		body, changes, err := l.DraftCheckpoint(2)
		if err != nil {
			r.Fatal(err)
		}
		peer := b.l()
		peer.KeepChanges(changes)
		if _, err := peer.CheckCheckpoint(b.w.sealCheckpoint(body)); err != nil {
			r.Fatal(err)
		}
		b.w.addCheckpoint(l, b.w.certifyCheckpoint(body, changes))
		if got := l.Reputation(bob.id).Invalid; got < want || got > most || l.Reputation(carol.id).Invalid != 0 {
			r.Fatalf("%d held against the liar, want %d to %d; against an honest worker %d", got, want, most, l.Reputation(carol.id).Invalid)
		}
		if want > 0 {
			counts++
		}

		// A liar proposes what it likes.
		m := new(proto.FrontierChanges)
		if err := goproto.Unmarshal(changes, m); err != nil {
			r.Fatal(err)
		}
		m.Wrong, m.WrongReports = nil, nil
		receipts := slices.Concat(b.lies, b.right)
		slices.SortFunc(receipts, func(a, b *proto.SignedReceipt) int { return slices.Compare([]byte(receiptID(a)), []byte(receiptID(b))) })
		for _, sr := range receipts {
			if rapid.IntRange(0, 3).Draw(r, "attached") == 0 {
				m.Wrong = append(m.Wrong, sr)
			}
		}
		for _, s := range says {
			if rapid.IntRange(0, 3).Draw(r, "reported") > 0 {
				m.WrongReports = append(m.WrongReports, s.Report)
			}
		}
		if changes, err = (goproto.MarshalOptions{Deterministic: true}).Marshal(m); err != nil {
			r.Fatal(err)
		}
		if body, err = peer.BodyFor(changes); err != nil {
			r.Fatal(err)
		}
		peer.KeepChanges(changes)
		if _, err := peer.CheckCheckpoint(b.w.sealCheckpoint(body)); err != nil {
			return
		}
		b.w.addCheckpoint(peer, b.w.certifyCheckpoint(body, changes))
		if got := peer.Reputation(bob.id).Invalid; got > most || peer.Reputation(carol.id).Invalid != 0 {
			r.Fatalf("%d held against the liar, at most %d; against an honest worker %d", got, most, peer.Reputation(carol.id).Invalid)
		}
	})
	if counts == 0 {
		t.Error("nothing ever counted")
	}
}

// Receipts that keys accuse themselves with leave room for workers that have
// something to lose, and a checkpoint stays within its size.
func TestRoomForEvidence(t *testing.T) {
	defer ledger.MemoSignatures()()
	w, l := trusted(t, 1)
	for i := range 80 {
		if err := l.Found(w.work(someone(fmt.Sprint("throwaway ", i)), 1, 0), 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Found(w.work(bob, 1, 1), 1); err != nil {
		t.Fatal(err)
	}
	report, receipts := l.DraftWrong()
	raw := w.seal(w.witnesses[0], &proto.Payload{Body: &proto.Payload_WrongReport{WrongReport: report}})
	if err := l.KeepWrong(&proto.WrongWorks{Report: raw, Receipts: receipts}); err != nil {
		t.Fatal(err)
	}
	w.checkpoint(l)
	h, _ := l.Checkpoint(2)
	if n := len(mustChanges(t, h).Wrong); n != 64 || l.Reputation(bob.id).Invalid != 2*minute {
		t.Fatalf("%d receipts, %+v", n, l.Reputation(bob.id))
	}
	// The rest comes with the next one; what counted does not come again.
	if report, _ = l.DraftWrong(); len(report.Wrong) != 17 {
		t.Fatalf("%d receipts are left", len(report.Wrong))
	}
}

// blackens is a checkpoint for which one bad witness accuses bob.
func blackens(t *testing.T, off []string) bool {
	w, l := trusted(t, 4)
	l.SwitchOff(off...)
	w.told(l, w.witnesses[3:], found(w.work(bob, 1, 1))...)
	w.checkpoint(l)
	return l.Reputation(bob.id).Invalid > 0
}

// countsAgain reports one lie in every epoch.
func countsAgain(t *testing.T, off []string) bool {
	w, l := trusted(t, 4)
	l.SwitchOff(off...)
	for range 3 {
		w.told(l, w.witnesses, found(w.work(bob, 1, 1))...)
		w.checkpoint(l)
	}
	return l.Reputation(bob.id).Invalid > 2*minute
}

// invented is a receipt in bob's name that the submitter made up. Whoever
// executed it would find it wrong.
func invented(t *testing.T, off []string) bool {
	w, l := trusted(t, 4)
	l.SwitchOff(off...)
	r := new(proto.Receipt)
	if err := goproto.Unmarshal(w.work(bob, 1, 1).Receipt, r); err != nil {
		t.Fatal(err)
	}
	forged := w.signed(alice, r)
	if _, err := l.Accusable(forged); err != nil {
		return false
	}
	w.told(l, w.witnesses, found(forged)...)
	w.checkpoint(l)
	return l.Reputation(bob.id).Invalid > 0
}

// Witnesses take a receipt from the submitter that it names, execute it, tell
// each other, and the next checkpoint counts it. One without a sandbox is asked
// for nothing.
func TestWitnessesAgreeOnWrongWork(t *testing.T) {
	for _, n := range []int{1, 4} {
		c := newCouncil(t, n)
		for i, s := range c.seats {
			s.config = func(cfg *ledger.WitnessConfig) { cfg.Checkpoints, cfg.Reexecute = ledger.NewEpochs(s.l), i != 1 }
			c.restart(s)
		}
		c.run(c.now.Add(time.Minute), func() bool { return c.seats[0].l.Epoch() > 0 })
		c.pass(time.Second)
		lie := c.work(bob, 1, 1)
		frame := &proto.VoteFrame{Body: &proto.VoteFrame_Accused{Accused: lie}}
		for i, s := range c.seats {
			asked := func(from person) (list []ledger.Reexecute) {
				c.act(s, func(now time.Time) ([]ledger.Output, error) {
					outs, err := s.w.Handle(now, from.id, frame)
					for _, o := range outs {
						if x, ok := o.(ledger.Reexecute); ok {
							list = append(list, x)
						}
					}
					return nil, err
				})
				return list
			}
			if len(asked(carol)) > 0 {
				t.Fatal("anybody accuses")
			}
			list := asked(alice)
			if (len(list) == 1) != (i != 1) {
				t.Fatalf("witness %d: %v", i, list)
			}
			if i == 1 || i == 2 { // the second has no sandbox, the third finds it right
				continue
			}
			if err := s.w.Found(list[0].Accused, 1); err != nil {
				t.Fatal(err)
			}
			if len(asked(alice)) > 0 {
				t.Fatal("asked for what was found")
			}
			c.act(s, func(time.Time) ([]ledger.Output, error) { return s.w.WrongWork() })
		}
		c.run(c.now.Add(2*time.Hour), func() bool { return c.seats[0].l.Epoch() > 1 })
		c.pass(10 * time.Second)
		for i, s := range c.seats {
			if got := s.l.Reputation(bob.id); got.Invalid != 2*minute || got.Version != 2 {
				t.Fatalf("%d witnesses: witness %d: %+v", n, i, got)
			}
			if outs, err := s.w.WrongWork(); outs != nil || err != nil {
				t.Fatalf("%d witnesses: witness %d reports again: %v, %v", n, i, outs, err)
			}
		}
	}
}

// Reports come from the witness that made them, and a bad one cannot have
// signatures checked without end.
func TestReportsOfWrongWorkAreBounded(t *testing.T) {
	w := newWorld(t, 4, map[string]uint64{"alice": credit})
	x := w.witness(mem.New())
	by := w.witnesses[1]
	brings := func(from person, m *proto.WrongWorks) proto.Code {
		outs, err := x.w.Handle(clock, from.id, &proto.VoteFrame{Body: &proto.VoteFrame_WrongWorks{WrongWorks: m}})
		if err != nil {
			t.Fatal(err)
		}
		if len(outs) == 0 {
			return proto.CodeOK
		}
		return proto.Code(outs[0].(ledger.Send).Frame.GetError().GetCode())
	}
	report := func(from int) *proto.WrongWorks {
		var list []*proto.SignedReceipt
		for i := range 64 {
			list = append(list, w.work(bob, uint32(from+i), 0))
		}
		return w.says(1, by, found(list...)...)
	}
	first := report(0)
	for _, other := range []person{carol, w.witnesses[2]} {
		if code := brings(other, first); code != proto.CodeNotWitness {
			t.Fatalf("brought by another: %s", code)
		}
	}
	for i := range 16 {
		m := report(32 * i) // half of it was in the one before
		for range 2 {
			if code := brings(by, m); code != proto.CodeOK {
				t.Fatalf("report %d: %s", i, code)
			}
		}
	}
	for i := 1; ; i++ {
		code := brings(by, report(10_000*i))
		if code == proto.CodeRateLimited {
			break
		}
		if code != proto.CodeOK || i > 16 {
			t.Fatalf("flood %d: %s", i, code)
		}
	}
}
