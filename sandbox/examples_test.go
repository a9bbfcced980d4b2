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
	"time"

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
	if _, err := exec.LookPath("npm"); err != nil {
		t.Fatal("npm is missing: run make setup")
	}
	guide, err := os.ReadFile("../docs/tasks.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	blocks := regexp.MustCompile("(?s)```sh by=TestGuide\n(.*?)```").FindAllStringSubmatch(string(guide), -1)
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
	pool := newPool(t, sandbox.PoolConfig{})
	sandbox.SetCompileTimeout(pool, time.Hour) // the race detector slows the compiler tenfold
	prepared := map[string]*sandbox.Module{}
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
		{"words.wasm", "to be or not\nto be", "be\nnot\nor\nto", sandbox.ABIReactor},
		{"words.wasm", "", "", sandbox.ABIReactor},
	} {
		m := prepared[c.file]
		if m == nil {
			m = prepare(t, module(c.file))
			prepared[c.file] = m
		}
		engines := []sandbox.Executor{pool, in}
		if raceEnabled && m.RawSize > 1<<20 {
			engines = engines[:1] // compiling Go's runtime twice takes minutes then
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
				t.Errorf("%s %q: fuel %d in the pool, %d in process", c.file, c.input, fuel, res.Fuel)
			}
			fuel = res.Fuel
		}
	}
	// A failing program's exit code and message arrive.
	res := run(t, pool, context.Background(), prepared["longest.wasm"], strings.Repeat("x", 2<<20), sandbox.Task{})
	if res.Status != proto.StatusExitNonZero || res.ExitCode != 1 || !strings.Contains(string(res.Log), "token too long") {
		t.Errorf("long line: %s %d %q", res.Status, res.ExitCode, res.Log)
	}
}
