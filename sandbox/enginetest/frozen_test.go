package enginetest_test

import (
	"bufio"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
	"edgenet.dev/sandbox/instrument"
)

var write = flag.Bool("write-meter", false, "write the digests of a meter version that has none yet")

// metered gives the digest of what the rewriter makes of each vector, and
// the fuel of an instance.
func metered(t *testing.T) map[string]string {
	digests := map[string]string{}
	for _, v := range enginetest.Vectors() {
		res, err := instrument.Rewrite(v.Module, instrument.Config{MemoryPages: sandbox.MaxMemory >> 16})
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		digests[v.Name] = fmt.Sprintf("%s %d", proto.HashOf(res.Bytes), res.StartFuel)
	}
	return digests
}

// TestInstrumentedBytesAreFrozen: the cache of instrumented modules is keyed by
// module and meter version, and what a version does to a module never changes.
func TestInstrumentedBytesAreFrozen(t *testing.T) {
	file := filepath.Join("testdata", fmt.Sprintf("meter-%d.txt", proto.MeterVersion))
	got := metered(t)
	if _, err := os.Stat(file); *write && os.IsNotExist(err) {
		var b strings.Builder
		for _, name := range slices.Sorted(maps.Keys(got)) {
			fmt.Fprintf(&b, "%s\t%s\n", name, got[name])
		}
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatalf("%v: a new meter version is written once, by go test ./sandbox/enginetest -write-meter", err)
	}
	defer f.Close()
	want := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, digest, ok := strings.Cut(lines.Text(), "\t")
		if !ok {
			t.Fatalf("%s: line %q", file, lines.Text())
		}
		want[name] = digest
	}
	for name, digest := range want {
		switch g, ok := got[name]; {
		case !ok:
			t.Errorf("%s: the vector is gone", name)
		case g != digest:
			t.Errorf("%s: instrumented to %s, meter version %d says %s: this change needs a new version", name, g, proto.MeterVersion, digest)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s has no digest in %s: add a line with %s", name, file, got[name])
		}
	}
}
