package main

import (
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
