//go:build !js

package node

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
)

func nobody(peer.ID) bool { return false }

// inTime is a guard against hanging, or with soon a look whether there is a
// place at once.
func inTime(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// stakes reads what a peer has at stake from its name: p7 has 7.
func stakes(id peer.ID) proto.Credit {
	n, _ := strconv.Atoi(string(id[1:]))
	return proto.Credit(n)
}

// hall drives a serving by virtual time.
type hall struct {
	t *testing.T
	*serving
	seats []*guest
}

func newHall(t *testing.T, most, each int) *hall {
	return &hall{t: t, serving: newServing(most, each, 10*time.Second, func(id peer.ID) bool { return id[0] == 'w' }, stakes)}
}

// comes asks for a place and, unless it is told at once, waits.
func (h *hall) comes(id peer.ID, site string) *guest {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.guest(id, site)
	if !h.join(g) {
		h.t.Fatalf("%s may not wait", id)
	}
	h.seat(time.Now())
	h.seats = append(h.seats, g)
	return g
}

func (h *hall) has(g *guest, want bool) {
	h.t.Helper()
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if got := !g.began.IsZero() && g.Err() == nil; got != want {
		h.t.Errorf("%s has a place: %v, want %v", g.id, got, want)
	}
}

// of counts the places of peers whose names begin so.
func (h *hall) places(name string) (n int) {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.seated {
		if strings.HasPrefix(string(g.id), name) {
			n++
		}
	}
	return n
}

func (h *hall) turn(times int) { time.Sleep(time.Duration(times) * h.serving.turn) }

// Peers with nothing at stake have half of the places, those behind one address half
// of these, and one peer a few; those with something at stake have all of them and
// come first, witnesses need none.
func TestBlobPlacesArePartners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t, 16, 4)
		for i := range 4 {
			h.has(h.comes(peer.ID(fmt.Sprint("s", i, "-")), "1.2.3.4"), true)
		}
		h.has(h.comes("s9-", "1.2.3.4"), false) // one address
		for i := range 4 {
			h.has(h.comes("t", fmt.Sprint("5.6.7.", i)), true)
		}
		h.has(h.comes("t", "5.6.7.8"), false) // one peer
		h.has(h.comes("u", "9.9.9.9"), false) // half
		for range 4 {
			h.has(h.comes("p1000", "1.2.3.4"), true)
		}
		h.has(h.comes("p1000", "1.2.3.4"), false)
		for range 4 {
			h.has(h.comes("q1000", "1.2.3.4"), true)
		}
		first := h.comes("r10", "1.2.3.4") // all are taken
		h.has(first, false)
		h.has(h.comes("w", ""), true)
		more := h.comes("r20", "8.8.8.8")
		h.leave(h.seats[5]) // a stranger's
		h.has(more, true)
		h.has(first, false)
		h.leave(h.seats[6])
		h.has(first, true)
		for i := range 100 { // nobody is left behind, and the counts are right
			if i < len(h.seats) {
				h.leave(h.seats[i])
			}
		}
	})
}

// A microcredit at stake holds a place for one turn: then who has more at stake for
// each of its places comes, into how many identities others split theirs.
func TestPlacesGoByStake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t, 16, 4)
		for i := range 64 { // 16 of them with places
			h.comes(peer.ID(fmt.Sprint(string(rune('a'+i%16)), "1")), fmt.Sprint("6.6.6.", i%16))
		}
		honest := []*guest{h.comes("p100", "1.2.3.4"), h.comes("p100", "1.2.3.4")}
		h.turn(0)
		h.has(honest[0], false)
		h.turn(1)
		h.has(honest[0], true)
		h.has(honest[1], true)
		if got := h.places(""); got != 16 {
			t.Errorf("%d places are taken", got)
		}
		h.turn(4)
		h.has(honest[0], true) // nobody has more at stake, or waited for long enough
		// For each place, not in all.
		h = newHall(t, 4, 4)
		for range 4 {
			h.comes("p100", "1.2.3.4")
		}
		other := []*guest{h.comes("q50", "5.6.7.8"), h.comes("q50", "5.6.7.8")}
		h.turn(2)
		h.has(other[0], true) // 50 for one is more than 100 for four
		h.has(other[1], false)
		if got := h.places("p"); got != 3 {
			t.Errorf("twice as much at stake has %d of four places", got)
		}
	})
}

