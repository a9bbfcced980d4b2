//go:build !js

package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/market"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/enginetest"
)

// TestModuleCacheIsBounded: strangers choose what a worker prepares.
func TestModuleCacheIsBounded(t *testing.T) {
	c := newModuleCache(func(peer.ID) proto.Credit { return 1 })
	big, err := sandbox.Prepare(enginetest.Sized(3<<20), sandbox.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	if big.Held() < 4<<20 {
		t.Fatalf("a module of %d bytes holds %d", big.RawSize, big.Held())
	}
	for i := range 200 {
		h := proto.HashOf([]byte{byte(i)})
		c.add(h, "a", big)
		if c.get(h) != big {
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
		c.add(proto.HashOf([]byte{byte(i), 1}), "a", small)
	}
	if c.ready.Len() != modulesCap || c.held != modulesCap*small.Held() {
		t.Errorf("%d small modules, %d bytes noted", c.ready.Len(), c.held)
	}
}

// One submitter's modules take the places of its own.
func TestModulesOfOneSubmitterGiveWay(t *testing.T) {
	c := newModuleCache(func(peer.ID) proto.Credit { return 1 })
	small, err := sandbox.Prepare(enginetest.Echo(), sandbox.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	honest := proto.HashOf([]byte("honest"))
	c.add(honest, "honest", small)
	for i := range 3 * modulesCap {
		c.add(proto.HashOf([]byte{byte(i)}), "greedy", small)
	}
	if c.get(honest) == nil || c.ready.Len() != modulesCap {
		t.Errorf("%d modules, among them another's: %v", c.ready.Len(), c.get(honest) != nil)
	}
}

// Who fills the places with tiny modules takes its own: neither the larger ones of
// others go, nor built-in ones.
func TestTinyModulesPushNobodyOut(t *testing.T) {
	c := newModuleCache(func(peer.ID) proto.Credit { return 1 })
	large, err := sandbox.Prepare(enginetest.Sized(1<<20), sandbox.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	tiny, err := sandbox.Prepare(enginetest.Echo(), sandbox.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	one, two, builtin := proto.HashOf([]byte("one")), proto.HashOf([]byte("two")), proto.HashOf([]byte("built-in"))
	c.add(builtin, everybody(builtin), large)
	c.add(one, "honest", large)
	c.add(two, "honest", large)
	for i := range 3 * modulesCap {
		c.add(proto.HashOf([]byte{byte(i)}), "greedy", tiny)
	}
	for i := range 3 * modulesCap { // of many submitters, one each
		c.add(proto.HashOf([]byte{byte(i), 1}), peer.ID(fmt.Sprint("greedy", i)), tiny)
		if i == 4 && (c.get(one) == nil || c.get(two) == nil) {
			t.Errorf("larger modules gave way to tiny ones: %v and %v are left", c.get(one) != nil, c.get(two) != nil)
		}
	}
	if c.get(builtin) == nil || c.ready.Len() != modulesCap {
		t.Errorf("%d modules, the built-in one is left: %v", c.ready.Len(), c.get(builtin) != nil)
	}
}

// One module of a submitter is prepared at once, those of submitters with more at
// stake first, and one whose module failed comes last for a while.
func TestPreparingIsShared(t *testing.T) {
	bad := []byte("no module")
	n := &Node{ctx: t.Context(), builtins: map[proto.Hash][]byte{proto.HashOf(bad): bad}} // it is here
	n.jobs = &jobs{n: n, inputs: make(chan posted, 1)}
	w := newWork(n)
	pledge := func(id peer.ID, left proto.Credit) {
		l := newLink(id, "")
		l.pays(proto.CIDOf([]byte(id)), time.Now().Add(time.Hour), left)
		w.join(l)
	}
	cpus := w.modules.cpus
	pledge("rich", 1000)
	pledge("poor", 1)
	if first, ok := cpus.take(soon(t), "rich", "", nil); !ok {
		t.Fatal("no processor")
	} else if _, ok := cpus.take(soon(t), "rich", "", nil); ok {
		t.Error("two modules of one submitter are prepared at once")
	} else {
		cpus.leave(first)
	}
	if rich, poor := cpus.stake("rich"), cpus.stake("poor"); rich != 1000 || poor != 1 {
		t.Errorf("%s and %s count", rich, poor)
	}
	a := &proto.Assignment{Module: proto.CIDOf(bad).Bytes()}
	if _, err := w.module(inTime(t), "rich", a); proto.CodeOf(err) != proto.CodeModule {
		t.Fatal(err)
	}
	if got := cpus.stake("rich"); got != 0 {
		t.Errorf("whoever brought a broken module has %s", got)
	}
	select {
	case p := <-n.jobs.inputs:
		if in, ok := p.in.(market.Prepared); !ok || in.From != "rich" || in.Took <= 0 {
			t.Errorf("the market hears %+v", p.in)
		}
	default:
		t.Error("the market does not hear what it took")
	}
	w.modules.broken.Add("rich", time.Now().Add(-brokenModules))
	if got := cpus.stake("rich"); got != 1000 {
		t.Errorf("it is remembered for ever: %s", got)
	}
}
