package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed mutants.yaml
var listed []byte

// mutant is one edit and the test that must fail with it.
type mutant struct {
	Name    string
	Rule    string // what the edit switches off
	File    string // from the top of the repository
	Old     string // stands in File exactly once
	New     string
	Package string // such as ./market
	Test    string // as in TestName or TestName/row: whole names, no patterns
	Env     map[string]string
}

// load reads the list and refuses an entry that lacks something.
func load() ([]mutant, error) { return parse(listed) }

func parse(text []byte) ([]mutant, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	var list []mutant
	if err := dec.Decode(&list); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("mutants.yaml: %w", err)
	}
	seen := map[string]bool{}
	for i, m := range list {
		switch {
		case m.Name == "" || m.Rule == "" || m.File == "" || m.Old == "" || m.Package == "" || m.Test == "":
			return nil, fmt.Errorf("mutants.yaml: entry %d (%s) lacks name, rule, file, old, package or test", i+1, m.Name)
		case seen[m.Name]:
			return nil, fmt.Errorf("mutants.yaml: %s stands there twice", m.Name)
		case m.Old == m.New:
			return nil, fmt.Errorf("mutants.yaml: %s changes nothing", m.Name)
		case !strings.HasPrefix(m.Package, "./"):
			return nil, fmt.Errorf("mutants.yaml: %s: package %q: want a path that begins with ./", m.Name, m.Package)
		}
		seen[m.Name] = true
	}
	return list, nil
}

// apply returns the file's text with the edit.
func (m mutant) apply(root string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(m.File)))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(text, []byte(m.Old)); n != 1 {
		return nil, fmt.Errorf("its old text stands in %s %d times, not once: the rule moved, write the entry anew", m.File, n)
	}
	return bytes.Replace(text, []byte(m.Old), []byte(m.New), 1), nil
}
