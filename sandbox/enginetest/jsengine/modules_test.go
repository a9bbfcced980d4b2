//go:build unix

package jsengine_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest/jsengine"
)

// TestCompiledModules runs what compilers make: C reactors, and a Go program
// whose runtime asks for clocks, random numbers and polls.
func TestCompiledModules(t *testing.T) {
	program := filepath.Join(t.TempDir(), "longest.wasm")
	cmd := exec.Command("go", "build", "-o", program, "edgenet.dev/sandbox/examples/longest")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	native, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer native.Close()
	engines := []*jsengine.Engine{node(t, jsengine.Options{}), node(t, forms["short slices"])}
	text := bytes.Repeat([]byte("the quick brown fox jumps over the lazy dog\n"), 500)
	ended := map[string]bool{}
	for name, path := range map[string]string{"text": "../../modules/text.wasm", "vector": "../../modules/vector.wasm", "Go": program} {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m := prepare(t, raw)
		for _, input := range [][]byte{nil, text, {1, 2, 3}, search()} {
			task := sandbox.Task{Limits: proto.Limits{Fuel: 500_000_000}, Seed: proto.HashOf(input)}
			want := run(t, native, m, input, task)
			ended[name] = ended[name] || want.Status == proto.StatusOK
			t.Logf("%s: %s, fuel %d", name, want.Status, want.Fuel)
			for _, e := range engines {
				if got := run(t, e, m, input, task); !same(got, want) {
					t.Errorf("%s: %s; wazero: %s%s", name, brief(got), brief(want), firstDifference(got.Output, want.Output))
				}
			}
		}
	}
	for name, ok := range ended {
		if !ok {
			t.Errorf("%s: no input was good", name)
		}
	}
}

// search is a request to the vector module: the 3 best of 20 vectors of 8
// dimensions.
func search() (b []byte) {
	const dim, n = 8, 20
	le := binary.LittleEndian
	for _, v := range []uint32{0x31564e45, 1, 1, dim, 1, n, 3} {
		b = le.AppendUint32(b, v)
	}
	for i := range uint32(dim * (n + 1)) {
		b = le.AppendUint32(b, 0x3f000000|i*7919%0x7fffff)
	}
	return b
}
