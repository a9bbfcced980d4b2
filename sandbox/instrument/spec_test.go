//go:build !js

package instrument_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"edgenet.dev/sandbox/instrument"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// wazeroDir is where the module cache keeps wazero's source, which carries the
// WebAssembly specification's test suite.
func wazeroDir(t testing.TB) string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	dir := strings.TrimSpace(string(out))
	if err != nil || dir == "" {
		t.Fatalf("wazero's source is not in the module cache (run go mod download): %v", err)
	}
	return dir
}

func specModules(t testing.TB) map[string][]byte {
	dir := filepath.Join(wazeroDir(t), "internal", "integration_test", "spectest", "v2", "testdata")
	files, err := filepath.Glob(filepath.Join(dir, "*.wasm"))
	if err != nil || len(files) < 1000 {
		t.Fatalf("%d spec modules in %s: %v", len(files), dir, err)
	}
	mods := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		mods[filepath.Base(f)] = b
	}
	return mods
}

// policy are the reasons for which a valid module may be refused.
var policy = []string{
	"externref", "imported table", "imported memory", "imported global", "global.get in a constant",
	"memory minimum", "at most", "SIMD opcode", "which is outside", "which is active",
}

// TestSpecSuite checks the reader against wazero's validator: what wazero
// refuses is refused, what is refused without need is refused by policy, and
// what is accepted is still valid after the rewrite.
func TestSpecSuite(t *testing.T) {
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(api.CoreFeaturesV2))
	defer rt.Close(ctx)
	valid := func(b []byte) error {
		c, err := rt.CompileModule(ctx, b)
		if err == nil {
			c.Close(ctx)
		}
		return err
	}
	var accepted, refused, byPolicy int
	for name, raw := range specModules(t) {
		engine := valid(raw)
		res, err := instrument.Rewrite(raw, instrument.Config{MemoryPages: 65536})
		var refusal *instrument.RefusedError
		if err != nil && !errors.As(err, &refusal) {
			t.Fatalf("%s: %v", name, err)
		}
		switch {
		case err == nil && engine != nil:
			t.Errorf("%s: accepted, but wazero says: %v", name, engine)
		case err != nil && engine != nil:
			refused++
		case err != nil:
			ok := false
			for _, p := range policy {
				ok = ok || strings.Contains(refusal.Reason, p)
			}
			if !ok {
				t.Errorf("%s: %v", name, err)
			}
			byPolicy++
		default:
			accepted++
			for _, sliced := range []bool{false, true} {
				res, err = instrument.Rewrite(raw, instrument.Config{MemoryPages: 65536, Sliced: sliced})
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if err := valid(res.Bytes); err != nil {
					t.Errorf("%s: invalid after the rewrite: %v", name, err)
				}
			}
			again, err := instrument.Rewrite(raw, instrument.Config{MemoryPages: 65536, Sliced: true})
			if err != nil || !bytes.Equal(again.Bytes, res.Bytes) {
				t.Errorf("%s: two rewrites differ", name)
			}
		}
	}
	t.Logf("%d accepted, %d refused as invalid, %d refused by policy", accepted, refused, byPolicy)
	if accepted < 1000 || refused < 1000 {
		t.Errorf("the suite shrank: %d accepted, %d refused", accepted, refused)
	}
}
