package test

import (
	"testing"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/test/daemon"
)

// A short task of one submitter is done while a long one of another has the only
// slot of the only worker: the long one stands still for it, and loses nothing.
func TestGuestsTakeTurns(t *testing.T) {
	net := prepared(
		t, new(proto.Genesis),
		daemon.Spec{Name: "witness", Witness: true, Grant: thousand, Flags: idle},
		daemon.Spec{Name: "submitter", Grant: thousand, Via: []string{"witness"}, Flags: idle},
		daemon.Spec{Name: "worker", Via: []string{"witness"}, Flags: server},
	)
	start(t, net.Nodes...)
	req := heavyJob(t, 1, 1_000_000) // minutes
	req.RunTimeoutMs = uint64(5 * time.Minute / time.Millisecond)
	long := submit(t, net.Node("witness"), req)
	eventually(t, "the long task runs", func() (bool, string) {
		j := job(t, net.Node("witness"), long)
		return j.State == "running", describe(j)
	})
	short := submit(t, net.Node("submitter"), heavyJob(t, 1, 1))
	if j := outcome(t, net.Node("submitter"), short); j.State != "done" || len(j.Lost) > 0 {
		t.Errorf("the short task: %s; %s", describe(j), why(t, net.Node("submitter"), short))
	}
	if j := job(t, net.Node("witness"), long); j.State != "running" || len(j.Lost) > 0 {
		t.Errorf("the long task: %s; %s", describe(j), why(t, net.Node("witness"), long))
	}
}
