package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the test binary be edgenetd for the scripts, and for the
// daemons and sandbox children that edgenetd itself starts.
func TestMain(m *testing.M) {
	testscript.Main(unset{m}, map[string]func(){"edgenetd": main})
}

// unset runs the tests without the settings of whoever starts them.
type unset struct{ *testing.M }

func (u unset) Run() int {
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, envPrefix) {
			os.Unsetenv(name)
		}
	}
	return u.M.Run()
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			// A directory of its own for each script, short because a socket's
			// path is limited, gone with the script.
			dir, err := os.MkdirTemp("", "ed")
			if err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(dir) })
			env.Setenv("D", dir)
			repo, err := filepath.Abs("../..")
			if err != nil {
				return err
			}
			env.Setenv("REPO", repo)
			// Tests stay on this machine.
			env.Setenv("EDGENET_LISTEN", "/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1")
			env.Setenv("HOME", filepath.Join(dir, "home"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"code":    cmdCode,
			"until":   cmdUntil,
			"capture": cmdCapture,
			"save":    cmdSave,
			"wasm":    cmdWasm,
			"outcome": cmdOutcome,
			"fatten":  cmdFatten,
			"gowasm":  cmdGowasm,
		},
	})
}

// cmdCode runs edgenetd and wants an exact exit code and, on failure, one
// sentence on standard error that matches: code N REGEXP ARGS….
func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: code N REGEXP ARGS")
	}
	out, errText, code := runTool(ts, args[2:])
	ts.Logf("[stdout]\n%s[stderr]\n%s", out, errText)
	if got := itoa(code); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
	line := strings.TrimSuffix(errText, "\n")
	if !strings.HasPrefix(line, "edgenetd: ") || strings.Contains(line, "\n") {
		ts.Fatalf("want one line that starts with edgenetd:, got %q", errText)
	}
	if !mustMatch(ts, args[1], line) {
		ts.Fatalf("%q does not match %s", line, args[1])
	}
}

// cmdUntil repeats a command until its output matches: until REGEXP ARGS….
func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP ARGS")
	}
	out, errText := "", ""
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		out, errText, _ = runTool(ts, args[1:])
		if mustMatch(ts, args[0], out) {
			return
		}
	}
	ts.Fatalf("never matched %s, last: %s%s", args[0], out, errText)
}

// cmdCapture puts what a group of a regular expression matched in the output
// into a variable: capture NAME REGEXP ARGS….
func cmdCapture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: capture NAME REGEXP ARGS")
	}
	out, errText, code := runTool(ts, args[2:])
	if code != 0 {
		ts.Fatalf("exit code %d: %s", code, errText)
	}
	m := regexp.MustCompile(args[1]).FindStringSubmatch(out)
	if len(m) != 2 {
		ts.Fatalf("%s has no group matched in %q", args[1], out)
	}
	ts.Setenv(args[0], m[1])
}

// cmdSave writes standard output to a file: save FILE ARGS….
func cmdSave(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: save FILE ARGS")
	}
	out, errText, code := runTool(ts, args[1:])
	if code != 0 {
		ts.Fatalf("exit code %d: %s", code, errText)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(out), 0o644))
}

func runTool(ts *testscript.TestScript, args []string) (stdout, stderr string, code int) {
	cmd := exec.Command("edgenetd", args...)
	cmd.Dir = ts.MkAbs(".")
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "HOME=") && !strings.HasPrefix(kv, envPrefix) {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	for _, name := range []string{"HOME", "EDGENET_DIR", "EDGENET_PASSPHRASE", "EDGENET_WORKER_SLOTS", "EDGENET_LISTEN"} {
		if v := ts.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	var out, errText strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errText
	_ = cmd.Run() // the code is what is looked at
	return out.String(), errText.String(), cmd.ProcessState.ExitCode()
}
