package test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edgenet.dev/sandbox/modules"
)

// The demo, as make demo runs it: the network's word counts of a whole book
// equal those of a plain program, also when one node lies.
func TestDemo(t *testing.T) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	book := filepath.Join(strings.TrimSpace(string(out)), "src", "testdata", "Isaac.Newton-Opticks.txt")
	text, err := os.ReadFile(book)
	if err != nil {
		t.Fatal(err)
	}
	want := modules.ReferenceCounts(text)
	if len(want) < 4000 {
		t.Fatalf("the reference finds only %d words", len(want))
	}
	for name, args := range map[string][]string{"honest": nil, "one liar": {"--liars", "1"}} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), guard)
			defer cancel()
			cmd := exec.CommandContext(ctx, edgenetd, append([]string{"devnet", "--input", book, "-o", "json", "--timeout", "2m"}, args...)...)
			cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // so that it ends its daemons
			cmd.WaitDelay = 30 * time.Second
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Run(); err != nil {
				t.Fatalf("devnet: %v\n%s", err, stderr.String())
			}
			var got struct {
				Nodes, Tasks, Verified, Failed int
				Fuel, Cost                     uint64
				Conservation                   bool   `json:"conservation"`
				BalancesEqual                  bool   `json:"balances_equal"`
				ElapsedMs                      *int64 `json:"elapsed_ms"`
				Result                         struct {
					Counts map[string]uint64
				}
			}
			dec := json.NewDecoder(&stdout)
			if err := dec.Decode(&got); err != nil {
				t.Fatal(err)
			}
			if dec.More() {
				t.Error("devnet printed more than one object")
			}
			if got.Nodes != 5 || got.Tasks != 24 || got.Verified != got.Tasks || got.Failed != 0 || got.Fuel == 0 || got.Cost == 0 ||
				!got.Conservation || !got.BalancesEqual || got.ElapsedMs == nil {
				got.Result.Counts = nil
				t.Errorf("devnet reports %+v", got)
				return
			}
			if !maps.Equal(got.Result.Counts, want) {
				t.Errorf("the network counts %d different words, the reference %d, and they differ", len(got.Result.Counts), len(want))
			}
		})
	}
}
