package ledger_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"edgenet.dev/ledger"
	"edgenet.dev/ledger/store/mem"
	"edgenet.dev/proto"
	goproto "google.golang.org/protobuf/proto"
)

// taking runs a joiner against server until the joiner wants the server's
// state, and returns the session with that state's frames.
func taking(t *testing.T, w *world, server *ledger.Ledger) (client *ledger.Sync, leaves []*proto.StateLeaf) {
	t.Helper()
	client = ledger.NewSync(w.ledger(), []byte("sixteen byte salt"), true)
	serving := ledger.NewSync(server, nil, false)
	out, _, _, err := client.Step(nil)
	for err == nil {
		var answer []*proto.SyncFrame
		for _, f := range out {
			if answer, _, _, err = serving.Step(f); err != nil {
				t.Fatal(err)
			}
		}
		wanted := out[len(out)-1].WantState
		out = nil
		for _, f := range answer {
			if leaves = append(leaves, f.Leaves...); wanted && len(f.Leaves) > 0 {
				continue
			}
			if f.LastLeaf || wanted && len(leaves) > 0 {
				return client, leaves
			}
			if out, _, _, err = client.Step(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Fatal(err)
	return nil, nil
}

// Whatever a server sends in place of the state, a client keeps no more than a
// fixed multiple of what the certified header counts.
func TestLyingServerFillsNoMemory(t *testing.T) {
	w := newWorld(t, 1, grants(20))
	server := busy(w, 20, 200)
	w.checkpoint(server)
	w.prune(server, 0)
	cp, _ := server.Checkpoint(1)
	bound := ledger.MaxState(cp.Body)
	if bound > 2<<20 {
		t.Fatalf("a bound of %d bytes for %d accounts", bound, cp.Body.Accounts)
	}
	_, leaves := taking(t, w, server)
	of := func(tree byte) *proto.StateLeaf {
		i := slices.IndexFunc(leaves, func(x *proto.StateLeaf) bool { return x.Tree == uint32(tree) })
		return goproto.Clone(leaves[i]).(*proto.StateLeaf)
	}
	keyed := func(tree byte, i int) *proto.StateLeaf {
		x := of(tree)
		binary.BigEndian.PutUint64(x.Key, uint64(i)+1)
		return x
	}
	large := func(tree uint32, key int) *proto.StateLeaf {
		return &proto.StateLeaf{Tree: tree, Key: make([]byte, key), Value: make([]byte, 60<<10)}
	}
	name := func(n int) []byte { return append(binary.BigEndian.AppendUint64(nil, uint64(n)), make([]byte, n)...) }
	fat := of('h')
	fat.Value = slices.Concat(fat.Value[:102], name(3000), fat.Value[102+8+38:])
	for _, lie := range []struct {
		says string
		next func(i int) *proto.StateLeaf
	}{
		{"no tree", func(int) *proto.StateLeaf { return large(1, 32) }},
		{"behind its events", func(int) *proto.StateLeaf { return of('a') }},
		{"more records in tree 'a'", func(i int) *proto.StateLeaf { return keyed('a', i) }},
		{"more records in tree 'p'", func(i int) *proto.StateLeaf { return keyed('p', i) }},
		{"more records in tree 'r'", func(i int) *proto.StateLeaf {
			return &proto.StateLeaf{Tree: 'r', Key: binary.BigEndian.AppendUint64(make([]byte, 24), uint64(i)), Value: make([]byte, 48)}
		}},
		{"a record of", func(i int) *proto.StateLeaf {
			x := keyed('p', i)
			x.Value = slices.Concat(name(50<<10), name(0), make([]byte, 16))
			return x
		}},
		{"a record's key", func(int) *proto.StateLeaf { return large('p', 60<<10) }},
		{"a record of more than", func(int) *proto.StateLeaf { return large('h', 32) }},
		{"is not the next", func(i int) *proto.StateLeaf { // its events again
			x := of('a')
			if i > 0 {
				x.Value = nil
			}
			return x
		}},
		{"certificate", func(i int) *proto.StateLeaf {
			x := keyed('a', i)
			x.Events[0].Certificate.Commits = [][]byte{make([]byte, 50<<10)}
			return x
		}},
		{"nothing in it", func(i int) *proto.StateLeaf {
			x := of('a')
			if i > 0 {
				x.Value, x.Events = nil, nil
			}
			return x
		}},
		{"behind its events", func(i int) *proto.StateLeaf {
			x := of('a')
			if i > 0 {
				x.Value, x.Events = []byte{1}, nil
			}
			return x
		}},
		{"did not come", func(i int) *proto.StateLeaf {
			x := keyed('a', i)
			x.Events = nil
			return x
		}},
		{"its events allow", func(i int) *proto.StateLeaf {
			if i == 0 {
				return fat
			}
			return keyed('p', i)
		}},
		{"does not belong to hold", func(i int) *proto.StateLeaf { // whose Extend is repeated
			x := of('h')
			x.Value = bytes.Clone(x.Value)
			at := len(x.Value) - 32
			x.Value = append(x.Value, x.Value[at:]...)
			x.Value[at-33]++
			x.Events = append(x.Events, x.Events[1])
			return x
		}},
	} {
		client, _ := taking(t, w, server)
		kept, n, err := flood(client, lie.next)
		if kept > bound || err == nil || !strings.Contains(err.Error(), lie.says) || proto.CodeOf(err) == proto.CodeInternal {
			t.Errorf("%s: %d bytes and %d records are kept, the bound is %d; then %v", lie.says, kept, n, bound, err)
		}
	}

	restore := ledger.Disable("state bounds")
	client, _ := taking(t, w, server)
	kept, _, err := flood(client, func(int) *proto.StateLeaf { return large('h', 32) })
	if restore(); kept < 100*bound {
		t.Errorf("without the bounds %d bytes are kept, then %v: this test shows nothing", kept, err)
	}

	// What reputations remember is bounded for all of them together.
	w, server = rewarding(t)
	w.checkpoint(server)
	w.prune(server, 0)
	for says, rep := range map[string][]byte{
		"a referrer of":     slices.Concat(make([]byte, 24), name(50<<10), make([]byte, 16)),
		"or more than 1600": slices.Concat(make([]byte, 48), binary.BigEndian.AppendUint64(nil, 1600), make([]byte, 1600*40)),
	} {
		client, leaves := taking(t, w, server)
		_, n, err := flood(client, func(i int) *proto.StateLeaf {
			x := goproto.Clone(leaves[min(i, len(leaves)-1)]).(*proto.StateLeaf)
			if x.Tree == 'r' {
				x.Value = rep
			}
			if i >= len(leaves) {
				x.Key = bytes.Repeat([]byte{255}, 32)
			}
			return x
		})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %d of %d records are taken; then %v", says, n, len(leaves), err)
		}
	}
}

// flood sends a client one leaf after the other until it refuses, or for as
// long as a session can be.
func flood(client *ledger.Sync, next func(i int) *proto.StateLeaf) (kept, n int, err error) {
	for range 64 {
		for range 64 {
			leaf := next(n)
			if _, _, _, err = client.Step(&proto.SyncFrame{StateEpoch: client.Asked(), Leaves: []*proto.StateLeaf{leaf}}); err != nil {
				return kept, n, err
			}
			n++
			kept += goproto.Size(leaf)
		}
		if _, _, _, err = client.Step(&proto.SyncFrame{Newest: client.Asked(), Base: client.Asked()}); err != nil {
			return kept, n, err
		}
	}
	return kept, n, nil
}

// Nothing is taken for a base that is only claimed: its certified checkpoint
// has to be there before state is asked for.
func TestStateNeedsItsCheckpoint(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 100 * credit})
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	w.checkpoint(l)
	s := ledger.NewSync(l, nil, false)
	out, _, _, err := s.Step(&proto.SyncFrame{Salt: make([]byte, 16), Newest: 1, Base: 1 << 30, Pruned: true})
	last := out[len(out)-1]
	if err != nil || last.WantState || !slices.Contains(last.WantCheckpoints, 1<<30) {
		t.Fatalf("%v, %v: want a question for the checkpoint", last, err)
	}
	leaf := &proto.StateLeaf{Tree: 'a', Key: make([]byte, 32), Value: make([]byte, 300)}
	_, _, _, err = s.Step(&proto.SyncFrame{StateEpoch: 1, Leaves: []*proto.StateLeaf{leaf}})
	wantCode(t, err, proto.CodeMalformed)

	s = ledger.NewSync(l, nil, false)
	if _, _, _, err = s.Step(&proto.SyncFrame{Salt: make([]byte, 16), Base: 5, Pruned: true}); err != nil {
		t.Fatal(err)
	}
	_, _, _, err = s.Step(&proto.SyncFrame{Base: 5, Done: true})
	wantCode(t, err, proto.CodeMalformed)
}

