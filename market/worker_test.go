package market

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"edgenet.dev/proto"
)

// Of one offer, each field of Worker is what decides whether and how it is
// answered: nothing else differs from a worker that answers it.
func TestEveryFieldOfAWorkerHasItsEffect(t *testing.T) {
	text, own := proto.CIDOf([]byte("text")), proto.CIDOf([]byte("a module of one's own"))
	builtin := map[cid.Cid][]string{text: {"text"}}
	answer := func(edit func(*Worker, *proto.Offer)) (*proto.Claim, string) {
		t.Helper()
		w := Worker{Enabled: true, Slots: 2, Types: []string{"text"}, Builtin: builtin}
		job := proto.HashOf([]byte("job"))
		o := &proto.Offer{
			Id: job[:16], Type: "text", Module: text.Bytes(), MeterVersion: proto.MeterVersion, Tasks: 1, FuelLimit: 1_000_000,
			MemoryLimit: 2 << 20, PriceCap: 1_000_000, Redundancy: 1, SlotsWanted: 1, WorkersWanted: 1,
			DeadlineUnixMs: uint64(simStart.Add(time.Hour).UnixMilli()), Round: 1,
		}
		edit(&w, o)
		m, err := New(Config{Self: simPeer(1), Worker: w})
		if err != nil {
			t.Fatal(err)
		}
		for _, out := range m.Step(simStart, OfferSeen{From: simPeer(2), Offer: o}) {
			if c, ok := out.(PublishClaim); ok && c.Claim.Slots > 0 {
				return c.Claim, ""
			}
		}
		return nil, m.work.why
	}

	for name, x := range map[string]struct {
		edit func(*Worker, *proto.Offer)
		why  string // no answer, for this reason
		is   func(*proto.Claim) bool
	}{
		"none":      {edit: func(*Worker, *proto.Offer) {}, is: func(c *proto.Claim) bool { return c.Parallel == 2 && c.Slots == 32 && c.CpuPercent == 100 }},
		"Enabled":   {edit: func(w *Worker, _ *proto.Offer) { w.Enabled = false }, why: "paused"},
		"Slots":     {edit: func(w *Worker, _ *proto.Offer) { w.Slots = 3 }, is: func(c *proto.Claim) bool { return c.Parallel == 3 }},
		"InFlight":  {edit: func(w *Worker, _ *proto.Offer) { w.InFlight = 7 }, is: func(c *proto.Claim) bool { return c.Slots == 7 }},
		"CPU":       {edit: func(w *Worker, _ *proto.Offer) { w.CPU = 30 }, is: func(c *proto.Claim) bool { return c.CpuPercent == 30 }},
		"Types":     {edit: func(w *Worker, _ *proto.Offer) { w.Types = nil }, why: "not among this worker's types"},
		"no Custom": {edit: func(_ *Worker, o *proto.Offer) { o.Type, o.Module = "", own.Bytes() }, why: "built-in types only"},
		"Custom": {edit: func(w *Worker, o *proto.Offer) {
			o.Type, o.Module, w.Custom = "", own.Bytes(), true
		}, is: func(*proto.Claim) bool { return true }},
		// A module of the submitter's own under the name of a type.
		"Builtin": {edit: func(_ *Worker, o *proto.Offer) { o.Module = own.Bytes() }, why: "not among this worker's types"},
		"no Builtin": {edit: func(w *Worker, o *proto.Offer) {
			o.Module, w.Builtin = own.Bytes(), nil
		}, is: func(*proto.Claim) bool { return true }},
		"Blocked": {edit: func(w *Worker, _ *proto.Offer) {
			w.Blocked.Modules = map[cid.Cid]bool{text: true}
		}, why: "blocks this module"},
		"MinPrice above": {edit: func(w *Worker, _ *proto.Offer) { w.MinPrice = 1_000_001 }, why: "the minimum is"},
		"MinPrice":       {edit: func(w *Worker, _ *proto.Offer) { w.MinPrice = 7 }, is: func(c *proto.Claim) bool { return c.Price == 7 }},
		"MaxFuel":        {edit: func(w *Worker, _ *proto.Offer) { w.MaxFuel = 999_999 }, why: "fuel, the limit is"},
		"MaxMemory":      {edit: func(w *Worker, _ *proto.Offer) { w.MaxMemory = 1 << 20 }, why: "bytes of memory, the limit is"},
		"Payee": {edit: func(w *Worker, _ *proto.Offer) { w.Payee = simPeer(3) }, is: func(c *proto.Claim) bool {
			return slices.Equal(c.Payee, []byte(simPeer(3)))
		}},
		"Operator": {edit: func(w *Worker, _ *proto.Offer) { w.Operator = "acme" }, is: func(c *proto.Claim) bool { return c.Operator == "acme" }},
		"Site":     {edit: func(w *Worker, _ *proto.Offer) { w.Site = "a site" }, is: func(c *proto.Claim) bool { return c.Site == "a site" }},
	} {
		switch c, why := answer(x.edit); {
		case x.is == nil && (c != nil || !strings.Contains(why, x.why)):
			t.Errorf("%s: answered %v, %q; want %q", name, c, why, x.why)
		case x.is != nil && (c == nil || !x.is(c)):
			t.Errorf("%s: answered %v, %q", name, c, why)
		}
	}
}
