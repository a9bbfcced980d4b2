package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"

	yaml "go.yaml.in/yaml/v3"

	"edgenet.dev/proto"
)

// report is one command's data in its three forms. Amounts in data are whole
// microcredits; tables show credits.
type report struct {
	data  any             // for json and yaml
	table func(io.Writer) // tab separated cells, one row a line
	ids   []string        // for -q
}

func (a *app) print(r report) error {
	switch {
	case a.quiet:
		for _, id := range r.ids {
			if _, err := fmt.Fprintln(a.out, id); err != nil {
				return err
			}
		}
		return nil
	case a.format == "json":
		enc := json.NewEncoder(a.out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(r.data)
	case a.format == "yaml":
		return writeYAML(a.out, r.data)
	}
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	r.table(w)
	return w.Flush()
}

// writeYAML goes through JSON so that both forms have the same names in the
// same order.
func writeYAML(w io.Writer, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return err
	}
	plainStyle(&doc)
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return err
	}
	return enc.Close()
}

func plainStyle(n *yaml.Node) {
	empty := len(n.Content) == 0 && (n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode)
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str":
		// The encoder quotes where a plain word would read as something else.
		n.Style = 0
	case !empty:
		n.Style = 0
	}
	for _, c := range n.Content {
		plainStyle(c)
	}
}

// row prints one line of a table.
func row(w io.Writer, cells ...any) {
	text := make([]string, len(cells))
	for i, c := range cells {
		text[i] = harmless(strings.ReplaceAll(strings.ReplaceAll(fmt.Sprint(c), "\t", " "), "\n", " "))
	}
	fmt.Fprintln(w, strings.Join(text, "\t"))
}

// harmless escapes what would steer a terminal or hide: strangers choose memos,
// agents and reasons.
func harmless(text string) string {
	if !strings.ContainsFunc(text, hidden) && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if hidden(r) {
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func hidden(r rune) bool { return !unicode.IsPrint(r) }

func credits[T ~uint64](micro T) string { return proto.Credit(micro).String() }

func signedCredits(micro int64) string {
	if micro < 0 {
		return "-" + proto.Credit(-micro).String()
	}
	return "+" + proto.Credit(micro).String()
}

func clock(unixMs uint64) string {
	if unixMs == 0 {
		return "-"
	}
	return proto.UnixMs(unixMs).Local().Format("2006-01-02 15:04:05")
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func bytesText(n uint64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// outputValue shows task output in JSON: itself when it is JSON, text when it
// is text, else base64 under a name that says so.
func outputValue(b []byte) any {
	if json.Valid(b) {
		return json.RawMessage(bytes.TrimSpace(b))
	}
	if isText(b) {
		return string(b)
	}
	return map[string][]byte{"base64": b}
}

func isText(b []byte) bool {
	if !bytes.Equal(bytes.ToValidUTF8(b, nil), b) {
		return false
	}
	return !bytes.ContainsFunc(b, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r' })
}
