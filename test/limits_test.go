package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every row of docs/limits.md names a bound that is in the source and a test
// that is there.
func TestLimitsAreWhatTheyAre(t *testing.T) {
	root := repo(t)
	page, err := os.ReadFile(filepath.Join(root, "docs", "limits.md"))
	if err != nil {
		t.Fatal(err)
	}
	faults, rows := limitFaults(root, string(page))
	for _, f := range faults {
		t.Error(f)
	}
	if rows < 60 {
		t.Errorf("docs/limits.md has %d rows", rows)
	}
}

// The check sees rows that are not so.
func TestLimitsCheckRefuses(t *testing.T) {
	head := "| what | bound | key | per peer | what gives way | test |\n|---|---|---|---|---|---|\n"
	for row, want := range map[string]string{
		"| a | 1 | `node/looks.go maxLooks` | 1 | x | `TestTurns` |":                 "",
		"| a | 1 | `node/looks.go maxLocks` | 1 | x | `TestTurns` |":                 "there is no maxLocks",
		"| a | 1 | `node/lux.go maxLooks` | 1 | x | `TestTurns` |":                   "lux.go",
		"| a | 1 | `node/looks.go maxLooks` | 1 | x | `TestOfNothing` |":             "there is no test TestOfNothing",
		"| a | 1 | `node/looks.go maxLooks` | 1 | x | none |":                        "names no test",
		"| a | 1 | sixteen | 1 | x | `TestTurns` |":                                  "names no constant",
		"| a | 1 | `limits.nothing` | 1 | x | `TestTurns` |":                         "limits.nothing is no key",
		"| a | 1 | `no_such_seconds` | 1 | x | `TestTurns` |":                        "no_such_seconds is no number of a genesis",
		"| a | | `node/looks.go maxLooks` | 1 | x | `TestTurns` |":                   "an empty cell",
		"| a | 1 | `node/looks.go maxLooks` | x | `TestTurns` |":                     "5 cells",
		"| a | 1 | `limits.connections`, `max_hold_seconds` | 1 | x | `TestTurns` |": "",
	} {
		faults, _ := limitFaults(repo(t), head+row+"\n")
		if got := strings.Join(faults, "; "); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", row, got, want)
		}
	}
}

var (
	quoted    = regexp.MustCompile("`([^`]+)`")
	inAFile   = regexp.MustCompile(`^([a-z_/0-9A-Z]+\.go) (\w+)$`)
	testNamed = regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
)

// limitFaults are what is wrong with the tables of a page, and how many rows
// they have.
func limitFaults(root, page string) (faults []string, rows int) {
	tests := ""
	var settings, schema string
	read := func(parts ...string) string {
		raw, err := os.ReadFile(filepath.Join(append([]string{root}, parts...)...))
		if err != nil {
			faults = append(faults, err.Error())
		}
		return string(raw)
	}
	settings, schema = read("cmd", "edgenetd", "settings.go"), read("proto", "edgenet.proto")
	for _, dir := range []string{"proto", "ledger", "market", "sandbox", "transport", "node", "cmd", "browser", "test"} {
		_ = filepath.WalkDir(filepath.Join(root, dir), func(path string, d os.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, "_test.go") {
				raw, _ := os.ReadFile(path)
				tests += string(raw)
			}
			return nil
		})
	}
	for _, line := range strings.Split(page, "\n") {
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| what |") {
			continue
		}
		rows++
		fault := func(format string, a ...any) {
			faults = append(faults, fmt.Sprintf("%s: ", line)+fmt.Sprintf(format, a...))
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 6 {
			fault("%d cells, want 6", len(cells))
			continue
		}
		for _, c := range cells {
			if strings.TrimSpace(c) == "" {
				fault("an empty cell")
			}
		}
		keys := quoted.FindAllStringSubmatch(cells[2], -1)
		if len(keys) == 0 {
			fault("names no constant, key or number")
		}
		for _, k := range keys {
			if f := inAFile.FindStringSubmatch(k[1]); f != nil {
				raw, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(f[1])))
				if err != nil || !regexp.MustCompile(`\b`+f[2]+`\b`).Match(raw) {
					fault("there is no %s in %s", f[2], f[1])
				}
				continue
			}
			if strings.Contains(k[1], ".") {
				if !strings.Contains(settings, `{"`+k[1]+`", `) {
					fault("%s is no key of the configuration", k[1])
				}
			} else if !regexp.MustCompile(`\b` + regexp.QuoteMeta(k[1]) + ` = \d`).MatchString(schema) {
				fault("%s is no number of a genesis", k[1])
			}
		}
		named := testNamed.FindAllStringSubmatch(cells[5], -1)
		if len(named) == 0 {
			fault("names no test")
		}
		for _, n := range named {
			if !strings.Contains(tests, "func "+n[1]+"(") {
				fault("there is no test %s", n[1])
			}
		}
	}
	return faults, rows
}
