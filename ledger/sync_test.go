package ledger_test

import (
	"bytes"
	"fmt"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
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
	return sessionOf(tb, a, b, []byte("sixteen byte salt"), between, func(l *ledger.Ledger, evs []*proto.CertifiedEvent) error {
		_, err := l.Add(evs...)
		return err
	})
}

// sessionOf lets add take in what was received.
func sessionOf(tb rapid.TB, a, b *ledger.Ledger, salt []byte, between func(), add func(*ledger.Ledger, []*proto.CertifiedEvent) error) (turns, size int) {
	tb.Helper()
	sides := []*ledger.Sync{ledger.NewSync(a, salt, true), ledger.NewSync(b, nil, false)}
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
			if err := add(sets[to], received); err != nil {
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

// Ten differences among 100,000 events cost at most 20 KB, the ten events
// included, whether chains are short or long. The events have no valid
// signatures; theirs are as long as real ones.
func TestSyncBytes(t *testing.T) {
	const limit = 20_000
	for _, tt := range []struct{ accounts, each int }{{100_000, 1}, {10_000, 10}, {1000, 100}, {10, 10_000}} {
		w := newWorld(t, 1, nil)
		w.net.Grants = map[peer.ID]proto.Credit{}
		var set []*ledger.Certified
		for i := range tt.accounts {
			var key [32]byte
			h := proto.HashOf(fmt.Appendf(nil, "chain %d", i))
			copy(key[:], h[:])
			set = append(set, ledger.UnsignedChain(w.net, key, tt.each)...)
		}
		a, b := w.ledger(), w.ledger()
		var sides [2][]*ledger.Certified
		pick := tt.accounts / min(10, tt.accounts)
		for i, c := range set {
			// The last event of ten chains is on one side only.
			which := i / tt.each / pick
			alone := i%tt.each == tt.each-1 && i/tt.each%pick == pick/2 && which < 10
			for side := range sides {
				if !alone || side == which%2 {
					sides[side] = append(sides[side], c)
				}
			}
		}
		fill(t, a, sides[0]...)
		fill(t, b, sides[1]...)
		if a.Len() != len(set)-5 || b.Len() != len(set)-5 {
			t.Fatalf("%d and %d of %d events", a.Len(), b.Len(), len(set))
		}
		turns, size := sessionOf(t, a, b, []byte("sixteen byte salt"), func() {}, func(l *ledger.Ledger, evs []*proto.CertifiedEvent) error {
			for _, wire := range evs {
				c, err := ledger.Unsigned(w.net, wire)
				if err != nil {
					return err
				}
				fill(t, l, c)
			}
			return nil
		})
		t.Logf("%d chains of %d: %d turns, %d bytes", tt.accounts, tt.each, turns, size)
		if a.Len() != len(set) || b.Len() != len(set) {
			t.Errorf("%d and %d of %d events", a.Len(), b.Len(), len(set))
		}
		if size > limit || turns > 64 { // both directions together
			t.Errorf("%d bytes in %d turns, want at most %d in 64", size, turns, limit)
		}
	}
}

// Head ids of one byte collide all the time: that costs sessions, which have
// other salts, and never an event.
func TestSyncCollisionsCostSessions(t *testing.T) {
	defer ledger.ShortHeadIDs(1)()
	const accounts = 300
	w := newWorld(t, 1, grants(accounts))
	set := chains(w, accounts, 2*accounts)
	a, b := w.ledger(), w.ledger()
	for i, c := range set {
		fill(t, a, c)
		if i == 0 || set[i-1].Account != c.Account {
			fill(t, b, c)
		}
	}
	sessions := 0
	for ; a.StateHash() != b.StateHash() && sessions < 20; sessions++ {
		sessionOf(t, b, a, fmt.Appendf(nil, "salt number %d", sessions), func() {}, func(l *ledger.Ledger, evs []*proto.CertifiedEvent) error {
			_, err := l.Add(evs...)
			return err
		})
	}
	t.Logf("%d sessions", sessions)
	if a.StateHash() != b.StateHash() || sessions < 2 {
		t.Fatalf("%d and %d events after %d sessions, want equal sets after more than one", a.Len(), b.Len(), sessions)
	}
}

// Forged fingerprints: an attacker chooses events that an honest node lacks so
// that a fingerprint made by XOR is the same without them. Salted SHA-256 over
// heads cannot be prepared for; switched off, the difference stays for ever.
func TestForgedFingerprints(t *testing.T) {
	const accounts = 200 // more than the fingerprint's 128 bits
	w := newWorld(t, 1, grants(accounts))
	set := chains(w, accounts, 2*accounts)
	var heads []*ledger.Certified
	for i, c := range set {
		if i+1 == len(set) || set[i+1].Account != c.Account {
			heads = append(heads, c)
		}
	}
	hidden := xorToZero(heads)
	if len(hidden) == 0 {
		t.Fatal("no subset found")
	}
	try := func() bool {
		a, b := w.ledger(), w.ledger()
		for _, c := range set {
			fill(t, a, c)
			if !hidden[c.ID] {
				fill(t, b, c)
			}
		}
		session(t, b, a)
		return a.StateHash() == b.StateHash()
	}
	if !try() {
		t.Error("the difference was not found")
	}
	defer ledger.Disable("fingerprints")()
	if try() {
		t.Error("the attack does not work even without the countermeasure: this test shows nothing")
	}
}

// xorToZero finds events whose ids' first 16 bytes XOR to zero, by elimination.
func xorToZero(cs []*ledger.Certified) map[cid.Cid]bool {
	type row struct {
		bits [16]byte
		of   map[cid.Cid]bool
	}
	pivots := map[int]row{}
	for _, c := range cs {
		h, err := proto.CIDHash(c.ID)
		if err != nil {
			panic(err)
		}
		r := row{[16]byte(h[:16]), map[cid.Cid]bool{c.ID: true}}
		placed := false
		for bit := 0; bit < 128 && !placed; bit++ {
			if r.bits[bit/8]>>(7-bit%8)&1 == 0 {
				continue
			}
			p, ok := pivots[bit]
			if !ok {
				pivots[bit], placed = r, true
				break
			}
			for i := range r.bits {
				r.bits[i] ^= p.bits[i]
			}
			for id := range p.of {
				if r.of[id] {
					delete(r.of, id)
				} else {
					r.of[id] = true
				}
			}
		}
		if !placed {
			return r.of
		}
	}
	return nil
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

// A checkpoint becomes known between the two turns that end a session: whoever
// said done is done, and what came up since is the next session's.
func TestSyncEndsForBothSides(t *testing.T) {
	w := newWorld(t, 1, grants(9))
	set := chains(w, 9, 60)
	other := w.ledger()
	fill(t, other, set...)
	cp := w.checkpoint(other)
	header := &proto.CertifiedCheckpoint{Checkpoint: cp.Checkpoint, Certificate: cp.Certificate}
	for at := range 4 {
		for side := range 2 {
			sides := []*ledger.Ledger{w.ledger(), w.ledger()}
			fill(t, sides[0], set...)
			fill(t, sides[1], set...)
			n := 0
			sessionWith(t, sides[0], sides[1], func() {
				if n++; n == at+1 {
					w.addCheckpoint(sides[side], header)
				}
			})
			session(t, sides[0], sides[1])
			if sides[0].Epoch() != sides[1].Epoch() {
				t.Errorf("side %d, frame %d: the next session does not bring the checkpoint", side, at)
			}
		}
	}
}

func TestSyncRefusesNonsense(t *testing.T) {
	w := newWorld(t, 1, grants(2))
	l := w.ledger()
	fill(t, l, chains(w, 2, 100)...)
	salt := bytes.Repeat([]byte{1}, 16)
	fp := bytes.Repeat([]byte{9}, 16)
	key := []byte(alice.id)[6:]
	for name, f := range map[string]*proto.SyncFrame{
		"no salt":                 {Ranges: []*proto.SyncRange{{Fingerprint: fp}}},
		"short salt":              {Salt: []byte{1}, Done: true},
		"done and asks":           {Salt: salt, Done: true, Ranges: []*proto.SyncRange{{Fingerprint: fp}}},
		"done and tells":          {Salt: salt, Done: true, Chains: []*proto.SyncChain{{Key: key, Next: 1}}},
		"events and asks":         {Salt: salt, Events: []*proto.CertifiedEvent{{}}, WantHeads: make([]byte, 8)},
		"wants half a head":       {Salt: salt, WantHeads: make([]byte, 7)},
		"lists half a head":       {Salt: salt, Ranges: []*proto.SyncRange{{Heads: make([]byte, 9)}}},
		"no account":              {Salt: salt, Chains: []*proto.SyncChain{{Key: []byte{1}}}},
		"a nil chain":             {Salt: salt, Chains: []*proto.SyncChain{nil}},
		"overlap":                 {Salt: salt, Ranges: []*proto.SyncRange{{To: []byte{5}, Fingerprint: fp}, {From: []byte{4}, Fingerprint: fp}}},
		"after the end":           {Salt: salt, Ranges: []*proto.SyncRange{{Fingerprint: fp}, {From: []byte{4}, Fingerprint: fp}}},
		"backwards":               {Salt: salt, Ranges: []*proto.SyncRange{{From: []byte{5}, To: []byte{4}, Fingerprint: fp}}},
		"long key":                {Salt: salt, Ranges: []*proto.SyncRange{{From: make([]byte, 73), Fingerprint: fp}}},
		"short fingerprint":       {Salt: salt, Ranges: []*proto.SyncRange{{Fingerprint: fp[:15]}}},
		"heads and a fingerprint": {Salt: salt, Ranges: []*proto.SyncRange{{Fingerprint: fp, Heads: make([]byte, 8)}}},
		"a nil range":             {Salt: salt, Ranges: []*proto.SyncRange{nil, nil}},
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
