package test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"edgenet.dev/proto/api"
	"edgenet.dev/test/daemon"
)

// slow is a task of seconds; quick ones are long enough for a batch of them to
// be caught in the middle.
const (
	slow  = 1_500_000_000
	quick = 60_000_000
)

func rounds(n int, base uint64) []uint64 {
	out := make([]uint64, n)
	for i := range out {
		out[i] = base + uint64(i)
	}
	return out
}

// children are the process ids whose parent is pid.
func children(t *testing.T, pid int) (out []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		t.Fatalf("no /proc: %v", err)
	}
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // ended meanwhile
		}
		// pid (name) state ppid …; the name may hold anything.
		rest := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(rest) > 1 && rest[1] == strconv.Itoa(pid) {
			child, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, child)
		}
	}
	return out
}

// started identifies a process beyond its id, which the kernel uses again.
func started(pid int) string {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return ""
	}
	rest := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(rest) < 20 || rest[0] == "Z" {
		return ""
	}
	return rest[19]
}

// A worker is killed while it runs a task: the task finishes on another one.
func TestKillWorker(t *testing.T) {
	net := network(t, usual(2)...)
	payer := net.Node("submitter")
	before := equalBooks(t, net)
	counts := []uint64{slow}
	id := submit(t, payer, spinJob(1, counts...))

	// Both the submitter and the worker itself must say that it is running, and
	// the sandbox process, which starts with the first task, must be there.
	var victim *daemon.Node
	eventually(t, "a worker runs the task", func() (bool, string) {
		j := job(t, payer, id)
		if final(j.State) {
			t.Fatalf("the task ended before anything was killed: %s", describe(j))
		}
		for _, task := range j.TaskInfo {
			for _, rep := range task.Replicas {
				if rep.State != "running" {
					continue
				}
				for _, nd := range net.Nodes {
					if nd.ID.String() == rep.Worker && status(t, nd).Worker.Busy == 1 && len(children(t, nd.Pid())) > 0 {
						victim = nd
						return true, ""
					}
				}
			}
		}
		return false, describe(j)
	})
	boxes := map[int]string{}
	for _, pid := range children(t, victim.Pid()) {
		boxes[pid] = started(pid)
	}
	if len(boxes) == 0 {
		t.Error("the running worker has no sandbox process")
	}
	if err := victim.Kill(); err != nil {
		t.Fatal(err)
	}
	if j := job(t, payer, id); final(j.State) {
		t.Fatalf("the task ended before its worker was killed: %s", describe(j))
	}
	eventually(t, "the killed worker's sandbox ends too", func() (bool, string) {
		for pid, start := range boxes {
			if start != "" && started(pid) == start {
				return false, "process " + strconv.Itoa(pid) + " runs on"
			}
		}
		return true, ""
	})

	finished(t, payer, id)
	got := results(t, payer, id)
	wantSpun(t, got, counts)
	if w := got[0].Workers; len(w) != 1 || w[0] == victim.ID.String() {
		t.Errorf("the result comes from %v, killed was %s", w, victim.ID)
	}
	start(t, victim)
	settled(t, payer, id)
	after := equalBooks(t, net)
	paidOnce(t, net, payer, before, after, id)
	if after.total[victim.ID] != before.total[victim.ID] {
		t.Errorf("the killed worker had %d and has %d", before.total[victim.ID], after.total[victim.ID])
	}
}

// midBatch waits until some, but not all, tasks of a job are done.
func midBatch(t *testing.T, payer *daemon.Node, id string) {
	t.Helper()
	eventually(t, "the batch is under way", func() (bool, string) {
		j := job(t, payer, id)
		if final(j.State) {
			t.Fatalf("the batch ended before anything was killed: %s", describe(j))
		}
		return j.Done >= j.Tasks/5, describe(j)
	})
}

// The submitter's daemon is killed in the middle of a batch and started again:
// the batch completes, and nothing is paid twice but results that were lost with it.
func TestKillSubmitter(t *testing.T) {
	net := network(t, usual(2)...)
	payer := net.Node("submitter")
	before := equalBooks(t, net)
	counts := rounds(40, quick)
	id := submit(t, payer, spinJob(2, counts...))
	midBatch(t, payer, id)
	if err := payer.Kill(); err != nil {
		t.Fatal(err)
	}
	start(t, payer)
	j := job(t, payer, id)
	if final(j.State) {
		t.Fatalf("nothing was left to do after the kill: %s", describe(j))
	}
	finished(t, payer, id)
	agree(t, net, payer, id)
	wantSpun(t, results(t, payer, id), counts)
	settled(t, payer, id)
	dearest := uint64(0)
	for _, task := range job(t, payer, id).TaskInfo {
		for _, rep := range task.Replicas {
			dearest = max(dearest, rep.Paid)
		}
	}
	paid(t, net, payer, before, equalBooks(t, net), uint64(len(counts))*dearest, id)
}

// The witness is killed in the middle of a batch and started again.
func TestKillWitness(t *testing.T) {
	net := network(t, usual(2)...)
	payer, witness := net.Node("submitter"), net.Node("witness")
	before := equalBooks(t, net)
	counts := rounds(40, quick)
	id := submit(t, payer, spinJob(2, counts...))
	midBatch(t, payer, id)
	if err := witness.Kill(); err != nil {
		t.Fatal(err)
	}
	start(t, witness)
	finished(t, payer, id)
	agree(t, net, payer, id)
	wantSpun(t, results(t, payer, id), counts)
	settled(t, payer, id)
	paidOnce(t, net, payer, before, equalBooks(t, net), id)

	// It still certifies: a new payment goes through.
	if _, err := daemon.Call(t.Context(), payer.Wallet.Transfer, &api.TransferRequest{To: net.Node("worker0").ID.String(), Amount: 1}); err != nil {
		t.Errorf("transfer after the witness came back: %v", err)
	}
}
