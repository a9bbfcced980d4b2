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
	whole     map[[2]string]error // package and test -> how it ended without an edit
}

// run wants m's test to pass without the edit, once however many edits it has,
// and to fail with it.
func (r *runner) run(ctx context.Context, m mutant) error {
	text, err := m.apply(r.root)
	if err != nil {
		return err
	}
	key := [2]string{m.Package, m.Test}
	if _, known := r.whole[key]; !known {
		r.whole[key] = r.passes(ctx, m)
	}
	if err := r.whole[key]; err != nil {
		return err
	}
	overlay, err := r.overlay(m, text)
	if err != nil {
		return err
	}
	verdict, out, err := r.test(ctx, m, overlay)
	switch {
	case err != nil:
		return err
	case verdict == "pass":
		return errors.New("the test passes all the same: it does not notice that the rule is off")
	case verdict != "fail":
		return fmt.Errorf("the test did not run with the edit:\n%s", tail(out))
	}
	return nil
}

func (r *runner) passes(ctx context.Context, m mutant) error {
	verdict, out, err := r.test(ctx, m, "")
	switch {
	case err != nil:
		return err
	case verdict == "":
		return fmt.Errorf("there is no such test, or it does not build:\n%s", tail(out))
	case verdict != "pass":
		return fmt.Errorf("the test does not pass without any edit:\n%s", tail(out))
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

// test runs m's test and returns the verdict on it: pass, fail, skip, or "" when
// it never ran. The overlay goes into the environment, so that daemons that
// a test builds have the edit, too.
func (r *runner) test(ctx context.Context, m mutant, overlay string) (verdict string, out []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.limit+5*time.Minute) // it has to be built
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-json", "-count", "1", "-failfast", "-timeout", r.limit.String(), "-run", pattern(m.Test), m.Package)
	cmd.Dir = r.root
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = os.Environ()
	if overlay != "" {
		cmd.Env = append(cmd.Env, strings.TrimSpace("GOFLAGS="+os.Getenv("GOFLAGS")+" -overlay="+overlay))
	}
	raw, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return "", nil, fmt.Errorf("it took too long: %w", ctx.Err())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return "", nil, err
	}
	verdict, out = read(raw, m.Test)
	return verdict, out, nil
}

// pattern matches one test, or one row of a test.
func pattern(test string) string {
	parts := strings.Split(test, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// read finds the verdict on a test in what go test -json prints.
func read(raw []byte, test string) (verdict string, out []byte) {
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct{ Action, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			out = append(append(out, lines.Bytes()...), '\n') // the go command's own complaint
			continue
		}
		out = append(out, e.Output...)
		if e.Test == test && (e.Action == "pass" || e.Action == "fail" || e.Action == "skip") {
			verdict = e.Action
		}
	}
	return verdict, out
}

func tail(b []byte) string {
	const most = 3000
	if len(b) > most {
		b = b[len(b)-most:]
	}
	return string(b)
}
