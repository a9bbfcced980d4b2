package node

import (
	"fmt"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
)

// Every trial of a task is claimed, for each was ordered and done, and neither
// they nor assignments that nothing was delivered for leave the dearest work out.
func TestClaimHasTheDearestWork(t *testing.T) {
	n := alone(t)
	hold := proto.CIDOf([]byte("hold"))
	batch := func(list ...*proto.Assignment) []byte {
		raw, err := n.seal(&proto.Payload{Body: &proto.Payload_Assignments{Assignments: &proto.AssignmentBatch{
			Worker: []byte(n.self), Hold: hold.Bytes(), Assignments: list,
		}}})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	order := func(input string, task uint32, fuel uint64) *proto.Assignment {
		h := proto.HashOf([]byte(input))
		return &proto.Assignment{
			Job: make([]byte, 16), Task: task, Replicas: 1, Module: proto.CIDOf([]byte("module")).Bytes(), MeterVersion: proto.MeterVersion,
			InputHash: h[:], Price: uint64(proto.OneCredit), FuelLimit: fuel,
		}
	}
	deliver := func(a *proto.Assignment) {
		h := proto.HashOf([]byte("output"))
		raw, err := goproto.Marshal(&proto.Receipt{
			Worker: []byte(n.self), Submitter: []byte(n.self), Job: a.Job, Task: a.Task, Module: a.Module, MeterVersion: a.MeterVersion,
			InputHash: a.InputHash, OutputHash: h[:], Fuel: a.FuelLimit, Status: uint32(proto.StatusOutOfFuel), Price: a.Price, FuelLimit: a.FuelLimit,
		})
		if err != nil {
			t.Fatal(err)
		}
		signed, err := proto.SignReceipts(n.cfg.Key, n.net.ID, [][]byte{raw}, 0)
		if err != nil {
			t.Fatal(err)
		}
		n.claims.delivered(signed, [][]byte{raw}, []delivered{{hold: hold, payer: n.self}})
	}
	junk := make([]*proto.Assignment, 64)
	for i := range junk {
		junk[i] = order("input", uint32(i), 1)
	}
	for i := range 40 { // more than a claim holds
		junk[0].Task = uint32(1000 + i)
		raw := batch(junk...)
		if err := n.claims.admits(hold, 0, n.self, raw, 0); err != nil {
			t.Fatal(err)
		}
		n.claims.taken(hold, 0, n.self, raw)
	}
	var want uint64
	for _, fuel := range []uint64{1e6, 8e6, 64e6, 30e9} {
		want += fuel
		a := order("input", 0, fuel)
		n.claims.taken(hold, 0, n.self, batch(a))
		deliver(a)
		deliver(a) // once more is no more
	}
	other := order("another input", 0, 20e9)
	want += other.FuelLimit
	n.claims.taken(hold, 0, n.self, batch(other))
	deliver(other)
	raw, err := n.claims.claim(n.claims.lanes[laneKey(hold, 0)])
	if err != nil {
		t.Fatal(err)
	}
	s, err := proto.Inspect(raw, proto.KindWorkClaim)
	if err != nil {
		t.Fatal(err)
	}
	var got uint64
	m := s.Payload.GetWorkClaim()
	for _, sr := range m.Receipts {
		r := new(proto.Receipt)
		if err := goproto.Unmarshal(sr.Receipt, r); err != nil {
			t.Fatal(err)
		}
		got += r.Fuel
	}
	if got != want || len(m.Receipts) != 5 || len(m.Assignments) != 5 {
		t.Errorf("%d fuel in %d receipts under %d batches, want %d", got, len(m.Receipts), len(m.Assignments), want)
	}
}

// A payer's assignments take so much room and no more.
func TestAssignmentsAreBounded(t *testing.T) {
	n := alone(t)
	hold, kept := proto.CIDOf([]byte("hold")), 0
	w := n.claims.lane(hold, 0, "payer", 0)
	w.earned = 1 // and nothing is promised
	next := 0
	order := func() bool {
		raw := make([]byte, 16<<10)
		copy(raw, fmt.Sprint(next))
		next++
		if n.claims.admits(hold, 0, "payer", raw, 0) != nil {
			return false
		}
		n.claims.taken(hold, 0, "payer", raw)
		return true
	}
	for order() {
		if kept += 16 << 10; kept > maxClaimBytes+16<<10 {
			t.Fatal("more is ordered than a claim has room for, and nothing is paid")
		}
	}
	// What is promised needs no proof, so there is room for more, and not without end.
	n.claims.promised(hold, 0, "payer", 1)
	for range maxClaimOrders >> 13 {
		if !order() || w.orders > maxClaimOrders || n.claims.bytes != w.orders {
			t.Fatalf("%d bytes of assignments, %d counted", w.orders, n.claims.bytes)
		}
	}
	l := &link{from: peer.ID("payer")}
	raw, err := n.seal(&proto.Payload{Body: &proto.Payload_Assignments{Assignments: &proto.AssignmentBatch{
		Worker: []byte(n.self), Hold: hold.Bytes(), Assignments: []*proto.Assignment{{Job: make([]byte, 16), InputHash: make([]byte, 16<<10)}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	l.from = n.self
	if err := n.work.assigned(l, &proto.Assign{Batch: raw, Inputs: []*proto.Input{{}}}); proto.CodeOf(err) != proto.CodeTooLarge {
		t.Errorf("a batch that no claim has room for: %v", fmt.Sprint(err))
	}
}
