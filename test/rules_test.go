package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const module = "edgenet.dev"

// listed is the part of `go list -json` that the rules read.
type listed struct {
	ImportPath, Dir                    string
	GoFiles                            []string
	Imports, TestImports, XTestImports []string
	Deps                               []string
}

// goList runs go list in dir for one target. Packages come back in go list's
// own order.
func goList(dir, goos, goarch string, args ...string) ([]listed, error) {
	cmd := exec.Command("go", append([]string{"list", "-e", "-json=ImportPath,Dir,GoFiles,Imports,TestImports,XTestImports,Deps"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, stderr.String())
	}
	var pkgs []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs, nil
		} else if err != nil {
			return nil, err
		}
		pkgs = append(pkgs, p)
	}
}

// mayImport is the import table of docs/architecture.md: which top-level
// directories of this module the code of a directory may use, besides its own.
var mayImport = map[string][]string{
	"proto":     {},
	"ledger":    {"proto"},
	"market":    {"proto"},
	"sandbox":   {"proto"},
	"transport": {"proto"},
	"node":      {"proto", "ledger", "market", "sandbox", "transport"},
	"cmd":       {"proto", "ledger", "market", "sandbox", "node"},
	"browser":   {"proto", "ledger", "market", "sandbox", "node"},
	"test":      {"proto", "ledger", "market", "sandbox", "transport", "node"},
}

// daemons starts real daemons for tests.
const daemons = module + "/test/daemon"

// top is the first element of an import path below the module, "" for others'
// packages.
func top(importPath string) string {
	rest, ok := strings.CutPrefix(importPath, module+"/")
	if !ok {
		return ""
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}

// checkImportTable returns one line per import that the table does not allow.
// Test files obey the same table, but for those of a command that start daemons.
func checkImportTable(pkgs []listed) (faults []string) {
	for _, p := range pkgs {
		from := top(p.ImportPath)
		if from == "" {
			continue
		}
		allowed, known := mayImport[from]
		if !known {
			faults = append(faults, fmt.Sprintf("%s: directory %q is not in the import table", p.ImportPath, from))
			continue
		}
		tests := slices.Concat(p.TestImports, p.XTestImports)
		if from == "cmd" {
			tests = slices.DeleteFunc(tests, func(imp string) bool { return imp == daemons })
		}
		for _, imp := range slices.Concat(p.Imports, tests) {
			if to := top(imp); to != "" && to != from && !slices.Contains(allowed, to) {
				faults = append(faults, fmt.Sprintf("%s imports %s: %s may use only %v", p.ImportPath, imp, from, allowed))
			}
		}
	}
	return faults
}

// checkAbsent returns one line per dependency of the packages that is one of
// the given packages or lies below it. A trailing $ names the package alone.
func checkAbsent(pkgs []listed, prefixes ...string) (faults []string) {
	for _, p := range pkgs {
		for _, dep := range p.Deps {
			for _, pre := range prefixes {
				if dep == strings.TrimSuffix(pre, "$") || !strings.HasSuffix(pre, "$") && strings.HasPrefix(dep, pre+"/") {
					faults = append(faults, fmt.Sprintf("%s links %s", p.ImportPath, dep))
				}
			}
		}
	}
	return faults
}

// impureImports and impureNames are what a pure package does without: it is
// given time and randomness, and what it wants done leaves as output.
var (
	impureImports = []string{
		"os", "os/exec", "os/signal", "io/fs", "io/ioutil", "net", "net/http", "math/rand", "math/rand/v2", "crypto/rand",
		"syscall", "log", "log/slog", "runtime", "unsafe", "go.uber.org/zap",
	}
	impureNames = map[string][]string{
		"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"},
		"fmt":  {"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"},
	}
)

