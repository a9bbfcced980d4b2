package main

import (
	"encoding/binary"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdOutcome runs edgenetd and compares its exit code, all of standard output
// and, before the one sentence of a failure, all of standard error, byte for
// byte: outcome CODE STDOUT STDERR ARGS…. STDOUT and STDERR are files, or - for
// nothing.
func cmdOutcome(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: outcome CODE STDOUT STDERR ARGS")
	}
	text := func(file string) string {
		if file == "-" {
			return ""
		}
		return ts.ReadFile(file)
	}
	out, errText, code := runTool(ts, args[3:])
	if got := itoa(code); got != args[0] {
		ts.Fatalf("exit code %s, want %s\n%s", got, args[0], errText)
	}
	if want := text(args[1]); out != want {
		ts.Fatalf("standard output %q, want %q", out, want)
	}
	rest, ok := strings.CutPrefix(errText, text(args[2]))
	sentence := regexp.MustCompile(`^edgenetd: [^\n]*\n$`).MatchString(rest)
	if !ok || sentence != (code != 0) || code == 0 && rest != "" {
		ts.Fatalf("standard error %q, want %q and then a sentence if it failed", errText, text(args[2]))
	}
	ts.Setenv("SENTENCE", strings.TrimSpace(rest))
}

// cmdFatten copies a module with so much debugging data that it would be too
// large: fatten FROM TO.
func cmdFatten(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: fatten FROM TO")
	}
	raw, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	const name = ".debug_info"
	body := slices.Concat([]byte{byte(len(name))}, []byte(name), make([]byte, 5<<20))
	section := append(binary.AppendUvarint([]byte{0}, uint64(len(body))), body...)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), slices.Concat(raw[:8], section, raw[8:]), 0o644))
}

// cmdGowasm builds a Go program for WASI: gowasm FILE.go TO.
func cmdGowasm(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: gowasm FILE.go TO")
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", ts.MkAbs(args[1]), ts.MkAbs(args[0]))
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm") // the real home: its build cache
	if out, err := cmd.CombinedOutput(); err != nil {
		ts.Fatalf("%v\n%s", err, out)
	}
}
