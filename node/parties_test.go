//go:build !js

package node_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	goproto "google.golang.org/protobuf/proto"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox"
)

// verbose gives every task the same large output.
type verbose struct{ sandbox.Executor }

var large = bytes.Repeat([]byte("large"), proto.MaxInline)

func (v verbose) Run(ctx context.Context, m *sandbox.Module, input []byte, task sandbox.Task) (sandbox.Result, error) {
	res, err := v.Executor.Run(ctx, m, input, task)
	res.Output = large
	return res, err
}

// A large input reaches the worker and a large output the submitter, each by the
// key that came with its name; a node that knows the names gets neither.
func TestLargePayloadsReachTheirPartiesOnly(t *testing.T) {
	l := newLab(t, 4)
	l.startAll(4, func(i int, c *node.Config) {
		if i == 2 { // works, the others do not
			c.Executor = verbose{l.exec}
		} else {
			c.Executor, c.Worker = nil, market.Worker{}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	input := bytes.Repeat([]byte(text), 10_000)
	submitter, worker, third := l.nodes[1], l.nodes[2], l.nodes[3]
	r, err := submitter.Submit(ctx, market.Task{Type: "text", Input: input, Options: market.Options{Redundancy: 1}})
	if err != nil || !bytes.Equal(r.Output, large) {
		t.Fatalf("%s %s, %v", r.State, r.Reason, err)
	}
	receipt := new(proto.Receipt)
	if len(r.Receipts) != 1 || goproto.Unmarshal(r.Receipts[0].Receipt, receipt) != nil {
		t.Fatalf("%d receipts", len(r.Receipts))
	}
	for from, h := range map[*node.Node]proto.Hash{submitter: proto.Hash(receipt.InputHash), worker: proto.HashOf(large)} {
		if _, err := third.FetchBlob(ctx, from.ID(), h); err == nil || !strings.Contains(err.Error(), "NOT_FOUND") {
			t.Errorf("a third node is told %v", err)
		}
	}
}
