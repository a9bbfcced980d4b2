package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("go list -m: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// runner runs tests with and without edits.
type runner struct {
	root, dir string
	limit     time.Duration
	list      []mutant
	whole     map[[2]string]error // package and test -> how it ended without an edit
}

// run wants m's test to pass without the edit and to fail with it.
func (r *runner) run(ctx context.Context, m mutant) error {
	text, err := m.apply(r.root)
	if err != nil {
		return err
	}
	if _, known := r.whole[m.key()]; !known {
		if err := r.unedited(ctx, m); err != nil {
			return err
		}
	}
	if err := r.whole[m.key()]; err != nil {
		return err
	}
	overlay, err := r.overlay(m, text)
	if err != nil {
		return err
	}
	verdicts, out, err := r.test(ctx, m, overlay, m.Test)
	switch verdict := verdicts[m.Test]; {
	case err != nil:
		return err
	case verdict == "pass":
		return errors.New("the test passes all the same: it does not notice that the rule is off")
	case verdict != "fail":
		return fmt.Errorf("the test did not run with the edit:\n%s", tail(out))
	}
	return nil
}

func (m mutant) key() [2]string { return [2]string{m.Package, m.Test} }

// unedited runs m's test without an edit, once however many edits it has to
// notice, together with all others of its package that are no rows of a table.
func (r *runner) unedited(ctx context.Context, m mutant) error {
	tests := []string{m.Test}
	if !strings.Contains(m.Test, "/") {
		tests = nil
		for _, x := range r.list {
			if x.Package == m.Package && !strings.Contains(x.Test, "/") && !slices.Contains(tests, x.Test) {
				tests = append(tests, x.Test)
			}
		}
	}
	verdicts, out, err := r.test(ctx, m, "", tests...)
	if err != nil {
		return err
	}
	for _, test := range tests {
		switch verdicts[test] {
		case "pass":
			err = nil
		case "":
			err = fmt.Errorf("there is no such test, or it does not build:\n%s", tail(out))
		default:
			err = fmt.Errorf("the test does not pass without any edit:\n%s", tail(out))
		}
		r.whole[[2]string{m.Package, test}] = err
	}
	return nil
}

// overlay writes the edited file and the go command's list of replacements.
func (r *runner) overlay(m mutant, text []byte) (string, error) {
	edited := filepath.Join(r.dir, m.Name+filepath.Ext(m.File))
	if err := os.WriteFile(edited, text, 0o600); err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(r.root, filepath.FromSlash(m.File)): edited}})
	if err != nil {
		return "", err
	}
	name := filepath.Join(r.dir, m.Name+".json")
	return name, os.WriteFile(name, list, 0o600)
}

// test runs tests of m's package in m's environment and returns the verdicts on them: pass, fail or
// skip. One that never ran has none. The overlay goes into the environment, so
// that daemons that a test builds have the edit, too.
func (r *runner) test(ctx context.Context, m mutant, overlay string, tests ...string) (verdicts map[string]string, out []byte, err error) {
	limit := time.Duration(len(tests)) * r.limit
	ctx, cancel := context.WithTimeout(ctx, limit+10*time.Minute) // it has to be built
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-json", "-count", "1", "-timeout", limit.String(), "-run", pattern(tests), m.Package)
	cmd.Dir = r.root
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = os.Environ()
	for k, v := range m.Env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	if overlay != "" {
		cmd.Env = append(cmd.Env, strings.TrimSpace("GOFLAGS="+os.Getenv("GOFLAGS")+" -overlay="+overlay))
	}
	raw, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return nil, nil, fmt.Errorf("it took too long: %w", ctx.Err())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, nil, err
	}
	verdicts, out = read(raw)
	return verdicts, out, nil
}

// pattern matches the tests alone: several whole ones, or one row of one.
func pattern(tests []string) string {
	if len(tests) > 1 {
		return "^(" + strings.Join(tests, "|") + ")$"
	}
	parts := strings.Split(tests[0], "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// read finds the verdicts in what go test -json prints.
func read(raw []byte) (verdicts map[string]string, out []byte) {
	verdicts = map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct{ Action, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			out = append(append(out, lines.Bytes()...), '\n') // the go command's own complaint
			continue
		}
		out = append(out, e.Output...)
		if e.Test != "" && (e.Action == "pass" || e.Action == "fail" || e.Action == "skip") {
			verdicts[e.Test] = e.Action
		}
	}
	return verdicts, out
}

func tail(b []byte) string {
	const most = 3000
	if len(b) > most {
		b = b[len(b)-most:]
	}
	return string(b)
}
