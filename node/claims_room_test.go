package node

import (
	"fmt"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// Payers' assignments do not fill what others' work has to be proven with: of those
// with the most lanes one gives way under which nothing was delivered, and nobody
// has more than a share.
func TestClaimsMakeRoom(t *testing.T) {
	c := alone(t).claims
	payer := func(i int) peer.ID { return peer.ID(fmt.Sprint("payer ", i)) }
	hold := func(i int) []byte { return fmt.Append(nil, "hold ", i) }
	for i := range maxClaimLanes {
		c.taken(proto.CIDOf(hold(i)), 0, payer(i/maxPayerLanes), []byte("assignments"))
	}
	if len(c.lanes) != maxClaimLanes {
		t.Fatalf("%d lanes", len(c.lanes))
	}
	// One more of the first payer takes the place of one of its own.
	c.taken(proto.CIDOf([]byte("one more")), 0, payer(0), []byte("assignments"))
	if p := c.payers[payer(0)]; p.lanes != maxPayerLanes || c.payers[payer(1)].lanes != maxPayerLanes || len(c.lanes) != maxClaimLanes {
		t.Fatalf("%+v of %d lanes", p, len(c.lanes))
	}
	other := proto.CIDOf([]byte("another payer's"))
	c.delivered([]byte("batch"), [][]byte{[]byte("receipt")}, []delivered{{hold: other, payer: "another", output: []byte("output")}})
	w := c.lanes[laneKey(other, 0)]
	if w == nil || w.tasks != 1 || len(c.lanes) != maxClaimLanes {
		t.Fatalf("%+v of %d lanes", w, len(c.lanes))
	}
	for _, x := range c.lanes {
		x.delivered = 1
	}
	if w := c.lane(proto.CIDOf([]byte("one too many")), 0, "a third"); w != nil {
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

// One identity has no more than its share of what is kept, and what is counted is
// what another start counts.
func TestPayersShareOfClaims(t *testing.T) {
	c := alone(t).claims
	admits := func(hold string, payer peer.ID) error {
		return c.admits(proto.CIDOf([]byte(hold)), 0, payer, []byte("a batch"))
	}
	if err := admits("hold", "payer"); err != nil {
		t.Fatal(err)
	}
	c.taken(proto.CIDOf([]byte("hold")), 0, "payer", []byte("some"))
	most := int(c.n.cfg.MaxClaims)
	c.payers["payer"].bytes += most / payerClaims
	c.bytes += most / payerClaims
	if err := admits("hold", "payer"); proto.CodeOf(err) != proto.CodeBusy {
		t.Errorf("above its share: %v", err)
	}
	if err := admits("another hold", "another"); err != nil {
		t.Errorf("another payer: %v", err)
	}
	c.bytes = most + 1
	if err := admits("another hold", "another"); proto.CodeOf(err) != proto.CodeBusy {
		t.Errorf("above what all have: %v", err)
	}
}

// What all claims may take is what the configuration says, and of it an eighth is
// one payer's.
func TestSizeOfClaimsIsConfigured(t *testing.T) {
	n := alone(t)
	n.cfg.MaxClaims = 8000
	if err := (Config{Network: n.net, Key: n.cfg.Key, MaxClaims: 1 << 61}).Validate(); err == nil {
		t.Error("2⁶¹ bytes of claims are accepted")
	}
	c := n.claims
	fill := func(payer peer.ID, bytes int) error {
		hold := proto.CIDOf([]byte("hold of " + payer))
		if err := c.admits(hold, 0, payer, []byte("a batch")); err != nil {
			return err
		}
		c.taken(hold, 0, payer, make([]byte, bytes))
		return c.admits(hold, 0, payer, []byte("another batch"))
	}
	if err := fill("small", 900); err != nil {
		t.Errorf("900 of 1000 bytes: %v", err)
	}
	if err := fill("large", 1100); proto.CodeOf(err) != proto.CodeBusy {
		t.Errorf("1100 of 1000 bytes: %v", err)
	}
	for i := range 7 {
		_ = fill(peer.ID(fmt.Sprint("payer ", i)), 950)
	}
	if err := fill("last", 10); proto.CodeOf(err) != proto.CodeBusy {
		t.Errorf("above what all have: %v", err)
	}
	for _, s := range n.Stores() {
		if s.Name == "claims" && (s.Limit != 8000 || s.Bytes < 8000) {
			t.Errorf("claims are said to take %d of %d bytes", s.Bytes, s.Limit)
		}
	}
}
