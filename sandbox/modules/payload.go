package modules

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"edgenet.dev/proto"
)

// bom is the byte-order mark that some editors put in front of UTF-8.
var bom = []byte("\xef\xbb\xbf")

// document reads one JSON value and knows where in it it stands: its errors
// name the line, where there is more than one, and the field.
type document struct {
	b []byte
	d *json.Decoder
}

func newDocument(b []byte) *document {
	b = bytes.TrimPrefix(b, bom)
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return &document{b, d}
}

// refuse is an error about the field at path, which ends where the decoder
// stands.
func (d *document) refuse(path, format string, args ...any) error {
	where := ""
	if rest := bytes.TrimSpace(d.b); bytes.IndexByte(rest, '\n') >= 0 {
		at := min(int(d.d.InputOffset()), len(d.b))
		where = fmt.Sprintf("line %d: ", 1+bytes.Count(d.b[:at], []byte{'\n'}))
	}
	if path != "" {
		where += path + ": "
	}
	return proto.CodeMalformed.Errorf("%s%s", where, fmt.Sprintf(format, args...))
}

// token is the next token, which belongs to path and should be a want.
func (d *document) token(path, want string) (json.Token, error) {
	t, err := d.d.Token()
	if err == nil {
		return t, nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, d.refuse(path, "the JSON ends where %s should stand", want)
	}
	rest := bytes.TrimLeft(d.b[min(int(d.d.InputOffset()), len(d.b)):], " \t\r\n,:")
	if i := bytes.IndexAny(rest, ",]}: \t\r\n"); i > 0 {
		rest = rest[:i]
	}
	return nil, d.refuse(path, "%s is not JSON; want %s", shown(rest), want)
}

// shown is at most so much of what people wrote that they find it again.
func shown(b []byte) string {
	const most = 24
	if len(b) > most {
		return string(bytes.ToValidUTF8(b[:most], nil)) + "…"
	}
	return string(bytes.ToValidUTF8(b, []byte("\ufffd")))
}

// name says what a token is that should have been something else.
func name(t json.Token) string {
	switch v := t.(type) {
	case nil:
		return "null"
	case json.Delim:
		if v == '[' {
			return "a list"
		}
		return "an object"
	case string:
		return strconv.Quote(shown([]byte(v)))
	}
	return fmt.Sprint(t)
}

// end refuses what stands behind the value.
func (d *document) end() error {
	if t, err := d.d.Token(); err != io.EOF {
		if err == nil {
			return d.refuse("", "%s stands behind the end; want one JSON object", name(t))
		}
		return d.refuse("", "there is more behind the end; want one JSON object")
	}
	return nil
}

// open reads the token that begins a list or an object.
func (d *document) open(path string, delim json.Delim, want string) error {
	t, err := d.token(path, want)
	if err != nil {
		return err
	}
	if t != delim {
		return d.refuse(path, "%s is not %s", name(t), want)
	}
	return nil
}

// object calls field for each field of an object, in order, each once.
func (d *document) object(field func(name string) error) error {
	if err := d.open("", '{', "an object"); err != nil {
		return err
	}
	seen := map[string]bool{}
	for d.d.More() {
		t, err := d.token("", "the name of a field")
		if err != nil {
			return err
		}
		name, _ := t.(string)
		if seen[name] {
			return d.refuse(shown([]byte(name)), "is given twice")
		}
		seen[name] = true
		if err := field(name); err != nil {
			return err
		}
	}
	if _, err := d.token("", "} or a field"); err != nil {
		return err
	}
	return d.end()
}

func (d *document) text(path string) (string, error) {
	t, err := d.token(path, "a string")
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", d.refuse(path, "%s is not a string", name(t))
	}
	return s, nil
}

