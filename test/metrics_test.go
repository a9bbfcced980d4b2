package test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"edgenet.dev/proto"
	localapi "edgenet.dev/proto/api"
	"edgenet.dev/test/daemon"
)

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func get(ctx context.Context, url string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// What a daemon tells Prometheus passes Prometheus' own check and counts what
// was done; /readyz follows the witnesses.
func TestMetrics(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	addr := freePort(t)
	base := "http://" + addr
	net, err := daemon.New(edgenetd,
		daemon.Spec{Name: "witness", Witness: true, Flags: []string{"--no-work"}},
		daemon.Spec{Name: "worker", Via: []string{"witness"}, Flags: []string{"--metrics", addr, "--metrics-pprof"}},
		daemon.Spec{Name: "payer", Grant: 100 * proto.OneCredit, Via: []string{"witness", "worker"}, Flags: []string{"--no-work"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	defer net.Close()
	if err := net.Start(ctx); err != nil {
		t.Fatal(err)
	}
	until := func(what string, path string, want int, pattern string) string {
		t.Helper()
		for {
			status, body, err := get(ctx, base+path)
			if err == nil && status == want && regexp.MustCompile(pattern).MatchString(body) {
				return body
			}
			if ctx.Err() != nil {
				t.Fatalf("%s: %s answers %d %q (%v)\n%s", what, path, status, body, err, net.Logs(2000))
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	until("at the start", "/readyz", 200, `^ok\n$`)
	until("at the start", "/healthz", 200, `^ok\n$`)

	payer := net.Node("payer")
	sub, err := payer.Tasks.Submit(ctx, connect.NewRequest(&localapi.SubmitRequest{Type: "text", Inputs: [][]byte{[]byte("one two")}, Redundancy: 1, MaxCredits: uint64(5 * proto.OneCredit)}))
	if err != nil {
		t.Fatal(err)
	}
	watch, err := payer.Tasks.Watch(ctx, connect.NewRequest(&localapi.GetRequest{Job: sub.Msg.Job}))
	if err != nil {
		t.Fatal(err)
	}
	for watch.Receive() {
	}
	if err := watch.Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Node("worker").Nodes.Block(ctx, connect.NewRequest(&localapi.BlockRequest{Value: proto.TypeVectors})); err != nil {
		t.Fatal(err)
	}
	text := until("after a task", "/metrics", 200, `(?m)^edgenet_received_microcredits_total [1-9]`)

	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(text)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	for _, line := range []string{
		`edgenet_worker_executions_total\{status="ok"\} 1`, `edgenet_worker_tasks_taken_total 1`, `edgenet_worker_fuel_total [1-9]`,
		`edgenet_worker_slots 1`, `edgenet_worker_queue 0`, `edgenet_jobs\{state="done"\} 0`, `edgenet_tasks\{state="running"\} 0`,
		`edgenet_account_microcredits\{kind="available"\} [1-9]`, `edgenet_witnesses_reachable 1`, `edgenet_witness_quorum 1`,
		`edgenet_witness_reachable\{witness="0"\} 1`, `edgenet_ready 1`, `edgenet_ledger_synced 1`, `edgenet_ledger_events [1-9]`,
		`edgenet_sandbox_children_started_total [1-9]`, `edgenet_store_bytes\{store="ledger"\} [1-9]`, `edgenet_store_bytes\{store="claims"\} \d`, `edgenet_store_limit_bytes\{store="claims"\} [1-9]`, `edgenet_disk_free_bytes [1-9]`,
		`edgenet_clock_offset_seconds `, `edgenet_blocked_entries\{kind="module"\} 1`, `edgenet_blocked_refusals_total\{kind="submitter"\} 0`, `edgenet_peers [1-9]`, `libp2p_swarm_connections_opened_total\{`, `process_resident_memory_bytes `, `go_goroutines `,
	} {
		if !regexp.MustCompile(`(?m)^` + line).MatchString(text) {
			t.Errorf("no metric matches %s", line)
		}
	}
	// Whoever can choose a label's value can fill the memory of who scrapes.
	for _, nd := range net.Nodes {
		if strings.Contains(text, nd.ID.String()) {
			t.Errorf("the peer id of %s is in the metrics", nd.Name)
		}
	}
	if status, _, err := get(ctx, base+"/debug/pprof/"); err != nil || status != 200 {
		t.Errorf("pprof answers %d (%v)", status, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "attacker.example"
	if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("a page under another name may read the metrics: %v %v", resp, err)
	} else {
		resp.Body.Close()
	}

	if !net.Node("witness").Terminate(20 * time.Second) {
		t.Fatal("the witness did not end")
	}
	until("without a witness", "/readyz", 503, `0 of 1 witnesses answer and a quorum is 1`)
	until("without a witness", "/metrics", 200, `(?m)^edgenet_ready 0\n`)
	until("without a witness", "/healthz", 200, `^ok\n$`)
	if err := net.Node("witness").Start(ctx); err != nil {
		t.Fatal(err)
	}
	until("with the witness back", "/readyz", 200, `^ok\n$`)
}
