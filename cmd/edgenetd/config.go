package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"edgenet.dev/node"
	"edgenet.dev/node/metrics"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox/modules"
)

const configName = "config.yaml"

// envPrefix starts every environment variable that is read; the rest of the
// name is the key in upper case with underscores for dots and dashes.
const envPrefix = "EDGENET_"

// setting is one configuration key. Its default has the type of the value.
type setting struct {
	key   string
	flag  string
	value any // string, bool, int or []string
	usage string
}

// settings lists every key there is, in the order in which they are shown.
var settings = []setting{
	{"listen", "listen", []string{}, "multiaddrs to listen on, as 'init' chooses them; none: all interfaces, on free ports that change at every start"},
	{"announce", "announce", []string{}, "multiaddrs to tell others instead of the listened ones"},
	{"bootstrap", "bootstrap", []string{}, "multiaddrs with /p2p/ of peers to join the network by"},
	{"dht", "dht", "auto", "part in Kademlia: auto, server, client, ask (let connected daemons look peers up) or off"},
	{"reachability", "reachability", "auto", "auto, public, or private: reserve a place on the bootstrap peers' relays"},
	{"mdns", "mdns", false, "find peers on the local network by multicast"},
	{"relay", "relay", false, "relay connections for peers that cannot be dialled"},
	{"web.listen", "web", "", "host:port on which tabs are served their genesis, this node's addresses and the browser bundle; none: off"},
	{"web.root", "web-root", "", "directory of the browser bundle that 'make browser' builds; none: only genesis and addresses are served"},
	{"worker.enabled", "work", true, "take tasks of others"},
	{"worker.slots", "slots", 1, "tasks executed at once"},
	{"worker.types", "types", []string{}, "task types to take; none: every built-in one"},
	{"worker.custom", "custom", true, "take modules that are not built in"},
	{"worker.price", "price", "0", "least price in credits per 60 Gfuel; 0: any"},
	{"worker.payee", "payee", "", "account that earns instead of this node's"},
	{"worker.operator", "operator", "", "label of who runs this node; replicas avoid sharing one"},
	{"worker.site", "site", "", "label of the site this node works for"},
	{"worker.cpu", "cpu", 100, "percent of a slot's CPU that a task may use, 1 to 100"},
	{"ledger.keep", "keep-epochs", node.DefaultKeepEpochs, "epochs for which certified events stay after a checkpoint covers them; this node's own stay for ever"},
	{"disk.least", "disk-least", 24, "MiB of free disk below which the daemon stops, while its stores can still be closed"},
	{"state.keep", "state-keep", "30d", "time for which jobs that are over are kept with their results, such as 30d or 36h; 0: for ever"},
	{"state.max-size", "state-max-size", 1024, "MiB that jobs which are over may take together, the oldest go first; 0: no bound"},
	{"metrics.listen", "metrics", "", "port, or host:port, for /metrics, /healthz and /readyz; a port alone is on loopback; none: off"},
	{"metrics.pprof", "metrics-pprof", false, "serve Go's profiles at /debug/pprof/ there, too"},
	{"log.level", "log-level", "info", "least level logged: debug, info, warn or error"},
	{"log.format", "log-format", "auto", "console, json, or auto: console on a terminal, else json"},
	{"log.file", "log-file", "", "file to log to instead of standard error"},
	{"log.max-size", "log-max-size", 100, "MiB at which the log file is moved aside under a name with the time, and a new one begun; 0: never"},
	{"log.keep", "log-keep", 5, "log files that were moved aside to keep; 0: all"},
	{"nat.map", "map-ports", true, "ask the router, by UPnP or NAT-PMP, to let others in on the ports of listen"},
	{"referrer", "referrer", "", "account that this node's account names, once, as having brought it into the network; an invite sets it"},
}