func (d *document) count(path string) (uint32, error) {
	t, err := d.token(path, "a whole number")
	if err != nil {
		return 0, err
	}
	n, ok := t.(json.Number)
	if !ok {
		return 0, d.refuse(path, "%s is not a number", name(t))
	}
	v, err := strconv.ParseUint(n.String(), 10, 32)
	if err != nil {
		return 0, d.refuse(path, "%s is not a whole number from 0 to %d", n, uint32(math.MaxUint32))
	}
	return uint32(v), nil
}

// list calls item for each item of a list.
func (d *document) list(path, want string, item func(path string) error) error {
	if err := d.open(path, '[', want); err != nil {
		return err
	}
	for i := 0; d.d.More(); i++ {
		if err := item(path + "[" + strconv.Itoa(i) + "]"); err != nil {
			return err
		}
	}
	_, err := d.token(path, "] or an item")
	return err
}

// vector reads a list of numbers.
func (d *document) vector(path string) ([]float32, error) {
	v := []float32{}
	if err := d.open(path, '[', "a list of numbers"); err != nil {
		return nil, err
	}
	// The path of an item is made only for an error: there are millions.
	at := func() string { return path + "[" + strconv.Itoa(len(v)) + "]" }
	for d.d.More() {
		if len(v) == maxDimension {
			return nil, d.refuse(path, "a vector has at most %d dimensions", maxDimension)
		}
		t, err := d.d.Token()
		if err != nil {
			return nil, d.number(at)
		}
		n, ok := t.(json.Number)
		if !ok {
			return nil, d.refuse(at(), "%s is not a number", name(t))
		}
		x, err := strconv.ParseFloat(n.String(), 32)
		if err != nil {
			return nil, d.refuse(at(), "%s does not fit a 32-bit float", n)
		}
		v = append(v, float32(x))
	}
	_, err := d.token(path, "] or a number")
	return v, err
}

// number is the error of a token that could not be read.
func (d *document) number(at func() string) error {
	_, err := d.token(at(), "a number")
	return err
}

func (d *document) vectors(path string) (vs [][]float32, err error) {
	err = d.list(path, "a list of vectors", func(path string) error {
		if len(vs) >= proto.MaxInput/4 {
			return proto.CodeTooLarge.Errorf("%s: more vectors than an input of %d bytes holds: split them", path, proto.MaxInput)
		}
		v, err := d.vector(path)
		vs = append(vs, v)
		return err
	})
	if vs == nil {
		vs = [][]float32{}
	}
	return vs, err
}

// checkText refuses what is no text, and takes the byte-order mark off.
func checkText(b []byte) ([]byte, error) {
	b = bytes.TrimPrefix(b, bom)
	for i := 0; i < len(b); {
		if b[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return nil, proto.CodeMalformed.Errorf("line %d: byte 0x%02x is not UTF-8; convert the text first, for example with iconv -t utf-8",
				1+bytes.Count(b[:i], []byte{'\n'}), b[i])
		}
		i += n
	}
	return b, nil
}

// textOf reads a text written as a JSON value: a string, or an object with the
// one field text.
func textOf(value []byte) ([]byte, error) {
	d := newDocument(value)
	if rest := bytes.TrimLeft(d.b, " \t\r\n"); len(rest) > 0 && rest[0] == '{' {
		var text string
		given := false
		err := d.object(func(name string) (err error) {
			if name != "text" {
				return d.refuse(shown([]byte(name)), "is no field of a text; want text")
			}
			given = true
			text, err = d.text(name)
			return err
		})
		if err == nil && !given {
			err = d.refuse("text", "is missing")
		}
		return []byte(text), err
	}
	t, err := d.token("", `a string or {"text": "…"}`)
	if err != nil {
		return nil, err
	}
	s, ok := t.(string)
	if !ok {
		return nil, d.refuse("", `%s is not a text; want a string or {"text": "…"}`, name(t))
	}
	return []byte(s), d.end()
}

// isMissing reports whether a JSON value is not there or null.
func isMissing(value []byte) bool {
	v := strings.TrimSpace(string(value[:min(len(value), 64)]))
	return v == "" || v == "null"
}
