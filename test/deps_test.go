package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func repo(t *testing.T) string {
	t.Helper()
	dir, err := root()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func list(t *testing.T, goos, goarch string, args ...string) []listed {
	t.Helper()
	pkgs, err := goList(repo(t), goos, goarch, args...)
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) == 0 {
		t.Fatal("go list found no package")
	}
	return pkgs
}

func none(t *testing.T, faults []string) {
	t.Helper()
	for _, f := range faults {
		t.Error(f)
	}
}

// some wants every given piece to be found in some fault: a rule that never
// complains is no rule.
func some(t *testing.T, faults []string, pieces ...string) {
	t.Helper()
	for _, piece := range pieces {
		if !slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, piece) }) {
			t.Errorf("no fault mentions %q: %q", piece, faults)
		}
	}
}

func TestImportTable(t *testing.T) {
	native := list(t, "linux", "amd64", "./...")
	for dir := range mayImport {
		if dir != "browser" && !slices.ContainsFunc(native, func(p listed) bool { return top(p.ImportPath) == dir }) {
			t.Errorf("the table speaks of %s, which has no package", dir)
		}
	}
	none(t, checkImportTable(native))
	none(t, checkImportTable(list(t, "js", "wasm", "./...")))
}

func TestImportTableRefuses(t *testing.T) {
	some(t, checkImportTable([]listed{
		{ImportPath: module + "/market", Imports: []string{module + "/ledger"}},
		{ImportPath: module + "/ledger/store/pebble", XTestImports: []string{module + "/sandbox"}},
		{ImportPath: module + "/proto", TestImports: []string{module + "/node"}},
		{ImportPath: module + "/helpers"},
		{ImportPath: module + "/node", Imports: []string{module + "/cmd/edgenetd"}, TestImports: []string{daemons}},
		{ImportPath: module + "/cmd/edgenetd", Imports: []string{daemons}},
	}), "market imports", "pebble imports", "proto imports", "helpers", "node imports edgenet.dev/cmd", "node imports edgenet.dev/test", "edgenetd imports")
	none(t, checkImportTable([]listed{{ImportPath: module + "/cmd/edgenetd", TestImports: []string{daemons}}}))
	none(t, checkImportTable([]listed{{
		ImportPath: module + "/ledger/store/pebble",
		Imports:    []string{module + "/ledger", module + "/proto", "os", "github.com/cockroachdb/pebble/v2"},
	}}))
}

// What a browser tab must not carry: wazero is slow there, pebble has no disk,
// libp2p's root package does not build.
var notInBrowser = []string{
	"github.com/tetratelabs/wazero", "github.com/cockroachdb/pebble/v2", "github.com/libp2p/go-libp2p$",
	"github.com/pion/webrtc/v4", "github.com/quic-go/quic-go$",
}

func TestBrowserBuildLinks(t *testing.T) {
	args := append([]string{"-deps"}, jsPackages...)
	pkgs := list(t, "js", "wasm", args...)
	pkgs = slices.DeleteFunc(pkgs, func(p listed) bool { return top(p.ImportPath) == "" })
	if len(pkgs) < len(jsPackages) {
		t.Fatalf("go list found %d of %d packages", len(pkgs), len(jsPackages))
	}
	none(t, checkAbsent(pkgs, notInBrowser...))
}

// jsPackages build for a browser; the Makefile builds the same list.
var jsPackages = []string{"./proto/...", "./ledger", "./ledger/store/indexeddb", "./market", "./sandbox", "./transport", "./node", "./browser/wasm"}

func TestAbsentRefuses(t *testing.T) {
	some(t, checkAbsent([]listed{
		{ImportPath: "a", Deps: []string{"github.com/tetratelabs/wazero/api"}},
		{ImportPath: "b", Deps: []string{"github.com/libp2p/go-libp2p"}},
	}, notInBrowser...), "a links", "b links")
	none(t, checkAbsent([]listed{{ImportPath: "c", Deps: []string{
		"github.com/libp2p/go-libp2p/core/peer", "github.com/tetratelabs/wazeroes",
	}}}, notInBrowser...))
}

func TestPurePackages(t *testing.T) {
	files := 0
	for _, p := range list(t, "linux", "amd64", "./market/...", "./ledger/...") {
		if strings.HasPrefix(p.ImportPath, module+"/ledger/store") {
			continue
		}
		for _, name := range p.GoFiles {
			src, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			faults, err := checkPure(filepath.Join(p.ImportPath, name), src)
			if err != nil {
				t.Fatal(err)
			}
			none(t, faults)
			files++
		}
	}
	if files == 0 {
		t.Fatal("no file checked")
	}
}

