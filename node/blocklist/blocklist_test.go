package blocklist

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"

	"edgenet.dev/proto"
)

func someID(t testing.TB) peer.ID {
	t.Helper()
	_, pub, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A value has one form however it is written, and says of what kind it is.
func TestValues(t *testing.T) {
	id, module := someID(t).String(), proto.CIDOf([]byte("a module")).String()
	for _, x := range []struct {
		kind      Kind
		in, value string
		is        Kind
	}{
		{"", id, id, Peer},
		{Submitter, id, id, Submitter},
		{"", "203.0.113.7", "203.0.113.7/32", Subnet},
		{"", "203.0.113.7/24", "203.0.113.0/24", Subnet},
		{"", "::ffff:203.0.113.7", "203.0.113.7/32", Subnet},
		{"", "::ffff:203.0.113.7/120", "203.0.113.0/24", Subnet},
		{"", "2001:DB8::1/48", "2001:db8::/48", Subnet},
		{"", module, module, Module},
		{"", "text", "text", Module},
		{Module, "vector", proto.CanonicalType("vector"), Module},
	} {
		e, err := New(x.kind, x.in)
		if err != nil || e.Kind != x.is || e.Value != x.value {
			t.Errorf("%s %s: %v, %v", x.kind, x.in, e, err)
		}
	}
	for _, x := range []Entry{
		{Kind: "", Value: "bob"},
		{Kind: Peer, Value: module},
		{Kind: Submitter, Value: "203.0.113.7"},
		{Kind: Subnet, Value: id},
		{Kind: Subnet, Value: "203.0.113.0/33"},
		{Kind: Subnet, Value: "fe80::1%eth0"},
		{Kind: Subnet, Value: "::ffff:203.0.113.7/90"},
		{Kind: Module, Value: id},
		{Kind: Module, Value: "txet"},
		{Kind: "worker", Value: id},
		{Kind: Peer, Value: "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"}, // no Ed25519
	} {
		if e, err := New(x.Kind, x.Value); proto.CodeOf(err) != proto.CodeMalformed {
			t.Errorf("%s: %v, %v", x, e, err)
		}
	}
}

// A list blocks what its entries name, until they end, and nothing beside.
func TestListBlocks(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	id, payer, late := someID(t), someID(t), someID(t)
	entries := []Entry{
		{Kind: Peer, Value: id.String()},
		{Kind: Submitter, Value: payer.String()},
		{Kind: Peer, Value: late.String(), Until: now.Add(time.Hour)},
		{Kind: Subnet, Value: "203.0.113.0/24"},
		{Kind: Subnet, Value: "198.51.100.7/32"},
		{Kind: Subnet, Value: "2001:db8::/48"},
		{Kind: Module, Value: "text"},
	}
	l := Of(entries, now)
	is := func(what string, got, want bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v", what, got)
		}
	}
	has := func(id peer.ID) bool { _, ok := l.Peer(id); return ok }
	is("a peer", has(id), true)
	is("a submitter is no peer", has(payer), false)
	is("one that is blocked for a while", has(late), true)
	at := func(a string) bool { _, ok := l.Address(netip.MustParseAddr(a)); return ok }
	for a, want := range map[string]bool{
		"203.0.113.0": true, "203.0.113.255": true, "203.0.114.0": false, "198.51.100.7": true, "198.51.100.6": false,
		"::ffff:203.0.113.9": true, "2001:db8::ffff": true, "2001:db8:1::": false, "cb00:7100::": false,
	} {
		is(a, at(a), want)
	}
	work, mods := l.Work()
	is("work of a blocked peer", work[id] && work[payer] && work[late], true)
	is("a module", len(mods) == 1 && len(work) == 3, true)
	is("the first end", l.Next().Equal(now.Add(time.Hour)), true)
	if l = Of(entries, now.Add(time.Hour)); has(late) || !has(id) || !l.Next().IsZero() || len(l.Entries()) != len(entries)-1 {
		t.Error("an entry does not end")
	}
	l = nil
	if has(id) || at("203.0.113.0") || l.Entries() != nil {
		t.Error("an empty list blocks")
	}
}

