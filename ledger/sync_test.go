package ledger_test

import (
	"bytes"
	"fmt"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	goproto "google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// session runs a reconciliation between two ledgers and returns turns and
// bytes on the wire.
func session(tb testing.TB, a, b *ledger.Ledger) (turns, size int) {
	tb.Helper()
	return sessionWith(tb, a, b, func() {})
}

// sessionWith calls between before each frame.
func sessionWith(tb rapid.TB, a, b *ledger.Ledger, between func()) (turns, size int) {
	tb.Helper()
	sides := []*ledger.Sync{ledger.NewSync(a, []byte("sixteen byte salt"), true), ledger.NewSync(b, nil, false)}
	sets := []*ledger.Ledger{a, b}
	over := []bool{false, false}
	out, _, _, err := sides[0].Step(nil)
	if err != nil {
		tb.Fatal(err)
	}
	to := 1
	for len(out) > 0 {
		if over[to] {
			tb.Fatal("a frame for a session that is over")
		}
		turns++
		var answer []*proto.SyncFrame
		for i, f := range out {
			raw, err := goproto.Marshal(f)
			if err != nil {
				tb.Fatal(err)
			}
			if len(raw) > proto.MaxSyncFrame {
				tb.Fatalf("frame of %d bytes", len(raw))
			}
			size += len(raw)
			in := new(proto.SyncFrame)
			if err := goproto.Unmarshal(raw, in); err != nil {
				tb.Fatal(err)
			}
			if answer != nil || over[to] {
				tb.Fatalf("frame %d of %d comes after the turn ended", i, len(out))
			}
			between()
			var received []*proto.CertifiedEvent
			answer, received, over[to], err = sides[to].Step(in)
			if err != nil {
				tb.Fatal(err)
			}
			if _, err := sets[to].Add(received...); err != nil {
				tb.Fatal(err)
			}
		}
		out, to = answer, 1-to
	}
	if !over[0] || !over[1] {
		tb.Fatalf("the session ended for one side only: %v", over)
	}
	return turns, size
}

// chains makes n events: accounts that transfer to one another, in order.
func chains(w *world, accounts, n int) []*ledger.Certified {
	l := w.ledger()
	var people []person
	for i := range accounts {
		p := someone(fmt.Sprintf("account %d", i))
		people = append(people, p)
		w.do(l, p, &proto.Open{})
	}
	for i := l.Len(); i < n; i++ {
		p := people[i%accounts]
		to := people[(i+1+i/accounts%(accounts-1))%accounts]
		if _, err := l.Add(w.draft(l, p, transfer(to, 1))); err != nil {
			w.tb.Fatal(err)
		}
	}
	return all(l)
}

func fill(tb testing.TB, l *ledger.Ledger, cs ...*ledger.Certified) {
	tb.Helper()
	if _, err := l.AddVerified(nil, cs...); err != nil {
		tb.Fatal(err)
	}
}

func grants(accounts int) map[string]uint64 {
	m := map[string]uint64{}
	for i := range accounts {
		m[fmt.Sprintf("account %d", i)] = credit
	}
	return m
}

func TestSyncFindsDifferences(t *testing.T) {
	const accounts, events = 37, 3000
	w := newWorld(t, 1, grants(accounts))
	set := chains(w, accounts, events)
	// Heads only can be missing on one side: prev is always there.
	var heads []int
	for i, c := range set {
		if i+1 == len(set) || set[i+1].Account != c.Account {
			heads = append(heads, i)
		}
	}
	for _, tt := range []struct {
		name           string
		left, right    int // heads that each side lacks
		turns, maxSize int
	}{
		{"equal", 0, 0, 3, 200},
		{"one here", 1, 0, 9, 6 << 10},
		{"one there", 0, 1, 9, 6 << 10},
		{"ten there", 0, 10, 11, 40 << 10},
		{"five and five", 5, 5, 11, 40 << 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := w.ledger(), w.ledger()
			lack := map[int]int{}
			for i := range tt.left + tt.right {
				h := heads[(i*11)%len(heads)]
				lack[h] = 1
				if i >= tt.left {
					lack[h] = 2
				}
			}
			for i, c := range set {
				for side, l := range []*ledger.Ledger{a, b} {
					if lack[i] != side+1 {
						fill(t, l, c)
					}
				}
			}
			turns, size := session(t, a, b)
			t.Logf("%d turns, %d bytes", turns, size)
			if a.Len() != len(set) || a.StateHash() != b.StateHash() {
				t.Fatalf("%d and %d of %d events", a.Len(), b.Len(), len(set))
			}
			if turns > tt.turns || size > tt.maxSize {
				t.Errorf("%d turns and %d bytes, want at most %d and %d", turns, size, tt.turns, tt.maxSize)
			}
		})
	}
}

