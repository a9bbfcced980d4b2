package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	yaml "go.yaml.in/yaml/v3"

	"edgenet.dev/node/durable"
)

func (a *app) configSetCmd() *cobra.Command {
	return &cobra.Command{
		Use: "set KEY VALUE", Short: "Write one key into the configuration file; everything else in it stays as it is", Args: takes(2, 2, "a KEY and a VALUE"),
		Long: `Writes one key into config.yaml, comments and order kept. The file as a whole is
checked first. A running daemon reads it at its next start.`,
		Example: "  edgenetd config set worker.slots 4\n  edgenetd config set listen /ip4/0.0.0.0/tcp/4001,/ip4/0.0.0.0/udp/4001/quic-v1",
		RunE:    func(_ *cobra.Command, args []string) error { return a.configSet(args[0], args[1]) },
	}
}

func (a *app) configSet(key, text string) error {
	dir, err := a.dir()
	if err != nil {
		return err
	}
	path := configPath(dir)
	s := lookup(key)
	if s == nil {
		return unknownKey(key, "the command line")
	}
	value, err := convert(text, s.value)
	if err != nil {
		return failf(exitRefused, "configuration key %s: %v", key, err)
	}
	if err := s.refusal(value); err != nil {
		return failf(exitRefused, "nothing was changed: configuration key %s: %v", key, err)
	}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", path, err)
	}
	next, err := setYAML(old, key, value)
	if err != nil {
		return failf(exitRefused, "%s cannot be changed by this command: %v; edit it by hand", path, err)
	}
	if err := replaceChecked(dir, path, next); err != nil {
		return err
	}
	return a.print(report{
		data:  map[string]any{"key": key, "value": value, "file": path},
		ids:   []string{key},
		table: func(w io.Writer) { row(w, fmt.Sprintf("%s is %s in %s", key, settingText(value), path)) },
	})
}

// replaceChecked puts a configuration in place of path, whole or not at all,
// unless it is refused.
func replaceChecked(dir, path string, text []byte) error {
	return durable.Replace(path, text, 0o600, func(name string) error {
		cfg, err := loadConfig(name, nil)
		if err == nil {
			err = checkFits(dir, cfg)
		}
		if err != nil {
			return failf(exitRefused, "nothing was changed: %s", strings.ReplaceAll(sentence(err), name, path))
		}
		return nil
	})
}

// setYAML changes one key in the text of a file: the lines of its value, or new
// lines. All other bytes stay. It reads the result again and fails when that says
// anything else than was meant.
func setYAML(text []byte, key string, value any) ([]byte, error) {
	before, err := flatYAML(text)
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	lines := strings.SplitAfter(string(text), "\n")
	if n := len(lines); n > 0 && lines[n-1] != "" {
		lines[n-1] += "\n"
	} else if n > 0 {
		lines = lines[:n-1]
	}
	section, name, nested := strings.Cut(key, ".")
	var top *yaml.Node
	if len(doc.Content) > 0 {
		top = doc.Content[0]
	}
	written := yamlFlow(value)
	switch at, in := child(top, key), child(top, section); {
	case at != nil: // "worker.slots: 2", or a key without a section
		lines = splice(lines, at, key, "", written)
	case !nested:
		lines = append(lines, key+": "+written+"\n")
	case in == nil || in.value.Kind != yaml.MappingNode || len(in.value.Content) == 0:
		if in != nil {
			return nil, fmt.Errorf("%q holds no keys there", section)
		}
		lines = append(lines, section+":\n", "  "+name+": "+written+"\n")
	default:
		if in.value.Style&yaml.FlowStyle != 0 {
			return nil, fmt.Errorf("%q is written in braces", section)
		}
		indent := strings.Repeat(" ", in.value.Content[0].Column-1)
		if at := child(in.value, name); at != nil {
			lines = splice(lines, at, name, indent, written)
		} else {
			lines = slices.Insert(lines, in.key.Line, indent+name+": "+written+"\n")
		}
	}
	next := []byte(strings.Join(lines, ""))
	after, err := flatYAML(next)
	if err != nil {
		return nil, err
	}
	if got, err := convert(after[key], value); err != nil || !reflect.DeepEqual(got, value) {
		return nil, fmt.Errorf("the result would not say %s", written)
	}
	delete(before, key)
	delete(after, key)
	if !reflect.DeepEqual(before, after) {
		return nil, errors.New("another key would change")
	}
	return next, nil
}

// entry is a key of a mapping and its value.
type entry struct{ key, value *yaml.Node }

func child(of *yaml.Node, name string) *entry {
	if of == nil || of.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(of.Content); i += 2 {
		if of.Content[i].Value == name {
			return &entry{of.Content[i], of.Content[i+1]}
		}
	}
	return nil
}

// splice writes an entry again on its first line, with the comment that stood
// there, and drops the lines that its old value went on over.
func splice(lines []string, at *entry, name, indent, value string) []string {
	last := at.key.Line
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		last = max(last, n.Line)
		for _, c := range n.Content {
			walk(c)
		}
	}
	walk(at.value)
	line := indent + name + ": " + value
	if c := at.value.LineComment; c != "" {
		line += " " + c
	} else if c := at.key.LineComment; c != "" {
		line += " " + c
	}
	return slices.Replace(lines, at.key.Line-1, last, line+"\n")
}

// flatYAML reads a file as dotted keys.
func flatYAML(text []byte) (map[string]any, error) {
	var tree map[string]any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return nil, err
	}
	out := map[string]any{}
	var walk func(prefix string, m map[string]any)
	walk = func(prefix string, m map[string]any) {
		for k, v := range m {
			if sub, ok := v.(map[string]any); ok {
				walk(prefix+k+".", sub)
			} else {
				out[prefix+k] = v
			}
		}
	}
	walk("", tree)
	return out, nil
}

// yamlFlow writes a value on one line, with quotes where another reading is
// possible.
func yamlFlow(v any) string {
	switch x := v.(type) {
	case []string:
		quoted := make([]string, len(x))
		for i, s := range x {
			quoted[i] = fmt.Sprintf("%q", s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	case string:
		return fmt.Sprintf("%q", x)
	}
	return fmt.Sprint(v)
}
