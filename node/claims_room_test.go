package node

import (
	"fmt"
	"testing"

	"edgenet.dev/proto"
)

// One payer's assignments do not fill what others' work has to be proven with.
func TestClaimsMakeRoom(t *testing.T) {
	c := alone(t).claims
	for i := range maxClaimLanes {
		c.assigned(proto.CIDOf(fmt.Append(nil, i)), 0, []byte("assignments"))
	}
	hold := proto.CIDOf([]byte("another payer's"))
	c.delivered([]byte("batch"), [][]byte{[]byte("receipt")}, []delivered{{hold: hold, output: []byte("output")}})
	w := c.lanes[laneKey(hold, 0)]
	if w == nil || w.tasks != 1 || len(c.lanes) != maxClaimLanes {
		t.Fatalf("%+v of %d lanes", w, len(c.lanes))
	}
	for _, x := range c.lanes {
		x.tasks = 1
	}
	if w := c.lane(proto.CIDOf([]byte("one too many")), 0); w != nil {
		t.Fatal("proof of work gave way")
	}
	records := 0
	if err := c.n.kv.scan("work/", func(string, []byte) error { records++; return nil }); err != nil {
		t.Fatal(err)
	}
	if records > maxClaimLanes {
		t.Errorf("%d records of %d lanes", records, maxClaimLanes)
	}
}