// From nothing, both ways round, and with sets that share little: what one
// session leaves over, the next brings.
func TestSyncUnion(t *testing.T) {
	const accounts, events = 20, 1500
	w := newWorld(t, 1, grants(accounts))
	set := chains(w, accounts, events)
	half := func(keep func(i int) bool) *ledger.Ledger {
		l := w.ledger()
		at := 0
		for i, c := range set {
			if i > 0 && set[i-1].Account != c.Account {
				at++
			}
			if keep(at) {
				fill(t, l, c)
			}
		}
		return l
	}
	for name, sets := range map[string][2]*ledger.Ledger{
		"empty initiator": {w.ledger(), half(func(int) bool { return true })},
		"empty responder": {half(func(int) bool { return true }), w.ledger()},
		"both empty":      {w.ledger(), w.ledger()},
		"odd and even":    {half(func(i int) bool { return i%2 == 0 }), half(func(i int) bool { return i%2 == 1 })},
		"overlapping":     {half(func(i int) bool { return i%3 != 0 }), half(func(i int) bool { return i%3 != 1 })},
	} {
		t.Run(name, func(t *testing.T) {
			want := map[string]bool{}
			for _, l := range sets {
				for _, c := range all(l) {
					want[c.ID.String()] = true
				}
			}
			turns, size := session(t, sets[0], sets[1])
			t.Logf("%d turns, %d bytes for %d events", turns, size, len(want))
			for i, l := range sets {
				if l.Len() != len(want) {
					t.Fatalf("side %d has %d events, want %d", i, l.Len(), len(want))
				}
			}
			if sets[0].StateHash() != sets[1].StateHash() {
				t.Fatal("states differ")
			}
		})
	}
}

// Gossip adds events to both sides in the middle of a session: it ends all
// the same, nothing is lost, and quiet sessions make the sets equal.
func TestSyncWhileSetsGrow(t *testing.T) {
	w := newWorld(t, 1, grants(9))
	set := chains(w, 9, 600)
	rapid.Check(t, func(r *rapid.T) {
		a, b := w.ledger(), w.ledger()
		add := func(l *ledger.Ledger, from, to int) {
			if _, err := l.AddVerified(nil, set[from:to]...); err != nil {
				r.Fatal(err)
			}
		}
		some := func(l *ledger.Ledger) {
			from := rapid.IntRange(0, len(set)).Draw(r, "from")
			add(l, from, rapid.IntRange(from, len(set)).Draw(r, "to"))
		}
		some(a)
		some(b)
		union := map[cid.Cid]bool{}
		both := func() {
			for _, l := range []*ledger.Ledger{a, b} {
				for _, c := range all(l) {
					union[c.ID] = true
				}
			}
		}
		both()
		sessionWith(r, a, b, func() {
			if rapid.IntRange(0, 3).Draw(r, "gossip") == 0 {
				i := rapid.IntRange(0, len(set)-1).Draw(r, "event")
				l := a
				if rapid.Bool().Draw(r, "at b") {
					l = b
				}
				add(l, i, min(len(set), i+3))
			}
		})
		both()
		// What a session brings can wake events that waited on one side only, so
		// the sets may differ once more.
		for range 3 {
			sessionWith(r, b, a, func() {})
		}
		if a.StateHash() != b.StateHash() || a.Len() < len(union) {
			r.Fatalf("%d and %d events, want %d", a.Len(), b.Len(), len(union))
		}
	})
}

