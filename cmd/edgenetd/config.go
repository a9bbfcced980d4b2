package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"edgenet.dev/proto"
)

const configName = "config.yaml"

// envPrefix starts every environment variable that is read; the rest of the
// name is the key in upper case with underscores for dots and dashes.
const envPrefix = "EDGENET_"

func lookup(key string) *setting {
	for i := range settings {
		if settings[i].key == key {
			return &settings[i]
		}
	}
	return nil
}

func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
}

// addSettings declares the flag of every key on a command.
func addSettings(c *cobra.Command) {
	f := c.Flags()
	for _, s := range settings {
		switch v := s.value.(type) {
		case string:
			f.String(s.flag, v, s.help())
		case bool:
			f.Bool(s.flag, v, s.help())
		case int:
			f.Int(s.flag, v, s.help())
		case []string:
			f.StringSlice(s.flag, v, s.help())
		}
	}
	f.Bool("no-work", false, "take no tasks: --work=false")
}

// config is the effective configuration with the source of each value.
type config struct {
	values  *koanf.Koanf
	sources map[string]string // key -> default, file name, variable or flag
}

func (c *config) text(key string) string   { return c.values.String(key) }
func (c *config) on(key string) bool       { return c.values.Bool(key) }
func (c *config) number(key string) int    { return c.values.Int(key) }
func (c *config) list(key string) []string { return c.values.Strings(key) }

// inFile reports whether what fileConfig read has a key.
func (c *config) inFile(key string) bool { return c.sources[key] != "default" }

// fileConfig merges default < path and refuses unknown keys and values of the
// wrong kind. A missing file is an empty one.
func fileConfig(path string) (*config, error) {
	c := &config{values: koanf.New("."), sources: map[string]string{}}
	for _, s := range settings {
		if err := c.values.Set(s.key, s.value); err != nil {
			return nil, err
		}
		c.sources[s.key] = "default"
	}
	fromFile := koanf.New(".")
	if err := fromFile.Load(file.Provider(path), yaml.Parser()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, failf(exitRefused, "configuration %s cannot be read: %v; correct it, or write a fresh one with 'edgenetd config init'", path, err)
	}
	return c, c.merge(fromFile, func(string) string { return path })
}

// loadConfig merges default < dir/config.yaml < EDGENET_* < flags and refuses
// unknown keys and values of the wrong kind in each. flags may be nil.
func loadConfig(path string, flags *pflag.FlagSet) (*config, error) {
	c, err := fileConfig(path)
	if err != nil {
		return nil, err
	}
	fromEnv := koanf.New(".")
	err = fromEnv.Load(env.Provider(".", env.Opt{Prefix: envPrefix, TransformFunc: envKey}), nil)
	if err == nil {
		err = c.merge(fromEnv, func(key string) string { return "$" + envName(key) })
	}
	if err != nil {
		return nil, err
	}
	if flags != nil {
		fromFlags := koanf.New(".")
		err := fromFlags.Load(posflag.ProviderWithFlag(flags, ".", nil, flagKey(flags)), nil)
		if err == nil {
			err = c.merge(fromFlags, func(key string) string { return "--" + lookup(key).flag })
		}
		if err != nil {
			return nil, err
		}
		if off, err := flags.GetBool("no-work"); err == nil && off {
			_ = c.values.Set("worker.enabled", false) // the key is known to take a bool
			c.sources["worker.enabled"] = "--no-work"
		}
	}
	return c, c.check()
}

func envKey(name, value string) (string, any) {
	switch name {
	case "EDGENET_DIR", "EDGENET_PASSPHRASE": // read where they are used
		return "", nil
	case "EDGENET_INVITE": // read by the programs of the guides, in the same shell
		return "", nil
	}
	if value == "" { // is not set
		return "", nil
	}
	for _, s := range settings {
		if envName(s.key) == name {
			return s.key, value
		}
	}
	return strings.ToLower(strings.TrimPrefix(name, envPrefix)), value // refused by merge
}

