package sandbox_test

import (
	"bytes"
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
	"edgenet.dev/sandbox/instrument"
)

// What Metered hands out is what the rewriter writes, in either form.
func TestMetered(t *testing.T) {
	raw := enginetest.Echo()
	m, err := sandbox.Prepare(raw, sandbox.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for _, sliced := range []bool{false, true} {
		want, err := instrument.Rewrite(raw, instrument.Config{MemoryPages: sandbox.MaxMemory >> 16, Sliced: sliced})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			f, err := m.Metered(sliced)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(f.Code, want.Bytes) || f.Key != proto.HashOf(want.Bytes).String() {
				t.Errorf("sliced %t: not the rewriter's bytes, or another key", sliced)
			}
			if f.ABI != sandbox.ABIReactor || uint64(f.StartFuel) != want.StartFuel || f.MinPages != want.MinPages || f.MaxPages != want.MaxPages {
				t.Errorf("sliced %t: %v, %d, %d, %d pages; the rewriter says %d, %d, %d", sliced,
					f.ABI, f.StartFuel, f.MinPages, f.MaxPages, want.StartFuel, want.MinPages, want.MaxPages)
			}
			keys[f.Key] = true
		}
	}
	if len(keys) != 2 {
		t.Errorf("%d keys for two forms", len(keys))
	}
}
