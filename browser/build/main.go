// Command build compiles the node for tabs, without what libp2p links and a
// tab has no use for, such as a metrics registry and key types of other
// networks: copies of those modules, in which files of _stubs stand for their
// own, are built in their place. Only this build knows of them; go.mod has no
// replacement. Run it in the module's root:
//
//	go run ./browser/build -o node.wasm
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	out := flag.String("o", "node.wasm", "file to write")
	list := flag.Bool("list", false, "print the import paths of what is linked and write nothing")
	flag.Parse()
	if err := run(*out, *list); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

const (
	stubs   = "browser/build/_stubs" // <import path>/<file>
	copies  = "build/tab"            // below the module's root, ignored by git
	program = "./browser/wasm"
)

func run(out string, list bool) error {
	if _, err := os.Stat(stubs); err != nil {
		return fmt.Errorf("run it in the module's root: %w", err)
	}
	modfile, err := prepared()
	if err != nil {
		return err
	}
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out}
	if list {
		args = []string{"list", "-deps"}
	}
	cmd := exec.Command("go", append(args, "-modfile="+modfile, program)...)
	cmd.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm", "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// prepared is the module file that prepare wrote for this go.mod and these
// stubs, now or before. Its name depends on nothing else, for it is part of
// what the compiler writes.
func prepared() (modfile string, err error) {
	h := sha256.New()
	files := []string{"go.mod"}
	err = filepath.WalkDir(stubs, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n", filepath.ToSlash(name), len(text))
		h.Write(text)
	}
	final := filepath.Join(copies, hex.EncodeToString(h.Sum(nil)[:8]))
	modfile = filepath.Join(final, "tab.mod")
	if _, err := os.Stat(modfile); err == nil {
		return modfile, nil
	}
	if err := os.MkdirAll(copies, 0o755); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(copies, "new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := prepare(dir, final); err != nil {
		return "", err
	}
	if err := os.Rename(dir, final); err != nil {
		if _, other := os.Stat(modfile); other != nil { // no other build was faster
			return "", err
		}
	}
	return modfile, nil
}

// prepare copies the modules that have stubs to dir, puts those in and writes
// a module file that uses the copies, for when dir is called final.
func prepare(dir, final string) error {
	text, err := os.ReadFile("go.mod")
	if err != nil {
		return err
	}
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		return err
	}
	mod := bytes.NewBuffer(text)
	var done []string
	err = filepath.WalkDir(stubs, func(stub string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(stubs, stub)
		if err != nil {
			return err
		}
		pkg := path.Dir(filepath.ToSlash(rel))
		found, err := output("go", "list", "-find", "-f", "{{.Module.Path}} {{.Module.Dir}}", pkg)
		if err != nil {
			return err
		}
		module, from, _ := strings.Cut(found, " ")
		to := filepath.Join(dir, filepath.FromSlash(module))
		if !slices.Contains(done, module) {
			done = append(done, module)
			if err := copyModule(to, from); err != nil {
				return err
			}
			fmt.Fprintf(mod, "\nreplace %s => ./%s\n", module, path.Join(filepath.ToSlash(final), module))
		}
		return put(stub, filepath.Join(to, filepath.FromSlash(strings.TrimPrefix(pkg, module))), d.Name())
	})
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "tab.sum"), sums, 0o644),
		os.WriteFile(filepath.Join(dir, "tab.mod"), mod.Bytes(), 0o644),
	)
}

// put writes a stub over the file of its name. One called package.go stands
// for the whole package.
func put(stub, pkg, name string) error {
	files, err := filepath.Glob(filepath.Join(pkg, "*.go"))
	if err != nil {
		return err
	}
	target := filepath.Join(pkg, name)
	switch {
	case len(files) == 0:
		return fmt.Errorf("%s replaces nothing", stub) // the module changed: look again
	case name == "package.go":
		for _, f := range files {
			if err := os.Remove(f); err != nil {
				return err
			}
		}
	case !slices.Contains(files, target):
		return fmt.Errorf("%s replaces nothing", stub)
	}
	text, err := os.ReadFile(stub)
	if err != nil {
		return err
	}
	return os.WriteFile(target, text, 0o644)
}

// copyModule copies what a build needs of a module.
func copyModule(to, from string) error {
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == "examples"):
			return filepath.SkipDir
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case !d.Type().IsRegular() || strings.HasSuffix(name, "_test.go") || filepath.Ext(name) == ".md":
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(target, text, 0o644)
	})
}

func output(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
