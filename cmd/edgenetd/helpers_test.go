package main

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func itoa(n int) string { return strconv.Itoa(n) }

func mustMatch(ts *testscript.TestScript, pattern, text string) bool {
	re, err := regexp.Compile(pattern)
	ts.Check(err)
	return re.MatchString(text)
}

func TestNearest(t *testing.T) {
	names := []string{"worker.slots", "worker.types", "listen", "dht"}
	for word, want := range map[string]string{
		"worker.slot": "worker.slots", "workers.slots": "worker.slots", "listn": "listen", "dth": "dht", "entirely.else": "", "": "",
	} {
		if got := nearest(word, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestDistanceIsAMetricOnSamples(t *testing.T) {
	words := []string{"", "a", "ab", "ba", "status", "statsu", "stop", "submit"}
	for _, a := range words {
		for _, b := range words {
			d := distance(a, b)
			if (d == 0) != (a == b) || d != distance(b, a) || d > max(len(a), len(b)) {
				t.Errorf("distance(%q, %q) = %d", a, b, d)
			}
			for _, c := range words {
				if distance(a, c) > d+distance(b, c) {
					t.Errorf("triangle %q %q %q", a, b, c)
				}
			}
		}
	}
	if d := distance("kitten", "sitting"); d != 3 {
		t.Errorf("distance = %d, want 3", d)
	}
}

func TestEverySettingIsReachableThreeWays(t *testing.T) {
	keys, flags, envs := map[string]bool{}, map[string]bool{"no-work": true, "fault": true, "while-stdin": true}, map[string]bool{}
	run := new(app).runCmd()
	for _, s := range settings {
		if keys[s.key] || flags[s.flag] || envs[envName(s.key)] {
			t.Errorf("%s: key, flag or variable is used twice", s.key)
		}
		keys[s.key], flags[s.flag], envs[envName(s.key)] = true, true, true
		if run.Flags().Lookup(s.flag) == nil {
			t.Errorf("run has no flag --%s", s.flag)
		}
		if key, _ := envKey(envName(s.key), "x"); key != s.key {
			t.Errorf("%s reads as %q", envName(s.key), key)
		}
		if _, err := convert(s.value, s.value); err != nil {
			t.Errorf("%s: the default is refused: %v", s.key, err)
		}
	}
}

func TestOutputIsShownAsWhatItIs(t *testing.T) {
	for _, c := range []struct {
		in   string
		text bool
	}{{"plain\n", true}, {"ümläut", true}, {"\x00\x01", false}, {"\xff\xfe", false}, {"", true}} {
		if isText([]byte(c.in)) != c.text {
			t.Errorf("isText(%q) = %v", c.in, !c.text)
		}
	}
	var b strings.Builder
	err := writeYAML(&b, map[string]any{"n": uint64(1<<63 + 1), "on": "true", "list": []string{}, "s": "12"})
	want := "list: []\nn: 9223372036854775809\non: \"true\"\ns: \"12\"\n"
	if err != nil || b.String() != want {
		t.Errorf("yaml is %q, want %q (%v)", b.String(), want, err)
	}
}

func TestDevnetRefusesWhatCannotWork(t *testing.T) {
	good := devnetFlags{witnesses: 1, nodes: 5, tasks: 24, slots: 1, redundancy: 2, timeout: 1e9}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*devnetFlags){
		"two nodes":      func(f *devnetFlags) { f.nodes = 2 },
		"two witnesses":  func(f *devnetFlags) { f.witnesses = 2 },
		"only witnesses": func(f *devnetFlags) { f.witnesses, f.nodes = 4, 5 },
		"no tasks":       func(f *devnetFlags) { f.tasks = 0 },
		"too many tasks": func(f *devnetFlags) { f.tasks = 10_001 },
		"no slots":       func(f *devnetFlags) { f.slots = 0 },
		"redundancy 8":   func(f *devnetFlags) { f.redundancy, f.nodes = 8, 20 },
		"too few honest": func(f *devnetFlags) { f.liars = 3 },
		"minus a liar":   func(f *devnetFlags) { f.liars = -1 },
		"no time":        func(f *devnetFlags) { f.timeout = 0 },
	} {
		f := good
		change(&f)
		if exitCode(f.check()) != exitUsage {
			t.Errorf("%s: %v", name, f.check())
		}
	}
}
