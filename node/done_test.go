package node

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/market"
	"edgenet.dev/proto"
)

func newIdentity(t *testing.T) (crypto.PrivKey, peer.ID) {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, id
}

// alone is a node that is its network's only witness.
func alone(t *testing.T, change ...func(*Config)) *Node {
	t.Helper()
	self, id := newIdentity(t)
	raw, err := goproto.Marshal(&proto.Genesis{
		Name: "done", Nonce: make([]byte, 16), Witnesses: [][]byte{[]byte(id)},
		Grants: []*proto.Grant{{Account: []byte(id), Amount: 1000}},
	})
	if err != nil {
		t.Fatal(err)
	}
	net, err := proto.ParseGenesis(raw)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Network: net, Key: self, Listen: []string{}}
	for _, f := range change {
		f(&cfg)
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	if err := n.Up(context.Background()); err != nil {
		t.Fatal(err)
	}
	return n
}

// A worker's Done is kept only for its own lane of our hold and only at what
// we promised: a stray one would make the ledger refuse everybody's pay.
func TestStrayDoneIsNotKept(t *testing.T) {
	n := alone(t)
	net := n.net
	aKey, a := newIdentity(t)
	bKey, b := newIdentity(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := n.wallet.certify(ctx, &proto.Hold{
		Job: make([]byte, 16), Budget: 300, DeadlineUnixMs: uint64(time.Now().Add(time.Hour).UnixMilli()),
		Lanes: []*proto.Lane{{Worker: []byte(a), Cap: 100}, {Worker: []byte(b), Cap: 100}},
	})
	if err != nil {
		t.Fatal(err)
	}
	rec, err := json.Marshal(market.HoldRecord{Hold: c.ID, Lanes: []market.LaneRecord{{Worker: a, Amount: 7}, {Worker: b, Amount: 9}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.kv.put(holdKey(c.ID), rec); err != nil {
		t.Fatal(err)
	}
	done := func(key crypto.PrivKey, hold []byte, lane uint32, amount uint64) []byte {
		raw, err := proto.Seal(key, net.ID, &proto.Payload{Body: &proto.Payload_Done{Done: &proto.Done{Hold: hold, Lane: lane, Amount: amount}}})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	kept := func(lane uint32) bool { _, err := n.kv.get(doneKey(c.ID, lane)); return err == nil }
	hold := c.ID.Bytes()

	_ = n.leases.done(newLease(b), done(bKey, hold, 0, 7), nil) // b speaks for a's lane
	_ = n.leases.done(newLease(b), done(aKey, hold, 0, 7), nil) // b brings a's word
	_ = n.leases.done(newLease(a), done(aKey, hold, 9, 7), nil) // no such lane
	_ = n.leases.done(newLease(a), done(aKey, hold, 0, 8), nil) // more than was promised
	other := proto.CIDOf([]byte("another hold"))
	_ = n.leases.done(newLease(a), done(aKey, other.Bytes(), 0, 7), nil)
	if kept(0) || kept(9) {
		t.Fatal("a stray Done was kept")
	}
	if _, err := n.kv.get(doneKey(other, 0)); err == nil {
		t.Fatal("a Done for an unknown hold was kept")
	}
	if err := n.leases.done(newLease(a), done(aKey, hold, 0, 7), nil); err != nil || !kept(0) {
		t.Fatalf("the lane's own Done was not kept: %v", err)
	}
	_ = n.leases.done(newLease(a), done(aKey, hold, 0, 8), nil) // must not replace it
	b7, err := n.kv.get(doneKey(c.ID, 0))
	if err != nil {
		t.Fatal(err)
	}
	s, err := proto.Unseal(net.ID, b7, proto.KindDone)
	if err != nil || s.Payload.GetDone().Amount != 7 {
		t.Fatalf("the kept Done became %v, %v", s, err)
	}
}

// A payer that shows a hold without one of its Extends makes the lane of a later
// one look like the lane of another worker. Whoever knows better does not work:
// a claim for that lane would be refused.
func TestLaneOfAnother(t *testing.T) {
	n := alone(t)
	_, a := newIdentity(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := n.wallet.certify(ctx, &proto.Hold{
		Job: make([]byte, 16), Budget: 300, DeadlineUnixMs: uint64(time.Now().Add(time.Hour).UnixMilli()),
		Lanes: []*proto.Lane{{Worker: []byte(a), Cap: 100}, {Worker: []byte(n.self), Cap: 100}},
	})
	if err != nil {
		t.Fatal(err)
	}
	shown, ok := n.wallet.holdState(c.ID)
	if !ok {
		t.Fatal("the hold is not known")
	}
	l := newLink(n.self, "")
	l.holds[c.ID] = shownHold{shown, 1}
	if lane, ok := n.work.lane(l, c.ID, 1); !ok || lane.Index != 1 {
		t.Fatalf("the own lane: %+v, %v", lane, ok)
	}
	shown.Lanes = shown.Lanes[1:]
	l.holds[c.ID] = shownHold{shown, 1}
	if lane, ok := n.work.lane(l, c.ID, 0); ok {
		t.Fatalf("lane 0 is another's: %+v", lane)
	}
}

// What a worker was shown on a stream is not shown again, unless it says that it
// has no such lane, or has not said Done when it was asked: its memory is bounded,
// and it may keep no ledger but its own.
func TestHoldIsShownAgain(t *testing.T) {
	n := alone(t)
	_, a := newIdentity(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := n.wallet.certify(ctx, &proto.Hold{
		Job: make([]byte, 16), Budget: 300, DeadlineUnixMs: uint64(time.Now().Add(time.Hour).UnixMilli()),
		Lanes: []*proto.Lane{{Worker: []byte(a), Cap: 100}},
	})
	if err != nil {
		t.Fatal(err)
	}
	l := newLease(a)
	shows := func(item toWorker) bool {
		fs, err := item.frames(n, l)
		if err != nil || len(fs) != 1 {
			t.Fatal(fs, err)
		}
		return fs[0].GetAssign().GetHold() != nil || fs[0].GetPay().GetHold() != nil
	}
	pay := payItem{voucher: &proto.Voucher{Hold: c.ID.Bytes(), Worker: []byte(a)}}
	assign := assignItem{batch: &proto.AssignmentBatch{Worker: []byte(a), Hold: c.ID.Bytes(), Assignments: []*proto.Assignment{{InputHash: make([]byte, 32), InputSize: proto.MaxInput}}}}
	if !shows(pay) || shows(pay) || shows(assign) {
		t.Error("the first frame of a hold shows it, and no other does")
	}
	ref := wireRef(proto.Ref{})
	if err := n.leases.received(l, &proto.TaskFrame{Body: &proto.TaskFrame_Refused{Refused: &proto.Refused{Task: ref, Code: uint32(proto.CodeNoLane)}}}); err != nil {
		t.Fatal(err)
	}
	if !shows(assign) {
		t.Error("refused for want of a lane, the next assignment does not show it")
	}
	pay.finish = true
	if shows(pay) {
		t.Error("the first question for Done shows what was shown")
	}
	if !shows(pay) {
		t.Error("asked again for Done, the hold is not shown")
	}
}
