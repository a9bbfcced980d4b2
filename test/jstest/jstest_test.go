//go:build unix

package jstest_test

import (
	"context"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"edgenet.dev/test/jstest"
)

// guard bounds a hang only.
const guard = 5 * time.Minute

type output struct {
	mu sync.Mutex
	b  strings.Builder
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Packages whose tests need what only a browser has.
func TestInBrowser(t *testing.T) {
	for _, pkg := range []string{"edgenet.dev/ledger/store/indexeddb"} {
		t.Run(pkg, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), guard)
			defer cancel()
			var out output
			err := jstest.Test(ctx, &out, pkg, "-test.v", "-rapid.nofailfile")
			t.Log(out.String())
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out.String(), "--- PASS") {
				t.Error("no test ran")
			}
		})
	}
}

// What fails in the browser fails here.
func TestReportsFailure(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), guard)
	defer cancel()
	var out output
	if err := jstest.Test(ctx, &out, "edgenet.dev/ledger/store/indexeddb", "-test.no-such-flag"); err == nil {
		t.Errorf("an unknown flag passes: %s", out.String())
	}
}

// The packages that a tab links and that need no browser, in Node. Of the
// ledger it is what is arithmetic and encoding: the rest takes minutes there.
func TestInNode(t *testing.T) {
	glue, err := jstest.WasmExec(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec := filepath.Join(filepath.Dir(glue), "go_js_wasm_exec")
	for pkg, only := range map[string]string{
		"edgenet.dev/browser/wasm":           "",
		"edgenet.dev/proto":                  "",
		"edgenet.dev/market":                 "",
		"edgenet.dev/sandbox":                "",
		"edgenet.dev/sandbox/instrument":     "",
		"edgenet.dev/transport":              "",
		"edgenet.dev/transport/webtransport": "",
		"edgenet.dev/ledger":                 "Bonus|Mint|Reward|Claim|Close$|Curve|StateHashGolden|StateCodec|ChainRules|SecondCertificate|SplitSettle|Refus|Misconduct|Forgeries|MergeLawsWith",
	} {
		t.Run(strings.ReplaceAll(strings.TrimPrefix(pkg, "edgenet.dev/"), "/", "-"), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), guard)
			defer cancel()
			args := []string{"test", "-v", "-short", "-count", "1", "-exec", exec}
			if only != "" {
				args = append(args, "-run", only)
			}
			cmd := osexec.CommandContext(ctx, "go", append(args, pkg)...)
			cmd.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm", "CGO_ENABLED=0")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if !strings.Contains(string(out), "--- PASS") {
				t.Errorf("no test ran:\n%s", out)
			}
		})
	}
}
