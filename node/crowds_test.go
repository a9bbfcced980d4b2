//go:build !js

package node

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
)

// Of too many callers of /vote one without credits goes, of those one from the
// most crowded address, and then the one that was silent for longest.
func TestCallersGiveWay(t *testing.T) {
	n := witness(t)
	now := time.Now()
	v := n.wallet.votes
	calls := map[peer.ID]*caller{
		"rich and silent":  {last: now.Add(-time.Hour), rich: true, site: "1.2.3.4"},
		"alone and silent": {last: now.Add(-time.Minute), site: "5.6.7.8"},
		"local and silent": {last: now.Add(-time.Second), site: ""},
		"crowd 1":          {last: now.Add(-3 * time.Second), site: "1.2.3.4"},
		"crowd 2":          {last: now.Add(-2 * time.Second), site: "1.2.3.4"},
		n.self:             {last: now.Add(-2 * time.Hour)}, // a witness
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.callers = calls
	for _, want := range []peer.ID{"crowd 1", "alone and silent", "crowd 2", "local and silent", "rich and silent", ""} {
		got := v.dispensable()
		if got != want {
			t.Fatalf("%q gives way, want %q", got, want)
		}
		delete(v.callers, got)
	}
	clear(v.callers)
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

// A partner takes a stranger's place in reconciliation at once; strangers behind
// one address take each other's when they have half of them.
func TestPlacesOfPartnersAndCrowds(t *testing.T) {
	c := newCrowd(t, 4, true)
	c.partner = func(p peer.ID) bool { return p[0] == 'P' }
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
	at("1.2.3.4", "a", true)
	c.now = c.now.Add(time.Millisecond)
	at("1.2.3.4", "b", true)
	at("1.2.3.4", "c", false)
	at("", "local", true)
	at("5.6.7.8", "d", true)
	at("1.2.3.4", "P1", true)
	c.ended("a")
	at("9.9.9.9", "e", false)
	c.now = c.now.Add(2 * syncQuiet)
	at("1.2.3.4", "f", true) // half were theirs before P1 came: now one place is
}

// A witness proves for others in some places, of which one peer has a few.
func TestProofsPerPeer(t *testing.T) {
	n := witness(t)
	var leave []func()
	for range maxProofsOf {
		release, ok := n.proving.take(soon(t), "greedy")
		if !ok {
			t.Fatal("no place")
		}
		leave = append(leave, release)
	}
	if _, ok := n.proving.take(soon(t), "greedy"); ok {
		t.Error("one peer has more than its places")
	}
	for i := range maxProofs/maxProofsOf - 1 {
		for range maxProofsOf {
			if _, ok := n.proving.take(soon(t), peer.ID(fmt.Sprint("other", i))); !ok {
				t.Fatal("others have no place")
			}
		}
	}
	if _, ok := n.proving.take(soon(t), "late"); ok {
		t.Error("more places than there are")
	}
	leave[0]()
	if _, ok := n.proving.take(inTime(t), "late"); !ok {
		t.Error("a place that was left is not given away")
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