// At equal stakes the places go round addresses.
func TestPlacesGoRoundAddresses(t *testing.T) {
	for _, stake := range []string{"", "7"} {
		synctest.Test(t, func(t *testing.T) {
			h := newHall(t, 16, 4)
			for i := range 40 { // two addresses hold what they may
				h.comes(peer.ID(fmt.Sprint(string(rune('A'+i)), stake)), fmt.Sprint("6.6.6.", i%2))
			}
			late := h.comes(peer.ID("p"+stake), "1.2.3.4")
			h.has(late, false)
			h.turn(1)
			h.has(late, true)
			h.turn(agedTurns - 1)
			h.has(late, true)
		})
	}
}

// Few with most at stake, who ask again whenever they lose a place, do not keep out
// one that has less: it waits the longer the less it has. Many with a microcredit
// each gain nothing by waiting.
func TestPoorerPartnersHaveTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t, 16, 4)
		var rich []*guest
		ask := func(i int) *guest {
			return h.comes(peer.ID(fmt.Sprint(string(rune('a'+i%8)), "1600")), fmt.Sprint("6.6.6.", i%8))
		}
		for i := range 64 { // 8 of each of them, of which 4 can have places
			rich = append(rich, ask(i))
		}
		for i := range 32 {
			h.comes(peer.ID(fmt.Sprint(string(rune('A'+i)), "1")), fmt.Sprint("7.7.7.", i))
		}
		poorer := h.comes("p50", "1.2.3.4")
		sits := func(g *guest) bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return !g.began.IsZero() && g.Err() == nil
		}
		for turn := 1; !sits(poorer); turn++ {
			if turn > 12 { // the longest that a request waits
				t.Fatal("one with less at stake is kept out")
			}
			h.turn(1)
			synctest.Wait()
			for i, g := range rich {
				if g.Err() != nil {
					rich[i] = ask(i)
				}
			}
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		micro := 0
		for _, g := range h.seats {
			if g.stake == 1 && !g.began.IsZero() {
				micro++
			}
		}
		if micro > 0 {
			t.Errorf("%d with a microcredit came first", micro)
		}
	})
}

// Requests that wait are bounded, by peer and in all; one of a peer with more at
// stake finds room, and one from an address where fewer wait.
func TestWaitingForBlobsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t, 2, 1)
		h.taken, h.strange = 2, 1
		for i := range maxWaiting / maxWaitingOf {
			for range maxWaitingOf {
				h.comes(peer.ID(string(rune('A'+i))), "6.6.6.6")
			}
			h.mu.Lock()
			if h.join(h.guest(peer.ID(string(rune('A'+i))), "6.6.6.6")) {
				t.Fatal("one peer waits for more")
			}
			h.mu.Unlock()
		}
		if h.wants() != maxWaiting {
			t.Fatalf("%d wait", h.wants())
		}
		for i, g := range []*guest{h.comes("p1", "6.6.6.6"), h.comes("z", "1.2.3.4")} {
			if last := h.seats[maxWaiting-1-i]; g.gone || !last.gone || h.wants() != maxWaiting {
				t.Errorf("%s waits: %v, %s gave way: %v, %d wait", g.id, !g.gone, last.id, last.gone, h.wants())
			}
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.join(h.guest("Z", "6.6.6.6")) || len(h.waiting) != maxWaiting {
			t.Error("one more of the most crowded address waits")
		}
	})
}

