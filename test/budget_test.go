package test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"edgenet.dev/market"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
	"edgenet.dev/sandbox/modules"
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
		if err := terms.Quote(market.Job{Options: o, Inputs: make([]market.InputRef, 1)}, func(uint64) proto.Fuel { return proto.MaxFuel }).Check(o); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestGuessCoversBuiltins: the first hold of a built-in type covers what its
// module uses, whatever the size.
func TestGuessCoversBuiltins(t *testing.T) {
	ex, err := sandbox.NewInProcess(sandbox.InProcessConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer ex.Close()
	vectors := func(n, d int) string {
		row := "[" + strings.TrimSuffix(strings.Repeat("0.5,", d), ",") + "]"
		return `"query":` + row + `,"vectors":[` + strings.TrimSuffix(strings.Repeat(row+",", n), ",") + "]"
	}
	words := new(strings.Builder)
	for i := range 20_000 {
		fmt.Fprintf(words, "w%d ", i)
	}
	for _, c := range []struct{ typ, payload string }{
		{proto.TypeText, ""},
		{proto.TypeText, "hi hi"},
		{proto.TypeText, strings.Repeat("a ", 100_000)},
		{proto.TypeText, words.String()},
		{"vector_search", "{" + vectors(1, 2) + `,"k":1}`},
		{"vector_search", "{" + vectors(20_000, 2) + `,"k":1000}`},
		{"vector_search", "{" + vectors(300, 768) + `,"k":10}`},
		{"vectors", `{"op":"cosine",` + vectors(20_000, 2) + "}"},
		{"vectors", `{"op":"euclidean",` + vectors(1, 2) + "}"},
	} {
		b, _ := modules.Lookup(c.typ)
		m, err := sandbox.Prepare(b.Raw, sandbox.Policy{})
		if err != nil {
			t.Fatal(err)
		}
		in, err := modules.Encode(c.typ, []byte(c.payload))
		if err != nil {
			t.Fatal(err)
		}
		r, err := ex.Run(t.Context(), m, in, sandbox.Task{Limits: proto.Limits{}.WithDefaults()})
		if err != nil || r.Status != proto.StatusOK {
			t.Fatalf("%s: %v, %v", c.typ, r.Status, err)
		}
		if guess := market.Guess(c.typ, uint64(len(in))); r.Fuel > guess {
			t.Errorf("%s with %d bytes takes %d fuel, guessed are %d", c.typ, len(in), r.Fuel, guess)
		}
	}
}
