package market

import (
	"strings"
	"testing"
	"time"

	"edgenet.dev/proto"
)

// A worker starts nothing on a hold that lasts longer than the network allows:
// nobody could be paid from it before, should the payer vanish.
func TestWorkerRefusesLongHolds(t *testing.T) {
	m, err := New(Config{Self: simPeer(0), MaxHold: time.Hour, Worker: Worker{Enabled: true, Slots: 1}})
	if err != nil {
		t.Fatal(err)
	}
	m.now = simStart
	hold := proto.CIDOf([]byte("hold"))
	for d, want := range map[time.Duration]proto.Code{
		time.Hour: proto.CodeOK, time.Hour + proto.ClockSlack: proto.CodeOK, time.Hour + proto.ClockSlack + time.Second: proto.CodeLimits, 200 * 365 * 24 * time.Hour: proto.CodeLimits,
	} {
		code, why := m.checkBatch(AssignSeen{
			From:  simPeer(1),
			Batch: &proto.AssignmentBatch{Worker: []byte(simPeer(0)), Hold: hold.Bytes(), ExpiresUnixMs: uint64(simStart.Add(time.Minute).UnixMilli())},
			Lane:  Lane{Hold: hold, Payer: simPeer(1), Worker: simPeer(0), Deadline: simStart.Add(d)},
		})
		if code != want || want != proto.CodeOK && !strings.Contains(why, "longer than the network's 1h0m0s") {
			t.Errorf("a hold of %s: %s %q", d, code, why)
		}
	}
}

// A job that may take longer than a hold asks for the longest hold there is, and
// for more of it later.
func TestHoldsOfLongJobsAreTheLongest(t *testing.T) {
	m, err := New(Config{Self: simPeer(0), MaxHold: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	m.now = simStart
	s := m.newSession(proto.JobID{1})
	for id, timeout := range map[proto.JobID]time.Duration{{1}: time.Minute, {2}: 100 * time.Hour} {
		s.jobs[id] = &job{rec: JobRecord{Job: Job{ID: id, Created: simStart, Options: Options{Timeout: timeout}}}}
	}
	if due := m.due(s); !due.Equal(simStart.Add(time.Hour)) {
		t.Errorf("asks for a hold until %s, it is %s", due, simStart)
	}
	m.now = simStart.Add(30 * time.Minute)
	if due := m.due(s); !due.Equal(m.now.Add(time.Hour)) {
		t.Errorf("half an hour later asks for a hold until %s", due)
	}
	delete(s.jobs, proto.JobID{2})
	if due := m.due(s); !due.Equal(simStart.Add(time.Minute + m.cfg.Overtime)) {
		t.Errorf("asks for a hold until %s for a job of a minute", due)
	}
}
