//go:build !js

package node

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// An execution whose submitter's other inputs do not come waits for them so long,
// and is refused as busy: that costs its submitter no try.
func TestWaitForAFetchEnds(t *testing.T) {
	was := fetchWait
	fetchWait = 20 * time.Millisecond
	defer func() { fetchWait = was }()
	from := peer.ID("a submitter")
	w := &work{fetching: newServing(inputFetches, inputFetchesOf, fetchTurn, nobody, func(peer.ID) proto.Credit { return 1 })}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for range inputFetchesOf {
		if _, ok := w.fetching.take(ctx, from, "", nil); !ok {
			t.Fatal("no place")
		}
	}
	err := w.bring(ctx, execKey{from, proto.Ref{}}, &execution{}, nil)
	if proto.CodeOf(err) != proto.CodeBusy || ctx.Err() != nil {
		t.Errorf("it ended with %v, %v", err, ctx.Err())
	}
}
