//go:build !js

package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// Authors that have more fill the budget which goes by credits, and not the one that
// goes round: one that has less is heard with a few messages a second, also when
// the many are there that have a microcredit each.
func TestRichAuthorsDoNotSilenceOthers(t *testing.T) {
	b, now := newBudgets(), time.Unix(1_800_000_000, 0)
	few, many, passed := 0, 0, 0
	for ms := range 10_000 {
		now = now.Add(time.Millisecond)
		for k := range 2 { // 2,000 a second of ten authors
			if b.says(peer.ID(fmt.Sprint("rich", (2*ms+k)%10)), 1000*proto.OneCredit, true, now) {
				passed++
			}
		}
		if ms%250 == 0 && b.says("poorer", proto.OneCredit, ms%2 == 0, now) {
			few++
		}
		if ms%5 == 0 && b.says(peer.ID(fmt.Sprint("micro", ms/5%50)), 1, false, now) {
			many++
		}
	}
	if few != 40 {
		t.Errorf("%d of 40 messages of one who has less pass", few)
	}
	if most := 10 * 50 * turnRateOf; many == 0 || many > most+burstSeconds*50*turnRateOf {
		t.Errorf("%d messages of authors with a microcredit pass in ten seconds", many)
	}
	if most := (10 + burstSeconds) * (fundedRate + turnRate); passed+few+many > most || passed < 10*fundedRate {
		t.Errorf("%d messages pass in ten seconds, %d at most", passed+few+many, most)
	}
}
