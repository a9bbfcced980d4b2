//go:build !js

package node_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"edgenet.dev/market"
	"edgenet.dev/node"
	"edgenet.dev/node/datadir"
	"edgenet.dev/proto"
)

// A program that knows nothing but an invite has an identity made, joins, is
// sent credits, submits what Go can type, and finds all of it again.
func TestOpen(t *testing.T) {
	ctx := t.Context()
	x, err := startExample()
	t.Cleanup(func() {
		if err := x.stop(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "deep", "dir")
	if _, err := node.Open(ctx, node.Config{Dir: dir}); !errors.Is(err, datadir.ErrNoNetwork) {
		t.Fatalf("without an invite: %v", err)
	}
	if _, err := node.Open(ctx, node.Config{Dir: dir, Invite: "edgenet1aaaa"}); proto.CodeOf(err) != proto.CodeMalformed {
		t.Fatalf("a damaged invite: %v", err)
	}
	n, err := node.Open(ctx, node.Config{Dir: dir, Invite: x.invite()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	self := n.ID()
	var held *datadir.InUseError
	if _, err := node.Open(ctx, node.Config{Dir: dir}); !errors.As(err, &held) {
		t.Errorf("the directory of a running node: %v", err)
	}
	if _, err := x.nodes[0].Transfer(ctx, self, 20*node.OneCredit, ""); err != nil {
		t.Fatal(err)
	}

	counts, err := node.Submit(ctx, n, node.Text("a b a"), node.Options{Redundancy: 2})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(counts.Value) != "map[a:2 b:1]" || !counts.Verified || len(counts.Workers) != 2 {
		t.Errorf("text: %+v", counts)
	}
	near, err := node.Submit(ctx, n, node.VectorSearch{Query: []float32{1, 0}, Vectors: [][]float32{{0, 1}, {1, 0}}, K: 1})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(near.Value) != "[{1 1}]" {
		t.Errorf("search: %v", near.Value)
	}
	both, err := node.SubmitAll(ctx, n, []node.VectorSearches{
		{Queries: [][]float32{{1, 0}}, Vectors: [][]float32{{1, 0}}},
		{Queries: [][]float32{{1, 0}, {0, 2}}, Vectors: [][]float32{{3, 0}, {0, 1}}, K: 1, Metric: "dot"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(both[0].Value, both[1].Value) != "[[{0 1}]] [[{0 3}] [{1 2}]]" {
		t.Errorf("searches: %v %v", both[0].Value, both[1].Value)
	}
	scores, err := node.Submit(ctx, n, node.Scores{Op: "dot", Queries: [][]float32{{2, 1}}, Vectors: [][]float32{{1, 1}, {0, 1}}})
	if err != nil {
		t.Fatal(err)
	}
	unit, err := node.Submit(ctx, n, node.Normalise{Vectors: [][]float32{{0, 5}}})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(scores.Value, unit.Value) != "[[3 1]] [[0 1]]" {
		t.Errorf("vectors: %v %v", scores.Value, unit.Value)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}

	again, err := node.Open(ctx, node.Config{Dir: dir, Bootstrap: x.bootstrap})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close() })
	if again.ID() != self || len(again.Jobs()) != 5 {
		t.Errorf("opened again: %s with %d jobs, was %s with 5", again.ID(), len(again.Jobs()), self)
	}
	other, err := startExample()
	t.Cleanup(func() { other.stop() })
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := node.Open(ctx, node.Config{Dir: dir, Invite: other.invite()}); proto.CodeOf(err) != proto.CodeWrongNetwork {
		t.Errorf("with the invite of another network: %v", err)
	}
}

// What Go can type and nobody can reckon with is refused before there is a
// job, under the name that it has in a file.
func TestTypedPayloadsAreChecked(t *testing.T) {
	x, err := startExample()
	t.Cleanup(func() { x.stop() })
	if err != nil {
		t.Fatal(err)
	}
	n := x.nodes[0]
	zero := float32(0)
	nan, inf := zero/zero, 1/zero
	one := [][]float32{{1, 0}}
	refused := func(err error, want string) {
		t.Helper()
		if proto.CodeOf(err) != proto.CodeMalformed || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v, want MALFORMED that names %s", err, want)
		}
	}
	_, err = node.Submit(t.Context(), n, node.VectorSearch{Query: []float32{1, nan}, Vectors: one})
	refused(err, "query[1]")
	_, err = node.Submit(t.Context(), n, node.VectorSearch{Query: []float32{1, 0}, Vectors: [][]float32{{1, 0}, {inf, 0}}})
	refused(err, "vectors[1][0]")
	_, err = node.Submit(t.Context(), n, node.Scores{Op: "dot", Queries: [][]float32{{nan, 0}}, Vectors: one})
	refused(err, "queries[0][0]")
	_, err = node.Submit(t.Context(), n, node.Normalise{Vectors: [][]float32{{0, inf}}})
	refused(err, "vectors[0][1]")
	_, err = node.Submit(t.Context(), n, node.VectorSearch{Query: []float32{1}, Vectors: one})
	refused(err, "dimensions")
	_, err = node.SubmitAll(t.Context(), n, []node.Module{{Code: []byte{1}}, {Code: []byte{2}}})
	refused(err, "payload 1")
	if jobs := n.Jobs(); len(jobs) != 0 {
		t.Errorf("%d jobs exist", len(jobs))
	}
}

// A paused worker takes nothing, whatever it is set to, until it is resumed.
func TestPause(t *testing.T) {
	ctx := t.Context()
	x, err := startExample()
	t.Cleanup(func() { x.stop() })
	if err != nil {
		t.Fatal(err)
	}
	w := x.nodes[1]
	was := w.Worker()
	if err := w.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	if got := w.Worker(); got.Enabled || got.Reason == "" {
		t.Errorf("paused: %+v", got)
	}
	if err := w.SetWorker(ctx, was); err != nil || w.Worker().Enabled {
		t.Errorf("set while paused: %v, enabled %v", err, w.Worker().Enabled)
	}
	id, err := node.StartAll(ctx, x.nodes[0], []node.Text{"a"}, node.Options{Redundancy: 2, MaxCredits: 5 * node.OneCredit})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for v, err := range x.nodes[0].Watch(ctx, id) {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen > 1 && v.Record.State != market.Done { // it has been offered
			if err := w.Resume(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if v.Record.State.Final() && v.Record.State != market.Done {
			t.Errorf("the job ended %s", v.Record.State)
		}
	}
	if got := w.Worker(); !got.Enabled {
		t.Errorf("resumed: %+v", got)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for _, err := range x.nodes[0].Watch(ended, proto.JobID{}) {
		if proto.CodeOf(err) != proto.CodeNotFound {
			t.Errorf("a job that is not there: %v", err)
		}
	}
}
