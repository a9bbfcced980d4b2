//go:build unix

package jstest_test

import (
	"context"
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
