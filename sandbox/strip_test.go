//go:build !js

package sandbox_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
)

// custom is a custom section of n bytes of content.
func custom(name string, n int) []byte {
	body := append([]byte{byte(len(name))}, name...)
	body = append(body, make([]byte, n)...)
	return append(binary.AppendUvarint([]byte{0}, uint64(len(body))), body...)
}

// TestCustomSectionsDoNotCount: debugging data makes a module neither too large
// nor another one.
func TestCustomSectionsDoNotCount(t *testing.T) {
	plain := enginetest.Echo()
	fat := slices.Concat(plain[:8], custom(".debug_info", 5<<20), plain[8:], custom("name", 100), custom("producers", 0))
	if !bytes.Equal(sandbox.Strip(fat), plain) {
		t.Error("something is left of the custom sections, or lost with them")
	}
	if got := sandbox.Strip(plain); &got[0] != &plain[0] {
		t.Error("a module without custom sections was copied")
	}
	m, err := sandbox.Prepare(fat, sandbox.Policy{})
	if err != nil {
		t.Fatalf("%d bytes, %d without custom sections: %v", len(fat), len(plain), err)
	}
	bare, err := sandbox.Prepare(sandbox.Strip(fat), sandbox.Policy{})
	if err != nil || bare.ID != proto.CIDOf(plain) || m.ID == bare.ID {
		t.Errorf("stripped it is %s, want %s; %v", bare.ID, proto.CIDOf(plain), err)
	}
	// What counts counts as before.
	large := slices.Concat(plain, custom("x", 0))
	data := append(binary.AppendUvarint([]byte{11}, 5<<20), make([]byte, 5<<20)...)
	if _, err := sandbox.Prepare(append(large, data...), sandbox.Policy{}); proto.CodeOf(err) != proto.CodeModule {
		t.Errorf("5 MiB of data: %v", err)
	}
	for _, broken := range [][]byte{nil, plain[:7], append(slices.Clone(plain), 0), append(slices.Clone(plain), 0, 0x80), append(slices.Clone(plain), 0, 9, 1), append(slices.Clone(fat), 0, 0xff, 0xff, 0xff, 0xff, 0xff)} {
		if !bytes.Equal(sandbox.Strip(broken), broken) {
			t.Errorf("%d broken bytes were changed", len(broken))
		}
	}
}
