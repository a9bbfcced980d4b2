//go:build !js

package node

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/ledger"
	"edgenet.dev/proto"
	"edgenet.dev/transport"
)

// claimant is a worker that files claims and serves their outputs as it likes.
type claimant struct {
	t     *testing.T
	n     *Node // witness and payer
	key   crypto.PrivKey
	host  host.Host
	hold  cid.Cid
	votes network.Stream
}

func newClaimant(t *testing.T, n *Node, serve func(s network.Stream, q *proto.BlobRequest)) *claimant {
	t.Helper()
	c := &claimant{t: t, n: n}
	c.key, _ = newIdentity(t)
	var err error
	if c.host, err = transport.NewHost(transport.Config{Key: c.key}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.host.Close() })
	c.host.SetStreamHandler(n.net.ID.Protocol("blob"), func(s network.Stream) {
		var q proto.BlobRequest
		if frames(s, proto.MaxBlobFrame).Read(&q) == nil {
			serve(s, &q)
		}
	})
	info, err := peer.AddrInfoFromString(n.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if err := c.host.Connect(ctx, *info); err != nil {
		t.Fatal(err)
	}
	if c.votes, err = c.host.NewStream(ctx, n.self, n.net.ID.Protocol("vote")); err != nil {
		t.Fatal(err)
	}
	ev, err := n.wallet.certify(ctx, &proto.Hold{
		Job: make([]byte, 16), Budget: 12, DeadlineUnixMs: uint64(time.Now().Add(time.Hour).UnixMilli()), Lanes: []*proto.Lane{{Worker: []byte(c.host.ID()), Cap: 10}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.hold = ev.ID
	return c
}

// file claims one microcredit for each output.
func (c *claimant) file(outputs ...[]byte) {
	c.t.Helper()
	batch := &proto.AssignmentBatch{Worker: []byte(c.host.ID()), Hold: c.hold.Bytes()}
	claim := &proto.WorkClaim{Hold: c.hold.Bytes()}
	for i, out := range outputs {
		in, h := proto.HashOf([]byte("input")), proto.HashOf(out)
		a := &proto.Assignment{
			Job: make([]byte, 16), Task: uint32(i), Replicas: 1, Module: proto.CIDOf([]byte("module")).Bytes(), MeterVersion: 1,
			InputHash: in[:], Price: 1, FuelLimit: uint64(proto.PriceUnit),
		}
		batch.Assignments = append(batch.Assignments, a)
		raw, err := goproto.Marshal(&proto.Receipt{
			Worker: []byte(c.host.ID()), Submitter: []byte(c.n.self), Job: a.Job, Task: a.Task, Module: a.Module, MeterVersion: 1,
			InputHash: a.InputHash, OutputHash: h[:], Fuel: a.FuelLimit, Status: uint32(proto.StatusOK), Price: 1, FuelLimit: a.FuelLimit,
		})
		if err != nil {
			c.t.Fatal(err)
		}
		signed, err := proto.SignReceipts(c.key, c.n.net.ID, [][]byte{raw}, 0)
		if err != nil {
			c.t.Fatal(err)
		}
		_, receipts, err := proto.OpenReceipts(c.n.net.ID, signed, [][]byte{raw})
		if err != nil {
			c.t.Fatal(err)
		}
		claim.Receipts = append(claim.Receipts, receipts...)
	}
	ordered, err := c.n.seal(&proto.Payload{Body: &proto.Payload_Assignments{Assignments: batch}})
	if err != nil {
		c.t.Fatal(err)
	}
	claim.Assignments = [][]byte{ordered}
	raw, err := proto.Seal(c.key, c.n.net.ID, &proto.Payload{Body: &proto.Payload_WorkClaim{WorkClaim: claim}})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := proto.WriteFrame(c.votes, &proto.VoteFrame{Body: &proto.VoteFrame_WorkClaim{WorkClaim: raw}}, maxCall); err != nil {
		c.t.Fatal(err)
	}
}

// kept wants the witness to keep a claim for so much.
func (c *claimant) kept(amount uint64) {
	c.t.Helper()
	c.votes.SetReadDeadline(time.Now().Add(40 * time.Second))
	var f proto.VoteFrame
	if err := frames(c.votes, maxCall).Read(&f); err != nil {
		c.t.Fatal(err)
	}
	if r := f.GetClaimReply(); r == nil || r.Code != 0 || r.Amount != amount {
		c.t.Fatalf("answer to the claim: %v", &f)
	}
}

func serveBytes(blobs ...[]byte) func(network.Stream, *proto.BlobRequest) {
	return func(s network.Stream, q *proto.BlobRequest) {
		for _, b := range blobs {
			if bytes.Equal(q.Cid, proto.CIDOf(b).Bytes()) && q.Offset <= uint64(len(b)) {
				proto.WriteFrame(s, &proto.BlobReply{Size: uint64(len(b))}, proto.MaxBlobFrame)
				s.Write(b[q.Offset:])
				s.Close()
			}
		}
	}
}

// serveSlowly sends a byte at a time and never ends.
func serveSlowly(began *atomic.Int32) func(network.Stream, *proto.BlobRequest) {
	return func(s network.Stream, q *proto.BlobRequest) {
		defer s.Reset()
		began.Add(1)
		if proto.WriteFrame(s, &proto.BlobReply{Size: proto.MaxOutput}, proto.MaxBlobFrame) != nil {
			return
		}
		for _, err := s.Write([]byte{1}); err == nil; _, err = s.Write([]byte{1}) {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

func witness(t *testing.T) *Node {
	return alone(t, func(c *Config) { c.Listen = []string{"/ip4/127.0.0.1/udp/0/quic-v1"} })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(40 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("in vain waited for: " + what)
		}
	}
}

// A worker files claims whose outputs it serves as slowly as it can: others'
// claims are looked into meanwhile.
func TestSlowOutputsDelayNobody(t *testing.T) {
	n := witness(t)
	var began atomic.Int32
	slow := newClaimant(t, n, serveSlowly(&began))
	for i := range 8 {
		var outs [][]byte
		for j := range i + 1 {
			outs = append(outs, fmt.Append(nil, "slow", i, j))
		}
		slow.file(outs...)
	}
	eventually(t, "slow outputs", func() bool { return began.Load() > 0 })
	good := [][]byte{[]byte("one"), []byte("two")}
	honest := newClaimant(t, n, serveBytes(good...))
	time.Sleep(200 * time.Millisecond) // for whatever else the other one has begun
	honest.file(good...)
	honest.kept(2)
}

// More slow workers than a witness looks into at once have turns of limited
// length, and so does an honest one between them.
func TestSlowWorkersHaveTurns(t *testing.T) {
	n := witness(t)
	n.wallet.looks.turn = 300 * time.Millisecond
	var began atomic.Int32
	for i := range maxLookers + 4 {
		newClaimant(t, n, serveSlowly(&began)).file(fmt.Append(nil, "slow", i))
	}
	eventually(t, "slow outputs", func() bool { return began.Load() >= maxLookers })
	good := []byte("good")
	honest := newClaimant(t, n, serveBytes(good))
	honest.file(good)
	honest.kept(1)
}

// An output that takes several turns is had in the end: each goes on where the
// last one ended.
func TestSlowOutputsComeInTurns(t *testing.T) {
	n := witness(t)
	n.wallet.looks.turn = 300 * time.Millisecond
	out := bytes.Repeat([]byte("slow but honest "), 100)
	var turns atomic.Int32
	honest := newClaimant(t, n, func(s network.Stream, q *proto.BlobRequest) {
		turns.Add(1)
		proto.WriteFrame(s, &proto.BlobReply{Size: uint64(len(out))}, proto.MaxBlobFrame)
		for rest := out[q.Offset:]; len(rest) > 0; rest = rest[min(len(rest), 40):] {
			if _, err := s.Write(rest[:min(len(rest), 40)]); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		s.Close()
	})
	honest.file(out)
	honest.kept(1)
	if turns.Load() < 2 {
		t.Fatal("one turn was enough: nothing was shown")
	}
}

func TestWhoseTurnItIs(t *testing.T) {
	q := newLooks()
	fetch := func(payer, worker string, n int) ledger.Fetch {
		return ledger.Fetch{Claim: proto.CIDOf(fmt.Append(nil, payer, worker, n)), Payer: peer.ID(payer), Worker: peer.ID(worker), Amount: proto.Credit(n)}
	}
	var running []*look
	begin := func() string {
		k := q.begin()
		if k == nil {
			return ""
		}
		running = append(running, k)
		return string(k.Payer + " " + k.Worker)
	}
	for i := range 3 {
		q.push(fetch("many", "a", i))
	}
	q.push(fetch("many", "b", 0))
	q.push(fetch("many", "c", 0))
	q.push(fetch("one", "d", 0))
	for i, want := range []string{"many a", "one d", "many b", "many c", ""} {
		if got := begin(); got != want {
			t.Fatalf("turn %d is %q's, want %q", i, got, want)
		}
	}
	q.end(running[0], true)
	if got := begin(); got != "many a" || running[4] == running[0] {
		t.Fatalf("%q has the next turn, again: %v", got, running[4] == running[0])
	}
	for _, k := range running[1:] {
		q.end(k, false)
	}
	for got := begin(); got != ""; got = begin() {
		q.end(running[len(running)-1], false)
	}
	if len(q.list)+len(q.payers)+len(q.workers) != 0 {
		t.Fatalf("%d claims, %d payers, %d workers are left", len(q.list), len(q.payers), len(q.workers))
	}

	// Too many: a payer with many gives way to others, not others to it.
	for i := range maxLooks {
		if gone := q.push(fetch("many", fmt.Sprint(i), 1)); gone.Defined() {
			t.Fatal(i, "has no room")
		}
	}
	for i := range 10 {
		own := fetch(fmt.Sprint("other", i), "x", 1)
		if gone := q.push(own); !gone.Defined() || gone.Equals(own.Claim) {
			t.Fatalf("%v gives way to a payer with one claim", gone)
		}
	}
	if own := fetch("many", "more", 1); !q.push(own).Equals(own.Claim) {
		t.Fatal("a payer with many takes another's place")
	}
	if own := fetch("many", "more", 2); q.push(own).Equals(own.Claim) {
		t.Fatal("of one payer's claims not the smallest gives way")
	}
	if len(q.list) != maxLooks {
		t.Fatalf("%d claims", len(q.list))
	}
}

// Streams without a request keep no blob from others, neither does a peer that
// takes as many as it can, and witnesses have room of their own.
func TestBlobsForEverybody(t *testing.T) {
	n := witness(t)
	big := bytes.Repeat([]byte("big"), maxBlob/3)
	if err := n.putModule(proto.HashOf(big), big); err != nil { // it is for anybody
		t.Fatal(err)
	}
	small := []byte("small")
	if err := n.putModule(proto.HashOf(small), small); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second) // less than a silent stream may take
	defer cancel()
	bad, good := newClaimant(t, n, nil), newClaimant(t, n, nil)
	open := func(c *claimant) network.Stream {
		s, err := c.host.NewStream(ctx, n.self, n.net.ID.Protocol("blob"))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for range maxBlobStreams { // silent
		if _, err := open(bad).Write([]byte{200}); err != nil {
			t.Fatal(err)
		}
	}
	for range maxBlobStreams { // asked for and not read
		if err := proto.WriteFrame(open(bad), &proto.BlobRequest{Cid: proto.CIDOf(big).Bytes()}, proto.MaxBlobFrame); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(200 * time.Millisecond)
	s := open(good)
	if err := proto.WriteFrame(s, &proto.BlobRequest{Cid: proto.CIDOf(small).Bytes()}, proto.MaxBlobFrame); err != nil {
		t.Fatal(err)
	}
	s.SetReadDeadline(time.Now().Add(8 * time.Second))
	var r proto.BlobReply
	if err := frames(s, proto.MaxBlobFrame).Read(&r); err != nil || r.Size != uint64(len(small)) {
		t.Fatal(&r, err)
	}

	// All places for others are taken.
	n.serving.mu.Lock()
	n.serving.taken, n.serving.strange = maxBlobStreams, maxBlobStreams/2
	n.serving.mu.Unlock()
	if place, ok := n.serving.take(ctx, n.self, "", nil); !ok { // a witness
		t.Fatal("a witness waits for others")
	} else {
		n.serving.leave(place)
	}
	soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, ok := n.serving.take(soon, good.host.ID(), "", nil); ok {
		t.Fatal("more are served than have room")
	}
	n.serving.mu.Lock()
	defer n.serving.mu.Unlock()
	if len(n.serving.of) != 1 {
		t.Fatalf("%d peers are remembered", len(n.serving.of))
	}
}