// A client that knows newer checkpoints than the server's base, without
// theirs, asks for that one and joins.
func TestJoinAsksForTheBase(t *testing.T) {
	w := newWorld(t, 1, grants(9))
	l := busy(w, 9, 60)
	w.checkpoint(l)
	w.prune(l, 0)
	w.do(l, someone("account 0"), transfer(bob, 1))
	newest := w.checkpoint(l)
	for _, begins := range []bool{true, false} {
		joined := w.ledger()
		w.addCheckpoint(joined, &proto.CertifiedCheckpoint{Checkpoint: newest.Checkpoint, Certificate: newest.Certificate})
		if begins {
			session(t, joined, l)
		} else {
			session(t, l, joined)
		}
		if joined.Base() != 1 || joined.StateHash() != l.StateHash() {
			t.Fatalf("begins %v: base %d, want 1", begins, joined.Base())
		}
	}
}

// scans counts how often the base's state is read.
type scans struct {
	*mem.Store
	state int
}

func (s *scans) Scan(prefix []byte, fn func(key, value []byte) error) error {
	if bytes.HasPrefix(prefix, ledger.StateSpace) {
		s.state++
	}
	return s.Store.Scan(prefix, fn)
}

// However many nodes join at a base, its state is read once.
func TestServedStateIsReadOnce(t *testing.T) {
	w := newWorld(t, 1, grants(9))
	store := &scans{Store: mem.New()}
	l := w.open(store)
	fill(t, l, all(busy(w, 9, 60))...)
	w.checkpoint(l)
	w.prune(l, 0)
	for base := uint64(1); base < 3; base++ {
		store.state = 0
		for range 3 {
			joined := w.ledger()
			session(t, joined, l)
			if joined.Base() != base || joined.StateHash() != l.StateHash() {
				t.Fatalf("base %d, want %d", joined.Base(), base)
			}
		}
		if store.state != 1 {
			t.Errorf("base %d was read %d times for three sessions", base, store.state)
		}
		w.do(l, someone("account 0"), transfer(bob, 1))
		w.checkpoint(l)
		w.prune(l, 0)
	}
}