// allowedValues are those of keys that are one of a few words.
var allowedValues = map[string][]string{
	"reachability": {"auto", "public", "private"},
	"dht":          {"auto", "server", "client", "ask", "off"},
	"log.level":    {"debug", "info", "warn", "error"},
	"log.format":   {"auto", "console", "json"},
}

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
			f.String(s.flag, v, s.usage)
		case bool:
			f.Bool(s.flag, v, s.usage)
		case int:
			f.Int(s.flag, v, s.usage)
		case []string:
			f.StringSlice(s.flag, v, s.usage)
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
	if value == "" || name == "EDGENET_DIR" || name == "EDGENET_PASSPHRASE" {
		return "", nil // empty is not set; the two are read where they are used
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
	refuse := func(key, format string, args ...any) error {
		return failf(exitRefused, "configuration key %s (from %s): %s", key, c.sources[key], fmt.Sprintf(format, args...))
	}
	for _, key := range []string{"listen", "announce", "bootstrap"} {
		for _, a := range c.list(key) {
			ma, err := multiaddr.NewMultiaddr(a)
			if err != nil {
				return refuse(key, "%q is no multiaddr such as /ip4/0.0.0.0/tcp/4001", a)
			}
			if _, err := peer.AddrInfoFromP2pAddr(ma); key == "bootstrap" && err != nil {
				return refuse(key, "%q must end in /p2p/ and the peer's id, as 'edgenetd id' prints it", a)
			}
		}
	}
	for _, key := range []string{"dht", "reachability", "log.level", "log.format"} {
		if !slices.Contains(allowedValues[key], c.text(key)) {
			return refuse(key, "%q is unknown; use one of %s", c.text(key), strings.Join(allowedValues[key], ", "))
		}
	}
	if n := c.number("worker.slots"); n < 1 || n > 1024 {
		return refuse("worker.slots", "%d slots; want 1 to 1024, or worker.enabled false for none", n)
	}
	if n := c.number("worker.cpu"); n < 1 || n > 100 {
		return refuse("worker.cpu", "%d percent; want 1 to 100", n)
	}
	if n := c.number("ledger.keep"); n < 1 {
		return refuse("ledger.keep", "%d epochs; want 1 or more", n)
	}
	if n := c.number("disk.least"); n < 0 {
		return refuse("disk.least", "%d MiB; want 0 or more", n)
	}
	if _, err := parseAge(c.text("state.keep")); err != nil {
		return refuse("state.keep", "%q: %v", c.text("state.keep"), err)
	}
	if addr := c.text("metrics.listen"); addr != "" {
		if _, err := metrics.Address(addr); err != nil {
			return refuse("metrics.listen", "%q: %v; want a port or host:port such as 127.0.0.1:9464", addr, err)
		}
	}
	for key, unit := range map[string]string{"log.max-size": "MiB", "log.keep": "files", "state.max-size": "MiB"} {
		if n := c.number(key); n < 0 || n > 1<<20 {
			return refuse(key, "%d %s; want 0 to %d", n, unit, 1<<20)
		}
	}
	for _, t := range c.list("worker.types") {
		if !slices.Contains(modules.Types(), proto.CanonicalType(t)) {
			return refuse("worker.types", "task type %q is unknown; this build has %s", t, strings.Join(modules.Types(), ", "))
		}
	}
	if _, err := proto.ParseCredit(c.text("worker.price")); err != nil {
		return refuse("worker.price", "%v", err)
	}
	for _, key := range []string{"worker.payee", "referrer"} {
		if c.text(key) == "" {
			continue
		}
		if _, err := parseAccount(c.text(key)); err != nil {
			return refuse(key, "%v", err)
		}
	}
	for _, key := range []string{"worker.operator", "worker.site"} {
		if len(c.text(key)) > 64 {
			return refuse(key, "label of %d bytes, at most 64", len(c.text(key)))
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

// writeNew writes a file that must not exist yet, whole or not at all.
func writeNew(path string, data []byte, mode fs.FileMode) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			os.Remove(path)
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}
