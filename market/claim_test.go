package market

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// Claims are chosen by price and reputation, tenth by tenth; what is equal by
// the job's own order, which is another one for each job.
func TestClaimsAreChosenByReputation(t *testing.T) {
	type bid struct {
		price proto.Credit
		ppm   uint64
	}
	now := time.Unix(1_700_000_000, 0)
	order := func(job byte, bids ...bid) (out []int) {
		m, err := New(Config{Self: simPeer(999)})
		if err != nil {
			t.Fatal(err)
		}
		ppm := map[peer.ID]uint64{}
		id := proto.JobID{job}
		var claims []ClaimSeen
		for i, b := range bids {
			if b.ppm > 0 {
				ppm[simPeer(i)] = b.ppm
			}
			claims = append(claims, ClaimSeen{From: simPeer(i), Claim: &proto.Claim{
				Offer: id[:], Submitter: []byte(simPeer(999)), Slots: 1, Price: uint64(b.price), Round: 1, ExpiresUnixMs: uint64(now.Add(time.Minute).UnixMilli()),
			}})
		}
		m.Step(now, Reputations{Epoch: 1, PPM: ppm})
		inputs := make([]InputRef, 100) // so that more workers are wanted than claim
		m.Step(now, Submit{Job: Job{ID: id, Type: "text", Module: scenarioModule, Inputs: inputs, Created: now, Options: Options{Priority: proto.PriorityNormal, Redundancy: 2, MaxCredits: 1000 * proto.OneCredit, Timeout: time.Minute}}})
		for _, c := range claims {
			m.Step(now, c)
		}
		for _, c := range m.ranked(m.jobs[id]) {
			for i := range bids {
				if simPeer(i) == c.worker {
					out = append(out, i)
				}
			}
		}
		return out
	}
	for _, tt := range []struct {
		name string
		bids []bid
		want []int
	}{
		{"reputation at one price", []bid{{100, 0}, {100, 300_000}, {100, 999_999}}, []int{2, 1, 0}},
		{"price without reputation", []bid{{900_000, 0}, {500_000, 0}, {700_000, 0}}, []int{1, 2, 0}},
		{"a known one comes before a cheap one", []bid{{0, 0}, {900_000, 100_000}, {950_000, 900_000}}, []int{2, 1, 0}},
		{"the best may ask for less than twice as much", []bid{{500_000, 100_000}, {860_000, 950_000}, {870_000, 950_000}}, []int{1, 0, 2}},
		{"for nothing", []bid{{0, 0}, {0, 500_000}}, []int{1, 0}},
		{"more than there can be", []bid{{100, 999_999}, {100, 1 << 63}}, []int{1, 0}},
	} {
		if got := order(1, tt.bids...); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	cheap := map[string]bool{}
	for job := range byte(20) {
		cheap[fmt.Sprint(order(job, bid{0, 0}, bid{400_000, 0}))] = true
	}
	if len(cheap) != 2 {
		t.Errorf("who works for nothing always comes first or last: %v", cheap)
	}
	orders := map[string]bool{}
	for job := range byte(20) {
		orders[fmt.Sprint(order(job, bid{100, 901_000}, bid{100, 999_000}, bid{100, 950_000}))] = true
	}
	if len(orders) < 4 {
		t.Errorf("20 jobs know %d orders of near equals", len(orders))
	}
}
