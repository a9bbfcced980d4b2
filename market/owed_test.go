package market

import (
	"testing"
	"time"

	"edgenet.dev/proto"
)

// What a submitter has is owed, whatever it says of it: an abort, a broken stream
// and a lane that was forgotten give it no room for more work on the lane's credits.
func TestWhatWasSentStaysOwed(t *testing.T) {
	from := simPeer(1)
	for name, then := range map[string]func(m *Machine, ref proto.Ref){
		"aborted": func(m *Machine, ref proto.Ref) {
			m.Step(simStart, AbortSeen{From: from, Refs: []proto.Ref{ref}, Code: proto.CodeMinority})
		},
		"stream broken": func(m *Machine, _ proto.Ref) { m.Step(simStart, SubmitterLost{Submitter: from}) },
		"forgotten":     func(m *Machine, _ proto.Ref) { delete(m.work.customers, from) },
	} {
		m, err := New(Config{Self: simPeer(0), Worker: Worker{Enabled: true, Slots: 1, Custom: true}})
		if err != nil {
			t.Fatal(err)
		}
		lane := Lane{Hold: proto.CIDOf([]byte("hold")), Payer: from, Worker: simPeer(0), Cap: 1500, Deadline: simStart.Add(time.Hour)}
		assign := func(task uint32) (taken bool) {
			for _, o := range m.Step(simStart, AssignSeen{From: from, Lane: lane, Batch: &proto.AssignmentBatch{
				Worker: []byte(simPeer(0)), Hold: lane.Hold.Bytes(), ExpiresUnixMs: uint64(simStart.Add(time.Minute).UnixMilli()),
				Assignments: []*proto.Assignment{{
					Job: make([]byte, 16), Task: task, Replicas: 1, Module: scenarioModule.Bytes(), MeterVersion: proto.MeterVersion,
					InputHash: make([]byte, 32), FuelLimit: 60_000_000, Price: 1_000_000, // 1000 credits
				}},
			}}) {
				if _, ok := o.(SendAccepted); ok {
					taken = true
				}
			}
			return taken
		}
		if !assign(0) {
			t.Fatalf("%s: the first task is not taken", name)
		}
		var ref proto.Ref
		m.Step(simStart, Executed{From: from, Ref: ref, Status: proto.StatusOK, Fuel: 60_000_000, Salt: make([]byte, 16)})
		if name != "aborted" {
			lane.Earned = 1000 // node keeps its receipt
		}
		then(m, ref)
		if assign(1) {
			t.Errorf("%s: a second task is taken though the lane's credits are earned", name)
		}
	}
}

// A worker that proves more than it was promised is paid that, up to its lane's
// cap, and with nothing to show it is not.
func TestProvenWorkIsPaid(t *testing.T) {
	m, err := New(Config{Self: simPeer(0)})
	if err != nil {
		t.Fatal(err)
	}
	hold := HoldRecord{Hold: proto.CIDOf([]byte("hold")), Deadline: simStart.Add(time.Hour), Budget: 1000, Lanes: []LaneRecord{{Worker: simPeer(1), Cap: 500, Amount: 100}}}
	m.Step(simStart, Restore{Holds: []HoldRecord{hold}})
	m.Step(simStart, WorkerBack{Worker: simPeer(1)})
	paid := func(in DoneSeen) (amount proto.Credit) {
		in.From, in.Hold = simPeer(1), hold.Hold
		outs := m.Step(simStart, in)
		outs = append(outs, m.Step(simStart.Add(time.Minute), Tick{})...)
		for _, o := range outs {
			if s, ok := o.(Settle); ok {
				for _, p := range s.Pays {
					if p.Done {
						amount = p.Amount
					}
				}
			}
		}
		return amount
	}
	for _, in := range []DoneSeen{{Amount: 300}, {Amount: 501, Proven: true}, {Amount: 99, Proven: true}} {
		if got := paid(in); got != 0 {
			t.Errorf("%+v: paid %d", in, got)
		}
	}
	if got := paid(DoneSeen{Amount: 300, Proven: true, Fuel: 9}); got != 300 {
		t.Errorf("paid %d of 300", got)
	}
}
