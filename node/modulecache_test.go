package node

import (
	"testing"

	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
)

// TestModuleCacheIsBounded: strangers choose what a worker prepares.
func TestModuleCacheIsBounded(t *testing.T) {
	c := newModuleCache()
	big, err := sandbox.Prepare(enginetest.Sized(3<<20), sandbox.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	if big.Held() < 4<<20 {
		t.Fatalf("a module of %d bytes holds %d", big.RawSize, big.Held())
	}
	for i := range 200 {
		h := proto.HashOf([]byte{byte(i)})
		c.add(h, big)
		if m, ok := c.ready.Get(h); !ok || m != big {
			t.Fatalf("module %d is gone at once", i)
		}
		if want := c.ready.Len() * big.Held(); c.held != want || c.held > modulesHeld || c.ready.Len() > modulesCap {
			t.Fatalf("%d modules, %d bytes noted, %d held", c.ready.Len(), c.held, want)
		}
	}
	small, err := sandbox.Prepare(enginetest.Echo(), sandbox.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		c.add(proto.HashOf([]byte{byte(i), 1}), small)
	}
	if c.ready.Len() != modulesCap || c.held != modulesCap*small.Held() {
		t.Errorf("%d small modules, %d bytes noted", c.ready.Len(), c.held)
	}
}
