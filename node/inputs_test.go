//go:build !js

package node_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"edgenet.dev/node"
	"edgenet.dev/proto"
	"edgenet.dev/sandbox/modules"
)

// TestInputsOfBuiltinTypes: a payload becomes the input that the module reads,
// and what the type does not understand never becomes a job, whoever submits.
func TestInputsOfBuiltinTypes(t *testing.T) {
	l := newLab(t, 2)
	l.start(0, nil)
	n := l.start(1, nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const payload = `{"query":[1,0],"vectors":[[1,0]],"k":1}`
	want, err := modules.Encode("vector_search", []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]struct {
		spec node.JobSpec
		says string
	}{
		"garbage": {node.JobSpec{Type: "vector_search", Inputs: [][]byte{{1, 2, 3}}}, "payload of vector_search: \x01\x02\x03 is not JSON"},
		"null":    {node.JobSpec{Type: "vectors", Inputs: [][]byte{[]byte(`{"op":"dot","query":[null],"vectors":[[1]]}`)}}, "payload of vectors: query[0]: null"},
		"alias":   {node.JobSpec{Type: "vector", Inputs: [][]byte{nil}}, "payload of vectors: the JSON ends"},
		"text":    {node.JobSpec{Type: "text", Inputs: [][]byte{[]byte("a\xff")}}, "payload of text: line 1: byte 0xff"},
		"one of two": {
			node.JobSpec{Type: "vector_search", Inputs: [][]byte{want, want[:40]}}, "input 1: payload of vector_search: an encoded input of 40 bytes",
		},
	} {
		if _, err := n.Start(ctx, bad.spec); proto.CodeOf(err) != proto.CodeMalformed || !strings.HasPrefix(err.Error(), bad.says) {
			t.Errorf("%s: %v, want %q", name, err, bad.says)
		}
		if _, err := n.Quote(bad.spec); proto.CodeOf(err) != proto.CodeMalformed {
			t.Errorf("quote of %s: %v", name, err)
		}
	}
	if jobs := n.Jobs(); len(jobs) != 0 {
		t.Errorf("%d jobs came of it", len(jobs))
	}
	id, err := n.Start(ctx, node.JobSpec{Type: "vector_search", Inputs: [][]byte{[]byte(payload), want}})
	if err != nil {
		t.Fatal(err)
	}
	v, _, err := n.Job(id)
	if err != nil {
		t.Fatal(err)
	}
	for i, in := range v.Record.Job.Inputs {
		if in.Hash != proto.HashOf(want) || in.Size != uint64(len(want)) {
			t.Errorf("input %d of %d bytes is not what the module reads", i, in.Size)
		}
	}
}
