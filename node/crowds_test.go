//go:build !js

package node

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// Of too many callers of /vote one of the quarter with fewest credits goes: one from the
// most crowded address, and of those the one that was silent for longest.
func TestCallersGiveWay(t *testing.T) {
	n := witness(t)
	now := time.Now()
	v := n.wallet.votes
	calls := map[peer.ID]*caller{
		"rich and silent":  {last: now.Add(-time.Hour), has: proto.OneCredit, site: "1.2.3.4"},
		"has a little":     {last: now, has: 1, site: "9.9.9.9"},
		"alone and silent": {last: now.Add(-time.Minute), site: "5.6.7.8"},
		"local and silent": {last: now.Add(-time.Second), site: ""},
		"crowd 1":          {last: now.Add(-3 * time.Second), site: "1.2.3.4"},
		"crowd 2":          {last: now.Add(-2 * time.Second), site: "1.2.3.4"},
		n.self:             {last: now.Add(-2 * time.Hour)}, // a witness
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.callers = calls
	for _, want := range []peer.ID{"crowd 1", "crowd 2", "alone and silent", "local and silent", "has a little", "rich and silent", ""} {
		got := v.dispensable()
		if got != want {
			t.Fatalf("%q gives way, want %q", got, want)
		}
		delete(v.callers, got)
	}
	clear(v.callers)
}

// Many callers of one address do not keep out one that calls from another, however
// much they have; nor do many of many addresses one that has more than most.
func TestRichCallersKeepNobodyOut(t *testing.T) {
	n := witness(t)
	now := time.Now()
	v := n.wallet.votes
	v.mu.Lock()
	defer v.mu.Unlock()
	defer clear(v.callers)
	clear(v.callers)
	for i := range maxCallers {
		v.callers[peer.ID(fmt.Sprint("rich", i))] = &caller{last: now, has: proto.Credit(1000 + i), site: "1.2.3.4"}
	}
	v.callers["poorer"] = &caller{last: now.Add(-time.Second), has: 1, site: "5.6.7.8"}
	for range maxCallers / 2 {
		got := v.dispensable()
		if got == "poorer" {
			t.Fatal("one that has less gives way to a crowd")
		}
		delete(v.callers, got)
	}
	clear(v.callers)
	for i := range maxCallers {
		v.callers[peer.ID(fmt.Sprint("poor", i))] = &caller{last: now, has: proto.Credit(i), site: fmt.Sprint("1.2.", i/250, ".", i%250)}
	}
	v.callers["richer"] = &caller{last: now.Add(-time.Hour), has: maxCallers / 2, site: "5.6.7.8"}
	if got := v.dispensable(); got == "richer" {
		t.Error("one that has more than most gives way")
	}
}

// What a caller has is what its account has, also before it is opened.
func TestWorthOfACaller(t *testing.T) {
	n := witness(t)
	if got := n.wallet.worth(n.self); got == 0 {
		t.Error("the founder is worth nothing")
	}
	if got := n.wallet.worth("nobody"); got != 0 {
		t.Errorf("nobody is worth %d", got)
	}
}

// After its turn a reconciliation ends for one of a peer with more at stake; peers
// with nothing at stake behind one address take each other's when they have half of
// the places.
func TestPlacesOfPartnersAndCrowds(t *testing.T) {
	c := newCrowd(t, 4, true)
	c.stake = func(p peer.ID) proto.Credit { // its name tells
		n, _ := strconv.Atoi(string(p[1:]))
		return proto.Credit(n)
	}
	at := func(site string, id peer.ID, want bool) {
		t.Helper()
		s := newSyncSession(t.Context())
		s.site = site
		s.moved(c.now)
		if got := c.take(c.now, id, s); got != want {
			t.Errorf("%s gets a place: %v, want %v", id, got, want)
		} else if got {
			c.all[id] = s
		}
	}
	later := func(by time.Duration) { // nobody is quiet
		c.now = c.now.Add(by)
		for _, s := range c.of {
			s.moved(c.now)
		}
	}
	at("1.2.3.4", "a", true)
	at("1.2.3.4", "b", true)
	at("1.2.3.4", "c", false)
	at("", "local", true)
	at("5.6.7.8", "d", true)
	later(syncTurn - 1)
	at("1.2.3.4", "P1", false) // they have their turn
	later(1)
	for id, s := range c.of {
		if id != "a" {
			s.moved(c.now.Add(1)) // a is the quietest
		}
	}
	at("1.2.3.4", "P1", true)
	c.ended("a")
	at("9.9.9.9", "e", false)
	for _, id := range []peer.ID{"Q1", "R1", "S1"} {
		at("1.2.3.4", id, true)
	}
	c.ended("b", "d", "local")
	later(syncTurn) // all places are held with a microcredit, by peers that trickle
	at("7.7.7.7", "T1", false)
	at("7.7.7.7", "T2", true)
	if len(c.of) != 4 || c.of["T2"] == nil {
		t.Errorf("%d places", len(c.of))
	}
}

// A witness proves for others in some places, of which one peer has a few, and keys
// that own nothing half, whatever they do with what they asked for.
func TestProofsPerPeer(t *testing.T) {
	n := witness(t)
	if rich, poor := n.proving.stake(n.self), n.proving.stake("poor"); rich == 0 || poor != 0 {
		t.Errorf("%s and %s count for places", rich, poor)
	}
	n.proving.turn = 100 * time.Millisecond
	ask := func(c *claimant) network.Stream {
		t.Helper()
		s, err := c.host.NewStream(inTime(t), n.self, n.net.ID.Protocol("proof"))
		if err == nil {
			err = proto.WriteFrame(s, &proto.ProofRequest{Account: []byte(n.self)}, maxProofRequest)
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var seats []*guest
	take := func(id peer.ID, site string) bool {
		g, ok := n.proving.take(soon(t), id, site, nil)
		if ok {
			seats = append(seats, g)
		}
		return ok
	}
	for i := range 2 {
		for range maxProofsOf {
			if !take(peer.ID(fmt.Sprint("greedy", i)), fmt.Sprint("1.2.3.", i)) {
				t.Fatal("no place")
			}
		}
	}
	if take("greedy0", "1.2.3.0") {
		t.Error("one peer has more than its places")
	}
	if got := n.proving.strange; got != maxProofs/2 {
		t.Fatalf("keys that own nothing have %d places", got)
	}
	// None of them reads. Another that owns nothing has its turn, and one with
	// credits at once.
	late := ask(newClaimant(t, n, nil))
	late.SetReadDeadline(time.Now().Add(proofWait + time.Second))
	var r proto.ProofReply
	if err := frames(late, maxProof).Read(&r); err != nil {
		t.Fatalf("an honest light node gets no proof: %v", err)
	}
	if r.Code == uint32(proto.CodeBusy) {
		t.Error("an honest light node is told that the witness is busy")
	}
	lost := 0
	for _, g := range seats {
		if g.Err() != nil {
			lost++
		}
	}
	if lost != 1 {
		t.Errorf("%d lost their places for one", lost)
	}
}

// Who is told BUSY hears so.
func TestProofSaysBusy(t *testing.T) {
	n := witness(t)
	c := newClaimant(t, n, nil)
	id := c.host.ID()
	n.proving.queueOf = 0
	s, err := c.host.NewStream(inTime(t), n.self, n.net.ID.Protocol("proof"))
	if err == nil {
		err = proto.WriteFrame(s, &proto.ProofRequest{Account: []byte(id)}, maxProofRequest)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.SetReadDeadline(time.Now().Add(30 * time.Second))
	var r proto.ProofReply
	if err := frames(s, maxProof).Read(&r); err != nil || r.Code != uint32(proto.CodeBusy) {
		t.Errorf("%v, %v", &r, err)
	}
}

// An output that trickles has no turn after the first; one at the least rate has.
func TestLooksHaveALeastRate(t *testing.T) {
	n := witness(t)
	const turn = 200 * time.Millisecond
	for bytesPerTurn, again := range map[int]bool{1: false, lookRate: true} { // the latter is more than enough
		out := bytes.Repeat([]byte{7}, 4*lookRate)
		w := newClaimant(t, n, func(s network.Stream, q *proto.BlobRequest) {
			defer s.Reset()
			proto.WriteFrame(s, &proto.BlobReply{Size: uint64(len(out))}, proto.MaxBlobFrame)
			s.Write(out[:bytesPerTurn])
			<-t.Context().Done()
		})
		k := &look{Fetch: ledger.Fetch{Worker: w.host.ID(), Outputs: []proto.Hash{proto.HashOf(out)}}}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		got, err := n.look(ctx, k, turn)
		for tries := 0; got != again && again && tries < 20; tries++ { // a busy machine
			k.part, k.next = nil, 0
			got, err = n.look(ctx, k, 5*turn)
		}
		cancel()
		if err == nil || got != again {
			t.Errorf("%d bytes in a turn: again %v, %v", bytesPerTurn, got, err)
		}
	}
}