func flagKey(flags *pflag.FlagSet) func(*pflag.Flag) (string, any) {
	return func(f *pflag.Flag) (string, any) {
		for _, s := range settings {
			if s.flag == f.Name && f.Changed {
				return s.key, posflag.FlagVal(flags, f)
			}
		}
		return "", nil
	}
}

// merge lays one source over what is there.
func (c *config) merge(from *koanf.Koanf, source func(key string) string) error {
	for _, key := range from.Keys() {
		s := lookup(key)
		if s == nil {
			return unknownKey(key, source(key))
		}
		v, err := convert(from.Get(key), s.value)
		if err != nil {
			return failf(exitRefused, "configuration key %s in %s: %v; see 'edgenetd config show' for every key", key, source(key), err)
		}
		if err := c.values.Set(key, v); err != nil {
			return err
		}
		c.sources[key] = source(key)
	}
	return nil
}

func unknownKey(key, source string) error {
	var keys []string
	for _, s := range settings {
		keys = append(keys, s.key)
	}
	hint := "see 'edgenetd config show' for every key"
	if strings.HasPrefix(source, "$") {
		name := strings.TrimPrefix(source, "$")
		for i := range keys {
			keys[i] = envName(keys[i])
		}
		if near := nearest(name, keys); near != "" {
			hint = fmt.Sprintf("did you mean %s?", near)
		}
		return failf(exitRefused, "environment variable %s names no configuration key; %s", name, hint)
	}
	if near := nearest(key, keys); near != "" {
		hint = fmt.Sprintf("did you mean %s?", near)
	}
	return failf(exitRefused, "configuration key %q in %s is unknown; %s", key, source, hint)
}

// convert gives v the type of like. Text comes from the environment; a list
// is separated by commas there.
func convert(v, like any) (any, error) {
	text, isText := v.(string)
	switch like.(type) {
	case string:
		switch n := v.(type) {
		case string:
			return n, nil
		case int:
			return strconv.Itoa(n), nil
		case float64:
			return strconv.FormatFloat(n, 'f', -1, 64), nil
		}
		return nil, fmt.Errorf("want text, got %v", v)
	case bool:
		if b, ok := v.(bool); ok {
			return b, nil
		}
		if b, err := strconv.ParseBool(text); isText && err == nil {
			return b, nil
		}
		return nil, fmt.Errorf("want true or false, got %q", fmt.Sprint(v))
	case int:
		if n, ok := v.(int); ok {
			return n, nil
		}
		if n, err := strconv.Atoi(text); isText && err == nil {
			return n, nil
		}
		return nil, fmt.Errorf("want a whole number, got %q", fmt.Sprint(v))
	}
	switch l := v.(type) {
	case []string:
		return l, nil
	case nil:
		return []string{}, nil
	case string:
		return strings.FieldsFunc(l, func(r rune) bool { return r == ',' || r == ' ' }), nil
	case []any:
		out := []string{}
		for _, e := range l {
			s, ok := e.(string)
			if !ok {
				return nil, fmt.Errorf("want a list of texts, got %v in it", e)
			}
			out = append(out, s)
		}
		return out, nil
	}
	return nil, fmt.Errorf("want a list, got %q", fmt.Sprint(v))
}

// check refuses values that could never work, naming where each came from.
func (c *config) check() error {
	for _, s := range settings {
		var value any
		switch s.value.(type) {
		case int:
			value = c.number(s.key)
		case string:
			value = c.text(s.key)
		case []string:
			value = c.list(s.key)
		}
		if err := s.refusal(value); err != nil {
			return failf(exitRefused, "configuration key %s (from %s): %v", s.key, c.sources[s.key], err)
		}
	}
	return nil
}

func parseAccount(text string) (peer.ID, error) {
	id, err := peer.Decode(text)
	if err == nil {
		id, err = proto.ParsePeer([]byte(id))
	}
	if err != nil {
		return "", fmt.Errorf("%q is no account; want a peer id such as 12D3KooW…, as 'edgenetd id' prints it", text)
	}
	return id, nil
}

func configPath(dir string) string { return filepath.Join(dir, configName) }
