//go:build !js

package node_test

import (
	"context"
	"testing"
	"time"

	"edgenet.dev/market"
	"edgenet.dev/node"
)

// A worker that knows its own account only was given a lane and then no work.
// The payer's question whether it is done shows the hold, so that it can answer:
// the payer's credits are free again at once, not when the hold is over.
func TestUnusedLaneOfLightWorker(t *testing.T) {
	l := newLab(t, 5)
	l.startAll(5, func(i int, c *node.Config) { c.Light = i > 1 })
	l.until("the workers follow the offers", func() bool { return l.submitter().Stats().OfferTopicPeers >= 3 })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	payer := l.submitter()
	for unused := false; !unused; {
		if _, err := payer.SubmitBatch(ctx, node.JobSpec{Type: "text", Inputs: l.texts(1), Options: market.Options{Redundancy: 2}}); err != nil {
			t.Fatal(err)
		}
		for _, e := range payer.History(payer.ID(), 10) {
			unused = unused || len(e.Event.GetHold().GetLanes()) > 2 // two of them worked
		}
		l.settled()
	}
}
