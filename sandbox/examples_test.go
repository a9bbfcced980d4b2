//go:build !js

package sandbox_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
)

// buildGuide runs the commands of docs/tasks.md and returns where the modules
// are, by name.
func buildGuide(t *testing.T) func(name string) []byte {
	t.Helper()
	if _, err := exec.LookPath("clang"); err != nil {
		t.Fatal("clang is missing: apt-get install clang lld")
	}
	guide, err := os.ReadFile("../docs/tasks.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(guide), -1)
	if len(blocks) < 3 {
		t.Fatalf("%d commands in the guide", len(blocks))
	}
	for _, b := range blocks {
		cmd := exec.Command("sh", "-ec", strings.ReplaceAll(b[1], " -o ", " -o "+dir+"/"))
		cmd.Dir = ".."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", b[1], err, out)
		}
	}
	return func(name string) []byte {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
}

// TestGuide compiles the examples by the guide's own commands and runs them on
// both native engines, which must agree.
func TestGuide(t *testing.T) {
	module := buildGuide(t)
	in, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	engines := []sandbox.Executor{in, newPool(t, sandbox.PoolConfig{})}
	for _, c := range []struct {
		file, input, output string
		abi                 sandbox.ABI
	}{
		{"primes.wasm", "100", "25", sandbox.ABIReactor},
		{"primes.wasm", "1000000", "78498", sandbox.ABIReactor},
		{"primes.wasm", "", "0", sandbox.ABIReactor},
		{"longest.wasm", "one\nthree\ntwo\n", "3 lines, the longest: three\n", sandbox.ABICommand},
		{"longest.wasm", "", "0 lines, the longest: \n", sandbox.ABICommand},
		{"reverse.wasm", "añb", "bña", sandbox.ABIReactor},
		{"reverse.wasm", "", "", sandbox.ABIReactor},
	} {
		m, err := sandbox.Prepare(module(c.file), sandbox.Policy{})
		if err != nil {
			t.Fatalf("%s: %v", c.file, err)
		}
		if m.ABI != c.abi {
			t.Errorf("%s is a %s", c.file, m.ABI)
		}
		var fuel proto.Fuel
		for i, ex := range engines {
			res, err := ex.Run(context.Background(), m, []byte(c.input), sandbox.Task{})
			if err != nil {
				t.Fatal(err)
			}
			if res.Status != proto.StatusOK || string(res.Output) != c.output {
				t.Errorf("%s %q: %s %q, want %q; log %s", c.file, c.input, res.Status, res.Output, c.output, res.Log)
			}
			if i > 0 && res.Fuel != fuel {
				t.Errorf("%s %q: fuel %d in process, %d in the pool", c.file, c.input, fuel, res.Fuel)
			}
			fuel = res.Fuel
		}
	}
	// A failing program's exit code and message arrive.
	m, err := sandbox.Prepare(module("longest.wasm"), sandbox.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	res := run(t, in, context.Background(), m, strings.Repeat("x", 2<<20), sandbox.Task{})
	if res.Status != proto.StatusExitNonZero || res.ExitCode != 1 || !strings.Contains(string(res.Log), "token too long") {
		t.Errorf("long line: %s %d %q", res.Status, res.ExitCode, res.Log)
	}
}
