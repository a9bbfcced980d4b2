//go:build !js

package node

import (
	"fmt"
	"testing"

	"edgenet.dev/market"
	"edgenet.dev/proto"
)

// What work was worth is in the store and comes back with the next start; what is
// forgotten goes, and none of it waits for the disk.
func TestWorthIsKept(t *testing.T) {
	n := alone(t, func(c *Config) { c.Dir = t.TempDir() })
	counting := &commits{kv: n.kv}
	n.kv = counting
	who := n.self
	records := []market.WorthRecord{
		{Payer: who, Earned: 5, TookMs: 20_000, AtMs: 1},
		{Module: proto.CIDOf([]byte("a module")), Earned: 7, TookMs: 30_000, AtMs: 2},
		{Earned: 12, TookMs: 50_000, AtMs: 3},
	}
	save := func(records ...market.WorthRecord) {
		t.Helper()
		var outs []market.Output
		for _, r := range records {
			outs = append(outs, market.SaveWorth{Record: r})
		}
		if err := n.jobs.save(outs); err != nil {
			t.Fatal(err)
		}
	}
	kept := func() string {
		t.Helper()
		r, err := n.jobs.restore()
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(r.Worths)
	}
	save(records...)
	if want := fmt.Sprint([]market.WorthRecord{records[0], records[2], records[1]}); kept() != want {
		t.Errorf("kept are %s, want %s", kept(), want)
	}
	save(market.WorthRecord{Payer: who}, market.WorthRecord{Module: records[1].Module})
	if want := fmt.Sprint(records[2:]); kept() != want {
		t.Errorf("kept are %s, want %s", kept(), want)
	}
	if counting.n != 0 {
		t.Errorf("it waited for the disk %d times", counting.n)
	}
	if err := n.jobs.save([]market.Output{market.SaveWorth{Record: records[0]}, market.SaveJob{}}); err != nil || counting.n != 1 {
		t.Errorf("a job's record went with %d durable commits: %v", counting.n, err)
	}
}
