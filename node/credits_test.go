package node

import (
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// Every element has one first publisher among the witnesses, and nobody else
// publishes as long as one of them may.
func TestTurns(t *testing.T) {
	for _, witnesses := range [][]peer.ID{{"a"}, {"a", "b", "c", "d"}} {
		for i := range 64 {
			h := proto.HashOf([]byte{byte(i)})
			var turns []time.Duration
			for _, p := range witnesses {
				turns = append(turns, turn(witnesses, p, h))
			}
			slices.Sort(turns)
			for k, d := range turns {
				if d != time.Duration(k)*creditsTurn {
					t.Fatalf("the witnesses' turns are %v", turns)
				}
			}
			if d := turn(witnesses, "author", h); d <= turns[len(turns)-1] {
				t.Errorf("an author publishes after %v, the last witness after %v", d, turns[len(turns)-1])
			}
		}
	}
}

// The first event goes at once, others that follow share a message, and what
// somebody else published goes not at all.
func TestFlush(t *testing.T) {
	now := time.UnixMilli(1000)
	at := func(ms int64) time.Time { return now.Add(time.Duration(ms) * time.Millisecond) }
	item := func(name string, ms int64) certifiedItem {
		return certifiedItem{hash: proto.HashOf([]byte(name)), at: at(ms)}
	}
	passed := map[proto.Hash]bool{}
	var f flush
	step := func(ms int64, add []certifiedItem, want []certifiedItem, again time.Time) {
		t.Helper()
		f.waiting = append(f.waiting, add...)
		got, next := f.due(at(ms), func(h proto.Hash) bool { return passed[h] })
		same := slices.EqualFunc(got, want, func(a, b certifiedItem) bool { return a.hash == b.hash })
		if !same || !next.Equal(again) {
			t.Fatalf("at %d ms: %d elements, want %d; next at %v, want %v", ms, len(got), len(want), next, again)
		}
	}
	a, b, c, d, e := item("a", 0), item("b", 10), item("c", 20), item("d", 300), item("e", 600)
	step(0, []certifiedItem{a, d}, []certifiedItem{a}, at(300))
	step(10, []certifiedItem{b}, nil, at(100))
	step(20, []certifiedItem{c}, nil, at(100))
	step(100, []certifiedItem{e}, []certifiedItem{b, c}, at(300))
	passed[d.hash] = true
	step(300, nil, nil, at(600))
	step(600, nil, []certifiedItem{e}, time.Time{})
	step(700, nil, nil, time.Time{})
}
