package test

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/sandbox"
	"edgenet.dev/test/daemon"
)

// heavyJob asks for so many rounds of heavy.c, about 1 Gfuel each.
func heavyJob(t *testing.T, redundancy uint32, rounds int) *api.SubmitRequest {
	t.Helper()
	module, err := os.ReadFile("testdata/heavy/heavy.wasm")
	if err != nil {
		t.Fatal(err)
	}
	return &api.SubmitRequest{
		Module: module, Redundancy: redundancy, MaxCredits: uint64(500 * proto.OneCredit), FuelLimit: 1_000_000_000_000,
		Inputs: [][]byte{fmt.Append(nil, rounds)}, TimeoutMs: uint64(10 * time.Minute / time.Millisecond),
	}
}

// heavyRounds is the number of rounds that take about d of a whole core here.
func heavyRounds(t *testing.T, d time.Duration) int {
	t.Helper()
	m, err := sandbox.Prepare(heavyJob(t, 1, 1).Module, sandbox.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	ex, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer ex.Close()
	res, err := ex.Run(context.Background(), m, []byte("1"), sandbox.Task{Limits: proto.Limits{Wall: time.Hour}})
	if err != nil || res.Status != proto.StatusOK || res.Ran <= 0 {
		t.Fatalf("%v, %s after %s", err, res.Status, res.Ran)
	}
	return max(1, int(math.Ceil(float64(d)/float64(res.Ran))))
}

func workersOf(j *api.Job) (out []string) {
	for _, task := range j.TaskInfo {
		for _, r := range task.Replicas {
			out = append(out, r.Worker)
		}
	}
	return out
}

// outcome waits until a job is final, however.
func outcome(t *testing.T, nd *daemon.Node, id string) *api.Job {
	t.Helper()
	var j *api.Job
	eventually(t, "job "+id+" ends", func() (bool, string) {
		j = job(t, nd, id)
		return final(j.State), describe(j) + "; " + why(t, nd, id)
	})
	return j
}

// Time is a limit that people set: a worker with a tenth of a core finishes what
// takes it longer than the run timeout by the clock (case 18), faster ones are
// taken first, and free ones before those with a long task (case 21). Each
// timeout ends a job with a code of its own, and why tells every lost try.
func TestTimeouts(t *testing.T) {
	net := prepared(
		t, new(proto.Genesis),
		daemon.Spec{Name: "witness", Witness: true, Flags: idle},
		daemon.Spec{Name: "submitter", Grant: thousand, Via: []string{"witness"}, Flags: idle},
		daemon.Spec{Name: "slow", Via: []string{"witness"}, Flags: with(server, "--cpu", "10")},
		daemon.Spec{Name: "fast0", Via: []string{"witness"}, Flags: server},
		daemon.Spec{Name: "fast1", Via: []string{"witness"}, Flags: server},
	)
	payer, slow := net.Node("submitter"), net.Node("slow")
	start(t, net.Node("witness"), payer, slow)

	// Three tenths of a second of work take three seconds there; the run timeout
	// is one. Every try would be lost if the clock ran on while it is stopped.
	req := heavyJob(t, 1, heavyRounds(t, 300*time.Millisecond))
	req.RunTimeoutMs = 1000
	id := submit(t, payer, req)
	j := finished(t, payer, id)
	if got := workersOf(j); !slices.Contains(got, slow.ID.String()) || j.RunTimeoutMs != 1000 {
		t.Fatalf("run by %v with a run timeout of %d ms", got, j.RunTimeoutMs)
	}
	settled(t, payer, id)

	start(t, net.Node("fast0"), net.Node("fast1"))
	eventually(t, "the submitter knows all workers", func() (bool, string) {
		st := status(t, payer)
		return st.OfferTopicPeers >= 3, st.String()
	})
	req.Redundancy, req.RunTimeoutMs = 2, 0
	id = submit(t, payer, req)
	if got := workersOf(finished(t, payer, id)); slices.Contains(got, slow.ID.String()) {
		t.Errorf("the slow worker was chosen beside two idle fast ones: %v", got)
	}
	settled(t, payer, id)

	// A short job beside a long one that has two of the three.
	long := heavyJob(t, 2, 1_000_000)
	long.RunTimeoutMs = uint64(5 * time.Minute / time.Millisecond)
	busy := submit(t, payer, long)
	eventually(t, "the long job runs", func() (bool, string) {
		j := job(t, payer, busy)
		return len(workersOf(j)) == 2, describe(j)
	})
	id = submit(t, payer, countJob(1, texts(8)...))
	got := workersOf(finished(t, payer, id))
	for _, w := range workersOf(job(t, payer, busy)) {
		if slices.Contains(got, w) {
			t.Errorf("a short task went to a worker with a long one, and another was free: %v", got)
		}
	}
	if _, err := daemon.Call(t.Context(), payer.Tasks.Cancel, &api.CancelRequest{Job: busy}); err != nil {
		t.Fatal(err)
	}

	// The queue's: nobody runs what needs four workers.
	none := countJob(4, "a b c")
	none.QueueTimeoutMs = 500
	if j := outcome(t, payer, submit(t, payer, none)); j.State != "expired" || j.Code != "QUEUE_TIMEOUT" || j.QueueTimeoutMs != 500 {
		t.Errorf("a job that nobody can run: %s, queue timeout of %d ms", describe(j), j.QueueTimeoutMs)
	}
	// The job's.
	whole := heavyJob(t, 1, 1_000_000)
	whole.TimeoutMs = 1500
	id = submit(t, payer, whole)
	if j := outcome(t, payer, id); j.State != "expired" || j.Code != "TIMEOUT" {
		t.Errorf("a job that takes too long: %s", describe(j))
	}
	// A try's: it is told while the job runs, and the others are asked before one
	// is asked again.
	endless := heavyJob(t, 1, 1_000_000)
	endless.RunTimeoutMs = 1000
	workers := []*daemon.Node{slow, net.Node("fast0"), net.Node("fast1")}
	settled(t, payer, id)
	was := balances(t, payer, workers)
	id = submit(t, payer, endless)
	eventually(t, "lost tries are told", func() (bool, string) {
		j = job(t, payer, id)
		return len(j.Lost) >= 2, describe(j)
	})
	if final(j.State) || j.Lost[0].Worker == j.Lost[1].Worker || j.Lost[0].Code != "RUN_TIMEOUT" || j.Lost[0].Reason == "" {
		t.Errorf("%s; lost: %v", describe(j), j.Lost)
	}
	if lines := why(t, payer, id); !strings.Contains(lines, j.Lost[0].Worker) || !strings.Contains(lines, "RUN_TIMEOUT") {
		t.Errorf("why says: %s", lines)
	}
	if j := outcome(t, payer, id); j.State != "failed" || j.Code != "RUN_TIMEOUT" || j.LostTries < 3 {
		t.Errorf("a task that no try ends: %s, %d lost", describe(j), j.LostTries)
	}
	paidInPart(t, settled(t, payer, id), was, balances(t, payer, workers))

	// The network's cap.
	endless.RunTimeoutMs, endless.TimeoutMs = uint64(2*time.Hour/time.Millisecond), uint64(3*time.Hour/time.Millisecond)
	if _, err := daemon.Call(t.Context(), payer.Tasks.Submit, endless); err == nil || !strings.Contains(err.Error(), "at most 1h0m0s") {
		t.Errorf("a run timeout above the cap: %v", err)
	}
}

// balances are what accounts have, as a node's ledger says.
func balances(t *testing.T, at *daemon.Node, of []*daemon.Node) map[string]uint64 {
	t.Helper()
	out := map[string]uint64{}
	for _, nd := range of {
		r, err := daemon.Call(t.Context(), at.Wallet.Balance, &api.BalanceRequest{Account: nd.ID.String()})
		if err != nil {
			t.Fatal(err)
		}
		out[nd.ID.String()] = r.Available + r.Receivable
	}
	return out
}

// paidInPart wants at least two workers of a task whose time ran out everywhere to
// have been paid for what they used, and no more than a second of the reference
// CPU costs, once each; what a record says of it they have in the ledger.
func paidInPart(t *testing.T, j *api.Job, was, now map[string]uint64) {
	t.Helper()
	paid := map[string]uint64{}
	most := uint64(proto.PayFor(proto.ReferenceRate*proto.Fuel(j.RunTimeoutMs)/1000, proto.OneCredit))
	for _, r := range j.TaskInfo[0].Replicas {
		if (r.State == "partial") != (r.Paid > 0) && r.State != "trial" {
			t.Errorf("execution on %s is %s, paid %d", r.Worker, r.State, r.Paid)
		}
		if r.State == "partial" && (r.Paid > most || r.Fuel == 0 || r.Code != "RUN_TIMEOUT") {
			t.Errorf("paid %d for %d fuel, at most %d: %s", r.Paid, r.Fuel, most, r.Code)
		}
		paid[r.Worker] += r.Paid
	}
	if len(paid) < 2 {
		t.Errorf("paid in part: %v; %v", paid, j.TaskInfo[0].Replicas)
	}
	for w, is := range now {
		if is-was[w] != paid[w] {
			t.Errorf("%s is paid %d, its record says %d", w, is-was[w], paid[w])
		}
	}
}
