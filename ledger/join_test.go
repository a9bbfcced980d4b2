package ledger_test

import (
	"fmt"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"
)

// busy makes a ledger with a past: transfers claimed and unclaimed, holds open
// and closed.
func busy(w *world, accounts, events int) *ledger.Ledger {
	l := w.ledger()
	fill(w.tb, l, chains(w, accounts, events)...)
	a, b := someone("account 0"), someone("account 1")
	w.receive(l, a)
	open := w.do(l, a, &proto.Hold{Job: job(1), Budget: 300, DeadlineUnixMs: 9, Lanes: []*proto.Lane{{Worker: []byte(b.id), Cap: 200}}})
	w.do(l, a, &proto.Settle{Hold: open.ID.Bytes(), Pays: []*proto.LanePay{{Amount: 50}}})
	over := w.do(l, b, &proto.Hold{Job: job(2), Budget: 10, DeadlineUnixMs: 9})
	w.do(l, b, &proto.Settle{Hold: over.ID.Bytes(), Final: true})
	w.do(l, a, &proto.Extend{Hold: open.ID.Bytes(), Budget: 300, Lanes: []*proto.Lane{{Worker: []byte(b.id), Cap: 100}}})
	return l
}

// A new node joins from the newest checkpoint: it gets the state and what is
// above, and never the history.
func TestJoinFromCheckpoint(t *testing.T) {
	const accounts, events = 150, 3000
	w := newWorld(t, 4, grants(accounts))
	l := busy(w, accounts, events)
	total := l.Len()
	w.checkpoint(l)
	a, b := someone("account 0"), someone("account 1")
	w.do(l, a, transfer(b, 3))
	w.prune(l, 0)
	w.do(l, b, transfer(a, 4))
	w.checkpoint(l) // known and not yet the base

	store := mem.New()
	joined := w.open(store)
	turns, size := session(t, joined, l)
	t.Logf("%d of %d events in %d turns and %d bytes", joined.Len(), total, turns, size)
	if joined.StateHash() != l.StateHash() || joined.Audit() != l.Audit() {
		t.Fatal("states differ")
	}
	if joined.Base() != 1 || joined.Epoch() != 2 || joined.Len() > accounts+10 {
		t.Errorf("base %d, epoch %d, %d events", joined.Base(), joined.Epoch(), joined.Len())
	}
	if x := w.open(store); x.StateHash() != l.StateHash() {
		t.Error("the store replays to another state")
	}
	w.prune(joined, 0) // changes came with the checkpoint
	// It goes on like any other: a claim of an old payment, an old hold.
	w.receive(joined, b)
	hold := joined.Holds(a.id)[0]
	if n := len(joined.HoldEvents(hold.ID)); n != 2 {
		t.Errorf("%d events of the hold, want 2", n)
	}
	w.do(joined, a, &proto.Settle{Hold: hold.ID.Bytes(), Pays: []*proto.LanePay{{Amount: 300, Done: w.done(b, hold.ID, 0, 300)}}, Final: true})
	session(t, l, joined)
	if joined.StateHash() != l.StateHash() {
		t.Error("states differ afterwards")
	}
	if got := session2(t, joined, l); got > 200 {
		t.Errorf("a quiet session between different bases costs %d bytes", got)
	}
}

func session2(tb testing.TB, a, b *ledger.Ledger) int {
	_, size := session(tb, a, b)
	return size
}

// A node that fell behind keeps its own events above the frontier, whoever
// begins; what it lacks below comes as state.
func TestFallenBehind(t *testing.T) {
	for _, begins := range []bool{true, false} {
		w := newWorld(t, 1, grants(40))
		l := busy(w, 40, 500)
		old := w.ledger()
		var mine []*ledger.Certified
		for _, c := range all(l) {
			if c.Account == someone("account 7").id || c.Seq == 0 {
				mine = append(mine, c)
			}
		}
		fill(t, old, mine...)
		w.checkpoint(l)
		w.prune(l, 0)
		// Certified by witnesses that both do not know of, after the cut.
		alone := w.draft(l, someone("account 7"), transfer(alice, 5))
		if _, err := old.Add(alone); err != nil {
			t.Fatal(err)
		}
		w.do(l, someone("account 9"), transfer(alice, 6))
		if begins {
			session(t, old, l)
		} else {
			session(t, l, old)
		}
		if old.StateHash() != l.StateHash() || old.Base() != 1 {
			t.Fatalf("begins %v: %d and %d events, base %d", begins, old.Len(), l.Len(), old.Base())
		}
		if l.Account(alice.id).Receivable != 11 {
			t.Error("an event that only the old node had is lost")
		}
	}
}

// joinThrough runs a joiner against a server with a go-between that changes
// frames with leaves.
func joinThrough(w *world, server *ledger.Ledger, change func(*proto.SyncFrame)) (*ledger.Ledger, error) {
	l := w.ledger()
	client, serving := ledger.NewSync(l, []byte("sixteen byte salt"), true), ledger.NewSync(server, nil, false)
	out, _, done, err := client.Step(nil)
	for err == nil && !done {
		var answer []*proto.SyncFrame
		for _, f := range out {
			if answer, _, _, err = serving.Step(f); err != nil {
				return l, err
			}
		}
		out = nil
		for _, f := range answer {
			f = goproto.Clone(f).(*proto.SyncFrame)
			change(f)
			var received []*proto.CertifiedEvent
			if out, received, done, err = client.Step(f); err != nil {
				return l, err
			}
			if _, err := l.Add(received...); err != nil {
				return l, err
			}
		}
	}
	return l, err
}

