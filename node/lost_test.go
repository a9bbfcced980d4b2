package node

import (
	"bytes"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// The log of a lost try is one per task, the newest, whatever its bytes; it goes
// when the task has a result, and with the job.
func TestLostLogIsBounded(t *testing.T) {
	n := alone(t)
	_, a := newIdentity(t)
	job := market.JobRecord{Job: market.Job{ID: proto.JobID{1}, Module: proto.CIDOf(nil), Inputs: make([]market.InputRef, 2)}, State: market.Failed}
	task := func(i uint32, state market.TaskState, by ...peer.ID) market.Output {
		r := market.TaskRecord{ID: proto.TaskID{Job: job.Job.ID, Index: i}, State: state, Log: proto.HashOf(nil), Output: proto.HashOf(nil)}
		for _, w := range by {
			r.Replicas = append(r.Replicas, market.ReplicaRecord{Worker: w, Agreed: true})
		}
		return market.SaveTask{Record: r}
	}
	save := func(outs ...market.Output) {
		t.Helper()
		if err := n.jobs.save(outs); err != nil {
			t.Fatal(err)
		}
	}
	log := func(i uint32) []byte {
		t.Helper()
		r, err := n.Result(proto.TaskID{Job: job.Job.ID, Index: i})
		if err != nil {
			t.Fatal(err)
		}
		return r.Log
	}
	first, second := proto.TaskID{Job: job.Job.ID}, proto.TaskID{Job: job.Job.ID, Index: 1}
	newest := []byte("half \xff\x00\x1b[31m way")
	save(market.SaveJob{Record: job}, market.SaveLost{Task: first, Log: []byte("older"), Output: []byte("old output")}, task(0, market.Running),
		market.SaveLost{Task: second, Log: []byte("of a try"), Output: []byte("what it wrote")})
	if got := log(0); string(got) != "older" {
		t.Errorf("while the task runs: %q", got)
	}
	save(market.SaveLost{Task: first, Log: newest}, task(0, market.Failed), task(1, market.Failed))
	if got := log(0); !bytes.Equal(got, newest) {
		t.Errorf("the newest try said %q, kept is %q", newest, got)
	}
	if got := log(1); string(got) != "of a try" {
		t.Errorf("of the other task: %q", got)
	}
	if got := n.LostOutput(first); got != nil {
		t.Errorf("the newest try wrote nothing, kept is %q", got)
	}
	if r, err := n.Result(second); err != nil || string(r.Output) != "what it wrote" {
		t.Errorf("%+v, %v", r, err)
	}
	p, err := n.partsOf(job)
	if err != nil || p.size < uint64(len(newest)+len("of a trywhat it wrote")) || len(p.keys) != 5 {
		t.Errorf("the job has %d records, %d bytes of them, want two tasks, two logs and an output; %v", len(p.keys), p.size, err)
	}
	save(task(1, market.Done, a))
	if log, out := n.LostLog(second), n.LostOutput(second); log != nil || out != nil {
		t.Errorf("the task has a result, and still what a lost try said: %q, %q", log, out)
	}

	ref := wireRef(proto.Ref{Task: first})
	said := func(size, out int) proto.Code {
		return proto.CodeOf(n.leases.received(newLease(a), &proto.TaskFrame{Body: &proto.TaskFrame_Refused{Refused: &proto.Refused{
			Task: ref, Code: uint32(proto.CodeRunTimeout), Log: make([]byte, size), Output: make([]byte, out),
		}}}))
	}
	if code := said(proto.MaxLog, proto.MaxLostOutput); code != proto.CodeOK {
		t.Errorf("a whole log is refused: %s", code)
	}
	if code := said(proto.MaxLog+1, 0); code != proto.CodeTooLarge {
		t.Errorf("a log above the cap: %s", code)
	}
	if code := said(0, proto.MaxLostOutput+1); code != proto.CodeTooLarge {
		t.Errorf("an output above the cap: %s", code)
	}
}
