//go:build !js

package modules_test

import (
	"bytes"
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/modules"
	"pgregory.net/rapid"
)

// runner runs built-ins in this process.
func runner(t testing.TB) func(taskType string, input []byte) sandbox.Result {
	ex, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ex.Close() })
	prepared := map[string]*sandbox.Module{}
	return func(taskType string, input []byte) sandbox.Result {
		m := prepared[taskType]
		if m == nil {
			b, ok := modules.Lookup(taskType)
			if !ok {
				t.Fatalf("no built-in %s", taskType)
			}
			if m, err = sandbox.Prepare(b.Raw, sandbox.Policy{}); err != nil {
				t.Fatal(err)
			}
			prepared[taskType] = m
		}
		res, err := ex.Run(context.Background(), m, input, sandbox.Task{})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
}

// TestTextCases: the module and the count in plain Go have one rule.
func TestTextCases(t *testing.T) {
	run := runner(t)
	for in, want := range map[string]string{
		"":                               "",
		" \n\t,.;":                       "",
		"a":                              "a\t1\n",
		"The the THE":                    "the\t3\n",
		"don't 'tis dogs' a''b ''":       "a\t1\nb\t1\ndogs\t1\ndon't\t1\ntis\t1\n",
		"x86-64 2nd 3.14 1,000 9.":       "1,000\t1\n2nd\t1\n3.14\t1\n64\t1\n9\t1\nx86\t1\n",
		"Straße café":                    "café\t1\nstraße\t1\n",
		"abcdefgh abcdefg abcdefghi abc": "abc\t1\nabcdefg\t1\nabcdefgh\t1\nabcdefghi\t1\n",
		"a_b _ __c":                      "__c\t1\na_b\t1\n",
		"example.com e.g. a.m":           "a.m\t1\ne.g\t1\nexample.com\t1\n",
		"\ufeffthe the The":              "the\t3\n", // byte-order mark
		"be\u2014one \u201cIt\u2019s\u201d \u00abOui\u00bb": "be\t1\nit\u2019s\t1\none\t1\noui\t1\n",
		"LE CAFÉ EST\u00a0! CAFE\u0301 cafe\u0301":          "cafe\u0301\t2\ncafé\t1\nest\t1\nle\t1\n",
		"ΟΔΟΣ ὈΔΥΣΣΕΎΣ Σ ΑΣ'Α":                              "ας'α\t0\n",
		"Įİ I\u0130 ẞ Ⱥ":                                    "",
		"漢字 ひら カタカナ データ ไทย":                                "",
		"Привет, МИР! 5½ x² Ⅷ":                              "",
		"👩\u200d👩 a\u0308\u0301b e\u00adf ½a":               "",
		"א״ב ג'ד ה'":                                        "",
	} {
		if strings.HasSuffix(want, "\t0\n") {
			want = ""
		}
		res := run("text", []byte(in))
		if res.Status != proto.StatusOK || want != "" && string(res.Output) != want {
			t.Errorf("%q: %s %q, want %q", in, res.Status, res.Output, want)
		}
		got, err := modules.MergeCounts(res.Output)
		if reference := modules.ReferenceCounts([]byte(in)); err != nil || !maps.Equal(got, reference) {
			t.Errorf("%q: %v, plain Go counts %v; %v", in, got, reference, err)
		}
	}
}

