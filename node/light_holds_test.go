package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// A light node remembers that a hold is closed for as long as its payer could
// show it as an open one.
func TestClosedHoldShownAgain(t *testing.T) {
	n := alone(t)
	key, id := newIdentity(t)
	tab, err := New(Config{Network: n.net, Key: key, Listen: []string{}, Light: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, tt := range []struct {
		name     string
		deadline time.Time
		kept     int
	}{
		{"before its deadline", time.Now().Add(time.Hour), 1},
		{"long after", time.UnixMilli(1), 1}, // the one before still is
	} {
		c, err := n.wallet.certify(ctx, &proto.Hold{
			Job: make([]byte, 16), Budget: 200, DeadlineUnixMs: uint64(tt.deadline.UnixMilli()), Lanes: []*proto.Lane{{Worker: []byte(id), Cap: 100}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if st, err := tab.light.watch(c.Wire, nil); err != nil || st.Closed {
			t.Fatal(tt.name, st, err)
		}
		w := tab.wallet
		q := w.l.Ask()
		if len(q.Lanes) != 1 {
			t.Fatalf("%s: %d lanes are asked for", tt.name, len(q.Lanes))
		}
		n.wallet.mu.Lock()
		r, err := n.wallet.l.Report(q)
		n.wallet.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		r.Report.Lanes[0].Known, r.Report.Lanes[0].Closed = true, true
		if _, err := w.l.Heard(n.self, q, r); err != nil {
			t.Fatal(err)
		}
		tab.light.tidy()
		if got := len(w.l.Watched()); got != tt.kept {
			t.Errorf("%s: %d holds are kept, want %d", tt.name, got, tt.kept)
		}
		if tt.deadline.After(time.Now()) {
			if st, err := tab.light.watch(c.Wire, nil); err != nil || !st.Closed {
				t.Errorf("%s: shown again: %+v, %v", tt.name, st, err)
			}
		}
	}
}

// One payer's many holds make room for others', and those that were worked for
// stay.
func TestDispensableHold(t *testing.T) {
	var list []ledger.HoldState
	add := func(payer peer.ID, n int) {
		for range n {
			list = append(list, ledger.HoldState{ID: proto.CIDOf([]byte(fmt.Sprint(payer, len(list)))), Payer: payer})
		}
	}
	add("one", 1)
	add("many", 3)
	add("two", 2)
	worked := map[cid.Cid]bool{list[1].ID: true}
	for _, want := range []int{2, 3, 4, 5, 0} {
		st, ok := dispensable(list, func(id cid.Cid) bool { return worked[id] })
		if !ok || !st.ID.Equals(list[want].ID) {
			t.Fatalf("hold of %s goes, want number %d", st.Payer, want)
		}
		worked[st.ID] = true
	}
	if _, ok := dispensable(list, func(id cid.Cid) bool { return worked[id] }); ok {
		t.Fatal("a hold that was worked for goes")
	}
}

// A light node has nothing of other accounts, though it may have their keys.
func TestLightSpeaksForItself(t *testing.T) {
	n := alone(t)
	key, _ := newIdentity(t)
	tab, err := New(Config{Network: n.net, Key: key, Listen: []string{}, Light: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := tab.Up(ctx); err != nil {
		t.Fatal(err)
	}
	_, other := newIdentity(t)
	if _, err := tab.TransferFrom(ctx, n.self, other, 1, ""); proto.CodeOf(err) != proto.CodeNotFound {
		t.Fatalf("a transfer of another account: %v", err)
	}
}

// A node that works for many asks for all their lanes, as many as fit a
// request at a time, and is answered.
func TestLightAsksForManyLanes(t *testing.T) {
	const holds = 300
	n := alone(t, func(c *Config) { c.Listen = []string{"/ip4/127.0.0.1/tcp/0"} })
	key, id := newIdentity(t)
	tab, err := New(Config{Network: n.net, Key: key, Listen: []string{}, Light: true, Bootstrap: n.Addrs()})
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for range holds {
		c, err := n.wallet.certify(ctx, &proto.Hold{
			Job: make([]byte, 16), Budget: 2, DeadlineUnixMs: uint64(time.Now().Add(time.Hour).UnixMilli()), Lanes: []*proto.Lane{{Worker: []byte(id), Cap: 1}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tab.light.watch(c.Wire, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := tab.Up(ctx); err != nil {
		t.Fatal(err)
	}
	if err := tab.light.insist(ctx); err != nil {
		t.Fatal(err)
	}
	for range maxProofs { // streams on which no question comes
		idle, err := tab.stream(ctx, n.self, "proof")
		if err != nil {
			t.Fatal(err)
		}
		defer idle.Reset()
		if _, err := idle.Write([]byte{200}); err != nil { // the beginning of a length
			t.Fatal(err)
		}
	}
	time.Sleep(100 * time.Millisecond)
	if err := tab.light.poll(ctx); err != nil {
		t.Fatal(err)
	}
	for _, st := range tab.light.watched() {
		if st.Forgotten {
			t.Fatalf("the witness does not know %s", st.ID)
		}
	}
	tab.wallet.mu.Lock()
	q := tab.wallet.l.Ask()
	tab.wallet.mu.Unlock()
	q.Next, q.Epoch = 1<<62, 1<<62
	for _, x := range q.Lanes {
		x.Lane = 1<<32 - 1
	}
	if len(q.Lanes) < 256 || goproto.Size(q) > maxProofRequest {
		t.Fatalf("%d lanes in %d bytes", len(q.Lanes), goproto.Size(q))
	}
}
