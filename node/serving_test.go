//go:build !js

package node

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"
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

// Strangers have half of the places, those behind one address half of these, and
// one peer a few; partners have all of them and come first, witnesses need none.
func TestBlobPlacesArePartners(t *testing.T) {
	partner := func(id peer.ID) bool { return id[0] == 'p' }
	witness := func(id peer.ID) bool { return id[0] == 'w' }
	s := newServing(16, 4, witness, partner)
	var releases []func()
	take := func(id peer.ID, site string) bool {
		t.Helper()
		release, ok := s.take(soon(t), id, site)
		if ok {
			releases = append(releases, release)
		}
		return ok
	}
	for i := range 4 {
		if !take(peer.ID(fmt.Sprint("s", i)), "1.2.3.4") {
			t.Fatalf("stranger %d of an address has no place", i)
		}
	}
	if take("s9", "1.2.3.4") {
		t.Error("one address has more than a quarter of the places")
	}
	for i := range 4 {
		if !take("t", fmt.Sprint("5.6.7.", i)) {
			t.Fatal("a stranger has no place")
		}
	}
	if take("u", "9.9.9.9") {
		t.Error("strangers have more than half of the places")
	}
	for range 4 {
		if !take("p", "1.2.3.4") {
			t.Fatal("a partner has no place")
		}
	}
	if take("p", "1.2.3.4") {
		t.Error("one partner has five places")
	}
	for range 4 {
		if !take("pp", "1.2.3.4") {
			t.Fatal("a partner has no place")
		}
	}
	if take("ppp", "1.2.3.4") {
		t.Error("17 places")
	}
	if !take("w", "") {
		t.Error("a witness waits")
	}

	// Of those that wait a partner is first, though it came last.
	order := make(chan peer.ID, 2)
	wait := func(id peer.ID) {
		before := s.wants()
		go func() {
			release, ok := s.take(inTime(t), id, "8.8.8.8")
			if ok {
				order <- id
				<-t.Context().Done()
				release()
			}
		}()
		eventually(t, "it waits", func() bool { return s.wants() > before })
	}
	wait("stranger")
	wait("p3")
	releases[0]()
	if first := <-order; first != "p3" {
		t.Errorf("%s is served first", first)
	}
	releases[1]()
	if second := <-order; second != "stranger" {
		t.Errorf("%s is served then", second)
	}
}

// wants counts who waits.
func (s *serving) wants() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}

// Requests that wait are bounded, by peer and in all; a partner's finds room.
func TestWaitingForBlobsIsBounded(t *testing.T) {
	s := newServing(2, 1, nobody, func(id peer.ID) bool { return id == "partner" })
	s.taken, s.strange = 2, 1
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	left := make(chan bool, maxWaiting+1)
	want := 0
	wait := func(id peer.ID) {
		go func() { _, ok := s.take(ctx, id, ""); left <- ok }()
	}
	for i := range maxWaiting / maxWaitingOf {
		for range maxWaitingOf {
			wait(peer.ID(fmt.Sprint(i)))
			want++
		}
		eventually(t, "they wait", func() bool { return s.wants() == want })
		s.mu.Lock()
		more := s.join(&guest{id: peer.ID(fmt.Sprint(i)), ready: make(chan struct{})})
		s.mu.Unlock()
		if more {
			t.Fatal("one peer waits for more")
		}
	}
	if _, ok := s.take(ctx, "one more", ""); ok || s.wants() != maxWaiting {
		t.Fatalf("%d wait", s.wants())
	}
	wait("partner")
	if <-left {
		t.Fatal("whoever gave way has a place")
	}
	if s.wants() != maxWaiting {
		t.Fatalf("%d wait", s.wants())
	}
}

// Peers that ask for blobs and do not read them lose their places to those who
// want them.
func TestSlowReadersLoseTheirPlaces(t *testing.T) {
	n := witness(t)
	n.serving.grace = 100 * time.Millisecond // at the real rate
	big := bytes.Repeat([]byte("big"), maxBlob/3)
	small := []byte("small")
	for _, b := range [][]byte{big, small} {
		if err := n.putModule(proto.HashOf(b), b); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(c *claimant, b []byte) network.Stream {
		t.Helper()
		s, err := c.host.NewStream(inTime(t), n.self, n.net.ID.Protocol("blob"))
		if err == nil {
			err = proto.WriteFrame(s, &proto.BlobRequest{Cid: proto.CIDOf(b).Bytes()}, proto.MaxBlobFrame)
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	strangers := func() int {
		n.serving.mu.Lock()
		defer n.serving.mu.Unlock()
		return n.serving.strange
	}
	one, two := newClaimant(t, n, nil), newClaimant(t, n, nil)
	for range maxBlobsOfPeer { // all that strangers may have
		ask(one, big)
		ask(two, big)
	}
	eventually(t, "the slow ones have the places", func() bool { return strangers() == maxBlobStreams/2 })
	s := ask(newClaimant(t, n, nil), small)
	s.SetReadDeadline(time.Now().Add(blobWait + 5*time.Second))
	var r proto.BlobReply
	in := frames(s, proto.MaxBlobFrame)
	if err := in.Read(&r); err != nil || r.Size != uint64(len(small)) {
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