// A hold can be extended so often that its record is as long as one can be, no
// further, and who joins takes it.
func TestExtendsAreBounded(t *testing.T) {
	w := newWorld(t, 1, map[string]uint64{"alice": 100 * credit})
	l := w.ledger()
	w.do(l, alice, &proto.Open{})
	hold := w.do(l, alice, &proto.Hold{Job: job(1), Budget: 20 * credit, DeadlineUnixMs: 9})
	for i := range ledger.MaxExtends {
		x := &proto.Extend{Hold: hold.ID.Bytes()}
		for k := range 4 {
			n := 4*i + k
			if n < ledger.MaxHoldLanes {
				x.Lanes = append(x.Lanes, &proto.Lane{Worker: []byte(someone(fmt.Sprint("worker", n)).id), Cap: 1})
			}
		}
		if len(x.Lanes) == 0 {
			x.Budget = 1
		}
		w.do(l, alice, x)
	}
	_, err := l.Draft(alice.id, 0, 0, &proto.Extend{Hold: hold.ID.Bytes(), Budget: 1})
	wantCode(t, err, proto.CodeInvalidEvent)
	w.checkpoint(l)
	w.prune(l, 0)
	joined := w.ledger()
	session(t, joined, l)
	if joined.Base() != 1 || joined.StateHash() != l.StateHash() {
		t.Fatalf("base %d, want 1", joined.Base())
	}
}