func TestJoinRefusesForgedState(t *testing.T) {
	w := newWorld(t, 1, grants(30))
	server := busy(w, 30, 300)
	w.checkpoint(server)
	w.prune(server, 0)
	if l, err := joinThrough(w, server, func(*proto.SyncFrame) {}); err != nil || l.StateHash() != server.StateHash() {
		t.Fatal(err)
	}
	first := func(f func(*proto.StateLeaf)) func(*proto.SyncFrame) {
		done := false
		return func(frame *proto.SyncFrame) {
			if len(frame.Leaves) > 0 && !done {
				done = true
				f(frame.Leaves[3]) // not a head that a hold brings, too
			}
		}
	}
	for name, change := range map[string]func(*proto.SyncFrame){
		"richer account": first(func(l *proto.StateLeaf) { l.Value[60]++ }),
		"other key":      first(func(l *proto.StateLeaf) { l.Key[5]++ }),
		"no head":        first(func(l *proto.StateLeaf) { l.Events = nil }),
		"other tree":     first(func(l *proto.StateLeaf) { l.Tree = 'p' }),
		"no tree":        first(func(l *proto.StateLeaf) { l.Tree = 256 + 'a' }),
		"head without commits": first(func(l *proto.StateLeaf) {
			l.Events[0].Certificate = nil
		}),
		"an account less": func(f *proto.SyncFrame) {
			if len(f.Leaves) > 0 {
				f.Leaves = f.Leaves[1:]
			}
		},
		"twice": func(f *proto.SyncFrame) { f.Leaves = append(f.Leaves, f.Leaves...) },
		"nothing": func(f *proto.SyncFrame) {
			f.Leaves = nil
		},
		"another epoch": func(f *proto.SyncFrame) {
			if f.StateEpoch > 0 {
				f.StateEpoch = 7
			}
		},
		"no checkpoint": func(f *proto.SyncFrame) {
			f.Checkpoints = nil
		},
		"uncertified checkpoint": func(f *proto.SyncFrame) {
			for _, c := range f.Checkpoints {
				c.Certificate = nil
			}
		},
	} {
		l, err := joinThrough(w, server, change)
		if err == nil || proto.CodeOf(err) == proto.CodeInternal {
			t.Errorf("%s: %v", name, err)
		}
		if l.Base() != 0 || l.StateHash() == server.StateHash() {
			t.Errorf("%s: installed", name)
		}
	}
	s := ledger.NewSync(server, nil, false)
	_, _, _, err := s.Step(&proto.SyncFrame{Salt: make([]byte, 16), Leaves: []*proto.StateLeaf{{}}})
	wantCode(t, err, proto.CodeMalformed)
}

// Changes and leaves that are longer than a frame go in parts.
func TestJoinInParts(t *testing.T) {
	const accounts = 1600
	w := newWorld(t, 1, nil)
	w.net.Grants = map[peer.ID]proto.Credit{}
	var set []*ledger.Certified
	for i := range accounts {
		set = append(set, ledger.UnsignedChain(w.net, [32]byte(proto.HashOf(fmt.Appendf(nil, "chain %d", i))), 2)...)
	}
	p := someone("payer")
	w.net.Grants[p.id] = 1000 * proto.OneCredit
	l := w.ledger()
	fill(t, l, set...)
	w.do(l, p, &proto.Open{})
	m := &proto.Hold{Job: job(1), Budget: 900 * credit, DeadlineUnixMs: 9}
	hold := w.do(l, p, m)
	for i := 0; i < 900; i += 50 {
		x := &proto.Extend{Hold: hold.ID.Bytes()}
		for k := range 50 {
			x.Lanes = append(x.Lanes, &proto.Lane{Worker: []byte(set[2*(i+k)].Account), Cap: 1})
		}
		w.do(l, p, x)
	}
	_, changes, err := l.DraftCheckpoint(1)
	if err != nil {
		t.Fatal(err)
	}
	if len(changes) < 50<<10 {
		t.Fatalf("changes of %d bytes fit one frame", len(changes))
	}
	w.checkpoint(l)
	w.prune(l, 0)
	joined := w.ledger()
	defer ledger.Disable("signatures")()
	turns, size := session(t, joined, l)
	t.Logf("%d turns, %d bytes", turns, size)
	if joined.StateHash() != l.StateHash() {
		t.Fatal("states differ")
	}
}

// Who serves state may prune while the other side still compares: it serves the
// new base as well.
func TestJoinWhileTheBaseMoves(t *testing.T) {
	w := newWorld(t, 4, grants(9))
	l := busy(w, 9, 60)
	w.checkpoint(l)
	w.prune(l, 0)
	a, b := someone("account 0"), someone("account 1")
	for range 5 {
		w.do(l, a, transfer(b, 3))
	}
	w.checkpoint(l)
	joined := w.ledger()
	moved := false
	sessionWith(t, joined, l, func() {
		if joined.Base() == 1 && !moved {
			moved = true
			w.prune(l, 0)
		}
	})
	if joined.Base() != 2 || joined.StateHash() != l.StateHash() {
		t.Fatalf("base %d, want 2", joined.Base())
	}
}
