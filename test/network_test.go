package test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/test/daemon"
)

// guard bounds how long a test waits for something that must happen. Nothing
// is measured against it.
const guard = 3 * time.Minute

// network starts real daemons and ends them with the test. When the test has
// failed it prints the end of each daemon's log.
func network(t *testing.T, specs ...daemon.Spec) *daemon.Net {
	t.Helper()
	return networkOf(t, new(proto.Genesis), specs...)
}

// networkOf is network with other figures in the genesis.
func networkOf(t *testing.T, g *proto.Genesis, specs ...daemon.Spec) *daemon.Net {
	t.Helper()
	n := prepared(t, g, specs...)
	running(t, n)
	return n
}

// prepared is networkOf before its daemons start: their ids are known, and
// their flags can still change.
func prepared(t *testing.T, g *proto.Genesis, specs ...daemon.Spec) *daemon.Net {
	t.Helper()
	n, err := daemon.NewOf(edgenetd, g, specs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { // runs before the one above
		logs := n.Logs(1 << 20)
		if raceEnabled && strings.Contains(logs, "WARNING: DATA RACE") {
			t.Error("a daemon reported a data race")
		}
		if strings.Contains(logs, "\npanic: ") {
			t.Error("a daemon panicked")
		}
		if t.Failed() {
			t.Log(n.Logs(6000))
		}
	})
	return n
}

func running(t *testing.T, n *daemon.Net) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), guard)
	defer cancel()
	if err := n.Start(ctx); err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, nodes ...*daemon.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), guard)
	defer cancel()
	for _, nd := range nodes {
		if err := nd.Start(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// Flags of daemons. Kademlia runs in server mode, because on loopback nobody
// can find out from outside that it is reachable.
var (
	server = []string{"--dht", "server"}
	idle   = []string{"--dht", "server", "--no-work"}
)

func with(flags []string, more ...string) []string {
	return append(append([]string(nil), flags...), more...)
}

const thousand = 1000 * proto.OneCredit

// usual is a network of a witness that does nothing else, a submitter, and
// workers that know the witness only.
func usual(workers int, flags ...string) []daemon.Spec {
	specs := []daemon.Spec{
		{Name: "witness", Witness: true, Flags: idle},
		{Name: "submitter", Grant: thousand, Via: []string{"witness"}, Flags: idle},
	}
	for i := range workers {
		specs = append(specs, daemon.Spec{
			Name: fmt.Sprintf("worker%d", i), Grant: thousand, Via: []string{"witness"}, Flags: with(server, flags...),
		})
	}
	return specs
}

// eventually polls until ok, with a guard against hanging. say describes the
// last state seen.
func eventually(t *testing.T, what string, check func() (ok bool, say string)) {
	t.Helper()
	var say string
	for end := time.Now().Add(guard); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var ok bool
		if ok, say = check(); ok {
			return
		}
	}
	t.Fatalf("%s: it did not happen; last seen: %s", what, say)
}

func status(t *testing.T, nd *daemon.Node) *api.StatusReply {
	t.Helper()
	st, err := nd.Status(t.Context())
	if err != nil {
		t.Fatalf("status of %s: %v", nd.Name, err)
	}
	return st
}

func submit(t *testing.T, nd *daemon.Node, req *api.SubmitRequest) string {
	t.Helper()
	r, err := daemon.Call(t.Context(), nd.Tasks.Submit, req)
	if err != nil {
		t.Fatalf("submit: %v", err)
	}
	return r.Job
}

func job(t *testing.T, nd *daemon.Node, id string) *api.Job {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	j, err := daemon.Call(ctx, nd.Tasks.Get, &api.GetRequest{Job: id})
	if err != nil {
		t.Fatalf("job %s: %v", id, err)
	}
	return j
}

func final(state string) bool {
	switch state {
	case "done", "failed", "cancelled", "expired":
		return true
	}
	return false
}

func describe(j *api.Job) string {
	return fmt.Sprintf("%s, %d of %d done, %d failed, %d running, settled %t %s %s",
		j.State, j.Done, j.Tasks, j.Failed, j.Running, j.Settled, j.Code, j.Reason)
}

// finished waits until a job is done with all tasks verified, and returns it.
func finished(t *testing.T, nd *daemon.Node, id string) *api.Job {
	t.Helper()
	var j *api.Job
	eventually(t, "job "+id+" ends", func() (bool, string) {
		j = job(t, nd, id)
		return final(j.State), describe(j) + "; " + why(t, nd, id)
	})
	if j.State != "done" || j.Done != j.Tasks || j.Failed != 0 {
		t.Fatalf("job %s: %s", id, describe(j))
	}
	if j.Redundancy > 1 && j.Verified != j.Tasks {
		t.Fatalf("job %s: %d of %d tasks verified", id, j.Verified, j.Tasks)
	}
	return j
}

func why(t *testing.T, nd *daemon.Node, id string) string {
	r, err := daemon.Call(t.Context(), nd.Tasks.Why, &api.GetRequest{Job: id})
	if err != nil {
		return err.Error()
	}
	return strings.Join(r.Lines, "; ")
}

// settled waits until nothing of a job waits for payment any more.
func settled(t *testing.T, nd *daemon.Node, id string) *api.Job {
	t.Helper()
	var j *api.Job
	eventually(t, "job "+id+" is settled", func() (bool, string) {
		j = job(t, nd, id)
		return j.Settled, describe(j)
	})
	return j
}

// results reads all results of a job, in task order.
func results(t *testing.T, nd *daemon.Node, id string) []*api.TaskResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), guard)
	defer cancel()
	stream, err := nd.Tasks.Results(ctx, connectRequest(&api.GetRequest{Job: id}))
	if err != nil {
		t.Fatalf("results of %s: %v", id, err)
	}
	defer stream.Close()
	var out []*api.TaskResult
	for stream.Receive() {
		out = append(out, goproto.Clone(stream.Msg()).(*api.TaskResult))
	}
	if err := stream.Err(); err != nil {
		t.Fatalf("results of %s: %v", id, err)
	}
	for i, r := range out {
		if int(r.Index) != i {
			t.Fatalf("results of %s: task %d in place %d", id, r.Index, i)
		}
	}
	return out
}