// checkPure returns one line per impure construct in a Go source file.
func checkPure(name string, src []byte) ([]string, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var faults []string
	fault := func(pos token.Pos, format string, args ...any) {
		faults = append(faults, fset.Position(pos).String()+": "+fmt.Sprintf(format, args...))
	}
	local := map[string]string{} // local name → import path
	for _, imp := range file.Imports {
		p, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			return nil, err
		}
		if slices.Contains(impureImports, p) {
			fault(imp.Pos(), "imports %s", p)
		}
		as := path.Base(p)
		if imp.Name != nil {
			as = imp.Name.Name
		}
		if _, watched := impureNames[p]; watched && as == "." {
			fault(imp.Pos(), "imports %s by dot, which hides what it uses", p)
		}
		local[as] = p
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			fault(n.Pos(), "starts a goroutine")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && slices.Contains(impureNames[local[x.Name]], n.Sel.Name) {
				fault(n.Pos(), "uses %s.%s", local[x.Name], n.Sel.Name)
			}
		}
		return true
	})
	return faults, nil
}

// checkPackageComment wants exactly one of a package's files to carry a
// comment that begins in Go's usual way. Files are name → source; tests do not
// count.
func checkPackageComment(importPath string, files map[string][]byte) ([]string, error) {
	var with []string
	var faults []string
	for name, src := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			return nil, err
		}
		if f.Doc == nil || strings.TrimSpace(f.Doc.Text()) == "" {
			continue
		}
		with = append(with, name)
		if f.Name.Name != "main" && !strings.HasPrefix(f.Doc.Text(), "Package "+f.Name.Name+" ") {
			faults = append(faults, fmt.Sprintf("%s: %s: the package comment does not begin with \"Package %s\"", importPath, name, f.Name.Name))
		}
	}
	slices.Sort(with)
	if len(with) != 1 {
		faults = append(faults, fmt.Sprintf("%s: want one package comment, found %d %v", importPath, len(with), with))
	}
	return faults, nil
}

// topLevel is the fixed layout of the repository.
var topLevel = []string{
	".ci", ".editorconfig", ".gitattributes", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile",
	"README.md", "SECURITY.md", "browser", "cmd", "docs", "go.mod", "go.sum", "ledger", "market", "node", "proto",
	"sandbox", "test", "transport",
}

// checkTopLevel returns one line per tracked path outside the fixed layout.
func checkTopLevel(tracked []string) (faults []string) {
	for _, name := range tracked {
		first, _, _ := strings.Cut(name, "/")
		if !slices.Contains(topLevel, first) {
			faults = append(faults, name+": not part of the fixed top-level layout")
		}
	}
	return faults
}

// checkGoMod returns one line per directive that would break installing from
// a module proxy.
func checkGoMod(gomod []byte) (faults []string) {
	for i, line := range strings.Split(string(gomod), "\n") {
		code, _, _ := strings.Cut(line, "//")
		if fields := strings.Fields(code); len(fields) > 0 && (fields[0] == "replace" || fields[0] == "exclude" || slices.Contains(fields, "=>")) {
			faults = append(faults, fmt.Sprintf("go.mod:%d: %s", i+1, strings.TrimSpace(line)))
		}
	}
	return faults
}

// machinePath finds absolute paths of somebody's machine. It is put together
// so that this file does not contain what it looks for.
var machinePath = regexp.MustCompile(`(^|[\s"'(=` + "`" + `])/(` + strings.Join([]string{"work", "root", "home/[a-z]+", "Users/[A-Za-z]+", "tmp/[a-z_]+[.]"}, "|") + `)/`)

// checkWords returns one line per absolute machine path in a text file.
func checkWords(name string, text []byte) (faults []string) {
	if bytes.IndexByte(text, 0) >= 0 {
		return nil // binary
	}
	for i, line := range strings.Split(string(text), "\n") {
		if m := machinePath.FindString(line); m != "" {
			faults = append(faults, fmt.Sprintf("%s:%d: absolute path of one machine: %s", name, i+1, strings.TrimSpace(m)))
		}
	}
	return faults
}

// root is the repository's top directory, found from the working directory.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod above the working directory")
		}
		dir = up
	}
}
