//go:build !js

package node

import (
	"fmt"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"edgenet.dev/proto"
)

// What waits to be told to one peer is bounded, however little it reads: frames
// of votes are dropped, the oldest first, and a stream of tasks ends.
func TestQueuesToAPeerAreBounded(t *testing.T) {
	q := newFrameQueue()
	for range 3 * voteQueue {
		q.push(&proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: make([]byte, 1)}})
	}
	if n := len(q.items); n != voteQueue {
		t.Errorf("%d frames", n)
	}
	for range 64 {
		q.push(&proto.VoteFrame{Body: &proto.VoteFrame_Propose{Propose: make([]byte, voteQueueMax/8)}})
	}
	if q.bytes > voteQueueMax || len(q.items) < 2 {
		t.Errorf("%d frames of %d bytes", len(q.items), q.bytes)
	}

	o := newOutbox[int]()
	for i := range maxOutbox {
		if !o.push(i) {
			t.Fatalf("it ends with %d items", i)
		}
	}
	if o.push(0) || len(o.items) != 0 {
		t.Errorf("%d items", len(o.items))
	}
}

// Lists of tasks in one frame are bounded.
func TestTasksInAFrameAreBounded(t *testing.T) {
	ref := &proto.TaskRef{Job: make([]byte, 16)}
	list := make([]*proto.TaskRef, maxRefs+1)
	for i := range list {
		list[i] = ref
	}
	if _, err := refsOf(list); proto.CodeOf(err) != proto.CodeTooLarge {
		t.Error(err)
	}
	if _, err := refsOf(list[:maxRefs]); err != nil {
		t.Error(err)
	}
}

// Inputs that came with assignments are bounded in number and bytes, and so are
// those of one submitter.
func TestKeptInputsAreBounded(t *testing.T) {
	w := &work{execs: map[execKey]*execution{}, inputsOf: map[peer.ID]int{}}
	for i := range 2 * maxExecutions {
		w.keepInput(execKey{peer.ID(fmt.Sprint(i)), proto.Ref{}}, input{inline: []byte{1}})
	}
	if len(w.execs) != maxExecutions || w.inputBytes != maxExecutions {
		t.Errorf("%d inputs of %d bytes", len(w.execs), w.inputBytes)
	}
	w = &work{execs: map[execKey]*execution{}, inputsOf: map[peer.ID]int{}}
	if w.bytes("one", inputBytesShare) != true || w.bytes("one", 1) {
		t.Error("one submitter's inputs have no share")
	}
	for i := 1; i < maxInputBytes/inputBytesShare; i++ {
		if !w.bytes(peer.ID(fmt.Sprint(i)), inputBytesShare) {
			t.Fatal("others' inputs have no room")
		}
	}
	if w.bytes("late", 1) {
		t.Errorf("%d bytes", w.inputBytes)
	}
	if w.bytes("one", -inputBytesShare); !w.bytes("late", 1) || len(w.inputsOf) != maxInputBytes/inputBytesShare {
		t.Error("room that was given back is not there")
	}
}

// What a submitter accuses workers of is bounded, and so are the inputs that
// witnesses may fetch for it.
func TestFiledReceiptsAreBounded(t *testing.T) {
	e := newEvidence(nil)
	for i := range 3 * maxFiled {
		h := proto.HashOf(fmt.Append(nil, i))
		e.file(receiptWith(t, h))
	}
	if len(e.filed) != maxFiled || e.inputs.Len() != maxFiled {
		t.Errorf("%d receipts, %d inputs", len(e.filed), e.inputs.Len())
	}
	if e.accuses(proto.HashOf(fmt.Append(nil, 0))) || !e.accuses(proto.HashOf(fmt.Append(nil, 3*maxFiled-1))) {
		t.Error("not the oldest gives way")
	}
}
