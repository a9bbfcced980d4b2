package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// docs/operating.md says what the program does: every key with its flag,
// variable and meaning, every exit code, every command.
func TestOperatingGuideIsComplete(t *testing.T) {
	b, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	guide := string(b)
	for _, s := range settings {
		start := "| `" + s.key + "` | `--" + s.flag + "` | `" + envName(s.key) + "` | "
		_, rest, found := strings.Cut(guide, start)
		if line, _, _ := strings.Cut(rest, "\n"); !found || !strings.HasSuffix(line, "| "+s.help()+" |") {
			t.Errorf("no row for %s that says %q", s.key, s.help())
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^ +(\d+)  (.+)$`).FindAllStringSubmatch(exitCodesHelp, -1) {
		if !strings.Contains(guide, "| "+m[1]+" | "+m[2]) {
			t.Errorf("exit code %s is not explained as %q", m[1], m[2])
		}
	}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if !c.Hidden && !strings.Contains(guide, c.Name()) {
			t.Errorf("command %s is not mentioned", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			if c.Name() != "completion" { // its members are the shells
				walk(sub)
			}
		}
	}
	walk(new(app).root())
}
