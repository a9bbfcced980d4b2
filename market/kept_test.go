package market

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// commitFor has a worker execute tasks of redundancy 2, for which results are not asked.
func commitFor(m *Machine, now time.Time, from peer.ID, task uint32) (taken bool, outs []Output) {
	hold := proto.CIDOf([]byte(from))
	var ref proto.Ref
	copy(ref.Task.Job[:], from[len(from)-16:])
	ref.Task.Index = task
	outs = m.Step(now, AssignSeen{
		From: from,
		Lane: Lane{Hold: hold, Payer: from, Worker: simPeer(0), Cap: 1 << 40, Deadline: simStart.Add(24 * time.Hour)},
		Batch: &proto.AssignmentBatch{
			Worker: []byte(simPeer(0)), Hold: hold.Bytes(), ExpiresUnixMs: uint64(now.Add(time.Minute).UnixMilli()),
			Assignments: []*proto.Assignment{{
				Job: ref.Task.Job[:], Task: task, Replicas: 2, Module: scenarioModule.Bytes(), MeterVersion: proto.MeterVersion,
				InputHash: make([]byte, 32), FuelLimit: 60_000_000, Price: 1_000_000,
			}},
		},
	})
	for _, o := range outs {
		if _, ok := o.(SendAccepted); ok {
			taken = true
		}
	}
	outs = append(outs, m.Step(now, Executed{From: from, Ref: ref, Status: proto.StatusOK, Fuel: 600_000, Salt: make([]byte, 16)})...)
	return taken, outs
}

// Results that are never asked for end nobody else's work: the oldest of the
// submitter with the most gives way, and what was committed for others stays.
func TestCommitmentsNeverRevealed(t *testing.T) {
	for _, off := range []bool{false, true} {
		m, err := New(Config{Self: simPeer(0), Worker: Worker{Enabled: true, Slots: 1, Custom: true}})
		if err != nil {
			t.Fatal(err)
		}
		m.off.share = off
		honest, silent := simPeer(1), simPeer(2)
		if taken, _ := commitFor(m, simStart, honest, 0); !taken {
			t.Fatal("not taken")
		}
		most := m.work.maxKept()
		gone := 0
		for i := range most + 100 {
			_, outs := commitFor(m, simStart, silent, uint32(i))
			for _, o := range outs {
				if r, ok := o.(SendRefused); ok && r.To == silent && r.Code == proto.CodeExpired && r.Ref.Task.Index == uint32(gone) {
					gone++
				}
			}
		}
		bounded := m.work.kept <= most && gone == 101
		x := m.work.customers[honest].execs
		if len(x) != 1 {
			t.Fatal("the honest submitter's result is gone")
		}
		if taken, _ := commitFor(m, simStart, honest, 1); !taken || len(x) != 2 {
			t.Error("no work is taken for others")
		}
		if bounded == off {
			t.Errorf("share off %v: %d are kept, %d gave way", off, m.work.kept, gone)
		}
		if n := len(m.work.customers[silent].commits); !off && n > 2*most+17 {
			t.Errorf("%d commitments are listed", n)
		}
	}
}

// What nobody asks for in time is let go, and what is younger is not.
func TestCommitmentsExpire(t *testing.T) {
	m, err := New(Config{Self: simPeer(0), Worker: Worker{Enabled: true, Slots: 1, Custom: true}})
	if err != nil {
		t.Fatal(err)
	}
	commitFor(m, simStart, simPeer(1), 0)
	end := simStart.Add(m.keptFor())
	commitFor(m, end.Add(-time.Minute), simPeer(1), 1)
	m.Step(end.Add(-time.Second), Tick{})
	if m.work.kept != 2 {
		t.Fatalf("%d are kept", m.work.kept)
	}
	m.Step(end, Tick{})
	if m.work.kept != 1 || len(m.work.customers[simPeer(1)].execs) != 1 {
		t.Fatalf("%d are kept after their time", m.work.kept)
	}
	m.Step(end.Add(m.keptFor()), Tick{})
	if m.work.kept != 0 {
		t.Fatalf("%d are kept after their time", m.work.kept)
	}
}

// Nor do many identities with few results each: who asked for results before and
// paid keeps the room, whoever has most.
func TestUnpaidCommitmentsGiveWay(t *testing.T) {
	m, err := New(Config{Self: simPeer(0), Worker: Worker{Enabled: true, Slots: 1, Custom: true}})
	if err != nil {
		t.Fatal(err)
	}
	honest := simPeer(1)
	for i := range uint32(12) {
		commitFor(m, simStart, honest, i)
	}
	hold := proto.CIDOf([]byte(honest))
	m.Step(simStart, VoucherSeen{From: honest, Voucher: &proto.Voucher{Hold: hold.Bytes(), Worker: []byte(simPeer(0)), Amount: 10}})
	for task := range uint32(11) {
		for i := range maxCustomers - 1 {
			if taken, _ := commitFor(m, simStart, simPeer(2+i), task); !taken {
				t.Fatal("no work is taken")
			}
		}
	}
	if n := m.work.customers[honest].kept; n != 12 || m.work.kept != m.work.maxKept() {
		t.Errorf("%d of 12 results of who pays are kept, %d in all", n, m.work.kept)
	}
	least := m.work.maxKept()
	for i := range maxCustomers - 1 {
		least = min(least, m.work.customers[simPeer(2+i)].kept)
	}
	if least < 3 { // of equals, who has most
		t.Errorf("of one %d are kept", least)
	}
}
