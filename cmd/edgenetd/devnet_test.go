//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"edgenet.dev/node/datadir"
	"edgenet.dev/sandbox/modules"
)

// tool is the test binary under the name that makes it edgenetd.
func tool(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("edgenetd")
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command(path, args...)
}

// A devnet that is interrupted or killed takes its daemons, and the sandbox
// children of those, with it.
func TestDevnetLeavesNothingBehind(t *testing.T) {
	for name, sig := range map[string]os.Signal{"interrupted": os.Interrupt, "terminated": syscall.SIGTERM, "killed": os.Kill} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "ed")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			var errText bytes.Buffer
			// Enough work that it is still busy when the signal comes.
			c := tool(t, "--dir", dir+"/n", "devnet", "--nodes", "3", "--tasks", "5000")
			c.Stderr = &errText
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			pids := waitPids(t, dir+"/n", 3)
			waitWork(t, dir+"/n/node-1")
			pids = append(pids, children(pids)...)
			if len(pids) < 4 {
				t.Fatalf("no daemon has a sandbox child")
			}
			if err := c.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			_ = c.Wait() // the code is looked at below
			if sig != os.Kill && c.ProcessState.ExitCode() != exitInterrupted {
				t.Errorf("exit code %d, want %d: %s", c.ProcessState.ExitCode(), exitInterrupted, errText.String())
			}
			if sig != os.Kill && errText.String() != "edgenetd: interrupted\n" {
				t.Errorf("it said %q", errText.String())
			}
			for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
				left := running(pids, dir)
				if len(left) == 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("still running: %v", left)
				}
			}
		})
	}
}

// waitPids waits until n daemons hold the locks of their directories.
func waitPids(t *testing.T, dir string, n int) []int {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		var pids []int
		for i := range n {
			nodeDir := filepath.Join(dir, "node-"+strconv.Itoa(i))
			if _, err := os.Stat(filepath.Join(nodeDir, "edgenetd.sock")); err != nil {
				break
			}
			if pid, err := strconv.Atoi(datadir.Owner(nodeDir)); err == nil {
				pids = append(pids, pid)
			}
		}
		if len(pids) == n {
			return pids
		}
	}
	t.Fatal("the daemons never started")
	return nil
}

// waitWork waits until some task of the daemon's job is done.
func waitWork(t *testing.T, dir string) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		out, _ := tool(t, "--dir", dir, "task", "list", "-o", "json").Output()
		var jobs []jobView
		if json.Unmarshal(out, &jobs) == nil && len(jobs) == 1 && jobs[0].Done > 0 {
			return
		}
	}
	t.Fatal("the job never started")
}

// children lists the processes whose parent is in pids.
func children(pids []int) (found []int) {
	names, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		// pid (name) state parent …; the name may hold anything
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		pid, err1 := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		parent, err2 := strconv.Atoi(fields[1])
		if err1 == nil && err2 == nil && slices.Contains(pids, parent) {
			found = append(found, pid)
		}
	}
	return found
}

// running lists what is left of pids, and any process whose command line names
// dir.
func running(pids []int, dir string) (left []string) {
	for _, pid := range pids {
		if syscall.Kill(pid, 0) == nil {
			left = append(left, strconv.Itoa(pid))
		}
	}
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(b), dir) {
			left = append(left, name)
		}
	}
	return left
}

// The counts that came back over the network are those of a plain program.
func TestDevnetCountsLikeAPlainProgram(t *testing.T) {
	text := filepath.Join(goroot(t), "src", "testdata", "Isaac.Newton-Opticks.txt")
	want, err := os.ReadFile(text)
	if err != nil {
		t.Fatal(err)
	}
	out, err := tool(t, "devnet", "--nodes", "4", "--tasks", "12", "--input", text, "-o", "json").Output()
	if err != nil {
		t.Fatalf("devnet: %v\n%s", err, out)
	}
	var got devnetReport
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	reference := modules.ReferenceCounts(want)
	if len(reference) < 1000 || len(got.Result.Counts) != len(reference) {
		t.Fatalf("%d distinct words, want %d", len(got.Result.Counts), len(reference))
	}
	for word, n := range reference {
		if got.Result.Counts[word] != n {
			t.Errorf("%q: %d, want %d", word, got.Result.Counts[word], n)
		}
	}
	if got.Verified != 12 || got.Receipts.Valid != 24 || !got.Conservation || !got.BalancesEqual {
		t.Errorf("report: %d verified, %d receipts, conservation %v, equal %v", got.Verified, got.Receipts.Valid, got.Conservation, got.BalancesEqual)
	}
}

func goroot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// Four witnesses certify with three commits or more.
func TestDevnetOfFourWitnesses(t *testing.T) {
	out, err := tool(t, "devnet", "--witnesses", "4", "--redundancy", "3", "--tasks", "6", "-o", "json").Output()
	if err != nil {
		t.Fatalf("devnet: %v\n%s", err, out)
	}
	var got devnetReport
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if got.Nodes != 8 || got.Witnesses != 4 || got.Quorum != 3 || got.Certificates < 3 || !got.Conservation || !got.BalancesEqual || got.Verified != 6 || got.Receipts.Valid != 18 {
		t.Errorf("report: %d nodes, %d witnesses, quorum %d, %d certificates, conservation %v, equal %v, %d verified",
			got.Nodes, got.Witnesses, got.Quorum, got.Certificates, got.Conservation, got.BalancesEqual, got.Verified)
	}
}