// spinJob asks for one slow task per count, with the module of wasm_test.go.
func spinJob(redundancy uint32, rounds ...uint64) *api.SubmitRequest {
	req := &api.SubmitRequest{Module: spinModule(), Redundancy: redundancy, MaxCredits: uint64(500 * proto.OneCredit), TimeoutMs: uint64(10 * time.Minute / time.Millisecond), FuelLimit: 60_000_000_000}
	for _, n := range rounds {
		req.Inputs = append(req.Inputs, spinInput(n))
	}
	return req
}

// wantSpun compares a spin job's outputs with the same computation in Go.
func wantSpun(t *testing.T, got []*api.TaskResult, rounds []uint64) {
	t.Helper()
	if len(got) != len(rounds) {
		t.Fatalf("%d results for %d tasks", len(got), len(rounds))
	}
	for i, r := range got {
		if want := spinWant(rounds[i]); !bytes.Equal(r.Output, want) {
			t.Errorf("task %d: output %x, want %x", i, r.Output, want)
		}
	}
}

// countJob asks for word counts, one task per text.
func countJob(redundancy uint32, texts ...string) *api.SubmitRequest {
	req := &api.SubmitRequest{Type: proto.TypeText, Redundancy: redundancy, MaxCredits: uint64(100 * proto.OneCredit), TimeoutMs: uint64(10 * time.Minute / time.Millisecond)}
	for _, text := range texts {
		req.Inputs = append(req.Inputs, []byte(text))
	}
	return req
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
