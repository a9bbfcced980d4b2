package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"edgenet.dev/node/datadir"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
	"edgenet.dev/test/daemon"
)

// A fence of a guide. What stands behind its language says what becomes of it:
//
//	```sh run          TestGuides runs it, after those above it in the document
//	```sh by=TestName  that test runs it
//	```sh not: reason  nobody runs it
//	```go run=Name     TestEmbeddingPrograms compiles it, and the named case runs it
type fence struct {
	file string
	line int
	info string // behind the three backticks
	body string
}

func (f fence) String() string { return fmt.Sprintf("%s:%d", f.file, f.line) }

// mark is what stands behind the language.
func (f fence) mark(language string) (string, bool) {
	first, rest, _ := strings.Cut(f.info, " ")
	return strings.TrimSpace(rest), first == language
}

// guides are the documents whose commands people type.
func guides(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(repo(t), "docs", "*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no document found: %v", err)
	}
	return append([]string{filepath.Join(repo(t), "README.md"), filepath.Join(repo(t), "CONTRIBUTING.md")}, files...)
}

func fences(t *testing.T, path string) []fence {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fencesOf(filepath.Base(path), string(b))
}

func fencesOf(name, text string) (all []fence) {
	inside := false
	for i, line := range strings.Split(text, "\n") {
		switch info, ok := strings.CutPrefix(line, "```"); {
		case ok && !inside:
			inside = true
			all = append(all, fence{file: name, line: i + 1, info: info})
		case ok:
			inside = false
		case inside:
			all[len(all)-1].body += line + "\n"
		}
	}
	return all
}

// command is a line that somebody would type.
var command = regexp.MustCompile(`(?m)^(\$ )?(sudo |build/)?(edgenetd|curl|make|go|npm|clang|git|apt-get|apt|systemctl|dpkg|promtool) `)

// unrun are faults of how the fences of one document are marked. tests has the
// names of all tests.
func unrun(all []fence, tests map[string]bool) (faults []string) {
	for _, f := range all {
		mark, isShell := f.mark("sh")
		if !isShell {
			if f.info == "" && command.MatchString(f.body) {
				faults = append(faults, fmt.Sprintf("%s has commands and is not marked sh", f))
			}
			continue
		}
		reason, not := strings.CutPrefix(mark, "not:")
		by, named := strings.CutPrefix(mark, "by=")
		switch {
		case mark == "run":
		case not && len(strings.TrimSpace(reason)) >= 10:
		case named && tests[by]:
		case named:
			faults = append(faults, fmt.Sprintf("%s: there is no test %q", f, by))
		default:
			faults = append(faults, fmt.Sprintf("%s: nothing runs it: want run, by=Test or not: and a reason", f))
		}
	}
	return faults
}

// Every command that a guide shows is run by a test, or the guide says why not.
func TestGuideCommandsAreMarked(t *testing.T) {
	tests := testNames(t)
	for _, path := range guides(t) {
		none(t, unrun(fences(t, path), tests))
	}
	some(t, unrun(fencesOf("a.md", "```sh\nedgenetd init\n```\n```\nmake test\n```\n```sh by=TestNowhere\nx\n```\n```sh not: no\nx\n```\n"), tests),
		"a.md:1: nothing runs it", "a.md:4 has commands", `no test "TestNowhere"`, "a.md:10: nothing runs it")
}