func TestPureRefuses(t *testing.T) {
	const src = `package market

import (
	"crypto/rand"
	"fmt"
	clock "time"
	. "time"
)

func f(done chan int) {
	go func() { done <- 1 }()
	_ = clock.Now()
	fmt.Println(rand.Reader, Second)
}
`
	faults, err := checkPure("x.go", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	some(t, faults, "imports crypto/rand", "by dot", "goroutine", "time.Now", "fmt.Println")
	faults, err = checkPure("x.go", []byte("package market\n\nimport (\"fmt\"; \"time\")\n\nfunc f(now time.Time) string { return fmt.Sprint(now.Add(time.Second)) }\n"))
	if err != nil {
		t.Fatal(err)
	}
	none(t, faults)
}

func TestPackageComments(t *testing.T) {
	pkgs := append(list(t, "linux", "amd64", "./..."), list(t, "js", "wasm", jsPackages...)...)
	for _, p := range pkgs {
		files := map[string][]byte{}
		for _, name := range p.GoFiles {
			src, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			files[name] = src
		}
		if len(files) == 0 {
			continue // tests only, or nothing for this target
		}
		faults, err := checkPackageComment(p.ImportPath, files)
		if err != nil {
			t.Fatal(err)
		}
		none(t, faults)
	}
}

func TestPackageCommentRefuses(t *testing.T) {
	for name, files := range map[string]map[string][]byte{
		"found 0":          {"a.go": []byte("package a\n"), "b.go": []byte("// Detached.\n\npackage a\n")},
		"found 2":          {"a.go": []byte("// Package a is one.\npackage a\n"), "b.go": []byte("// Package a is two.\npackage a\n")},
		"does not begin":   {"a.go": []byte("// It is a.\npackage a\n")},
		"[a.go b.go]":      {"a.go": []byte("// Package a is one.\npackage a\n"), "b.go": []byte("// Package a is two.\npackage a\n")},
		"want one package": {},
	} {
		faults, err := checkPackageComment("a", files)
		if err != nil {
			t.Fatal(err)
		}
		some(t, faults, name)
	}
	faults, err := checkPackageComment("a", map[string][]byte{"a.go": []byte("// Package a is fine.\npackage a\n"), "b.go": []byte("package a\n")})
	if err != nil {
		t.Fatal(err)
	}
	none(t, faults)
}

// tracked lists the files git knows, as slash-separated paths.
func tracked(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z")
	cmd.Dir = repo(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	names := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	if len(names) < 10 {
		t.Fatalf("git knows only %d files", len(names))
	}
	return names
}

func TestTopLevel(t *testing.T) {
	names := tracked(t)
	none(t, checkTopLevel(names))
	for _, want := range topLevel {
		if want != "browser" && !slices.ContainsFunc(names, func(n string) bool { return n == want || strings.HasPrefix(n, want+"/") }) {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestTopLevelRefuses(t *testing.T) {
	some(t, checkTopLevel([]string{"scripts/x.sh", "main.go", "proto/ids.go"}), "scripts/x.sh", "main.go")
	none(t, checkTopLevel([]string{"proto/ids.go", "README.md"}))
}

func TestGoMod(t *testing.T) {
	names := tracked(t)
	for _, name := range names {
		if name != "go.mod" && !strings.HasPrefix(name, "test/tools/") {
			if filepath.Base(name) == "go.mod" && !strings.HasPrefix(name, "sandbox/") {
				t.Errorf("%s: a second module", name)
			}
			continue
		}
		if filepath.Ext(name) != ".mod" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(repo(t), name))
		if err != nil {
			t.Fatal(err)
		}
		none(t, checkGoMod(text))
	}
}

func TestGoModRefuses(t *testing.T) {
	some(t, checkGoMod([]byte("module a\n\nreplace b => ../b\nreplace (\n\tc v1 => d v2\n)\n")), ":3", ":5")
	none(t, checkGoMod([]byte("module a // replaces nothing, a => b\n\ngo 1.26\n\nrequire b v1.0.0\n")))
}

func TestWords(t *testing.T) {
	for _, name := range tracked(t) {
		text, err := os.ReadFile(filepath.Join(repo(t), filepath.FromSlash(name)))
		if os.IsNotExist(err) {
			continue // deleted, not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		none(t, checkWords(name, text))
	}
}

func TestWordsRefuse(t *testing.T) {
	sep := "/"
	some(t, checkWords("a.md", []byte("fine\nsee "+sep+"home/alice/edgenet\n`"+sep+"root/x`\n")), "a.md:2", "a.md:3")
	none(t, checkWords("a.md", []byte("https://example.org/work/x and network/root/1 and ./home/alice/\n")))
	none(t, checkWords("a.wasm", []byte("\x00 "+sep+"home/alice/")))
}

// The README promises two commands; continuous integration runs one of them.
func TestReadmeCommands(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(repo(t), name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	readme, ci, makefile := read("README.md"), read(".ci/run"), read("Makefile")
	for _, target := range []string{"demo", "test"} {
		if !strings.Contains(readme, "make "+target+"\n") && !strings.Contains(readme, "make "+target+" ") {
			t.Errorf("README.md does not show make %s", target)
		}
	}
	if !strings.Contains(ci, "make test\n") {
		t.Error(".ci/run does not call make test")
	}
	for _, target := range []string{"check", "test", "bench", "demo", "proto", "browser", "setup", "soak", "fmt", "clean"} {
		if !strings.Contains(makefile, "\n"+target+":") {
			t.Errorf("Makefile has no target %s", target)
		}
	}
}
