package market

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// crowd is a worker with every place taken: submitter 1 owes for a delivered
// result and came first, the others have an open lane each.
func crowd(t *testing.T) (*Machine, time.Time) {
	m, err := New(Config{Self: simPeer(0), Worker: Worker{Enabled: true, Slots: 1, Types: []string{"text"}, Custom: true}})
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= maxCustomers; i++ {
		from := simPeer(i)
		ref := crowdAssign(m, simStart, from)
		m.Step(simStart, Executed{From: from, Ref: ref, Status: proto.StatusOK, Fuel: 600_000, Salt: make([]byte, 16)})
		if i > 1 {
			hold := proto.CIDOf([]byte(from))
			m.Step(simStart, VoucherSeen{From: from, Voucher: &proto.Voucher{Hold: hold.Bytes(), Worker: []byte(simPeer(0)), Amount: 10}})
		}
	}
	if len(m.work.customers) != maxCustomers {
		t.Fatalf("%d customers", len(m.work.customers))
	}
	return m, simStart
}

func crowdAssign(m *Machine, now time.Time, from peer.ID) proto.Ref {
	hold := proto.CIDOf([]byte(from))
	var ref proto.Ref
	copy(ref.Task.Job[:], from[len(from)-16:])
	m.Step(now, AssignSeen{
		From: from,
		Lane: Lane{Hold: hold, Payer: from, Worker: simPeer(0), Cap: 1_000_000, Deadline: simStart.Add(time.Hour)},
		Batch: &proto.AssignmentBatch{
			Worker: []byte(simPeer(0)), Hold: hold.Bytes(), ExpiresUnixMs: uint64(now.Add(time.Minute).UnixMilli()),
			Assignments: []*proto.Assignment{{
				Job: ref.Task.Job[:], Replicas: 1, Module: scenarioModule.Bytes(), MeterVersion: proto.MeterVersion,
				InputHash: make([]byte, 32), FuelLimit: 60_000_000, Price: 1_000_000,
			}},
		},
	})
	return ref
}

func crowdOffer(m *Machine, now time.Time, from peer.ID) (claimed bool) {
	var id proto.JobID
	copy(id[:], from[len(from)-16:])
	outs := m.Step(now, OfferSeen{From: from, Offer: &proto.Offer{
		Id: id[:], Type: "text", Module: scenarioModule.Bytes(), MeterVersion: proto.MeterVersion, FuelLimit: 60_000_000,
		MemoryLimit: 1 << 20, PriceCap: 1_000_000, Redundancy: 2, SlotsWanted: 2, WorkersWanted: 2,
		DeadlineUnixMs: uint64(now.Add(time.Minute).UnixMilli()), Round: 1,
	}})
	outs = append(outs, m.Step(now.Add(time.Second), Tick{})...)
	for _, o := range outs {
		if _, ok := o.(PublishClaim); ok {
			claimed = true
		}
	}
	return claimed
}

func TestTalkEvictsNobodyWithALane(t *testing.T) {
	m, now := crowd(t)
	if crowdOffer(m, now, simPeer(9000)) {
		t.Fatal("claimed without a place to serve the submitter")
	}
	// An assignment without a certified lane is talk, too.
	m.Step(now, AssignSeen{From: simPeer(9001), Batch: &proto.AssignmentBatch{}})
	for i := 1; i <= maxCustomers; i++ {
		if m.work.customers[simPeer(i)] == nil {
			t.Fatalf("submitter %d is gone", i)
		}
	}
	// Once the deadlines passed there is nothing to lose.
	if !crowdOffer(m, now.Add(2*time.Hour), simPeer(9002)) {
		t.Fatal("no claim though all lanes are over")
	}
}

func TestEvictionSparesWhoOwes(t *testing.T) {
	m, now := crowd(t)
	from := simPeer(9000)
	hold := proto.CIDOf([]byte(from))
	// A certified lane takes the place of submitter 2: submitter 1 was not heard
	// from for longer, but owes.
	outs := m.Step(now, VoucherSeen{
		From: from, Voucher: &proto.Voucher{Hold: hold.Bytes(), Worker: []byte(simPeer(0)), Amount: 1},
		Lane: Lane{Hold: hold, Payer: from, Worker: simPeer(0), Cap: 1_000_000, Deadline: simStart.Add(time.Hour)},
	})
	if m.work.customers[simPeer(1)] == nil || m.work.customers[simPeer(2)] != nil || m.work.customers[from] == nil {
		t.Fatal("want submitter 2 to go")
	}
	forgot := 0
	for _, o := range outs {
		if f, ok := o.(Forget); ok && f.From == simPeer(2) {
			forgot++
		}
	}
	if forgot != 1 {
		t.Fatalf("%d outcomes of submitter 2 forgotten, want 1", forgot)
	}
}
