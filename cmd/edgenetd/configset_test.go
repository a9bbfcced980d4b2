package main

import (
	"math"
	"strings"
	"testing"
)

// Setting a key changes its lines and nothing else.
func TestSetKeepsTheRest(t *testing.T) {
	const file = "# mine\nlisten: [/ip4/127.0.0.1/tcp/1] # here\n\nworker:\n    # how many\n    slots: 2 # two\n    types:\n      - text\n      - hash\n    price: \"1\"\n# end\n"
	for _, c := range []struct {
		in, key string
		value   any
		want    string
	}{
		{file, "worker.slots", 4, "# mine\nlisten: [/ip4/127.0.0.1/tcp/1] # here\n\nworker:\n    # how many\n    slots: 4 # two\n    types:\n      - text\n      - hash\n    price: \"1\"\n# end\n"},
		{file, "worker.types", []string{"text"}, "# mine\nlisten: [/ip4/127.0.0.1/tcp/1] # here\n\nworker:\n    # how many\n    slots: 2 # two\n    types: [\"text\"]\n    price: \"1\"\n# end\n"},
		{file, "worker.cpu", 50, "# mine\nlisten: [/ip4/127.0.0.1/tcp/1] # here\n\nworker:\n    cpu: 50\n    # how many\n    slots: 2 # two\n    types:\n      - text\n      - hash\n    price: \"1\"\n# end\n"},
		{file, "listen", []string{}, "# mine\nlisten: [] # here\n\nworker:\n    # how many\n    slots: 2 # two\n    types:\n      - text\n      - hash\n    price: \"1\"\n# end\n"},
		{file, "dht", "off", file + "dht: \"off\"\n"},
		{file, "log.level", "debug", file + "log:\n  level: \"debug\"\n"},
		{"", "relay", true, "relay: true\n"},
		{"# only a comment\n#relay: false", "relay", true, "# only a comment\n#relay: false\nrelay: true\n"},
		{"worker.slots: 3\n", "worker.slots", 4, "worker.slots: 4\n"},
	} {
		got, err := setYAML([]byte(c.in), c.key, c.value)
		if err != nil || string(got) != c.want {
			t.Errorf("%s = %v gives %v\n%s\nwant\n%s", c.key, c.value, err, got, c.want)
		}
	}
	for _, c := range []struct{ in, key string }{
		{"worker: {slots: 2}\n", "worker.cpu"},                            // braces
		{"worker: 3\n", "worker.cpu"},                                     // no section
		{"a: &x [1]\nlisten: *x\nworker:\n  types: *x\n", "worker.cpu\n"}, // no such key, and it would be on two lines
		{"worker:\n\t- x\n", "relay"},                                     // no YAML
	} {
		if got, err := setYAML([]byte(c.in), c.key, 1); err == nil {
			t.Errorf("%q of %q gives %q", c.key, c.in, got)
		}
	}
	// What config init writes can be changed key by key.
	text := []byte(defaultConfig())
	for _, s := range settings {
		var err error
		if text, err = setYAML(text, s.key, s.value); err != nil {
			t.Fatalf("%s: %v", s.key, err)
		}
	}
}

// Every key that takes a number has a range, which is asked, and no number in it
// overflows on its way to bytes or to a duration.
func TestEveryNumberOfTheConfigurationHasARange(t *testing.T) {
	for _, s := range settings {
		if _, ok := s.value.(int); !ok {
			continue
		}
		least, most := s.takes.least, s.takes.most
		if most <= 0 {
			t.Errorf("%s has no range: give it one with between", s.key)
			continue
		}
		for n, ok := range map[int]bool{least: true, most: true, least - 1: false, most + 1: false, math.MaxInt: false, math.MinInt: false} {
			if err := s.refusal(n); (err == nil) != ok {
				t.Errorf("%s of %d: %v", s.key, n, err)
			}
		}
		if bytes := uint64(most) << 20; strings.Contains(s.takes.unit, "MiB") && (bytes>>20 != uint64(most) || bytes > math.MaxInt64) {
			t.Errorf("%s of %d MiB overflows", s.key, most)
		}
	}
	// Numbers within texts.
	for key, texts := range map[string]map[string]bool{
		"state.keep":     {"0": true, "30d": true, "36500d": true, "36501d": false, "99999999999999999999d": false, "876000h": true, "876001h": false, "-1h": false},
		"worker.price":   {"0": true, "1000000": true, "1000000.000001": false, "9007199255": false},
		"metrics.listen": {"9464": true, "65535": true, "65536": false, "-1": false},
	} {
		for text, ok := range texts {
			if err := lookup(key).refusal(text); (err == nil) != ok {
				t.Errorf("%s of %s: %v", key, text, err)
			}
		}
	}
}