// Those with more at stake who fill the queue leave room for one with less.
func TestWaitingGoesByStakeForEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t, 2, 1)
		h.taken = 2
		for i := range maxWaiting / maxWaitingOf {
			for range maxWaitingOf {
				h.comes(peer.ID(string(rune('A'+i))+"60"), "6.6.6.6")
			}
		}
		if g := h.comes("p1", "1.2.3.4"); g.gone || h.wants() != maxWaiting {
			t.Errorf("one that asks once is refused: %v, %d wait", g.gone, h.wants())
		}
	})
}

// ask opens a stream to n and asks for a blob.
func (c *claimant) ask(b []byte, waits bool) network.Stream {
	c.t.Helper()
	s, err := c.host.NewStream(inTime(c.t), c.n.self, c.n.net.ID.Protocol("blob"))
	if err == nil {
		err = proto.WriteFrame(s, &proto.BlobRequest{Cid: proto.CIDOf(b).Bytes(), Waits: waits}, proto.MaxBlobFrame)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// bigAndSmall are modules that n has.
func bigAndSmall(t *testing.T, n *Node) (big, small []byte) {
	t.Helper()
	big, small = bytes.Repeat([]byte("big"), maxBlob/3), []byte("small")
	for _, b := range [][]byte{big, small} {
		if err := n.putModule(proto.HashOf(b), b); err != nil {
			t.Fatal(err)
		}
	}
	return big, small
}

// Peers that ask for blobs and do not read them lose their places to those who
// want them.
func TestSlowReadersLoseTheirPlaces(t *testing.T) {
	n := witness(t)
	n.serving.turn, n.serving.rate = 100*time.Millisecond, 4*fetchRate
	big, small := bigAndSmall(t, n)
	for range maxBlobStreams / 2 { // all that strangers may have
		newClaimant(t, n, nil).ask(big, false)
	}
	eventually(t, "the slow ones have the places", func() bool {
		n.serving.mu.Lock()
		defer n.serving.mu.Unlock()
		return n.serving.strange == maxBlobStreams/2
	})
	s := newClaimant(t, n, nil).ask(small, false) // each has one place: nobody has too many
	s.SetReadDeadline(time.Now().Add(blobWait + 5*time.Second))
	var r proto.BlobReply
	in := frames(s, proto.MaxBlobFrame)
	if err := in.Read(&r); err != nil || r.Size != uint64(len(small)) {
		t.Fatal(&r, err)
	}
}

// Submitters with a microcredit each hold all places and read at the least rate: one
// with a credit at stake is served after a turn.
func TestMicrocreditsDoNotHoldThePlaces(t *testing.T) {
	n := witness(t)
	n.serving.turn, n.serving.ages = time.Second, time.Minute // what counts is the amount
	big, small := bigAndSmall(t, n)
	pledge := func(c *claimant, left proto.Credit) {
		l := newLink(c.host.ID(), "")
		l.pays(proto.CIDOf([]byte(l.from)), time.Now().Add(time.Hour), left)
		n.work.join(l)
	}
	for range maxBlobStreams { // each with one place: at equal stakes none of them gives way
		c := newClaimant(t, n, nil)
		pledge(c, 1)
		s := c.ask(big, false)
		go func() { // until the test ends
			b := make([]byte, fetchRate)
			for _, err := io.ReadFull(s, b); err == nil; _, err = io.ReadFull(s, b) {
				time.Sleep(500 * time.Millisecond)
			}
		}()
	}
	eventually(t, "they have all places", func() bool {
		n.serving.mu.Lock()
		defer n.serving.mu.Unlock()
		return n.serving.taken == maxBlobStreams
	})
	honest := newClaimant(t, n, nil)
	pledge(honest, proto.OneCredit)
	s := honest.ask(small, false)
	s.SetReadDeadline(time.Now().Add(20 * time.Second)) // less than they take: 16 MiB at twice the rate
	var r proto.BlobReply
	if err := frames(s, proto.MaxBlobFrame).Read(&r); err != nil || r.Size != uint64(len(small)) {
		t.Fatal(&r, err)
	}
}

// receiptWith is a receipt for work on the input with hash h.
func receiptWith(t *testing.T, h proto.Hash) *proto.SignedReceipt {
	t.Helper()
	raw, err := goproto.Marshal(&proto.Receipt{InputHash: h[:]})
	if err != nil {
		t.Fatal(err)
	}
	return &proto.SignedReceipt{Receipt: raw}
}

// Inputs and outputs are for those whom the assignment names, each with a key of
// its own; modules are for anybody.
func TestBlobsAreForTheirParties(t *testing.T) {
	n := witness(t)
	input, module := []byte("a private input"), []byte("a module")
	h := proto.HashOf(input)
	if err := n.putBlob(h, input); err != nil {
		t.Fatal(err)
	}
	if err := n.putModule(proto.HashOf(module), module); err != nil {
		t.Fatal(err)
	}
	worker, third := newClaimant(t, n, nil), newClaimant(t, n, nil)
	get := func(c *claimant, h proto.Hash, key []byte) (proto.Code, string) {
		t.Helper()
		s, err := c.host.NewStream(inTime(t), n.self, n.net.ID.Protocol("blob"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Reset()
		if err := proto.WriteFrame(s, &proto.BlobRequest{Cid: h.CID().Bytes(), Key: key}, proto.MaxBlobFrame); err != nil {
			t.Fatal(err)
		}
		s.SetReadDeadline(time.Now().Add(30 * time.Second))
		raw, err := io.ReadAll(s)
		if err != nil {
			t.Fatal(err)
		}
		var r proto.BlobReply
		if err := proto.NewFrameReader(bytes.NewReader(raw), proto.MaxBlobFrame).Read(&r); err != nil {
			t.Fatal(err)
		}
		return proto.Code(r.Code), string(raw[len(raw)-int(r.Size):])
	}
	key := n.keyFor(h, worker.host.ID())
	if code, body := get(worker, h, key); code != proto.CodeOK || body != string(input) {
		t.Errorf("the worker gets %s %q", code, body)
	}
	for name, k := range map[string][]byte{
		"no key": nil, "the worker's key": key, "a short key": key[:4], "a key for another blob": n.keyFor(proto.HashOf(module), third.host.ID()), "zeros": make([]byte, blobKeySize),
	} {
		if code, _ := get(third, h, k); code != proto.CodeNotFound {
			t.Errorf("a third peer with %s gets %s", name, code)
		}
	}
	if missing, _ := get(third, proto.HashOf([]byte("nothing")), nil); missing != proto.CodeNotFound {
		t.Errorf("what is not here is %s: that tells what is", missing)
	}
	if code, body := get(third, proto.HashOf(module), nil); code != proto.CodeOK || body != string(module) {
		t.Errorf("a module is %s %q", code, body)
	}
	for b := range n.builtins {
		if !n.mayHave(third.host.ID(), b, nil) {
			t.Error("a built-in module is private")
		}
		break
	}
	// A witness gets what it is to judge, and no other input.
	if n.mayHave(n.self, h, nil) {
		t.Error("a witness gets an input that nobody accused")
	}
	n.evidence.file(receiptWith(t, h))
	if !n.mayHave(n.self, h, nil) || n.mayHave(third.host.ID(), h, nil) {
		t.Error("a witness does not get the input of accused work, or a third peer does")
	}
	out := []byte("an output")
	if n.mayHave(n.self, proto.HashOf(out), nil) {
		t.Error("a witness gets an output without a claim")
	}
	if err := n.kv.put("out/"+proto.HashOf(out).String()+"/lane", out); err != nil {
		t.Fatal(err)
	}
	if !n.mayHave(n.self, proto.HashOf(out), nil) || n.mayHave(third.host.ID(), proto.HashOf(out), nil) {
		t.Error("a witness does not get an output that is claimed, or a third peer does")
	}
}
