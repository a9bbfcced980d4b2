//go:build !js

package modules_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/modules"
)

func read(t testing.TB, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRebuild builds the modules from their sources. The compiler that built
// the committed ones must give the same bytes; another version must give
// modules that behave the same.
func TestRebuild(t *testing.T) {
	for _, tool := range []string{"clang", "wasm-ld"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: apt-get install clang lld", tool)
		}
	}
	dir := t.TempDir()
	if out, err := exec.Command("./build.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("build.sh: %v\n%s", err, out)
	}
	same := bytes.Equal(read(t, "TOOLCHAIN"), read(t, dir, "TOOLCHAIN"))
	if same && !bytes.Equal(read(t, "SHA256SUMS"), read(t, dir, "SHA256SUMS")) {
		t.Errorf("rebuilding gives other bytes:\n%s\ncommitted:\n%s", read(t, dir, "SHA256SUMS"), read(t, "SHA256SUMS"))
	}
	if !same {
		t.Logf("built with another compiler, comparing behaviour:\n%s", read(t, dir, "TOOLCHAIN"))
	}
	ex, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer ex.Close()
	var sums bytes.Buffer
	for file, in := range map[string]struct {
		taskType string
		payload  string
	}{
		"text.wasm":   {"text", "a b a"},
		"vector.wasm": {"vector_search", `{"query":[1,0],"vectors":[[0,1],[1,1],[2,0]],"k":2}`},
	} {
		committed := read(t, file)
		if b, _ := modules.Lookup(in.taskType); !bytes.Equal(b.Raw, committed) {
			t.Errorf("%s is not what is embedded", file)
		}
		input, err := modules.Encode(in.taskType, []byte(in.payload))
		if err != nil {
			t.Fatal(err)
		}
		var outs [2][]byte
		for i, raw := range [][]byte{committed, read(t, dir, file)} {
			m, err := sandbox.Prepare(raw, sandbox.Policy{})
			if err != nil {
				t.Fatal(err)
			}
			res, err := ex.Run(context.Background(), m, input, sandbox.Task{})
			if err != nil || res.Status != proto.StatusOK {
				t.Fatalf("%s: %v %s", file, err, res.Status)
			}
			outs[i] = res.Output
		}
		if !bytes.Equal(outs[0], outs[1]) {
			t.Errorf("%s: rebuilt output %q, committed %q", file, outs[1], outs[0])
		}
	}
	for _, file := range []string{"text.wasm", "vector.wasm"} {
		fmt.Fprintf(&sums, "%s  %s\n", proto.HashOf(read(t, file)), file)
	}
	if !bytes.Equal(sums.Bytes(), read(t, "SHA256SUMS")) {
		t.Errorf("SHA256SUMS does not list the committed files:\n%s", sums.Bytes())
	}
}