func TestSyncRefusesNonsense(t *testing.T) {
	w := newWorld(t, 1, grants(2))
	l := w.ledger()
	fill(t, l, chains(w, 2, 100)...)
	salt := bytes.Repeat([]byte{1}, 16)
	fp := bytes.Repeat([]byte{9}, 16)
	id := proto.CIDOf([]byte("x")).Bytes()
	for name, f := range map[string]*proto.SyncFrame{
		"no salt":               {Ranges: []*proto.SyncRange{{Fingerprint: fp}}},
		"short salt":            {Salt: []byte{1}, Done: true},
		"done and asks":         {Salt: salt, Done: true, Ranges: []*proto.SyncRange{{Fingerprint: fp}}},
		"events and asks":       {Salt: salt, Events: []*proto.CertifiedEvent{{}}, Want: [][]byte{id}},
		"wants no id":           {Salt: salt, Want: [][]byte{{1}}},
		"lists no id":           {Salt: salt, Ranges: []*proto.SyncRange{{Ids: [][]byte{{1}}}}},
		"lists one id twice":    {Salt: salt, Ranges: []*proto.SyncRange{{Ids: [][]byte{id, id}}}},
		"overlap":               {Salt: salt, Ranges: []*proto.SyncRange{{To: []byte{5}, Fingerprint: fp}, {From: []byte{4}, Fingerprint: fp}}},
		"after the end":         {Salt: salt, Ranges: []*proto.SyncRange{{Fingerprint: fp}, {From: []byte{4}, Fingerprint: fp}}},
		"backwards":             {Salt: salt, Ranges: []*proto.SyncRange{{From: []byte{5}, To: []byte{4}, Fingerprint: fp}}},
		"long key":              {Salt: salt, Ranges: []*proto.SyncRange{{From: make([]byte, 73), Fingerprint: fp}}},
		"short fingerprint":     {Salt: salt, Ranges: []*proto.SyncRange{{Fingerprint: fp[:15]}}},
		"ids and a fingerprint": {Salt: salt, Ranges: []*proto.SyncRange{{Fingerprint: fp, Ids: [][]byte{id}}}},
		"a nil range":           {Salt: salt, Ranges: []*proto.SyncRange{nil, nil}},
	} {
		if _, _, _, err := ledger.NewSync(l, nil, false).Step(f); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	s := ledger.NewSync(l, nil, false)
	if _, _, _, err := s.Step(nil); err == nil {
		t.Error("the responder starts a session")
	}
	// A peer that never agrees is left after the last round, and one that
	// sends events without end after one turn's worth.
	var err error
	ask := &proto.SyncFrame{Salt: salt, Ranges: []*proto.SyncRange{{Fingerprint: fp, Count: 1000}}}
	rounds := 0
	for ; err == nil && rounds < 1000; rounds++ {
		_, _, _, err = s.Step(ask)
		ask.Salt = nil
	}
	if wantCode(t, err, proto.CodeTooLarge); rounds != 65 {
		t.Errorf("left after %d rounds, want 65", rounds)
	}
	s = ledger.NewSync(l, nil, false)
	flood := &proto.SyncFrame{Salt: salt, Events: []*proto.CertifiedEvent{{}}}
	n := 0
	for err = nil; err == nil && n < 1000; n++ {
		_, _, _, err = s.Step(flood)
		flood.Salt = nil
	}
	if wantCode(t, err, proto.CodeTooLarge); n != 66 {
		t.Errorf("left after %d frames of events, want 66", n)
	}
}