// What was added is what is read, whatever stands around it, and what is removed
// is gone.
func TestFileKeepsWhatItIsTold(t *testing.T) {
	ids := []string{someID(t).String(), someID(t).String(), someID(t).String()}
	self := someID(t)
	rapid.Check(t, func(t *rapid.T) {
		comments := rapid.SliceOfN(rapid.SampledFrom([]string{"# a note", "", "   # another"}), 0, 4).Draw(t, "comments")
		f, err := Parse([]byte(strings.Join(comments, "\r\n")), self)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]Entry{}
		for range rapid.IntRange(0, 12).Draw(t, "acts") {
			value := rapid.SampledFrom(append(ids, "10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32", "text")).Draw(t, "value")
			kind := Kind("")
			if slices.Contains(ids, value) {
				kind = rapid.SampledFrom([]Kind{Peer, Submitter}).Draw(t, "kind")
			}
			e, err := New(kind, value)
			if err != nil {
				t.Fatal(err)
			}
			if _, there := want[e.String()]; there && rapid.Bool().Draw(t, "remove") {
				if _, err := f.Remove(e.Kind, value); err != nil {
					t.Fatal(err)
				}
				delete(want, e.String())
				continue
			}
			e.Since = time.Unix(rapid.Int64Range(1, 1<<33).Draw(t, "since"), 0).UTC()
			if rapid.Bool().Draw(t, "ends") {
				e.Until = e.Since.Add(time.Duration(rapid.Int64Range(1, 1<<20).Draw(t, "for")) * time.Second)
			}
			e.Reason = strings.Join(strings.Fields(rapid.StringMatching(`[a-zé #=]{0,40}`).Draw(t, "reason")), " ")
			_, had := want[e.String()]
			if replaced, err := f.Add(e); err != nil || replaced != had {
				t.Fatalf("add %v: replaced %v, %v", e, replaced, err)
			}
			want[e.String()] = e
		}
		again, err := Parse(f.Bytes(), self)
		if err != nil {
			t.Fatalf("%v in\n%s", err, f.Bytes())
		}
		got := again.Entries()
		for _, e := range got {
			if w := want[e.String()]; w != e {
				t.Errorf("%+v was read, want %+v", e, w)
			}
		}
		if len(got) != len(want) || strings.Count(string(f.Bytes()), "# a note") != strings.Count(strings.Join(comments, ""), "# a note") {
			t.Errorf("%d entries, want %d, in\n%s", len(got), len(want), f.Bytes())
		}
	})
}

// Whoever writes the file by hand is told which line is wrong.
func TestBadLines(t *testing.T) {
	self := someID(t)
	for text, want := range map[string]string{
		"# fine\n\nnobody\n":                       "line 3: \"nobody\" is no peer id",
		"peer\n":                                   "line 1: peer needs a value",
		"peer 10.0.0.0/8":                          "line 1: \"10.0.0.0/8\" is no peer id",
		"10.0.0.0/8 until=soon":                    "line 1: \"until=soon\": want a time such as",
		"10.0.0.0/8 a reason":                      "line 1: \"a\" is neither since= nor until=",
		"10.0.0.0/8\n10.0.0.0/8 # \x1b[2J":         "line 2: the reason has characters",
		"10.0.0.0/8 # " + strings.Repeat("x", 201): "line 1: a reason of 201 bytes",
		strings.Repeat("10.0.0.0/8\n", MaxEntries) + "10.0.0.1": fmt.Sprintf("line %d: there are more than %d entries", MaxEntries+1, MaxEntries),
	} {
		_, err := Parse([]byte(text), self)
		var bad *LineError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %s", text, err, want)
		}
	}
}

// A list that many share may name the node that reads it. Such a line stays in
// the file and is left out.
func TestOwnLinesAreLeftOut(t *testing.T) {
	self := someID(t)
	text := "192.0.2.1\n" + self.String() + "\nsubmitter " + self.String() + "\n192.0.2.2\n"
	f, err := Parse([]byte(text), self)
	if err != nil || f.Own != 2 || len(f.Entries()) != 2 || string(f.Bytes()) != text {
		t.Errorf("%v, line %d, %v", err, f.Own, f.Entries())
	}
}

// A list has no more entries than it may, and its file no more bytes.
func TestListIsBounded(t *testing.T) {
	f := new(File)
	for i := range MaxEntries {
		f.lines = append(f.lines, line{entry: &Entry{Kind: Subnet, Value: fmt.Sprintf("10.%d.%d.0/24", i/256, i%256)}})
	}
	if _, err := f.Add(Entry{Kind: Subnet, Value: "192.0.2.0/24"}); proto.CodeOf(err) != proto.CodeLimits {
		t.Errorf("one more than may be: %v", err)
	}
	if replaced, err := f.Add(Entry{Kind: Subnet, Value: "10.0.1.0/24", Reason: "again"}); err != nil || !replaced {
		t.Errorf("one that is there: %v", err)
	}
	path := filepath.Join(t.TempDir(), Name)
	if err := os.WriteFile(path, []byte(strings.Repeat("#\n", maxFile/2)+"#"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, ""); err == nil || !strings.Contains(err.Error(), "has more than 8 MiB") {
		t.Errorf("a large file: %v", err)
	}
}

// A list that a link leads to stays where it is.
func TestSaveFollowsALink(t *testing.T) {
	dir := t.TempDir()
	shared, path := filepath.Join(dir, "shared"), filepath.Join(dir, Name)
	if err := os.WriteFile(shared, []byte("# ours\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(shared, path); err != nil {
		t.Fatal(err)
	}
	f, err := Load(path, "")
	if err != nil {
		t.Fatal(err)
	}
	e, err := New("", "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Add(e); err != nil {
		t.Fatal(err)
	}
	if err := f.Save(path); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(shared); err != nil || string(raw) != "# ours\nsubnet 192.0.2.1/32\n" {
		t.Errorf("%q, %v", raw, err)
	}
	if to, err := os.Readlink(path); err != nil || to != shared {
		t.Errorf("the link leads to %q, %v", to, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("# a\npeer x\n203.0.113.0/24 since=2026-01-01 until=2027-01-01T00:00:00Z # why\nmodule text"))
	self := someID(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := Parse(raw, self)
		if err != nil {
			return
		}
		again, err := Parse(list.Bytes(), self)
		if err != nil || !slices.Equal(again.Entries(), list.Entries()) {
			t.Fatalf("what was read is not what is written: %v", err)
		}
		Of(list.Entries(), time.Now())
	})
}