func TestTextAgainstReference(t *testing.T) {
	run := runner(t)
	// One of each class of word boundaries, and of those letters whose lower
	// case is another matter.
	of := []rune("abAB9'é ,\n-.:;_\r\"“’—…\u00a0\ufeff\u0301\u00ad\u200dאב״カΣςİȺ漢ก🇩🇪👩५½\u2028")
	word := rapid.StringOfN(rapid.OneOf(rapid.RuneFrom(of), rapid.RuneFrom(of), rapid.Rune()), 0, 200, -1)
	rapid.Check(t, func(t *rapid.T) {
		in := []byte(word.Draw(t, "text"))
		parts := rapid.IntRange(1, 9).Draw(t, "parts")
		chunks := modules.SplitText(in, parts)
		if len(chunks) > parts || !bytes.Equal(bytes.Join(chunks, nil), in) {
			t.Fatalf("%d chunks of %d parts, joined %q", len(chunks), parts, bytes.Join(chunks, nil))
		}
		outs := make([][]byte, len(chunks))
		for i, c := range chunks {
			if len(c) == 0 {
				t.Fatal("empty chunk")
			}
			outs[i] = run("text", c).Output
		}
		got, err := modules.MergeCounts(outs...)
		if err != nil {
			t.Fatal(err)
		}
		if want := modules.ReferenceCounts(in); !maps.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// TestTypography: what typesetters use parts words, and only that.
func TestTypography(t *testing.T) {
	run := runner(t)
	for file, want := range map[string]string{
		"bom.txt": "the\t3\n",
		"typographic.txt": "be\t1\ncafe\u0301\t2\ncafé\t2\neight\t1\nest\t2\nit’s\t1\nla\t1\nlate\t2\nle\t1\nnot\t1\none\t1\noui\t1\n" +
			"ouvert\t1\nouverte\t1\nsaid\t1\nshe\t1\nshould\t1\nten\t1\nthink\t1\nthis\t1\nvery\t1\nwords\t1\nwould\t1\n",
	} {
		in, err := modules.Encode("text", read(t, "testdata", "14-text-typography", file))
		if err != nil {
			t.Fatal(err)
		}
		if res := run("text", in); string(res.Output) != want {
			t.Errorf("%s: %s\n%q, want\n%q", file, res.Status, res.Output, want)
		}
	}
}

// TestTextCharacters looks at each character of the scripts that are written
// with few: alone, between letters, between digits and at a word's end.
func TestTextCharacters(t *testing.T) {
	run := runner(t)
	var in []byte
	for c := rune(1); c < 0xe0200; c++ {
		switch {
		case c > 0x3400 && c < 0x9fff, c > 0xac00 && c < 0xf8ff, c >= 0x18000 && c < 0x18d00, c == 0x20000:
			continue
		case c > 0x1fffe && c < 0xe0000:
			continue
		case c >= 0x1f170 && c <= 0x1f189: // letters and pictures, which uniseg's table cannot say
			continue
		}
		s := string(c)
		in = append(in, "a"+s+"B 1"+s+"2 "+s+"\n"...)
	}
	res := run("text", in)
	got, err := modules.MergeCounts(res.Output)
	if err != nil || res.Status != proto.StatusOK {
		t.Fatal(res.Status, err)
	}
	want := modules.ReferenceCounts(in)
	shown := 0
	for word, n := range want {
		if got[word] != n {
			if shown++; shown < 20 {
				t.Errorf("%d times %+q, plain Go counts %d", got[word], word, n)
			}
		}
	}
	if len(got) != len(want) || len(want) < 60_000 {
		t.Errorf("%d words, plain Go counts %d", len(got), len(want))
	}
}

// TestTextBook counts a real book; the reference here is written another way.
func TestTextBook(t *testing.T) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	book, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "src", "testdata", "Isaac.Newton-Opticks.txt"))
	if err != nil {
		t.Fatal(err)
	}
	run := runner(t)
	var outs [][]byte
	var fuel proto.Fuel
	for _, c := range modules.SplitText(book, 8) {
		res := run("text", c)
		if res.Status != proto.StatusOK {
			t.Fatal(res.Status)
		}
		fuel += res.Fuel
		outs = append(outs, res.Output)
	}
	got, err := modules.MergeCounts(outs...)
	if err != nil {
		t.Fatal(err)
	}
	if want := modules.ReferenceCounts(book); !maps.Equal(got, want) {
		t.Errorf("counts differ: %d words, plain Go counts %d", len(got), len(want))
	}
	for word, least := range map[string]uint64{"the": 5000, "of": 3000, "prism": 300, "colour": 10} {
		if got[word] < least {
			t.Errorf("%d times %s, want at least %d", got[word], word, least)
		}
	}
	if perByte := float64(fuel) / float64(len(book)); perByte > 150 {
		t.Errorf("%.0f fuel per byte of text", perByte)
	} else {
		t.Logf("%d bytes, %d words, %.1f fuel per byte", len(book), len(got), perByte)
	}
}

func TestMergeCountsRefuses(t *testing.T) {
	for _, bad := range []string{"a", "a\t1", "a\n", "a\tx\n", "\t1\n", "a\t-1\n", "a\t99999999999\n"} {
		if _, err := modules.MergeCounts([]byte(bad)); proto.CodeOf(err) != proto.CodeMalformed {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