// testNames are the test functions of this module.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	decl := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir(repo(t), func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{"build", "node_modules", ".git"}, d.Name()) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(path)
		for _, m := range decl.FindAllSubmatch(b, -1) {
			names[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestGuides runs what the guides show, each document as one shell session from
// its top to its end: in a fresh home directory, beside a network whose
// submitter is the daemon of that home, with the files that the guides speak of.
func TestGuides(t *testing.T) {
	net := network(t, usual(3)...)
	for _, path := range guides(t) {
		var script strings.Builder
		for _, f := range fences(t, path) {
			if mark, ok := f.mark("sh"); ok && mark == "run" {
				fmt.Fprintf(&script, "echo '--- %s'\n%s\n", f, f.body)
			}
		}
		if script.Len() == 0 {
			continue
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			home := guideHome(t, net.Node("submitter"))
			c := guideShell(t, home, script.String())
			c.Env = append(c.Env, "PEER="+net.Node("worker1").ID.String())
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// guideHome is a home directory whose ~/.edgenet is the node's.
func guideHome(t *testing.T, nd *daemon.Node) string {
	t.Helper()
	home := t.TempDir()
	if err := os.Symlink(nd.Dir, filepath.Join(home, ".edgenet")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"book.txt": "a b a\n", "number.txt": "100\n",
		"batch.jsonl": `{"type": "text", "payload": "some words"}` + "\n",
	} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"sandbox", "node", "go.mod", "go.sum"} { // what builds examples reads
		if err := os.Symlink(filepath.Join(repo(t), name), filepath.Join(home, name)); err != nil {
			t.Fatal(err)
		}
	}
	return home
}

// guideShell runs a script as one who has edgenetd installed and home as home.
func guideShell(t *testing.T, home, script string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), guard)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	c.WaitDelay = 5 * time.Second
	c.Dir = home
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "EDGENET_") {
			c.Env = append(c.Env, kv)
		}
	}
	c.Env = append(c.Env, "HOME="+home, "PATH="+filepath.Dir(edgenetd)+":"+os.Getenv("PATH"))
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOENV"} { // below the home that they had
		v, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		c.Env = append(c.Env, name+"="+strings.TrimSpace(string(v)))
	}
	return c
}

// TestEmbeddingPrograms compiles the Go programs of README and embedding.md as
// a stranger would, from a module of their own with no other import of ours than
// they show, and runs README's: without credits it says what to do, with credits
// it prints its match.
func TestEmbeddingPrograms(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(repo(t), name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	ours := read("go.mod")
	write("go.mod", strings.Replace(ours, "module edgenet.dev", "module example.org/stranger", 1)+
		"\nrequire edgenet.dev v0.0.0\n\nreplace edgenet.dev => "+repo(t)+"\n")
	write("go.sum", read("go.sum"))
	programs := 0
	for _, doc := range []string{"README.md", "docs/embedding.md"} {
		for i, f := range fences(t, filepath.Join(repo(t), doc)) {
			if mark, ok := f.mark("go"); ok && mark != "part" {
				if !strings.HasPrefix(f.body, "package main\n") {
					t.Errorf("%s is no program; mark what is part of one as part", f)
				}
				write(fmt.Sprintf("%s%d/main.go", strings.TrimSuffix(filepath.Base(doc), ".md"), i), f.body)
				programs++
			}
		}
	}
	if programs < 2 {
		t.Fatalf("%d programs found in the documents", programs)
	}
	bin := filepath.Join(dir, "bin") + string(filepath.Separator)
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-mod=mod", "-o", bin, "./...")
	build.Dir, build.Env = dir, append(os.Environ(), "GOFLAGS=", "GOPROXY=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	first, err := filepath.Glob(bin + "README*")
	if err != nil || len(first) != 1 {
		t.Fatalf("README.md has %d programs, want 1", len(first))
	}

	net := network(t, usual(2)...)
	invite, err := daemon.Call(t.Context(), net.Node("submitter").Nodes.Invite, &api.InviteRequest{})
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	run := func() (string, error) {
		c := guideShell(t, home, first[0])
		c.Env = append(c.Env, "EDGENET_INVITE="+invite.Invite)
		out, err := c.CombinedOutput()
		return string(out), err
	}
	out, err := run()
	account := regexp.MustCompile(`12D3KooW\w+`).FindString(out)
	if err == nil || account == "" || !strings.Contains(out, "edgenetd wallet transfer") {
		t.Fatalf("without credits it ended with %v and said:\n%s", err, out)
	}
	_, err = daemon.Call(t.Context(), net.Node("submitter").Wallet.Transfer, &api.TransferRequest{To: account, Amount: uint64(20 * proto.OneCredit)})
	if err != nil {
		t.Fatal(err)
	}
	if out, err = run(); err != nil || !strings.Contains(out, "[{1 0.98") || !strings.Contains(out, "true") {
		t.Errorf("with credits it ended with %v and said:\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(home, "edgenet-node", datadir.Genesis)); err != nil {
		t.Error(err)
	}
}
