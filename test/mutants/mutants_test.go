package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The list fits the tree: every old text is there once, every test exists. This
// costs nothing; whether each test notices is what `make mutants` asks.
func TestListFitsTheTree(t *testing.T) {
	root, err := moduleRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 20 {
		t.Fatalf("the list has %d entries", len(list))
	}
	for _, m := range list {
		if _, err := m.apply(root); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
		name, _, _ := strings.Cut(m.Test, "/")
		if !hasTest(t, filepath.Join(root, filepath.FromSlash(m.Package)), name) {
			t.Errorf("%s: %s has no test %s", m.Name, m.Package, name)
		}
	}
}

func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "func "+name+"(t *testing.T)") {
			return true
		}
	}
	return false
}

func TestListRefuses(t *testing.T) {
	const whole = "- {name: a, rule: r, file: f, old: o, new: n, package: ./p, test: T}\n"
	if list, err := parse([]byte(whole)); err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	for _, bad := range []string{
		whole + whole,
		"- {name: a, rule: r, file: f, old: o, new: n, package: ./p}\n",
		"- {name: a, rule: r, file: f, old: o, new: o, package: ./p, test: T}\n",
		"- {name: a, rule: r, file: f, old: o, new: n, package: p, test: T}\n",
		"- {name: a, what: r}\n",
	} {
		if _, err := parse([]byte(bad)); err == nil {
			t.Errorf("taken: %s", bad)
		}
	}
}

func TestOldTextStandsOnce(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("one two two"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := (mutant{File: "f", Old: "one", New: "three"}).apply(dir); err != nil || string(b) != "three two two" {
		t.Errorf("%s, %v", b, err)
	}
	for _, old := range []string{"two", "four"} {
		if _, err := (mutant{File: "f", Old: old}).apply(dir); err == nil {
			t.Errorf("%q was edited", old)
		}
	}
}

// Only the verdict on the named test counts: a build that fails is no test that
// fails.
func TestVerdict(t *testing.T) {
	for raw, want := range map[string]string{
		`{"Action":"fail","Test":"TestA"}` + "\n" + `{"Action":"fail"}`:                             "fail",
		`{"Action":"fail","Test":"TestB"}` + "\n" + `{"Action":"pass","Test":"TestA"}`:              "pass",
		`{"Action":"build-fail","ImportPath":"p"}` + "\nnot json\n" + `{"Action":"fail"}`:           "",
		`{"Action":"fail","Test":"TestA/row"}` + "\n":                                               "",
		`{"Action":"output","Test":"TestA","Output":"FAIL"}` + "\n" + `{"Action":"pass","Test":""}`: "",
	} {
		if got, _ := read([]byte(raw)); got["TestA"] != want {
			t.Errorf("%s: %q, want %q", raw, got, want)
		}
	}
	for want, tests := range map[string][]string{
		`^TestA$/^worker\.site$`: {"TestA/worker.site"},
		`^(TestA|TestB)$`:        {"TestA", "TestB"},
	} {
		if p := pattern(tests); p != want {
			t.Errorf("pattern %s, want %s", p, want)
		}
	}
}
