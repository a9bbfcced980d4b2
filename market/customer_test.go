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

// Talk takes one place in all of those who have a lane, of who may pay least, and
// what makes no work makes no place.
func TestTalkTakesOnePlace(t *testing.T) {
	m, now := crowd(t)
	for i := range 50 {
		if !crowdOffer(m, now, simPeer(9000+i)) {
			t.Fatal("no claim for a newcomer")
		}
	}
	for i := range 50 {
		m.Step(now, AssignSeen{From: simPeer(9500 + i), Batch: &proto.AssignmentBatch{}}) // no certified lane
		hold := proto.CIDOf([]byte("hold"))
		m.Step(now, AssignSeen{
			From:  simPeer(9600 + i),
			Lane:  Lane{Hold: hold, Payer: simPeer(9600 + i), Worker: simPeer(0), Cap: 1 << 40, Deadline: now.Add(time.Hour)},
			Batch: &proto.AssignmentBatch{Worker: []byte(simPeer(0)), Hold: hold.Bytes(), ExpiresUnixMs: uint64(now.Add(time.Minute).UnixMilli()), Assignments: []*proto.Assignment{{Job: make([]byte, 16)}}},
		})
	}
	if len(m.work.customers) != maxCustomers || m.work.customers[simPeer(9049)] == nil {
		t.Errorf("%d places, the newest offer's among them: %v", len(m.work.customers), m.work.customers[simPeer(9049)] != nil)
	}
	for i := 1; i <= maxCustomers; i++ {
		if gone := m.work.customers[simPeer(i)] == nil; gone != (i == 2) { // 1 owes, so it may pay more
			t.Errorf("submitter %d is gone: %v", i, gone)
		}
	}
}

// Holds of a microcredit, for a week and with work that waits, keep nobody out: a
// newcomer is answered, and what its lane may pay buys it a place. Neither those who
// may pay more nor what runs give way.
func TestTinyHoldsKeepNobodyOut(t *testing.T) {
	b := newBench(t, Worker{Enabled: true, Slots: 1, InFlight: 1000, Types: []string{"text"}, Custom: true})
	holding := func(from peer.ID, cap proto.Credit, replicas uint32) {
		t.Helper()
		hold := proto.CIDOf([]byte(from))
		var ref proto.Ref
		copy(ref.Task.Job[:], from[len(from)-16:])
		b.step(AssignSeen{
			From: from, Lane: Lane{Hold: hold, Payer: from, Worker: simPeer(0), Cap: cap, Deadline: simStart.Add(7 * 24 * time.Hour)},
			Batch: &proto.AssignmentBatch{Worker: []byte(simPeer(0)), Hold: hold.Bytes(), ExpiresUnixMs: uint64(b.now.Add(time.Minute).UnixMilli()), Assignments: []*proto.Assignment{{
				Job: ref.Task.Job[:], Replicas: replicas, Module: scenarioModule.Bytes(), MeterVersion: proto.MeterVersion,
				InputHash: make([]byte, 32), FuelLimit: 60_000, Price: 1_000_000,
			}}},
		})
	}
	for i := range maxCustomers {
		if cap := proto.Credit(1); i != 5 {
			holding(simPeer(i+1), cap, 2)
		} else {
			holding(simPeer(i+1), 2000, 2)
		}
	}
	commits, waits, rich, newcomer := simPeer(1), simPeer(2), simPeer(6), simPeer(9000)
	b.end(nil) // submitter 1's result is not asked for, submitter 2's task runs
	if !crowdOffer(b.m, b.now, newcomer) || b.m.work.customers[newcomer] != nil {
		t.Fatal("no claim for a newcomer, or others' work gave way to talk")
	}
	holding(newcomer, 1, 1)
	if b.refused[newcomer][proto.CodeBusy] != 1 || len(b.refused) > 1 {
		t.Fatalf("one that may pay no more took a place: %v", b.refused)
	}
	holding(newcomer, 1000, 1)
	if b.m.work.customers[newcomer] == nil || b.m.work.customers[commits] != nil || b.refused[commits][proto.CodeBusy] != 1 {
		t.Fatalf("no place for one that may pay more: %v", b.refused)
	}
	for i := range 300 {
		holding(simPeer(10_000+i), 1000, 1)
	}
	if b.m.work.customers[waits] == nil || b.m.work.customers[rich] == nil || b.m.work.customers[newcomer] == nil {
		t.Error("what runs gave way, or one that may pay as much or more")
	}
	if n := b.m.work.queued; n != maxCustomers-1 {
		t.Errorf("%d wait", n)
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

// A batch that comes again, late or under a lane that is over, is refused no
// more than it is taken: its work runs, and stopping it without the market's
// knowledge would cost a slot for ever.
func TestARefusalTakesNothingBack(t *testing.T) {
	m, now := crowd(t)
	from := simPeer(9000)
	ref := crowdAssign(m, now, from)
	if c := m.work.customers[from]; c == nil || c.execs[ref] == nil {
		t.Fatal("the assignment is not taken")
	}
	hold := proto.CIDOf([]byte(from))
	for _, o := range m.Step(now.Add(time.Minute), AssignSeen{
		From: from,
		Lane: Lane{Hold: hold, Payer: from, Worker: simPeer(0), Cap: 1_000_000, Deadline: simStart.Add(time.Hour)},
		Batch: &proto.AssignmentBatch{
			Worker: []byte(simPeer(0)), Hold: hold.Bytes(), ExpiresUnixMs: uint64(now.Add(time.Second).UnixMilli()),
			Assignments: []*proto.Assignment{{Job: ref.Task.Job[:], Replicas: 1, Module: scenarioModule.Bytes(), MeterVersion: proto.MeterVersion}},
		},
	}) {
		if r, refused := o.(SendRefused); refused {
			t.Errorf("%s %s, which is taken already", r.Code, r.Reason)
		}
	}
}
