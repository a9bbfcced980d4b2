package test

import (
	"os"
	"regexp"
	"testing"

	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// TestShippedBudgets: what the example page and the JS API fill in covers the
// default fuel at every redundancy that they offer.
func TestShippedBudgets(t *testing.T) {
	terms := market.Terms{Price: proto.OneCredit, FeePPM: 10_000}
	for file, pattern := range map[string]string{
		"../browser/examples/consumer.html": `id="credits"[^>]* value="([0-9.]+)"`,
		"../browser/ts/src/check.ts":        `o\.maxCredits \?\? ([0-9.]+)`,
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(pattern).FindSubmatch(text)
		if m == nil {
			t.Fatalf("%s has no default budget", file)
		}
		budget, err := proto.ParseCredit(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		o := market.Options{Redundancy: proto.MaxRedundancy, MaxCredits: budget}
		if err := terms.Quote(market.Job{Options: o, Inputs: make([]market.InputRef, 1)}).Check(o); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
