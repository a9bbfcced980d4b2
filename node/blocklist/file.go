package blocklist

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// head begins a file that a command makes.
const head = `# What this node refuses to deal with. An entry a line:
#   [KIND] VALUE [since=TIME] [until=TIME] [# why]
# KIND is peer, subnet, submitter or module. The daemon reads the file again when it changes.
`

// LineError says which line of a file cannot be read.
type LineError struct {
	Line int
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap gives the reason.
func (e *LineError) Unwrap() error { return e.Err }

// File is the text of a list: a line for each entry, and lines of people's own,
// which stay as they are.
type File struct {
	lines []line
	// Own is the number of the first line that names the node itself, 0 when
	// there is none. Such lines are left out: a list that many share may name one
	// of them.
	Own int
}

type line struct {
	text  string
	entry *Entry // nil: an empty line or a comment
}

// Parse reads the list of the node self. A line that cannot be read is a
// *LineError.
func Parse(raw []byte, self peer.ID) (*File, error) {
	f := new(File)
	count, number := 0, 0
	for text := range bytes.Lines(raw) {
		number++
		l := line{text: string(bytes.TrimRight(text, "\r\n"))}
		e, err := parseLine(l.text)
		if err == nil && e != nil {
			if count++; count > MaxEntries {
				err = fmt.Errorf("there are more than %d entries", MaxEntries)
			} else if e.Itself(self) != nil {
				e = nil
				if f.Own == 0 {
					f.Own = number
				}
			}
		}
		if err != nil {
			return nil, &LineError{number, err}
		}
		l.entry = e
		f.lines = append(f.lines, l)
	}
	return f, nil
}

// Itself refuses an entry that names the node whose list it is in.
func (e Entry) Itself(self peer.ID) error {
	if (e.Kind == Peer || e.Kind == Submitter) && e.Value == self.String() {
		return proto.CodeMalformed.Errorf("%s is this node itself", e.Value)
	}
	return nil
}

// Endangers refuses an entry that cuts a node off from its network.
func (e Entry) Endangers(of *proto.Network) error {
	switch id, err := peer.Decode(e.Value); {
	case e.Kind == Peer && err == nil && of.IsWitness(id):
		return proto.CodeMalformed.Errorf("%s is a witness of this network, which certifies with %d of %d; --force blocks it all the same", e.Value, of.Quorum(), len(of.Witnesses))
	case e.Kind == Subnet && strings.HasSuffix(e.Value, "/0"):
		return proto.CodeMalformed.Errorf("%s is every address there is; --force blocks it all the same", e.Value)
	}
	return nil
}

func parseLine(text string) (*Entry, error) {
	text, why, _ := strings.Cut(text, "#")
	words := strings.Fields(text)
	if len(words) == 0 {
		return nil, nil
	}
	kind := Kind("")
	if slices.Contains(Kinds(), Kind(words[0])) {
		kind, words = Kind(words[0]), words[1:]
		if len(words) == 0 {
			return nil, fmt.Errorf("%s needs a value", kind)
		}
	}
	e, err := New(kind, words[0])
	if err != nil {
		return nil, err
	}
	for _, w := range words[1:] {
		name, value, _ := strings.Cut(w, "=")
		at, err := time.Parse(time.RFC3339, value)
		if err != nil {
			at, err = time.Parse(time.DateOnly, value)
		}
		switch {
		case name != "since" && name != "until":
			return nil, fmt.Errorf("%q is neither since= nor until= and a time; a reason begins with #", w)
		case err != nil || at.Unix() < 0:
			return nil, fmt.Errorf("%q: want a time such as 2026-12-31 or 2026-12-31T18:00:00Z", w)
		case name == "since":
			e.Since = at.UTC()
		default:
			e.Until = at.UTC()
		}
	}
	e.Reason = strings.Join(strings.Fields(why), " ")
	if err := checkReason(e.Reason); err != nil {
		return nil, err
	}
	return &e, nil
}

func (e Entry) line() string {
	text := e.String()
	if !e.Since.IsZero() {
		text += " since=" + e.Since.UTC().Format(time.RFC3339)
	}
	if !e.Until.IsZero() {
		text += " until=" + e.Until.UTC().Format(time.RFC3339)
	}
	if e.Reason != "" {
		text += " # " + e.Reason
	}
	return text
}

// Bytes is the text.
func (f *File) Bytes() []byte {
	var b bytes.Buffer
	for _, l := range f.lines {
		b.WriteString(l.text)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// Entries are those of the file. Of two about the same the later one counts.
func (f *File) Entries() (out []Entry) {
	at := map[string]int{}
	for _, l := range f.lines {
		if l.entry == nil {
			continue
		}
		if i, again := at[l.entry.String()]; again {
			out[i] = *l.entry
			continue
		}
		at[l.entry.String()] = len(out)
		out = append(out, *l.entry)
	}
	return out
}

// Add puts an entry into the file, in place of those about the same.
func (f *File) Add(e Entry) (replaced bool, err error) {
	e.Reason = strings.Join(strings.Fields(e.Reason), " ")
	if err := checkReason(e.Reason); err != nil {
		return false, proto.CodeMalformed.Errorf("%v", err)
	}
	e.Since, e.Until = e.Since.UTC().Truncate(time.Second), e.Until.UTC().Truncate(time.Second)
	if len(f.lines) == 0 {
		for text := range strings.Lines(head) {
			f.lines = append(f.lines, line{text: strings.TrimSuffix(text, "\n")})
		}
	}
	now := line{e.line(), &e}
	kept := f.lines[:0]
	count := 0
	for _, l := range f.lines {
		switch {
		case l.entry == nil || l.entry.String() != e.String():
			kept = append(kept, l)
			if l.entry != nil {
				count++
			}
		case !replaced:
			kept, replaced = append(kept, now), true
		}
	}
	if f.lines = kept; !replaced {
		if count >= MaxEntries {
			return false, proto.CodeLimits.Errorf("there are %d entries already, and no more fit; remove some", count)
		}
		f.lines = append(f.lines, now)
	}
	return replaced, nil
}

// Remove takes out the entry about a value. The kind "" is any, when there are
// not several.
func (f *File) Remove(kind Kind, value string) (Entry, error) {
	var found []Entry
	kinds := []Kind{kind}
	if kind == "" {
		kinds = Kinds()
	}
	readable := false
	for _, k := range kinds {
		e, err := New(k, value)
		if err != nil {
			if kind != "" {
				return Entry{}, err
			}
			continue
		}
		readable = true
		for _, have := range f.Entries() {
			if have.String() == e.String() {
				found = append(found, have)
			}
		}
	}
	switch {
	case !readable:
		_, err := New("", value)
		return Entry{}, err
	case len(found) == 0:
		return Entry{}, proto.CodeNotFound.Errorf("%s is not blocked; 'edgenetd block list' shows what is", strings.TrimSpace(string(kind)+" "+value))
	case len(found) > 1:
		return Entry{}, proto.CodeMalformed.Errorf("%s is blocked as %s and as %s; say which of them", value, found[0].Kind, found[1].Kind)
	}
	f.lines = slices.DeleteFunc(f.lines, func(l line) bool { return l.entry != nil && l.entry.String() == found[0].String() })
	return found[0], nil
}

// Prune takes out entries that are over.
func (f *File) Prune(now time.Time) {
	f.lines = slices.DeleteFunc(f.lines, func(l line) bool { return l.entry != nil && l.entry.over(now) })
}
