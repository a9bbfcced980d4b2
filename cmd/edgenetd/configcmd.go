package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/knadh/koanf/v2"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"edgenet.dev/node/durable"
	"edgenet.dev/node/identity"
	"edgenet.dev/proto"
	"edgenet.dev/proto/api"
)

func (a *app) configCmd() *cobra.Command {
	show := &cobra.Command{
		Use: "show", Short: "Print every key with its value and where it came from", Args: takes(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error { return a.configShow(c) },
	}
	addSettings(show)
	show.Long = `Prints the values that the running daemon was started with. Without a daemon, or
when flags are given, prints what a start would use.`
	return family("config", "Show, check, change and create the configuration file",
		show, a.configSetCmd(),
		&cobra.Command{
			Use: "validate [FILE]", Short: "Check a configuration file without starting anything", Args: takes(0, 1, "at most one FILE"),
			RunE: func(_ *cobra.Command, args []string) error { return a.configValidate(args) },
		},
		&cobra.Command{
			Use: "init", Short: "Write a configuration file with every key at its default", Args: takes(0, 0, ""),
			RunE: func(*cobra.Command, []string) error { return a.configInit() },
		})
}

func (a *app) configShow(c *cobra.Command) error {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	cfg, err := loadConfig(configPath(dir), c.Flags())
	running := false
	if !anySetting(c.Flags()) && answering(c.Context(), dir) == nil {
		running = true
		next := cfg // nil when the file is broken meanwhile
		if cfg, err = runningConfig(c.Context(), dir); err == nil && next != nil {
			cfg.noteChanges(next, configPath(dir))
		}
	}
	if err != nil {
		return err
	}
	type shown struct {
		Key    string `json:"key"`
		Value  any    `json:"value"`
		Source string `json:"source"`
		Env    string `json:"env"`
		Flag   string `json:"flag"`
		Help   string `json:"help"`
	}
	var entries []shown
	r := report{}
	for _, s := range settings {
		entries = append(entries, shown{s.key, cfg.values.Get(s.key), cfg.sources[s.key], envName(s.key), "--" + s.flag, s.help()})
		r.ids = append(r.ids, s.key)
	}
	r.data = entries
	r.table = func(w io.Writer) {
		if running {
			row(w, "# of the running daemon")
		}
		row(w, "KEY", "VALUE", "SOURCE")
		for _, e := range entries {
			row(w, e.Key, settingText(e.Value), e.Source)
		}
	}
	return a.print(r)
}

// anySetting reports whether a flag of a key was given.
func anySetting(flags *pflag.FlagSet) bool {
	given := flags.Changed("no-work")
	for _, s := range settings {
		given = given || flags.Changed(s.flag)
	}
	return given
}

// runningConfig asks the daemon what it was started with.
func runningConfig(ctx context.Context, dir string) (*config, error) {
	reply, err := call(ctx, newClient(dir).nodes.Settings, &api.SettingsRequest{})
	if err != nil {
		return nil, err
	}
	c := &config{values: koanf.New("."), sources: map[string]string{}}
	for _, s := range reply.Settings {
		known := lookup(s.Key)
		if known == nil { // the daemon is of another version
			continue
		}
		var v any
		d := json.NewDecoder(strings.NewReader(s.Value))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("the daemon's %s: %w", s.Key, err)
		}
		if n, ok := v.(json.Number); ok {
			v = n.String()
		}
		if v, err = convert(v, known.value); err != nil {
			return nil, fmt.Errorf("the daemon's %s: %w", s.Key, err)
		}
		if err := c.values.Set(s.Key, v); err != nil {
			return nil, err
		}
		c.sources[s.Key] = s.Source
	}
	return c, nil
}

// noteChanges marks the keys that the file says otherwise by now, unless a flag
// or a variable overrides it.
func (c *config) noteChanges(next *config, path string) {
	for _, s := range settings {
		now, then := settingText(c.values.Get(s.key)), settingText(next.values.Get(s.key))
		source := c.sources[s.key]
		if now == then || source != "default" && source != path || next.sources[s.key] != "default" && next.sources[s.key] != path {
			continue
		}
		c.sources[s.key] += fmt.Sprintf(" (now %s there: restart the daemon to use it)", then)
	}
}

func settingText(v any) string {
	switch x := v.(type) {
	case []string:
		return dash(strings.Join(x, ","))
	case string:
		return dash(x)
	}
	return fmt.Sprint(v)
}

func (a *app) configValidate(args []string) error {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	path := configPath(dir)
	if len(args) == 1 {
		path = args[0]
	}
	if err := mustExist(path, "configuration"); err != nil {
		return err
	}
	cfg, err := loadConfig(path, nil)
	if err == nil {
		err = checkFits(dir, cfg)
	}
	if err != nil {
		return err
	}
	return a.print(report{
		data:  map[string]any{"file": path, "valid": true},
		ids:   []string{path},
		table: func(w io.Writer) { row(w, path+" is valid") },
	})
}

// checkFits refuses what could never work in dir, where that is set up.
func checkFits(dir string, cfg *config) error {
	key, err := identity.Load(dir)
	if err != nil || !exists(filepath.Join(dir, genesisName)) {
		return nil
	}
	raw, err := os.ReadFile(filepath.Join(dir, genesisName))
	if err != nil {
		return nil
	}
	network, err := proto.ParseGenesis(raw)
	if err != nil {
		return nil
	}
	self, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil
	}
	return cfg.fits(network, self)
}

// fits refuses what could never work for this node of the network.
func (c *config) fits(network *proto.Network, self peer.ID) error {
	if c.text("ledger.mode") == "own" && network.IsWitness(self) {
		return failf(exitRefused, "configuration key ledger.mode (from %s): a witness needs the whole ledger; use full", c.sources["ledger.mode"])
	}
	if c.text("referrer") == self.String() {
		return failf(exitRefused, "configuration key referrer (from %s): an account cannot refer itself; name another, or take the key out", c.sources["referrer"])
	}
	return nil
}

func (a *app) configInit() error {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	path := configPath(dir)
	if err := durable.WriteNew(path, []byte(defaultConfig()), 0o600); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return failf(exitRefused, "%s exists already and was left alone; edit it, or move it away first", path)
		}
		return fmt.Errorf("write %s: %w", path, err)
	}
	return a.print(report{
		data: map[string]any{"file": path}, ids: []string{path},
		table: func(w io.Writer) { row(w, "wrote "+path) },
	})
}

// defaultConfig is a file of every key at its default, commented out so that
// later versions can change what was not chosen.
func defaultConfig() string {
	var b strings.Builder
	b.WriteString("# EdgeNet configuration. Flags and EDGENET_* variables override it.\n# Remove the '#' before a key, and before its section, to set it.\n")
	section := ""
	for _, s := range settings {
		name, indent := s.key, ""
		if sec, rest, ok := strings.Cut(s.key, "."); ok {
			if sec != section {
				fmt.Fprintf(&b, "\n#%s:\n", sec)
				section = sec
			}
			name, indent = rest, "  "
		}
		fmt.Fprintf(&b, "\n# %s (%s)\n#%s%s: %s\n", s.help(), envName(s.key), indent, name, yamlText(s.value))
	}
	return b.String()
}

func yamlText(v any) string {
	switch x := v.(type) {
	case []string:
		return "[" + strings.Join(x, ", ") + "]"
	case string:
		return fmt.Sprintf("%q", x)
	}
	return fmt.Sprint(v)
}
