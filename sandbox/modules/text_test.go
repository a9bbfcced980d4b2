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

func TestTextCases(t *testing.T) {
	run := runner(t)
	for in, want := range map[string]string{
		"":                               "",
		" \n\t,.;":                       "",
		"a":                              "a\t1\n",
		"The the THE":                    "the\t3\n",
		"don't 'tis dogs' a''b ''":       "a\t1\nb\t1\ndogs\t1\ndon't\t1\ntis\t1\n",
		"x86-64 2nd":                     "2nd\t1\n64\t1\nx86\t1\n",
		"Straße café":                    "café\t1\nstraße\t1\n",
		"abcdefgh abcdefg abcdefghi abc": "abc\t1\nabcdefg\t1\nabcdefgh\t1\nabcdefghi\t1\n",
		"\xff\x80 \x00a":                 "a\t1\n\xff\x80\t1\n",
	} {
		res := run("text", []byte(in))
		if res.Status != proto.StatusOK || string(res.Output) != want {
			t.Errorf("%q: %s %q, want %q", in, res.Status, res.Output, want)
		}
	}
}

func TestTextAgainstReference(t *testing.T) {
	run := runner(t)
	word := rapid.StringOfN(rapid.RuneFrom([]rune("abAB9'é ,\n-")), 0, 200, -1)
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

func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
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
	want := map[string]uint64{}
	for _, f := range strings.FieldsFunc(asciiLower(string(book)), func(r rune) bool {
		return r < 0x80 && r != '\'' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
	}) {
		if strings.Contains(strings.Trim(f, "'"), "''") {
			t.Fatalf("%q needs the other rule", f)
		}
		if f = strings.Trim(f, "'"); f != "" {
			want[f]++
		}
	}
	if !maps.Equal(got, want) || !maps.Equal(modules.ReferenceCounts(book), want) {
		t.Errorf("counts differ: %d words, reference %d", len(got), len(want))
	}
	if want["the"] < 1000 {
		t.Errorf("%d times the: not the book", want["the"])
	}
	if perByte := float64(fuel) / float64(len(book)); perByte > 150 {
		t.Errorf("%.0f fuel per byte of text", perByte)
	} else {
		t.Logf("%d bytes, %d words, %.1f fuel per byte", len(book), len(want), perByte)
	}
}

func TestMergeCountsRefuses(t *testing.T) {
	for _, bad := range []string{"a", "a\t1", "a\n", "a\tx\n", "\t1\n", "a\t-1\n", "a\t99999999999\n"} {
		if _, err := modules.MergeCounts([]byte(bad)); proto.CodeOf(err) != proto.CodeMalformed {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
